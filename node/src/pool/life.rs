//! The states of a worker's life, as its node sees them, each with its deadline. What follows from them is done elsewhere.
//!
//! ```text
//! Starting ──Ready──> Serving ──socket ends──> CutOff ──────┐ (100 ms)
//!   │  │                │  └──retired──> Retiring ──────────┤ (2 s)
//!   │  └──socket ends───┼──────────────> CutOff             v
//!   └──not ready (10 s), other version, garbage, killed──> Killed ──still there (5 s)──> given up
//! ```
//! From each of them the process may end: an exit if it was ready or was to end, a failure to start otherwise.

use std::time::Duration;

use tokio::time::Instant;

/// Time that a program has to call `init()`.
pub(super) const START_TIME: Duration = Duration::from_secs(10);
/// Time that a worker has to end once the node has closed its socket.
const RETIRE_TIME: Duration = Duration::from_secs(2);
/// Time that a worker has to end once it has closed its socket itself: its exit status tells more than that.
const CUT_OFF_TIME: Duration = Duration::from_millis(100);
/// Time that a killed process has to be gone. One that hangs in the kernel is given up; its slot is used again.
const KILL_TIME: Duration = Duration::from_secs(5);

/// State in the life of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its program has been started, and has not called `init()`.
    Starting {
        /// Killed then.
        until: Instant,
    },
    /// It takes work.
    Serving,
    /// The node has closed its socket: it is to end by itself.
    Retiring {
        /// Killed then.
        until: Instant,
    },
    /// Its socket has ended, which was not the node's doing.
    CutOff {
        /// Killed then.
        until: Instant,
        /// Whether it had been ready.
        was_ready: bool,
    },
    /// It is being killed.
    Killed {
        /// Given up then.
        until: Instant,
        /// Reason.
        reason: KillReason,
    },
}

/// Reason why a worker is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KillReason {
    /// The node wanted it to end.
    Ordered,
    /// It cannot become a worker, for this reason.
    Useless(String),
    /// It closed its socket, or wrote garbage to it.
    BrokeOff {
        /// Whether its end is an exit, not a failure to start.
        is_exit: bool,
    },
}

impl Life {
    /// Its program has been started now.
    pub(super) fn starting() -> Self {
        Self::Starting { until: Instant::now() + START_TIME }
    }

    /// Time at which something has to be done about it, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Serving => None,
            Self::Starting { until }
            | Self::Retiring { until }
            | Self::CutOff { until, .. }
            | Self::Killed { until, .. } => Some(*until),
        }
    }

    /// The node has closed its socket.
    pub(super) fn retire(&mut self) {
        *self = Self::Retiring { until: Instant::now() + RETIRE_TIME };
    }

    /// It is being killed from now on.
    pub(super) fn kill(&mut self, reason: KillReason) {
        *self = Self::Killed { until: Instant::now() + KILL_TIME, reason };
    }

    /// Nothing more will come from its socket.
    pub(super) fn cut_off(&mut self) {
        let was_ready = match self {
            Self::Starting { .. } => false,
            Self::Serving => true,
            // That was to be expected.
            Self::Retiring { .. } | Self::CutOff { .. } | Self::Killed { .. } => return,
        };
        *self = Self::CutOff { until: Instant::now() + CUT_OFF_TIME, was_ready };
    }

    pub(super) fn is_killed(&self) -> bool {
        matches!(self, Self::Killed { .. })
    }

    /// Whether the node has done nothing to end it.
    pub(super) fn is_left_alone(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Serving | Self::CutOff { .. })
    }

    /// Whether its end is an exit; or else a failure to start.
    pub(super) fn ends_as_exit(&self) -> bool {
        match self {
            Self::Starting { .. } => false,
            Self::Serving | Self::Retiring { .. } => true,
            Self::CutOff { was_ready, .. } => *was_ready,
            Self::Killed { reason, .. } => match reason {
                KillReason::Ordered => true,
                KillReason::Useless(_) => false,
                KillReason::BrokeOff { is_exit } => *is_exit,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_socket_is_a_surprise_only_where_the_node_did_not_ask_for_it() {
        let mut life = Life::Serving;
        life.cut_off();
        assert!(matches!(life, Life::CutOff { was_ready: true, .. }) && life.ends_as_exit());
        let mut life = Life::starting();
        life.cut_off();
        assert!(matches!(life, Life::CutOff { was_ready: false, .. }) && !life.ends_as_exit());
        life.retire();
        life.cut_off();
        assert!(matches!(life, Life::Retiring { .. }) && life.ends_as_exit());
        life.kill(KillReason::Ordered);
        life.cut_off();
        assert!(life.is_killed() && life.ends_as_exit() && !life.is_left_alone());
    }

    #[test]
    fn all_but_one_that_serves_are_waited_for_no_longer_than_until_a_deadline() {
        let mut life = Life::starting();
        let started = life.deadline();
        assert!(started.is_some());
        life.cut_off();
        assert!(life.deadline() < started);
        life = Life::Serving;
        assert_eq!(life.deadline(), None);
        life.retire();
        assert!(life.deadline().is_some());
        life.kill(KillReason::Useless("no".into()));
        assert!(life.deadline().is_some() && !life.ends_as_exit());
    }
}
