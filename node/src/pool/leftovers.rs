//! What a worker leaves behind whose warden was killed: found by the environment that it inherited.

use std::fs;

use pp_protocol::worker::WORKER_ENVIRONMENT;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often it is looked again for what was started while the rest was being killed.
const LOOKS: usize = 20;

/// Kills every process of the worker that was started with this value of [`WORKER_ENVIRONMENT`]. What has taken it out of
/// its environment is not found.
pub(super) fn end(environment: &str) {
    let variable = format!("{WORKER_ENVIRONMENT}={environment}");
    for _ in 0..LOOKS {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let killed = processes.filter_map(Pid::from_raw).filter(|process| kill_if_its(*process, &variable));
        if killed.count() == 0 {
            return;
        }
    }
}

fn kill_if_its(process: Pid, variable: &str) -> bool {
    // Whoever has got the number meanwhile is not killed in its place.
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { return false };
    // That of a process which has ended is empty, and that of other users is not to be read.
    let Ok(environment) = fs::read(format!("/proc/{process}/environ")) else { return false };
    let is_its = environment.split(|byte| *byte == 0).any(|entry| belongs(entry, variable.as_bytes()));
    is_its && pidfd_send_signal(&handle, Signal::KILL).is_ok()
}

/// Whether it is that variable; a warden may have added its number.
fn belongs(entry: &[u8], variable: &[u8]) -> bool {
    entry.strip_prefix(variable).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" "))
}
