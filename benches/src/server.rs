//! A real `ppserver` of its own for a bench, and dispatchers for it or for local cores.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use pp_dispatcher::{Builder, Dispatcher};

use crate::report::Report;

pub(crate) const SECRET: &str = "pp1-fwkam6a5nn2eyj91c6rsypkypt3ztqs08jweregp9113gxvzs88d6hb8";
/// Time that a daemon has to be ready for jobs, the sending of this program included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: String,
    _home: tempfile::TempDir,
}

impl Server {
    /// Starts a daemon on loopback whose jobs take `slowness` times as long as they say.
    pub(crate) fn start(workers: u32, slowness: u32) -> anyhow::Result<Self> {
        let program = beside_this("ppserver")?;
        let home = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .args(["-i", "127.0.0.1", "-p", "0", "-w", &workers.to_string()])
            .env("HOME", home.path())
            .env("PP_SECRET", SECRET)
            .env("PP_STORE", home.path().join("store"))
            .args(["--worker-env", &format!("{}={slowness}", crate::jobs::SLOWNESS)])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("it is piped")?).lines();
        let address = loop {
            let line = lines.next().context("ppserver ended before it listened")??;
            if let Some((_, rest)) = line.split_once("listens on ") {
                break rest.split_whitespace().next().context("an address follows")?.to_owned();
            }
        };
        // What else it says is read, so that it never waits for somebody to do so.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address, _home: home })
    }
}

impl Server {
    /// Address at which it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills the daemon as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // One that has ended by itself is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that was built together with this one.
pub(crate) fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.exists(), "{} is missing; run: cargo build --release --bin {name}", program.display());
    Ok(program)
}

fn builder() -> Builder {
    Dispatcher::builder().discover(false)
}

/// A dispatcher with so many worker processes of its own.
pub(crate) fn local(workers: usize) -> anyhow::Result<Dispatcher> {
    Ok(builder().nodes(Vec::<String>::new()).local_workers(workers).start()?)
}

/// A dispatcher that has these daemons and no cores of its own; returns once they can be given jobs.
pub(crate) fn remote(servers: &[Server]) -> anyhow::Result<Dispatcher> {
    at(servers.iter().map(|server| server.address.clone()).collect())
}

/// A dispatcher that has the daemons at these addresses and no cores of its own; returns once they can be given jobs.
pub(crate) fn at(addresses: Vec<String>) -> anyhow::Result<Dispatcher> {
    let count = addresses.len();
    let dispatcher = builder().local_workers(0).secret(SECRET).nodes(addresses).start()?;
    let ready = dispatcher.wait_for_nodes(count, PATIENCE);
    ensure!(ready == count, "not every ppserver is used: {:?}", dispatcher.nodes());
    Ok(dispatcher)
}

/// The two ways jobs go: to worker processes of this program, and through a daemon over encrypted TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    Local,
    Ppserver,
}

/// Runs a bench for each way that is to be measured. It is told the way's name, and a dispatcher for it.
pub(crate) fn each_way(
    report: &mut Report,
    mut bench: impl FnMut(&mut Report, &str, &Dispatcher) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wanted = report.way;
    if wanted != Some(Way::Ppserver) {
        bench(report, "local", &local(2)?)?;
    }
    if wanted != Some(Way::Local) {
        let servers = [Server::start(2, 1)?];
        bench(report, "ppserver", &remote(&servers)?)?;
    }
    Ok(())
}
