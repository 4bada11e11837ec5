//! The end of a worker: how it is killed, what goes with it, and what its death is told as.
//!
//! Whether one is killed (an attempt that runs beyond its time limit or is cancelled, a session that ends) is decided by the
//! node's [core](crate::core), which says so by `Action::Kill`; here it is done. A worker process that has a
//! [warden](crate::worker) is killed by closing its socket: the warden ends it and everything below it. One that has none
//! (it has not called `init()`) is killed with its process group. A thread cannot be killed: it is abandoned.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;

use pp_protocol::{Death, WorkerDeath};
use rustix::process::{Signal, kill_process_group};
use tokio::sync::oneshot;

use super::leftovers::Inherited;
use super::life::{KillReason, Life, START_TIME};
use super::start::Body;
use super::supervisor::Supervisor;
use super::{WorkerEvent, memory};
use crate::core::StartFailure;
use crate::page::SelfEnd;
use crate::worker::{NOT_LAUNCHED, SHORTAGE};

/// Last words of the C library where a thread ends itself (`pthread_exit`) within a call that catches panics.
const THREAD_EXIT_WORDS: &str = "FATAL: exception not rethrown";

impl Supervisor {
    /// Acts on the deadline that has come. Tells whether there is nothing more to be done.
    pub(super) fn is_given_up(&mut self) -> bool {
        match self.life {
            Life::Serving => {}
            Life::Starting { .. } => self.give_up_as_useless(format!(
                "it did not call pp_dispatcher::init() within {} s; that must be the first thing in main",
                START_TIME.as_secs()
            )),
            Life::CutOff { .. } => self.break_off(),
            Life::Retiring { .. } => self.kill(KillReason::Ordered),
            Life::Killed { .. } => {
                self.kill_group();
                return true;
            }
        }
        false
    }

    /// It cannot become a worker.
    pub(super) fn give_up_as_useless(&mut self, reason: String) {
        self.inbound.end();
        self.kill(KillReason::Useless(reason));
    }

    /// Breaks off with a process that is no worker any more.
    pub(super) fn break_off(&mut self) {
        self.inbound.end();
        let is_exit = self.life.ends_as_exit();
        self.kill(KillReason::BrokeOff { is_exit });
    }

    pub(super) fn kill(&mut self, reason: KillReason) {
        self.life.kill(reason);
        if self.is_guarded() {
            // Its warden sees that, and ends everything.
            self.link.close();
        } else {
            self.kill_group();
        }
        if self.group.is_none() {
            // A thread goes on with the job it runs; it must not start another one.
            self.page.revoke();
            self.link.close();
            self.inbound.end();
        }
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            // It fails if the whole group is gone, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The process is gone: whatever its jobs started is to go with it. Yields how the worker ended.
    pub(super) async fn end_what_is_left(
        &mut self,
        body: &mut Body,
        status: Option<ExitStatus>,
    ) -> Option<ExitStatus> {
        let is_launched = self.is_launched;
        let Body::Process { inherited, .. } = &*body else { return status };
        // The warden of one that was launched exits when it has done its work.
        let end = self.page.end().filter(|_| !is_launched || status.is_some_and(|status| status.success()));
        if !self.is_guarded() {
            // Nobody else can have got the group's number: that takes a turn through all process numbers between the
            // exit and this line.
            self.kill_group();
        } else if end.is_none() {
            // Somebody has killed the warden, or had to, and with it the worker.
            self.kill_group();
            search_leftovers(inherited.clone()).await;
        }
        self.group = None;
        self.ran_out_of_memory = body.ran_out_of_memory();
        body.remove_belongings().await;
        end.map(ExitStatus::from_raw).or(status)
    }

    /// Whether its warden ends it, and all that its jobs have started.
    fn is_guarded(&self) -> bool {
        self.is_launched || self.page.is_guarded()
    }

    /// Tells how it ended: the last event of this worker.
    pub(super) fn report_end(&mut self, status: Option<ExitStatus>) {
        let stderr = self.last_words.take();
        let death = self.death(status, &stderr);
        if self.life.ends_as_exit() {
            return self.report(WorkerEvent::Exited(WorkerDeath::new(death, stderr)));
        }
        let is_shortage = matches!(death, Death::Exit(SHORTAGE) | Death::OutOfMemory);
        let is_told = is_shortage || self.is_launched && death == Death::Exit(NOT_LAUNCHED);
        let reason = match (&self.life, stderr.last()) {
            (Life::Killed { reason: KillReason::Useless(reason), .. }, _) => reason.clone(),
            (_, Some(last)) if is_told => last.clone(),
            _ if is_shortage => format!("it ended before it was ready ({death})"),
            _ => format!(
                "it ended before it was ready ({death}); is pp_dispatcher::init() the first thing in its main function?"
            ),
        };
        self.report(WorkerEvent::FailedToStart(StartFailure { reason, stderr, is_shortage }));
    }

    fn death(&self, status: Option<ExitStatus>, last_words: &[String]) -> Death {
        match status {
            _ if matches!(self.life, Life::Killed { reason: KillReason::BrokeOff { .. }, .. }) => {
                Death::Garbage
            }
            Some(status) => self.death_of(status, last_words),
            None if self.life.is_killed() => Death::Signal(Signal::KILL.as_raw()),
            None => Death::Exit(0),
        }
    }

    fn death_of(&self, status: ExitStatus, last_words: &[String]) -> Death {
        // What it said itself tells more than the signal with which it ended itself.
        let was_killed = status.signal() == Some(Signal::KILL.as_raw());
        match self.page.reason().filter(|_| was_killed && self.life.is_left_alone()) {
            Some(SelfEnd::HeldUp) => return Death::HeldUp,
            Some(SelfEnd::ThreadEnded) => return Death::ThreadEnded,
            // The node did not close the connection.
            Some(SelfEnd::CutOff | SelfEnd::NodeGone) => return Death::CutOff,
            None => {}
        }
        match (status.signal(), status.code()) {
            (Some(_), _)
                if was_killed && !self.life.is_killed() && (self.ran_out_of_memory || memory::ran_out()) =>
            {
                Death::OutOfMemory
            }
            (Some(signal), _) if signal == Signal::ABORT.as_raw() => match last_words {
                [.., last] if last == THREAD_EXIT_WORDS => Death::ThreadEnded,
                // A backtrace may follow.
                words if words.iter().any(|words| memory::is_lack(words)) => Death::OutOfMemory,
                _ => Death::Signal(signal),
            },
            (Some(signal), _) => Death::Signal(signal),
            (None, code) => Death::Exit(code.unwrap_or_default()),
        }
    }
}

impl Drop for Supervisor {
    /// The node ends while the worker is there. A warden notices that by itself; a program that is no worker yet does not.
    fn drop(&mut self) {
        if !self.is_guarded() {
            self.kill_group();
        }
    }
}

/// Ends what can be found of a worker whose warden is gone; off the node's task.
async fn search_leftovers(inherited: Inherited) {
    let (tell, ended) = oneshot::channel();
    let search = move || {
        inherited.end_all();
        let _ = tell.send(());
    };
    if thread::Builder::new().name("pp-search".into()).spawn(search).is_ok() {
        let _ = ended.await;
    }
}
