//! Ends, deaths and refusals without their details: what is counted, and told to other programs in one word.

use serde::{Deserialize, Serialize};

use crate::{Death, Ended, HandshakeError, Refusal};

/// Makes the enum of the kinds that another one has, a kind for each of its variants.
macro_rules! kinds {
    (
        $(#[$doc:meta])*
        pub enum $kind:ident of $of:ident[$count:literal] { $($(#[$about:meta])* $variant:ident = $name:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $kind { $($(#[$about])* $variant,)+ }

        impl $kind {
            /// All of them, in order.
            pub const ALL: [Self; $count] = [$(Self::$variant),+];

            /// It in one word, for other programs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl From<&$of> for $kind {
            fn from(of: &$of) -> Self {
                match of { $($of::$variant { .. } => Self::$variant,)+ }
            }
        }
    };
}

kinds! {
    /// How an attempt ended. The order is the format: new kinds go last.
    pub enum OutcomeKind of Ended[10] {
        /// The function returned.
        Succeeded = "succeeded",
        /// It panicked.
        Panicked = "panicked",
        /// It ran longer than its time limit.
        TimedOut = "timed_out",
        /// Its dispatcher asked for that.
        Cancelled = "cancelled",
        /// It was given back without having been started.
        Returned = "returned",
        /// Its worker died.
        WorkerDied = "worker_died",
        /// Its result was too large.
        TooLarge = "result_too_large",
        /// Its program has no such function.
        UnknownFunction = "unknown_function",
        /// Its arguments could not be decoded.
        BadArguments = "bad_arguments",
        /// Its result could not be serialised.
        BadResult = "bad_result",
    }
}

impl OutcomeKind {
    /// Whether the attempt came to no good: neither a success nor taken back.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Succeeded | Self::Cancelled | Self::Returned)
    }
}

kinds! {
    /// How a worker died.
    pub enum DeathKind of Death[8] {
        /// A signal ended it.
        Signal = "signal",
        /// It exited.
        Exit = "exit",
        /// It broke off its connection, or wrote garbage.
        Garbage = "garbage",
        /// Memory ran out.
        OutOfMemory = "out_of_memory",
        /// A job closed its connection.
        CutOff = "cut_off",
        /// What a job left behind kept it from reporting.
        HeldUp = "held_up",
        /// It did not report, and was killed for that.
        Silent = "silent",
        /// A job ended the thread that it ran on.
        ThreadEnded = "thread_ended",
    }
}

kinds! {
    /// Why a node closed a connection.
    pub enum RefusalKind of Refusal[7] {
        /// The node finishes what runs.
        Draining = "draining",
        /// There were as many sessions as there may be.
        TooManySessions = "too_many_sessions",
        /// The session was connected already.
        AlreadyConnected = "already_connected",
        /// The greeting made no sense.
        BadHello = "bad_hello",
        /// The peer sent what it may not, or did not read what it was sent.
        NotPermitted = "not_permitted",
        /// It gave way to another connection without a session.
        TooManyConnections = "too_many_connections",
        /// As many operators watched as may.
        TooManyWatchers = "too_many_watchers",
    }
}

kinds! {
    /// How a handshake failed.
    pub enum HandshakeFailure of HandshakeError[11] {
        /// The connection broke.
        Io = "broken",
        /// The peer closed it before it had proved anything, as probes do.
        Closed = "closed",
        /// It did not prove anything in time.
        Timeout = "timeout",
        /// It is no dispatcher at all.
        NotPpserver = "not_ppserver",
        /// The releases have no protocol version in common.
        VersionMismatch = "other_version",
        /// The secret was offered where keys are asked for, or the other way round. Dispatchers try the secret first.
        PatternMismatch = "other_proof",
        /// The secrets differ.
        SecretMismatch = "other_secret",
        /// The key of its machine is not listed.
        KeyNotListed = "key_not_listed",
        /// It is listed, but not for what it wanted.
        RoleNotListed = "role_not_listed",
        /// The node's key is not the one that is known.
        OtherNodeKey = "other_node_key",
        /// It sent more than a handshake has.
        TooLong = "too_long",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_in_which_they_are_counted() {
        for (place, kind) in OutcomeKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }
}
