//! A run with a job log outlives its `ppctl`: killed with `kill -9`, it finishes what runs, logs that, and begins nothing more.
//!
//! Whatever ended unnoticed would not be in the log, and `--resume` would run it a second time. So the run is in a process of its
//! own, below the one that was started, and notices the end of that by a pipe:
//!
//! ```text
//! shell ──starts──> ppctl ──forks──> the run, which is all that this program does
//!                     │ passes on signals; ends as the run ends
//!                     └── killed: the pipe closes, and the run comes to its end
//! ```
//!
//! The run is in a group of its own and has a name of its own, so that whoever kills the job of a shell, or all of a program's name,
//! spares it to do this. Where it reads from the terminal it cannot be: only the terminal's own group may. If the run is killed
//! itself, or the machine, it ends at once: what ends at that moment is run again.

use std::io::{self, PipeReader, PipeWriter};

use pp_node::processes::{Half, divide};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, setpgid, waitpid};
use rustix::thread::set_name;
use tokio::signal::unix::{SignalKind, signal};

use super::WRONG;
use super::interrupts::is_ignored;

/// Signals by which people talk to the run, and what it is told. That a terminal is gone is told to the run as an order to end: as a
/// signal it comes as well where a stopped run loses its guard, and then means nothing.
const PASSED_ON: [(Signal, Signal); 4] = [
    (Signal::INT, Signal::INT),
    (Signal::TERM, Signal::TERM),
    (Signal::QUIT, Signal::QUIT),
    (Signal::HUP, Signal::TERM),
];

/// Divides this process in two. The run goes on in the one that is yielded what tells it of the end of the other, which only waits
/// for it and never returns. None where that cannot be done: then the run ends with its process.
pub(super) fn run_below(reads_terminal: bool) -> Option<PipeReader> {
    let (reader, writer) = io::pipe().ok()?;
    match divide().ok()? {
        Half::Child => {
            drop(writer);
            if !reads_terminal {
                // Without, it is killed where its guard is with all of its group.
                let _ = setpgid(None, None);
            }
            let _ = set_name(c"pp-run");
            Some(reader)
        }
        Half::Parent(run) => {
            drop(reader);
            let code = wait_for(run, &writer).unwrap_or_else(|error| {
                crate::warn(&format!("the run cannot be waited for: {error}; it is told to end"));
                let _ = kill_process(run, Signal::TERM);
                WRONG
            });
            std::process::exit(code.into())
        }
    }
}

/// Waits for the end of the run, passing on signals. Yields its exit code.
fn wait_for(run: Pid, _pipe: &PipeWriter) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _in_it = runtime.enter();
    for (heard, passed) in PASSED_ON {
        let kind = SignalKind::from_raw(heard.as_raw());
        // That its terminal is gone is nothing to a run below `nohup`.
        if heard == Signal::HUP && is_ignored(kind) {
            continue;
        }
        let mut told = signal(kind)?;
        runtime.spawn(async move {
            while told.recv().await.is_some() {
                // It may have ended just now.
                let _ = kill_process(run, passed);
            }
        });
    }
    let mut stopped = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut goes_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    runtime.spawn(async move {
        loop {
            let passed = tokio::select! {
                Some(()) = stopped.recv() => Signal::STOP,
                Some(()) = goes_on.recv() => Signal::CONT,
                else => return,
            };
            let _ = kill_process(run, passed);
            if passed == Signal::STOP {
                let _ = kill_process(getpid(), passed);
            }
        }
    });
    let mut child_ended = signal(SignalKind::child())?;
    runtime.block_on(async {
        loop {
            if let Some((_, status)) = waitpid(Some(run), WaitOptions::NOHANG)? {
                return Ok(exit_code(status));
            }
            child_ended.recv().await;
        }
    })
}

/// What this program ends with for one that ended like this.
fn exit_code(run: WaitStatus) -> u8 {
    match (run.exit_status(), run.terminating_signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(WRONG),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            crate::warn(&format!(
                "the run was killed (signal {signal}) and could not finish what ran; the same with --resume goes on"
            ));
            WRONG
        }
    }
}
