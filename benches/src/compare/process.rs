//! A process that measures: how long it may take, what it tells, and its end, with all that it has started.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::report::Row;

/// Time that a process has to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// Characters of what it says last that are shown.
const REASON: usize = 160;

/// The rows that a process prints, one JSON object a line.
pub(crate) fn rows(mut command: Command, limit: Duration) -> anyhow::Result<Vec<Row>> {
    // A group of its own, so that whatever is left of it can be ended.
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child =
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let id = Pid::from_raw(child.id().cast_signed()).context("it has a number")?;
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let (output, in_time) = match end.recv_timeout(limit) {
        Ok(output) => (Some(output), true),
        Err(_) => {
            // A driver ends what it has started when it is asked to.
            let _ = kill_process(id, Signal::TERM);
            (end.recv_timeout(GRACE).ok(), false)
        }
    };
    // Nothing is left of most.
    let _ = kill_process_group(id, Signal::KILL);
    ensure!(in_time, "not done within {} s", limit.as_secs_f64());
    let output = output.context("nothing came of it")??;
    if !output.status.success() {
        bail!("{}", reason(&String::from_utf8_lossy(&output.stderr)));
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let rows = told.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
    rows.with_context(|| format!("not rows of JSON: {told}"))
}

/// The last line that speaks of an error, else the last.
fn reason(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.contains("Error")).or_else(|| lines().next_back());
    line.unwrap_or("it said nothing").chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn error(script: &str, limit: Duration) -> String {
        format!("{:#}", rows(shell(script), limit).expect_err("it fails"))
    }

    #[test]
    fn rows_are_read_with_a_floor_or_without() {
        let script = r#"echo '{"bench":"a","value":2,"unit":"s","floor":1,"ratio":2,"better":"less"}'
            echo '{"bench":"b","value":3.5,"unit":"us"}'"#;
        let rows = rows(shell(script), GRACE).expect("it tells rows");
        let told: Vec<_> = rows.iter().map(|row| (row.bench.as_str(), row.value, row.floor)).collect();
        assert_eq!(told, [("a", 2.0, Some(1.0)), ("b", 3.5, None)]);
    }

    #[test]
    fn a_failure_is_told_by_its_error_and_not_by_what_is_said_after() {
        let script = "echo 'TimeoutError: waited 30 s' >&2; echo 'semaphores were left' >&2; exit 1";
        assert_eq!(error(script, GRACE), "TimeoutError: waited 30 s");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let limit = Duration::from_millis(100);
        assert_eq!(error("exec sleep 600", limit), "not done within 0.1 s");
    }
}
