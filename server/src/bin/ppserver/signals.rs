//! Signals: those that stop the daemon, and the one that prints its statistics.

use std::io::Write;

use pp_node::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::service;

/// The signals that the daemon answers.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    statistics: Signal,
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
            time_used: signal(SignalKind::from_raw(rustix::process::Signal::XCPU.as_raw()))?,
        })
    }

    /// Returns once a signal has ended the node.
    pub(crate) async fn obey(self, node: &Node) {
        let Self { mut terminate, mut interrupt, mut statistics, mut time_used } = self;
        let mut draining = false;
        loop {
            tokio::select! {
                () = told_to_stop(&mut terminate, &mut interrupt) => {
                    if draining {
                        tracing::info!("told again to stop: exiting at once");
                        node.kill();
                    } else {
                        tracing::info!("told to stop: finishing what runs; tell again to exit at once");
                        service::stopping();
                        node.drain();
                        draining = true;
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

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
