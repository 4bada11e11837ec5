//! The warden of a worker: the process between it and its node, which sees to it that nothing the worker's jobs started
//! outlives it.
//!
//! ```text
//! node ──starts──> warden ──forks──> worker ──> what its jobs start, in whatever group or session
//!                    ^ └── adopts whatever loses its parent below it (PR_SET_CHILD_SUBREAPER) ──┘
//!                    └── sees the node end or close the socket, or the worker end; ends what is left; then itself
//! ```
//!
//! It is the program that the node started, which divides itself in two before anything else happens: the child becomes
//! the worker, the parent waits. So it costs no second start of the program, and memory only for what differs. Where the
//! program has threads already (`init()` within an async runtime), a fork would leave their locks locked: there the
//! program is started once more.
//!
//! The worker's end is left on its [page](crate::page), as only its parent is told by the system. The worker itself
//! adopts nothing: jobs see orphans as anywhere else. A warden that is killed takes the worker with it
//! (`PR_SET_PDEATHSIG`). For the warden itself that would be wrong: it is the child of a *thread* of the node, which ends
//! as soon as it has started it. So it watches the node's process by a descriptor (`pidfd`); the socket alone tells of its
//! end only where nobody else has the other half, as children do that the user's program makes by `fork()`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpgrp, getpid, getppid, kill_process, pidfd_open,
    pidfd_send_signal, set_child_subreaper, set_parent_process_death_signal, setpgid, wait,
};
use rustix::thread::set_name;

use super::handover::Handed;
use crate::page::Page;
use crate::processes;

/// Time that a worker has to end by itself once its socket is closed: time to say why.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Time that leftovers have to be gone. Those that hang in the kernel are given up. Less than the node's own patience.
const END_TIME: Duration = Duration::from_secs(3);
/// Number of looks for processes that were started while the rest was being killed.
const LOOK: Duration = Duration::from_millis(5);

/// Makes this process, which has one thread, the warden of a worker. Returns in the worker.
///
/// # Errors
/// When the system permits no further process.
#[expect(unsafe_code, reason = "the process is divided in two")]
pub(super) fn divide(handed: &Handed) -> io::Result<()> {
    let warden = getpid();
    adopt_orphans();
    handed.page.guard();
    // SAFETY: this is called with one thread only.
    match unsafe { processes::fork()? } {
        Some(worker) => guard(worker, handed, End::Worker),
        None => be_guarded_by(warden),
    }
    Ok(())
}

/// Makes this process, which has other threads, the warden of a worker that is this program started anew by `command`.
///
/// # Errors
/// When the system permits no further process.
pub(super) fn start_anew(mut command: Command, handed: &Handed) -> io::Result<()> {
    adopt_orphans();
    handed.page.guard();
    let worker = command.process_group(0).spawn()?;
    guard(Pid::from_child(&worker), handed, End::Worker)
}

/// Makes orphans below this process its children. Where the system has nothing like that, only what stays
/// below living parents is found.
pub(crate) fn adopt_orphans() {
    let _ = set_child_subreaper(Some(getpid()));
}

/// The worker: ends with its warden, and leads a group of its own.
pub(crate) fn be_guarded_by(warden: Pid) {
    if getpgrp() != getpid() {
        let _ = setpgid(None, None);
    }
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != Some(warden) {
        // It was gone before that was said.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// How a warden ends that has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is killed, so that none of its program's code runs on the way.
    Worker,
    /// It exits: the program is the node's own.
    Launcher,
}

/// The warden: waits until the worker has ended or the node is gone, and ends everything.
pub(crate) fn guard(worker: Pid, handed: &Handed, end: End) -> ! {
    // By this name people see it in lists of processes; killing all of a program's name spares it to do its work.
    let _ = set_name(c"pp-warden");
    let watched = processes::leave_signals_alone()
        .and_then(|ended| Ok((ended, pidfd_open(worker, PidfdFlags::empty()).map_err(io::Error::from)?)));
    // Otherwise the worker ends with this process, and is not to be without it.
    if let Ok((ended, process)) = watched {
        Warden { worker, process, page: &handed.page, ended, has_ended: false }.guard(handed);
        if end == End::Launcher {
            std::process::exit(0);
        }
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::exit(0);
}

struct Warden<'a> {
    worker: Pid,
    /// Readable when the worker has ended, whichever thread of this process the system tells so by a signal.
    process: OwnedFd,
    page: &'a Page,
    /// Readable when a child has ended, unless another thread of this process was told.
    ended: OwnedFd,
    /// Whether the worker has.
    has_ended: bool,
}

impl Warden<'_> {
    fn guard(mut self, node: &Handed) {
        // Before anything is waited for: word of an end before signals were left alone has been lost.
        self.reap();
        while !self.has_ended && !self.wait(Some(node), None) {
            self.reap();
        }
        let until = Instant::now() + LAST_WORDS;
        while !self.has_ended && Instant::now() < until {
            self.wait(None, Some(until.saturating_duration_since(Instant::now())));
            self.reap();
        }
        let until = Instant::now() + END_TIME;
        while self.reap() && Instant::now() < until {
            self.kill_all();
            self.wait(None, Some(LOOK));
        }
    }

    /// Waits until a child has ended, or the node has or has closed the socket, which it tells.
    fn wait(&self, node: Option<&Handed>, most: Option<Duration>) -> bool {
        let mut watched = vec![PollFd::new(&self.ended, PollFlags::IN)];
        if !self.has_ended {
            watched.push(PollFd::new(&self.process, PollFlags::IN));
        }
        let children = watched.len();
        if let Some(Handed { socket, node, .. }) = node {
            // That the other end is closed is reported without being asked for.
            watched.push(PollFd::new(socket, PollFlags::empty()));
            watched.extend(node.as_ref().map(|process| PollFd::new(process, PollFlags::IN)));
        }
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        match poll(&mut watched, most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Without a view of the node, nothing would end the worker if the node died.
            Err(_) => return true,
        }
        let mut signals = [0; 1024];
        while rustix::io::read(self.ended.as_fd(), &mut signals).is_ok_and(|bytes| bytes > 0) {}
        watched[children..].iter().any(|node| !node.revents().is_empty())
    }

    /// Collects what has ended. Tells whether children are left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((process, status))) if process == self.worker => {
                    self.page.ended(status.as_raw());
                    self.has_ended = true;
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Kills everything below this process, parents first: what is being killed starts nothing more. What was started
    /// meanwhile is found the next time.
    fn kill_all(&self) {
        let this = getpid();
        let mut parents = vec![this];
        while let Some(parent) = parents.pop() {
            for child in children_of(parent) {
                // The number of a child of this process is its own until this process collects it. Another one's may have
                // been given anew since it was read.
                if parent == this {
                    let _ = kill_process(child, Signal::KILL);
                } else if let Ok(process) = pidfd_open(child, PidfdFlags::empty())
                    && parent_of(child).is_some_and(|now| now == parent || now == this)
                {
                    let _ = pidfd_send_signal(&process, Signal::KILL);
                }
                parents.push(child);
            }
        }
    }
}

/// The children of a process, as far as it can be seen.
fn children_of(process: Pid) -> Vec<Pid> {
    let threads = format!("/proc/{process}/task");
    let mut children = Vec::new();
    for thread in fs::read_dir(threads).into_iter().flatten().flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_whitespace().filter_map(pid)),
            // A kernel without these lists; or a process that is gone, which has none.
            Err(_) if process == getpid() => return all_processes().filter(is_child_of(process)).collect(),
            Err(_) => {}
        }
    }
    children
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| pid(entry.file_name().to_str()?))
}

fn is_child_of(parent: Pid) -> impl Fn(&Pid) -> bool {
    move |process| parent_of(*process) == Some(parent)
}

/// Of `1234 (any (name) at all) S 1 …` the last number.
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1).and_then(pid)
}

fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}
