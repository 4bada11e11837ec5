//! Credentials: the proofs that this dispatcher gives to a node, and those that it takes from it.
//!
//! Every node is asked with the secret alone first, unless its key is known; one that asks for keys of machines is then
//! shown that of this one, and its own is remembered. Whoever is known by a key is believed with that key only.

use std::path::PathBuf;
use std::sync::Arc;

use pp_protocol::handshake::Credentials;
use pp_protocol::machine::{KeyError, KnownNodes, MachineKey, Pin, PublicKey};
use pp_protocol::secret::{Secret, Weakness};

use super::secret::DialSecret;
use crate::core::{NodeRefusal, NotAsKnown};

/// Secret and key of this machine, and the nodes that are known.
#[derive(Clone, Debug)]
pub(super) struct Keyring {
    pub(super) secret: Option<Arc<DialSecret>>,
    /// The file with the key of this machine, if there is one; nodes that are known are remembered beside it.
    pub(super) machine_key: Option<PathBuf>,
}

/// Credentials for one node.
#[derive(Clone, Debug)]
pub(super) struct ForNode {
    secret: Secret,
    /// The key of this machine; nobody asks for one that cannot be used where the secret is enough.
    key: Result<MachineKey, NodeRefusal>,
    /// The key by which the node is known.
    pin: Option<Pin>,
    known: Option<KnownNodes>,
    /// Identity of the node for those who dial it.
    identity: String,
}

impl Keyring {
    /// Credentials for the node of this identity. None for a stranger if the secret is guessed soon, on whatever is proved
    /// with it. Reads files.
    pub(super) fn for_node(&self, identity: String, is_stranger: bool) -> Result<ForNode, NodeRefusal> {
        let secret = self.secret.as_ref().ok_or(NodeRefusal::NoSecret)?.now();
        if is_stranger && secret.weakness().is_some_and(Weakness::is_guessed_soon) {
            return Err(NodeRefusal::GuessableSecret);
        }
        let known = self.machine_key.as_deref().map(KnownNodes::beside);
        let pin = known.as_ref().map(|known| known.find(&identity)).transpose().map_err(unusable)?.flatten();
        let key = self.machine_key.as_deref().map(MachineKey::read).ok_or(NodeRefusal::NoMachineKey);
        let key = key.and_then(|read| read.map_err(unusable_key));
        Ok(ForNode { secret, key, pin, known, identity })
    }
}

impl ForNode {
    /// Whether the key of the node is known: then it is asked for from the beginning.
    pub(super) fn is_node_known(&self) -> bool {
        self.pin.is_some()
    }

    /// The secret alone.
    pub(super) fn of_secret(&self) -> Credentials<'_> {
        Credentials::Secret(&self.secret)
    }

    /// The secret, and the key of this machine.
    pub(super) fn of_machine(&self) -> Result<Credentials<'_>, NodeRefusal> {
        let key = self.key.as_ref().map_err(NodeRefusal::clone)?;
        Ok(Credentials::Key { secret: &self.secret, key, node: self.pin.map(|pin| pin.key) })
    }

    /// Remembers the key of a node that is not known yet.
    pub(super) async fn remember(&self, key: PublicKey) -> Result<(), NodeRefusal> {
        let (None, Some(known)) = (self.pin, self.known.clone()) else { return Ok(()) };
        let identity = self.identity.clone();
        let pinned = tokio::task::spawn_blocking(move || known.pin(&identity, key)).await;
        pinned.map_err(unusable)?.map_err(unusable)?;
        tracing::info!(node = self.identity, %key, "remembered the key of a node that was not known");
        Ok(())
    }

    /// The node has shown another key than the one that is known, or none. Not so if none is known.
    pub(super) fn not_as_known(&self, shown: Option<String>, at: &str) -> Option<NodeRefusal> {
        let (Pin { key, line }, known) = (self.pin?, self.known.as_ref()?);
        let file = known.path().display().to_string();
        let not_as_known = NotAsKnown { shown, known: key.to_string(), file, line, at: at.into() };
        Some(NodeRefusal::NotAsKnown(Box::new(not_as_known)))
    }
}

fn unusable(error: impl ToString) -> NodeRefusal {
    NodeRefusal::Keys(error.to_string())
}

fn unusable_key(error: KeyError) -> NodeRefusal {
    if error.is_missing() { NodeRefusal::NoMachineKey } else { unusable(error) }
}
