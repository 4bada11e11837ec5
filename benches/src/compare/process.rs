//! A process that measures: how long it may take, what it tells, and its end, with all that it has started.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::report::Row;

/// How long a process that was asked to end may take to.
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
    ensure!(in_time, "not done within {} s", limit.as_secs());
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
