//! Commands: a program that the node's machine has, run with its arguments and its output taken as it is.

mod output;
mod streams;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fmt};

use bytes::Bytes;
use pp_protocol::Digest;
use serde::{Deserialize, Serialize};

use self::streams::Streams;
use super::files::{CommandDirectory, CommandFile, CommandFiles, Workplace};
use crate::confinement::NODE_VARIABLE;
use crate::worker::parts::Parts;

/// A program to be run by [`command`](super::command), and all that it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// Path of the program, or its name, which is looked for in the `PATH` of the node.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that it has beside those of the node's jobs.
    pub environment: Vec<(OsString, OsString)>,
    /// Variable that has the name of the node that it runs on, or `:` on the dispatcher's own cores.
    pub node_variable: Option<OsString>,
    /// Directory that it runs in.
    pub directory: CommandDirectory,
    /// What it can read from its standard input, which is empty otherwise.
    pub stdin: Bytes,
    /// Files that it finds in that directory, and leaves there.
    pub files: CommandFiles,
    /// Time that it may run for. Then it and what it has started are told to end, and killed if they have not done so soon.
    pub time_limit: Option<Duration>,
    /// Which of its output goes ahead of its result, to a dispatcher that takes that. Without it, all is in the result.
    pub ahead: Option<Ahead>,
}

/// Output of a command that is sent while it runs, instead of in its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Ahead {
    /// That of a stream with more than 1 MiB of it: so much at a time. The rest is in the result.
    Large,
    /// All, each line once it is whole. One of more than 1 MiB comes in pieces.
    Lines,
    /// All, as it is written.
    AtOnce,
}

/// How a command ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommandOutput {
    /// Name of the node that ran it; none for the dispatcher's own cores.
    pub node: Option<String>,
    /// How it ended.
    pub status: CommandStatus,
    /// Time at which it was started, by the clock of the node.
    pub started: SystemTime,
    /// Time that it ran for.
    pub run_time: Duration,
    /// Bytes that it wrote to standard output, but for those that were sent ahead.
    pub stdout: Bytes,
    /// Bytes that it wrote to standard error, but for those that were sent ahead.
    pub stderr: Bytes,
    /// Bytes that were sent ahead, of both.
    pub ahead_bytes: u64,
    /// Files that were to be returned, as far as they were there.
    pub files: Vec<CommandFile>,
}

impl CommandOutput {
    /// What is in the file that came back under this path, if it did.
    pub fn file(&self, path: impl AsRef<OsStr>) -> Option<&Bytes> {
        let path = path.as_ref();
        self.files.iter().find(|file| file.path == path).map(|file| &file.contents)
    }
}

/// End of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CommandStatus {
    /// It ended with this exit code.
    Exited(i32),
    /// A signal of this number ended it.
    Signalled(i32),
    /// It ran for longer than this, its time limit, and was ended.
    TimedOut(Duration),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It was not started, as it could not have its directory or files; or it ended with exit code 0, and not all files that
    /// were to be returned were there, or could be removed.
    FileTrouble(String),
    /// It was not started: these base files are not kept at the node yet.
    Lacks(Vec<Digest>),
}

impl CommandStatus {
    /// Whether it ended with exit code 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut(limit) => write!(f, "ended, as it ran for longer than {limit:?}"),
            Self::NotStarted(reason) => write!(f, "not started: {reason}"),
            Self::FileTrouble(trouble) => f.write_str(trouble),
            Self::Lacks(files) => {
                write!(f, "not started: the node has not got {} of its base files", files.len())
            }
        }
    }
}

impl From<ExitStatus> for CommandStatus {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signalled(signal.unwrap_or_default()),
        }
    }
}

pub(super) fn run(mut line: CommandLine) -> CommandOutput {
    let node = node();
    let (mut started, mut clock) = (SystemTime::now(), Instant::now());
    let ahead = line.ahead.and_then(|ahead| Some((ahead, Parts::of_this_job()?)));
    let stdin = std::mem::take(&mut line.stdin);
    let has_input = !stdin.is_empty();
    let mut streams = Streams::new(stdin, ahead);
    let (mut run_time, mut files) = (Duration::ZERO, Vec::new());
    let status = Workplace::enter(&mut line, node.is_none()).and_then(|workplace| {
        (started, clock) = (SystemTime::now(), Instant::now());
        let ended = start(&line, has_input, node.as_deref(), workplace.directory())
            .and_then(|child| streams.serve(child, line.time_limit))
            .map_err(|error| CommandStatus::NotStarted(explain(&line, &error)))?;
        run_time = clock.elapsed();
        let (status, returned) = workplace.leave(ended);
        files = returned;
        Ok(status)
    });
    let status = status.unwrap_or_else(|not_started| not_started);
    let ahead_bytes = streams.ahead_bytes();
    let [stdout, stderr] = streams.into_rest();
    CommandOutput { node, status, started, run_time, stdout, stderr, ahead_bytes, files }
}

/// Name of the node that this is a job of.
fn node() -> Option<String> {
    env::var(NODE_VARIABLE).ok()
}

fn start(
    line: &CommandLine,
    has_input: bool,
    node: Option<&str>,
    directory: Option<&Path>,
) -> io::Result<Child> {
    let mut command = Command::new(&line.program);
    // One that ends its whole group, as `kill 0` does, means itself. Elsewhere than on Linux, the worker's group is what tells
    // what a job has left behind.
    if cfg!(target_os = "linux") {
        command.process_group(0);
    }
    let stdin = if has_input { Stdio::piped() } else { Stdio::null() };
    command.args(&line.arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(line.environment.iter().map(|(name, value)| (name, value)));
    if let Some(variable) = &line.node_variable {
        command.env(variable, node.unwrap_or(":"));
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.spawn()
}

fn explain(line: &CommandLine, error: &io::Error) -> String {
    let program = line.program.display();
    // Which of the two is missing, the system does not say.
    if let CommandDirectory::At(directory) = &line.directory
        && let Err(error) = std::fs::metadata(directory)
    {
        return format!("cannot run {program} in the directory {}: {error}", directory.display());
    }
    match error.kind() {
        io::ErrorKind::NotFound if !line.program.as_encoded_bytes().contains(&b'/') => {
            let path = env::var_os("PATH").unwrap_or_default();
            format!("there is no program {program} in {}; install it there, or give its path", path.display())
        }
        _ => format!("cannot run {program}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &str, arguments: &[&str]) -> CommandLine {
        CommandLine {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            ..CommandLine::default()
        }
    }

    fn shell(script: &str) -> CommandLine {
        line("/bin/sh", &["-c", script])
    }

    #[test]
    fn output_is_taken_as_it_is_from_both_streams() {
        let CommandOutput { status, stdout, stderr, .. } = run(shell(r"printf 'a\0\377\n'; printf b >&2"));
        assert!(status.is_success());
        assert_eq!((&stdout[..], &stderr[..]), (&b"a\0\xff\n"[..], &b"b"[..]));
    }

    #[test]
    fn its_end_is_told_as_it_was() {
        assert_eq!(run(shell("exit 7")).status, CommandStatus::Exited(7));
        assert_eq!(run(shell("kill -15 $$")).status, CommandStatus::Signalled(15));
        let CommandStatus::NotStarted(reason) = run(line("no-such-program", &[])).status else { panic!() };
        assert!(reason.contains("no-such-program") && reason.contains("install"), "{reason}");
        let nowhere = CommandLine { directory: CommandDirectory::At("/nowhere".into()), ..shell("true") };
        let CommandStatus::NotStarted(reason) = run(nowhere).status else { panic!() };
        assert!(reason.contains("/nowhere"), "{reason}");
    }

    #[test]
    fn one_that_ends_all_of_its_group_ends_itself_alone() {
        let ended = run(shell("echo a; kill 0; sleep 60"));
        assert_eq!((ended.status, &ended.stdout[..]), (CommandStatus::Signalled(15), &b"a\n"[..]));
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_all_of_its_group_and_what_it_wrote_is_told() {
        let limit = Duration::from_millis(100);
        for script in [
            "echo a; sleep 60",
            "trap '' TERM; echo a; while :; do sleep 60; done",
            "sleep 60 & echo a; wait",
            "trap 'exit 0' TERM; echo a; sleep 60 & wait",
        ] {
            let ended = run(CommandLine { time_limit: Some(limit), ..shell(script) });
            assert_eq!(
                (ended.status, &ended.stdout[..]),
                (CommandStatus::TimedOut(limit), &b"a\n"[..]),
                "{script}"
            );
            assert!(
                ended.run_time >= limit && ended.run_time < Duration::from_secs(30),
                "{:?}",
                ended.run_time
            );
        }
        let in_time = run(CommandLine { time_limit: Some(Duration::from_secs(60)), ..shell("exit 3") });
        assert_eq!(in_time.status, CommandStatus::Exited(3));
    }

    #[test]
    fn what_ignores_that_its_shell_took_too_long_ends_with_it() {
        let limit = Some(Duration::from_millis(100));
        for heard in [">&1", ">/dev/null"] {
            let deaf = "trap '' TERM; echo $$; exec >&4 2>&4; sleep 60; sleep 60";
            let script = format!("sh -c \"$DEAF\" 4{heard} & wait");
            let ended = run(CommandLine {
                time_limit: limit,
                environment: vec![("DEAF".into(), deaf.into())],
                ..shell(&script)
            });
            assert_eq!(ended.status, CommandStatus::TimedOut(Duration::from_millis(100)));
            let pid = String::from_utf8_lossy(&ended.stdout).trim().parse().ok();
            let pid = pid.and_then(rustix::process::Pid::from_raw).expect("it said its number");
            // It dies in its own time, and whoever adopts it collects it in theirs.
            let is_there = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !stat.is_empty() && !stat.contains(") Z ")
            };
            let until = Instant::now() + Duration::from_secs(20);
            while is_there() {
                assert!(Instant::now() < until, "it goes on");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn input_and_output_that_fill_their_pipes_do_not_wait_for_each_other() {
        let stdin: Bytes = (0..3_000_000_u32).map(|n| n as u8).collect();
        let echoed = run(CommandLine { stdin: stdin.clone(), ..shell("tee /dev/stderr") });
        assert!(echoed.status.is_success());
        assert!(echoed.stdout == stdin && echoed.stderr == stdin);
    }

    #[test]
    fn input_that_is_not_read_is_no_error() {
        let not_read = run(CommandLine { stdin: vec![1; 1 << 20].into(), ..shell("exec true") });
        assert_eq!(not_read.status, CommandStatus::Exited(0));
    }

    #[test]
    fn what_is_left_running_is_not_waited_for() {
        let left = run(shell("sleep 60 & echo $!"));
        assert!(left.status.is_success() && left.run_time < Duration::from_secs(30));
        let pid = String::from_utf8_lossy(&left.stdout)
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn it_has_its_variables_and_directory_and_no_input() {
        let line = CommandLine {
            environment: vec![("GREETING".into(), "hello world".into())],
            directory: CommandDirectory::At("/".into()),
            ..shell("echo $GREETING; pwd; wc -c")
        };
        assert_eq!(run(line).stdout, "hello world\n/\n0\n");
    }
}
