//! Processes that a worker leaves behind whose warden was killed: nobody is above them any more. They are found by what they
//! inherited, the worker's environment or the pipe of one of its standard streams. What has cleared its environment and led
//! its output elsewhere is not found.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pp_protocol::worker::WORKER_ENVIRONMENT;
use rustix::fs::fstat;
use rustix::process::Pid;

/// Number of looks for processes that were started while the rest was being killed.
const LOOKS: usize = 20;
/// The permission of a listed descriptor that can be written to. The node's own ends of the pipes can only be read.
const WRITABLE: u32 = 0o200;

/// Marks that tell the processes of a worker from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    /// The value of [`WORKER_ENVIRONMENT`].
    environment: String,
    /// The inodes of the pipes that are its standard streams.
    pipes: Vec<u64>,
}

impl Inherited {
    pub(super) fn new(environment: String) -> Self {
        Self { environment, pipes: Vec::new() }
    }

    /// This is the node's end of one of its standard streams.
    pub(super) fn add_pipe(&mut self, pipe: &impl AsFd) {
        self.pipes.extend(fstat(pipe).map(|pipe| pipe.st_ino));
    }

    /// Kills every process that has inherited it.
    pub(super) fn end_all(&self) {
        for _ in 0..LOOKS {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let killed = processes.filter_map(Pid::from_raw).filter(|process| self.kill_if_its(*process));
            if killed.count() == 0 {
                return;
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn kill_if_its(&self, process: Pid) -> bool {
        use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        // Whoever has got the number meanwhile is not killed in its place.
        let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { return false };
        // Of a process that has ended neither is there, and those of other users are not to be read.
        let is_its =
            self.is_in_environment(process).unwrap_or(false) || self.writes_to_pipe(process).unwrap_or(false);
        is_its && pidfd_send_signal(&handle, Signal::KILL).is_ok()
    }

    /// Where there are no wardens, none is missed.
    #[cfg(not(target_os = "linux"))]
    fn kill_if_its(&self, _process: Pid) -> bool {
        false
    }

    fn is_in_environment(&self, process: Pid) -> io::Result<bool> {
        let variable = format!("{WORKER_ENVIRONMENT}={}", self.environment);
        let environment = fs::read(format!("/proc/{process}/environ"))?;
        Ok(environment.split(|byte| *byte == 0).any(|entry| belongs(entry, variable.as_bytes())))
    }

    fn writes_to_pipe(&self, process: Pid) -> io::Result<bool> {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?;
        Ok(descriptors.flatten().any(|descriptor| self.is_pipe(descriptor.path()).unwrap_or(false)))
    }

    fn is_pipe(&self, descriptor: PathBuf) -> io::Result<bool> {
        let link = fs::read_link(&descriptor)?;
        let inode =
            link.to_str().and_then(|link| link.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok());
        let is_its = inode.is_some_and(|inode: u64| self.pipes.contains(&inode));
        Ok(is_its && fs::symlink_metadata(&descriptor)?.permissions().mode() & WRITABLE != 0)
    }
}

/// Whether it is that variable; a warden may have added its number.
fn belongs(entry: &[u8], variable: &[u8]) -> bool {
    entry.strip_prefix(variable).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" "))
}
