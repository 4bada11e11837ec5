//! Log lines about connections that come to nothing: the first of a kind at once, those like it as a count, so that a
//! scan neither fills the log nor hides that somebody has the wrong secret. However many kinds there are, from however many
//! places, there are no more lines than a person reads: the rest is counted in one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pp_protocol::HandshakeFailure;
use pp_protocol::address;
use pp_protocol::handshake::{HandshakeError, MACHINE_KEYS, SHARED_SECRET};
use pp_protocol::limits::HANDSHAKE_TIME;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::strangers::Crowd;

/// Lines of one kind are logged at most once in this time.
const EVERY: Duration = Duration::from_secs(10);
/// Pause for lines about peers that are no dispatcher at all, which are of less interest.
const EVERY_STRANGE: Duration = Duration::from_secs(60);
/// Lines of all kinds are logged so many at once, and one more each time this has passed.
const LINES_AT_ONCE: u32 = 20;
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Lines of one kind are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NoRoom,
    Crowded,
    WrongSecret(IpAddr),
    OtherVersion(IpAddr),
    /// A machine whose key is not listed, or not for what it wants.
    NotListed(IpAddr),
    /// The secret where keys are asked for, or the other way round. Dispatchers try the secret first.
    OtherProof,
    /// Bytes that are no greeting of a dispatcher.
    Nonsense,
    /// Nothing within the time there is, or too little.
    Silent,
    Broken,
}

/// A line, and when the next one of its kind may be logged.
#[derive(Debug)]
struct Line {
    peer: Option<String>,
    line: String,
    next: Instant,
    /// Number of others like it that were not logged.
    untold: u64,
}

/// Lines that were logged of late, and the count of those that were not.
#[derive(Debug, Default)]
struct Told {
    /// The last lines of each kind.
    kinds: BTreeMap<Kind, Line>,
    /// Time at which as many lines may be logged at once again as ever.
    quiet_at: Option<Instant>,
    /// Connections for which there was no line, of whatever kind.
    rest: u64,
    /// Time at which their number is logged.
    rest_at: Option<Instant>,
}

/// Tells of connections that come to nothing.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Mutex<Told>,
    /// There is a kind that was not there before.
    added: Notify,
    counts: Mutex<RefusalCounts>,
}

/// Connections that came to nothing, since the daemon started.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusalCounts {
    /// Handshakes that failed, and how.
    pub(crate) failed: BTreeMap<HandshakeFailure, u64>,
    /// Handshakes that gave way to others, or for which there was no room.
    pub(crate) crowded: u64,
}

impl Kind {
    /// Lines of this kind are logged at most once in this time.
    fn every(self) -> Duration {
        match self {
            Self::Nonsense | Self::Silent | Self::Broken | Self::OtherProof => EVERY_STRANGE,
            Self::NoRoom
            | Self::Crowded
            | Self::WrongSecret(_)
            | Self::OtherVersion(_)
            | Self::NotListed(_) => EVERY,
        }
    }
}

impl Refusals {
    /// What was counted.
    pub(crate) fn counts(&self) -> RefusalCounts {
        self.counting().clone()
    }

    fn counting(&self) -> MutexGuard<'_, RefusalCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer did not get in.
    pub(super) fn refused(&self, peer: SocketAddr, error: &HandshakeError) {
        *self.counting().failed.entry(error.into()).or_default() += 1;
        let ip = peer.ip().to_canonical();
        let (kind, line) = match error {
            HandshakeError::SecretMismatch => (
                Kind::WrongSecret(ip),
                "refused: the secrets differ: it does not know this node's".to_owned(),
            ),
            HandshakeError::PatternMismatch(SHARED_SECRET) => (
                Kind::OtherProof,
                "told to show the key of its machine: it offered to prove the secret alone".to_owned(),
            ),
            HandshakeError::PatternMismatch(MACHINE_KEYS) => (
                Kind::OtherProof,
                "refused: it knows this node as one that asks for keys of machines, and there are no --authorized-keys here"
                    .to_owned(),
            ),
            HandshakeError::KeyNotListed { key } => (
                Kind::NotListed(ip),
                format!(
                    "refused: the key of its machine is not listed among the authorized keys; if it is to get in, add a \
                     line and reload them (SIGHUP): {key}"
                ),
            ),
            HandshakeError::RoleNotListed { key, role } => (
                Kind::NotListed(ip),
                format!(
                    "refused: the key of its machine is listed, but not for a connection as {role}; see the options \
                     (no-submit, operate) of its line among the authorized keys: {key}"
                ),
            ),
            HandshakeError::VersionMismatch { .. } | HandshakeError::PatternMismatch(_) => {
                (Kind::OtherVersion(ip), format!("refused: {error}"))
            }
            HandshakeError::NotPpserver => (
                Kind::Nonsense,
                "refused: what it sent is no greeting of a dispatcher: is it a browser, a probe, a scanner?"
                    .to_owned(),
            ),
            HandshakeError::TooLong(_) => (Kind::Nonsense, format!("refused: {error}")),
            HandshakeError::Timeout => (
                Kind::Silent,
                format!(
                    "refused: it has not proved within {} s that it knows the secret",
                    HANDSHAKE_TIME.as_secs()
                ),
            ),
            // So do the probes of container platforms, every other second.
            HandshakeError::Closed => {
                return tracing::debug!(
                    peer = address::shown(peer),
                    "it closed the connection before it had proved that it knows the secret"
                );
            }
            // The connection broke, or it is something yet unknown.
            _ => (Kind::Broken, format!("refused: {error}")),
        };
        self.log_or_count(kind, Some(address::shown(peer)), line);
    }

    /// A connection could not be taken in.
    pub(super) fn no_room(&self, error: &io::Error) {
        self.counting().crowded += 1;
        let line = format!(
            "there is no room for another connection ({error}): those that have not proved that they know the secret \
             give way; if this goes on, raise the limit of open files (ulimit -n)"
        );
        self.log_or_count(Kind::NoRoom, None, line);
    }

    /// Of so many descriptors the last ones are kept for others: a stranger had to go.
    pub(super) fn few_descriptors(&self, limit: usize) {
        self.counting().crowded += 1;
        let line = format!(
            "nearly all of {limit} descriptors are taken: connections that have not proved that they know the secret give \
             way; if this goes on, raise the limit of open files (ulimit -n)"
        );
        self.log_or_count(Kind::NoRoom, None, line);
    }

    /// For this peer another connection that had proved nothing yet was closed.
    pub(super) fn crowded(&self, peer: SocketAddr, crowd: Crowd) {
        self.counting().crowded += 1;
        let line = match crowd {
            Crowd::Of(limit) => format!(
                "more than {limit} connections have not proved that they know the secret: the oldest of whoever has most \
                 give way to others"
            ),
            Crowd::OfOneSource(limit) => format!(
                "more than {limit} connections of its network have not proved that they know the secret: the oldest of \
                 them give way"
            ),
        };
        self.log_or_count(Kind::Crowded, Some(address::shown(peer)), line);
    }

    fn log_or_count(&self, kind: Kind, peer: Option<String>, line: String) {
        let mut told = self.lock();
        if let Some(last) = told.kinds.get_mut(&kind) {
            last.untold += 1;
            return;
        }
        let now = Instant::now();
        if told.may_log(now) {
            log(kind, peer.as_deref(), &line);
            told.kinds.insert(kind, Line { peer, line, next: now + kind.every(), untold: 0 });
        } else {
            told.leave_untold(now, 1);
        }
        self.added.notify_one();
    }

    /// Waits until something is to be done about what was counted.
    pub(super) async fn is_due(&self) {
        loop {
            let first = self.lock().next();
            match first {
                Some(at) => return tokio::time::sleep_until(at).await,
                None => self.added.notified().await,
            }
        }
    }

    /// Logs how many there were of each kind whose time has come, and forgets those of which there was no other.
    pub(super) fn log_repeated(&self) {
        self.lock().log_repeated(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Whether there may be one more line, which then counts.
    fn may_log(&mut self, now: Instant) -> bool {
        let quiet_at = self.quiet_at.map_or(now, |at| at.max(now)) + LINE_EVERY;
        let may = quiet_at <= now + LINES_AT_ONCE * LINE_EVERY;
        if may {
            self.quiet_at = Some(quiet_at);
        }
        may
    }

    fn leave_untold(&mut self, now: Instant, connections: u64) {
        self.rest += connections;
        self.rest_at.get_or_insert(now + EVERY);
    }

    /// Time at which something is to be logged or forgotten.
    fn next(&self) -> Option<Instant> {
        self.kinds.values().map(|line| line.next).chain(self.rest_at).min()
    }

    fn log_repeated(&mut self, now: Instant) {
        let due = self.kinds.extract_if(.., |_, line| line.next <= now).collect::<Vec<_>>();
        for (kind, mut line) in due {
            match line.untold {
                0 => continue,
                untold if self.may_log(now) => {
                    let seconds = kind.every().as_secs();
                    let text = format!("{} (and {untold} more like this within {seconds} s)", line.line);
                    log(kind, line.peer.as_deref(), &text);
                }
                untold => self.leave_untold(now, untold),
            }
            line.untold = 0;
            line.next = now + kind.every();
            self.kinds.insert(kind, line);
        }
        if self.rest_at.is_some_and(|at| at <= now) {
            let rest = std::mem::take(&mut self.rest);
            self.rest_at = None;
            tracing::warn!(
                "{rest} more connections came to nothing: too many in too many ways to name them all"
            );
        }
    }
}

fn log(kind: Kind, peer: Option<&str>, line: &str) {
    match kind {
        Kind::Nonsense | Kind::Silent | Kind::Broken | Kind::OtherProof => tracing::info!(peer, "{line}"),
        _ => tracing::warn!(peer, "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_lines_and_one_count_however_many_places_strangers_come_from() {
        let (mut told, began) = (Told::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!((0..4_000).filter(|_| told.may_log(began)).count(), LINES_AT_ONCE as usize);
        assert_eq!([4, 5, 6, 10].map(|seconds| told.may_log(at(seconds))), [false, true, false, true]);
        assert_eq!((0..4_000).filter(|_| told.may_log(at(3_600))).count(), LINES_AT_ONCE as usize);
        told.leave_untold(at(3_600), 3_000);
        told.leave_untold(at(3_605), 980);
        assert_eq!((told.rest, told.next()), (3_980, Some(at(3_610))));
        told.log_repeated(at(3_610));
        assert_eq!((told.rest, told.next()), (0, None), "it was told");
    }

    #[test]
    fn what_repeats_is_told_again_and_forgotten_once_it_does_not() {
        let (mut told, began) = (Told::default(), Instant::now());
        let line = Line { peer: None, line: "again".into(), next: began + EVERY, untold: 7 };
        told.kinds.insert(Kind::NoRoom, line);
        told.log_repeated(began);
        assert_eq!(told.kinds[&Kind::NoRoom].untold, 7, "its time has not come");
        told.log_repeated(began + EVERY);
        assert_eq!((told.kinds[&Kind::NoRoom].untold, told.next()), (0, Some(began + 2 * EVERY)));
        told.log_repeated(began + 2 * EVERY);
        assert!(told.kinds.is_empty());
    }
}
