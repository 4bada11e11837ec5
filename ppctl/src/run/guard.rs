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
//! The run as killed itself, or the machine, ends at once: what ends at that moment is run again.

use std::io::{self, PipeReader, PipeWriter};

use pp_node::processes::{Half, divide};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use super::WRONG;

/// Signals by which people talk to the run.
const PASSED_ON: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Divides this process in two. The run goes on in the one that is yielded what tells it of the end of the other, which only waits
/// for it and never returns. None where that cannot be done: then the run ends with its process.
pub(super) fn run_below() -> Option<PipeReader> {
    let (reader, writer) = io::pipe().ok()?;
    match divide().ok()? {
        Half::Child => {
            drop(writer);
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
    for passed in PASSED_ON {
        let mut told = signal(SignalKind::from_raw(passed.as_raw()))?;
        runtime.spawn(async move {
            while told.recv().await.is_some() {
                // It may have ended just now.
                let _ = kill_process(run, passed);
            }
        });
    }
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
