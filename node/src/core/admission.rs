//! Which secrets open this node, and what becomes of whoever came with one that does so no longer.
//!
//! ```text
//! accepted: old        ──> old, new             ──> new
//! dispatcher:                 comes with old          connection closed, session waits for a moment ──> comes with new: goes on
//! thief:                      comes with old          connection closed, session waits for a moment ──> ended
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::{Moment, Role, SecretId, Version};

use super::connect::Peer;
use super::session::Link;
use super::{Action, ConnectionKey, Core};

/// Time for which a session whose secret is no longer accepted is kept for a dispatcher that knows one that is: long enough for
/// one that was told of it to connect anew from far away.
const MOVING_TIME: Duration = Duration::from_millis(700);

/// Proof of a peer, and the version that is spoken with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Role that it has here, and with it what it may send.
    pub role: Role,
    /// Protocol version that is spoken.
    pub version: Version,
    /// Secret that it knows; none if it lives in this process.
    pub secret: Option<SecretId>,
}

impl Core {
    /// Closes what was opened by other secrets than these. What they run goes on for a moment: a dispatcher that knows
    /// one of these by now comes back, and nothing is lost or run again.
    pub(super) fn accept_only(
        &mut self,
        now: Moment,
        secrets: BTreeSet<SecretId>,
        actions: &mut Vec<Action>,
    ) {
        self.accepted = Some(secrets);
        let closed: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| !self.is_accepted(c.secret))
            .map(|(key, _)| *key)
            .collect();
        for key in closed {
            self.expel(now, key, actions);
        }
        let until = now + MOVING_TIME;
        let accepted = self.accepted.as_ref();
        for session in self.sessions.values_mut().filter(|session| !accepts(accepted, session.secret)) {
            if let Link::Silent { until: later } = &mut session.link {
                *later = until.min(*later);
            }
        }
    }

    /// Whether whoever knows this secret may be here.
    pub(super) fn is_accepted(&self, secret: Option<SecretId>) -> bool {
        accepts(self.accepted.as_ref(), secret)
    }

    fn expel(&mut self, now: Moment, key: ConnectionKey, actions: &mut Vec<Action>) {
        if let Some(Peer::Session(session)) = self.connections.get(&key).map(|connection| connection.peer) {
            self.broken_off(session, now + self.config.grace, actions);
        }
        self.close(key, actions);
    }
}

fn accepts(accepted: Option<&BTreeSet<SecretId>>, secret: Option<SecretId>) -> bool {
    accepted.is_none_or(|accepted| secret.is_none_or(|secret| accepted.contains(&secret)))
}
