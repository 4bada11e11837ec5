//! Signals that end a run.

use std::io;
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Calls `tell` once whoever runs this wants it to end. That its terminal is gone stays ignored where it was when this began, as
/// `nohup` wants. SIGINT does not: shells have what they run in the background ignore it, and scripts stop that by it.
pub(super) fn tell(tell: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (told, mut telling) = mpsc::channel(1);
    let hang_up = Some(SignalKind::hangup()).filter(|kind| !is_ignored(*kind));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hang_up) {
        let mut signal = runtime.block_on(async { signal(kind) }).context("cannot hear signals")?;
        let told = told.clone();
        runtime.spawn(async move {
            signal.recv().await;
            // Another one may have come first.
            let _ = told.try_send(());
        });
    }
    thread::Builder::new().name("signals".into()).spawn(move || {
        // `told` is kept until then: without it, none at all would be taken for one.
        if runtime.block_on(telling.recv()).is_some() {
            tell();
        }
        drop(told);
    })?;
    Ok(())
}

/// Whether whoever started this process had it ignore the signal.
fn is_ignored(kind: SignalKind) -> bool {
    ignored().is_ok_and(|ignored| (ignored >> (kind.as_raw_value() - 1)) & 1 == 1)
}

/// Signals that are ignored, a bit for each. Only Linux tells.
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
