//! Signals that end a run (or a list that is shown again and again), and the end of the process that guards it.

use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::Context;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// To end now.
    End,
    /// To begin nothing more, as its guard is gone.
    Finish,
}

/// Calls `tell` whenever whoever runs this wants it to end. That its terminal is gone stays ignored where it was when this began,
/// as `nohup` wants. SIGINT does not: shells have what they run in the background ignore it, and scripts stop that by it. Nothing is
/// ever written to the `guard`, whose end tells that of the other process.
pub(crate) fn tell(guard: Option<PipeReader>, tell: impl Fn(Word) + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (told, mut telling) = mpsc::channel(4);
    let hang_up = Some(SignalKind::hangup()).filter(|kind| !is_ignored(*kind));
    let has_guard = guard.is_some();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hang_up) {
        let mut signal = runtime.block_on(async { signal(kind) }).context("cannot hear signals")?;
        let told = told.clone();
        runtime.spawn(async move {
            while signal.recv().await.is_some() {
                // A guard says in other words what that means.
                if !has_guard || kind != SignalKind::hangup() {
                    // Another one may have come first.
                    let _ = told.try_send(Word::End);
                }
            }
        });
    }
    if let Some(guard) = guard {
        let guard = runtime.block_on(async { Receiver::from_owned_fd(OwnedFd::from(guard)) })?;
        runtime.spawn(async move {
            if guard.readable().await.is_ok() {
                let _ = told.send(Word::Finish).await;
            }
            // Kept: without a sender, there would be nothing to wait for.
            std::future::pending::<()>().await;
        });
    }
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Some(word) = runtime.block_on(telling.recv()) {
            tell(word);
        }
    })?;
    Ok(())
}

/// Whether whoever started this process had it ignore the signal.
pub(super) fn is_ignored(kind: SignalKind) -> bool {
    ignored().is_ok_and(|ignored| (ignored >> (kind.as_raw_value() - 1)) & 1 == 1)
}

/// Signals that are ignored, a bit for each. Only Linux tells.
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
