//! The job log: a line for each job that ended, and what a later run takes from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::halt::Exit;

/// The first line of a log.
pub const HEADER: &[u8] = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// Largest log that is read.
pub const LOG_BYTES: usize = 1024 * 1024 * 1024;

/// What a line of the log says.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The number of the job.
    pub sequence: u64,
    /// Where it ran: `:` on this machine, else the name of the node.
    pub host: &'a str,
    /// When it started, since 1970 in UTC.
    pub started: Duration,
    /// How long it ran.
    pub runtime: Duration,
    /// Bytes of files that went to the node.
    pub sent: u64,
    /// Bytes that came from there: its output, and files.
    pub received: u64,
    /// How it ended.
    pub exit: Exit,
    /// The command line.
    pub command: &'a [u8],
}

impl Entry<'_> {
    /// The line, with its end. Line ends within the command are written as zeros.
    pub fn line(&self) -> Vec<u8> {
        let Self { sequence, host, started, runtime, sent, received, exit, command } = self;
        let (started, runtime) = (started.as_secs_f64(), runtime.as_secs_f64());
        let Exit { code, signal } = exit;
        let mut line = format!(
            "{sequence}\t{host}\t{started:.3}\t{runtime:10.3}\t{sent}\t{received}\t{code}\t{signal}\t"
        )
        .into_bytes();
        line.extend(command.iter().map(|byte| if *byte == b'\n' { 0 } else { *byte }));
        line.push(b'\n');
        line
    }
}

/// Which jobs of an earlier run are run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Those that did not end (`--resume`).
    Unfinished,
    /// Those as well that failed (`--resume-failed`).
    Failed,
}

/// A log that cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It is too large to be read.
    #[error("the job log has {0} bytes, which is over the limit of {LOG_BYTES}; start a new one")]
    TooLarge(usize),
    /// It is something else.
    #[error(
        "none of its lines is one of a job log; name the job log of the earlier run, or leave out --resume"
    )]
    Foreign,
}

/// The jobs of an earlier run. What was logged last of a job counts.
#[derive(Clone, Debug, Default)]
pub struct Log {
    jobs: BTreeMap<u64, Logged>,
    is_torn: bool,
}

#[derive(Clone, Debug)]
struct Logged {
    exit: Exit,
    command: Vec<u8>,
}

impl Log {
    /// Reads a log. Lines that are no entries are ignored, and so is a last line without end: whoever wrote it was stopped.
    ///
    /// # Errors
    /// When it is too large, or there is something in it and nothing of it is of a log.
    pub fn read(text: &[u8]) -> Result<Self, LogError> {
        if text.len() > LOG_BYTES {
            return Err(LogError::TooLarge(text.len()));
        }
        let jobs =
            text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| entry(line.strip_suffix(b"\n")?));
        let jobs: BTreeMap<_, _> = jobs.collect();
        let first = text.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        if jobs.is_empty() && !HEADER.starts_with(first) {
            return Err(LogError::Foreign);
        }
        Ok(Self { jobs, is_torn: text.last().is_some_and(|last| *last != b'\n') })
    }

    /// Whether the last line has no end, so that one has to be written before the next line.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Whether a job is to be run.
    pub fn wants(&self, sequence: u64, resume: Resume) -> bool {
        match (self.jobs.get(&sequence), resume) {
            (None, _) => true,
            (Some(_), Resume::Unfinished) => false,
            (Some(logged), Resume::Failed) => !logged.exit.is_success(),
        }
    }

    /// The command that was logged for a job, if it is another one than `command`: then the input, or the command, has
    /// changed since, and numbers do not say any more what was done.
    pub fn differs(&self, sequence: u64, command: &[u8]) -> Option<&[u8]> {
        let logged = &self.jobs.get(&sequence)?.command;
        (logged != command).then_some(logged)
    }

    /// Numbers and commands of those that failed (`--retry-failed`).
    pub fn failed(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let failed = self.jobs.iter().filter(|(_, logged)| !logged.exit.is_success());
        failed.map(|(sequence, logged)| (*sequence, logged.command.as_slice()))
    }
}

/// The number of a job, and what was logged of it.
fn entry(line: &[u8]) -> Option<(u64, Logged)> {
    let mut fields = line.splitn(9, |byte| *byte == b'\t');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let sequence = text()?.parse().ok()?;
    let _host = text()?;
    for _time in 0..2 {
        text()?.trim().parse::<f64>().ok()?;
    }
    for _bytes in 0..2 {
        text()?.parse::<i64>().ok()?;
    }
    let exit = Exit { code: text()?.parse().ok()?, signal: text()?.parse().ok()? };
    let command = fields.next()?.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect();
    Some((sequence, Logged { exit, command }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand
1\t:\t1795741016.922\t     0.001\t0\t0\t0\t0\texit 0
2\t:\t1795741016.932\t     0.004\t0\t0\t2\t0\techo\0a\tb
5\tfar\t1795741017.160\t     0.000\t0\t5\t-1\t15\tsleep 9
";

    #[test]
    fn lines_are_as_parallel_writes_them() {
        let entry = Entry {
            sequence: 2,
            host: ":",
            started: Duration::from_millis(1_795_741_016_932),
            runtime: Duration::from_micros(4_100),
            sent: 0,
            received: 0,
            exit: Exit { code: 2, signal: 0 },
            command: b"echo\na\tb",
        };
        let lines: Vec<_> = LOG.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(entry.line(), lines[2]);
        assert_eq!(HEADER, lines[0]);
    }

    #[test]
    fn jobs_that_are_not_in_it_are_wanted_and_failed_ones_on_request() {
        let log = Log::read(LOG).unwrap();
        let wanted = |resume| (1..=6).filter(|sequence| log.wants(*sequence, resume)).collect::<Vec<_>>();
        assert_eq!(wanted(Resume::Unfinished), [3, 4, 6]);
        assert_eq!(wanted(Resume::Failed), [2, 3, 4, 5, 6]);
        assert_eq!(log.failed().collect::<Vec<_>>(), [(2, &b"echo\na\tb"[..]), (5, b"sleep 9")]);
        assert!(!log.is_torn());
    }

    #[test]
    fn what_was_logged_last_counts() {
        let again = [LOG, b"2\t:\t1.0\t 1.0\t0\t5\t0\t0\techo rf\n"].concat();
        let log = Log::read(&again).unwrap();
        assert_eq!(log.failed().count(), 1);
        assert_eq!(log.differs(2, b"echo rf"), None);
        assert_eq!(log.differs(2, b"echo"), Some(&b"echo rf"[..]));
        assert_eq!(log.differs(7, b"echo"), None);
    }

    #[test]
    fn a_torn_line_is_ignored_and_known() {
        for torn in 1..=20 {
            let log = Log::read(&LOG[..LOG.len() - torn]).unwrap();
            assert!(
                log.is_torn() && log.wants(5, Resume::Unfinished) && !log.wants(2, Resume::Unfinished),
                "{torn}"
            );
        }
        let foreign = b"\n\xff\t\n1\t:\nhello\n";
        let log = Log::read(&[HEADER, foreign].concat()).unwrap();
        assert!(log.wants(1, Resume::Unfinished));
        // Of one that ended before its first line did, nothing can be said.
        assert!(Log::read(&HEADER[..5]).is_ok() && Log::read(b"").is_ok());
        assert_eq!(Log::read(foreign).err(), Some(LogError::Foreign));
    }
}
