//! Signals: those that stop the daemon, the one that has its secrets read again, and the one that prints its statistics.

use std::io::{IsTerminal, Write};

use pp_node::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::service;

/// The signals that the daemon answers.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    statistics: Signal,
    reload: Signal,
    /// Whether there was a terminal when this process started.
    had_terminal: bool,
    /// The processor time that this process may use is used up.
    time_used: Signal,
}

impl Signals {
    /// From now on they are kept until they are obeyed.
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            statistics: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
            had_terminal: has_terminal(),
            time_used: signal(SignalKind::from_raw(rustix::process::Signal::XCPU.as_raw()))?,
        })
    }

    /// Returns once a signal has ended the node.
    pub(crate) async fn obey(self, node: &Node, read_secrets_again: impl Fn()) {
        let Self { mut terminate, mut interrupt, mut statistics, mut reload, had_terminal, mut time_used } =
            self;
        let mut draining = false;
        loop {
            tokio::select! {
                () = told_to_stop(&mut terminate, &mut interrupt) => stop(node, &mut draining),
                // Whoever closes a terminal wants what runs in it to end; without one, it is a word of an operator.
                _ = reload.recv() => {
                    if had_terminal && !has_terminal() {
                        stop(node, &mut draining);
                    } else {
                        read_secrets_again();
                    }
                }
                _ = time_used.recv(), if !draining => {
                    tracing::error!(
                        "the processor time that this process may use is used up: finishing what runs; raise the limit \
                         (ulimit -t, or LimitCPU= of the service)"
                    );
                    service::stopping();
                    node.drain();
                    draining = true;
                }
                _ = statistics.recv() => {
                    if let Some(statistics) = node.statistics().await {
                        // There is nobody to tell if standard output is closed.
                        let _ = write!(std::io::stdout(), "{statistics}");
                        let _ = std::io::stdout().flush();
                    }
                }
                () = node.ended() => return,
            }
        }
    }
}

fn stop(node: &Node, draining: &mut bool) {
    if *draining {
        tracing::info!("told again to stop: exiting at once");
        node.kill();
    } else {
        tracing::info!("told to stop: finishing what runs; tell again to exit at once");
        service::stopping();
        node.drain();
        *draining = true;
    }
}

/// Whether somebody can see what this process says, at a terminal that has not been closed.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
