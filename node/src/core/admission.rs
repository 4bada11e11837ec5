//! Which secrets and machines open this node, and what becomes of whoever came with one that does so no longer.
//!
//! ```text
//! accepted: old        ──> old, new             ──> new
//! dispatcher:                 comes with old          connection closed, session waits for a moment ──> comes with new: goes on
//! thief:                      comes with old          connection closed, session waits for a moment ──> ended
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::{MachineId, Moment, Role, SecretId, Version};

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
    /// Machine that it is, where that is asked for.
    pub machine: Option<MachineId>,
}

/// Proofs that open the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Secrets, of which one has to be known.
    pub secrets: BTreeSet<SecretId>,
    /// Machines, with the roles that each may have, where a peer has to be one of them besides.
    pub machines: Option<BTreeSet<(MachineId, Role)>>,
}

impl<const N: usize> From<[SecretId; N]> for Accepted {
    fn from(secrets: [SecretId; N]) -> Self {
        Self { secrets: secrets.into(), machines: None }
    }
}

impl Accepted {
    /// Whoever lives in this process has proved nothing, and need not.
    fn has(&self, Proof { role, secret, machine, .. }: Proof) -> bool {
        let Some(secret) = secret else { return true };
        let is_listed = |machines: &BTreeSet<_>| machine.is_some_and(|it| machines.contains(&(it, role)));
        self.secrets.contains(&secret) && self.machines.as_ref().is_none_or(is_listed)
    }
}

impl Core {
    /// Closes what was opened by other proofs than these. What they run goes on for a moment: a dispatcher that has
    /// one of these by now comes back, and nothing is lost or run again.
    pub(super) fn accept_only(&mut self, now: Moment, accepted: Accepted, actions: &mut Vec<Action>) {
        self.accepted = Some(accepted);
        let closed: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| !self.is_accepted(c.proof))
            .map(|(key, _)| *key)
            .collect();
        for key in closed {
            self.expel(now, key, actions);
        }
        let until = now + MOVING_TIME;
        let accepted = self.accepted.as_ref();
        for session in self
            .sessions
            .values_mut()
            .filter(|session| !session.proof.is_none_or(|proof| accepts(accepted, proof)))
        {
            if let Link::Silent { until: later } = &mut session.link {
                *later = until.min(*later);
            }
        }
    }

    /// Whether whoever gave this proof may be here.
    pub(super) fn is_accepted(&self, proof: Proof) -> bool {
        accepts(self.accepted.as_ref(), proof)
    }

    fn expel(&mut self, now: Moment, key: ConnectionKey, actions: &mut Vec<Action>) {
        if let Some(Peer::Session(session)) = self.connections.get(&key).map(|connection| connection.peer) {
            self.broken_off(session, now + self.config.grace, actions);
        }
        self.close(key, actions);
    }
}

fn accepts(accepted: Option<&Accepted>, proof: Proof) -> bool {
    accepted.is_none_or(|accepted| accepted.has(proof))
}
