//! Commands by `ppctl run`, many that do nothing, and the time until the first of them is seen. Floors: `xargs`, which starts them
//! without looking at what comes of them, and GNU parallel and HyperQueue, where they are
//! installed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::report::{Better, Report};
use crate::server::{SECRET, Server, Way, beside_this};

const BENCH: &str = "commands";
/// The others take ten times as long for each.
const PART_FOR_PEERS: u32 = 10;
/// A command is a process, or two where a shell is asked for.
const TRUE: &str = "/bin/true {}";
const TRUE_IN_SHELL: &str = "exec /bin/true {}";

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let ppctl = beside_this("ppctl")?;
    let jobs = report.jobs(5_000);
    if report.way != Some(Way::Ppserver) {
        let run = || Ppctl { program: ppctl.clone(), place: vec!["-j2".into()] };
        measure(report, "local", &run, jobs)?;
        first_output(report, "local", &run)?;
    }
    if report.way != Some(Way::Local) {
        let server = Server::start(2, 1)?;
        let place = ["--not-node", ":", "--node", server.address()];
        let run = || Ppctl { program: ppctl.clone(), place: place.map(String::from).into() };
        measure(report, "ppserver", &run, jobs)?;
        first_output(report, "ppserver", &run)?;
    }
    Ok(())
}

/// A way to run commands with it.
struct Ppctl {
    program: PathBuf,
    place: Vec<String>,
}

impl Ppctl {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").args(&self.place).arg(line).env("PP_SECRET", SECRET).env("PP_DISCOVER", "0");
        command
    }
}

fn measure(report: &mut Report, way: &str, run: &dyn Fn() -> Ppctl, jobs: u32) -> anyhow::Result<()> {
    let figure = |line: &'static str, jobs| move || rate(run().command(line), jobs);
    let xargs = |arguments: &'static [&'static str]| {
        move || {
            rate(
                {
                    let mut xargs = Command::new("xargs");
                    xargs.arg("-P2").args(arguments);
                    xargs
                },
                jobs,
            )
        }
    };
    let name = |what: &str| format!("{BENCH} {way}, {what}");
    report.measure(
        &name("xargs"),
        "jobs/s",
        Better::More,
        figure(TRUE, jobs),
        xargs(&["-n1", "/bin/true"]),
    )?;
    let in_shell = xargs(&["-I{}", "sh", "-c", TRUE_IN_SHELL]);
    report.measure(&name("xargs sh"), "jobs/s", Better::More, figure(TRUE_IN_SHELL, jobs), in_shell)?;
    let few = (jobs / PART_FOR_PEERS).max(1);
    if Command::new("parallel").arg("--version").output().is_ok() {
        let parallel = || {
            let mut parallel = Command::new("parallel");
            parallel.args(["-j2", TRUE]).env("PARALLEL_SHELL", "/bin/sh");
            rate(parallel, few)
        };
        report.measure(&name("parallel"), "jobs/s", Better::More, figure(TRUE, few), parallel)?;
    } else {
        report.show_reason(&name("parallel"), "GNU parallel is not installed");
    }
    let (python, script) = hyperqueue();
    let theirs = || said_by(Command::new(&python).arg(&script).arg(few.to_string()));
    let tried =
        if python.exists() { theirs() } else { Err(anyhow!("not installed; run benches/peers/setup")) };
    match tried {
        Ok(_) => {
            _ = report.measure(&name("hyperqueue"), "jobs/s", Better::More, figure(TRUE, few), theirs)?
        }
        Err(reason) => report.show_reason(&name("hyperqueue"), &reason.to_string()),
    }
    Ok(())
}

/// The Python that HyperQueue was installed for, and what measures it.
fn hyperqueue() -> (PathBuf, PathBuf) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    (here.join("../target/peers/hyperqueue/bin/python"), here.join("peers/commands_hyperqueue.py"))
}

/// The number that a program says at last.
fn said_by(command: &mut Command) -> anyhow::Result<f64> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .last()
        .and_then(|line| line.parse().ok())
        .with_context(|| format!("{command:?} says {said:?}"))
}

/// Commands a second, where they are run for the numbers from 1 on, which come by standard input.
fn rate(mut command: Command, jobs: u32) -> anyhow::Result<f64> {
    let input = tempfile::NamedTempFile::new()?;
    std::fs::write(input.path(), (1..=jobs).map(|number| format!("{number}\n")).collect::<String>())?;
    let started = Instant::now();
    let status = command.stdin(input.reopen()?).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(status.success(), "{command:?} ends with {status}");
    Ok(f64::from(jobs) / started.elapsed().as_secs_f64())
}

/// Time from the start of `ppctl run` to its first output. Floor: the same of a shell.
fn first_output(report: &mut Report, way: &str, run: &dyn Fn() -> Ppctl) -> anyhow::Result<()> {
    let figure = || Ok(until_first_byte(run().command("echo a"))?.as_secs_f64() * 1e3);
    let floor = || {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "/bin/echo a"]);
        Ok(until_first_byte(shell)?.as_secs_f64() * 1e3)
    };
    report.measure(&format!("{BENCH} {way}, start to output"), "ms", Better::Less, figure, floor)?;
    Ok(())
}

fn until_first_byte(mut command: Command) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut child = command.arg(":::").arg("a").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut first = [0];
    child.stdout.take().context("it is piped")?.read_exact(&mut first)?;
    let elapsed = started.elapsed();
    child.wait()?;
    Ok(elapsed)
}
