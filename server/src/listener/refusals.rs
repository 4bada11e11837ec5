//! Log lines about connections that come to nothing: the first of a kind at once, those like it as a count, so that a
//! scan neither fills the log nor hides that somebody has the wrong secret.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pp_protocol::address;
use pp_protocol::handshake::HandshakeError;
use pp_protocol::limits::HANDSHAKE_TIME;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Lines of one kind are logged at most once in this time.
const EVERY: Duration = Duration::from_secs(10);
/// Pause for lines about peers that are no dispatcher at all, which are of less interest.
const EVERY_STRANGE: Duration = Duration::from_secs(60);
/// Kinds of lines that are told apart; beyond that, all that are new count as one.
const KINDS: usize = 1_024;

/// Lines of one kind are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NoRoom,
    Crowded,
    WrongSecret(IpAddr),
    OtherVersion(IpAddr),
    /// Bytes that are no greeting of a dispatcher.
    Nonsense,
    /// Nothing within the time there is, or too little.
    Silent,
    Broken,
    /// From more places than are told apart.
    Many,
}

/// A line, and when the next one of its kind may be logged.
#[derive(Debug)]
struct Told {
    peer: Option<String>,
    line: String,
    next: Instant,
    /// Number of others like it that were not logged.
    untold: u64,
}

/// The lines logged of late, by their kind.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Mutex<BTreeMap<Kind, Told>>,
    /// There is a kind that was not there before.
    added: Notify,
}

impl Kind {
    /// Lines of this kind are logged at most once in this time.
    fn every(self) -> Duration {
        match self {
            Self::Nonsense | Self::Silent | Self::Broken => EVERY_STRANGE,
            Self::NoRoom | Self::Crowded | Self::WrongSecret(_) | Self::OtherVersion(_) | Self::Many => EVERY,
        }
    }
}

impl Refusals {
    /// A peer did not get in.
    pub(super) fn refused(&self, peer: SocketAddr, error: &HandshakeError) {
        let ip = peer.ip().to_canonical();
        let (kind, line) = match error {
            HandshakeError::SecretMismatch => (
                Kind::WrongSecret(ip),
                "refused: the secrets differ: it does not know this node's".to_owned(),
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
        let line = format!(
            "there is no room for another connection ({error}): those that have not proved that they know the secret \
             give way; if this goes on, raise the limit of open files (ulimit -n)"
        );
        self.log_or_count(Kind::NoRoom, None, line);
    }

    /// More than `limit` connections have proved nothing yet, and one from this peer is one of them.
    pub(super) fn crowded(&self, peer: SocketAddr, limit: usize) {
        let line = format!(
            "more than {limit} connections have not proved that they know the secret: the oldest give way to others"
        );
        self.log_or_count(Kind::Crowded, Some(address::shown(peer)), line);
    }

    fn log_or_count(&self, mut kind: Kind, peer: Option<String>, line: String) {
        let mut told = self.lock();
        if told.len() >= KINDS && !told.contains_key(&kind) {
            kind = Kind::Many;
        }
        if let Some(last) = told.get_mut(&kind) {
            last.untold += 1;
            return;
        }
        log(kind, peer.as_deref(), &line);
        told.insert(kind, Told { peer, line, next: Instant::now() + kind.every(), untold: 0 });
        self.added.notify_one();
    }

    /// Waits until something is to be done about what was counted.
    pub(super) async fn is_due(&self) {
        loop {
            let first = self.lock().values().map(|told| told.next).min();
            match first {
                Some(at) => return tokio::time::sleep_until(at).await,
                None => self.added.notified().await,
            }
        }
    }

    /// Logs how many there were of each kind whose time has come, and forgets those of which there was no other.
    pub(super) fn log_repeated(&self) {
        let now = Instant::now();
        self.lock().retain(|kind, told| {
            if told.next > now {
                return true;
            }
            let untold = std::mem::take(&mut told.untold);
            if untold > 0 {
                let seconds = kind.every().as_secs();
                let line = format!("{} (and {untold} more like this within {seconds} s)", told.line);
                log(*kind, told.peer.as_deref(), &line);
            }
            told.next = now + kind.every();
            untold > 0
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(kind: Kind, peer: Option<&str>, line: &str) {
    match kind {
        Kind::Nonsense | Kind::Silent | Kind::Broken => tracing::info!(peer, "{line}"),
        _ => tracing::warn!(peer, "{line}"),
    }
}
