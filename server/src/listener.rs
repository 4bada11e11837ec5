//! Taking in connections: limited, and served only once the peer has proved that it knows the secret.

mod refusals;
mod strangers;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pp_node::{Accepted, Node, Proof};
use pp_protocol::address;
use pp_protocol::connection::{self, Budget};
use pp_protocol::handshake::{self, Demand, Established, HandshakeError};
use pp_protocol::limits::{
    BACKLOG, DESCRIPTORS_KEPT, DESCRIPTORS_KEPT_DIVISOR, HANDSHAKE_DESCRIPTORS_DIVISOR, HANDSHAKE_TIME,
    HANDSHAKES_AT_ONCE,
};
use pp_protocol::secret::Secrets;
use pp_protocol::socket;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use self::refusals::{RefusalCounts, Refusals};
use self::strangers::Strangers;
use crate::Machines;

/// Pause before connections are taken in again, when the system has no room for one and nobody can be sent
/// away.
const PAUSE: Duration = Duration::from_millis(100);

/// Proofs that are asked of whoever connects.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) secrets: Secrets,
    pub(crate) machines: Option<Machines>,
}

impl Door {
    /// The proofs that are good for this door, by name.
    pub(crate) fn accepted(&self) -> Accepted {
        let rights = self.machines.as_ref().map(|machines| machines.authorized.rights());
        let machines = rights.map(|rights| rights.map(|(key, role)| (key.id(), role)).collect());
        Accepted { secrets: self.secrets.ids(), machines }
    }

    fn demand(&self) -> Demand<'_> {
        let secrets = &self.secrets[..];
        match &self.machines {
            None => Demand::Secret(secrets),
            Some(Machines { key, authorized }) => Demand::Key { secrets, key, authorized },
        }
    }
}

/// Serves whoever connects and knows the secret, for ever.
///
/// Strangers, who have not proved that they know it, get a share of the descriptors only, and the oldest of them gives
/// way to a newcomer: whoever knows the secret is through in milliseconds, so that connections that say nothing keep
/// nobody out.
pub(crate) async fn serve(
    listener: TcpListener,
    door: watch::Receiver<Door>,
    node: Node,
    refusals: Arc<Refusals>,
) {
    let budget = Budget::default();
    let limit = descriptors();
    let mut strangers = Strangers::new(strangers_at_once(limit));
    if let Err(error) = rustix::net::listen(&listener, BACKLOG as i32) {
        tracing::debug!(%error, "connections that wait are as many as whoever made the socket wished");
    }
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = refusals.is_due() => {
                refusals.log_repeated();
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                // The lowest one that is free is given, so it tells how many are taken.
                let are_few = stream.as_raw_fd() as usize >= limit - kept(limit);
                if are_few && strangers.send_one_away() {
                    refusals.few_descriptors(limit);
                }
                let (door, node, told) = (door.borrow().clone(), node.clone(), Arc::clone(&refusals));
                let budget = budget.clone();
                let handshake = tokio::spawn(async move {
                    if let Err(error) = welcome(stream, peer, &door, &node, budget).await {
                        told.refused(peer, &error);
                    }
                });
                if let Some(crowd) = strangers.add(peer.ip().to_canonical(), handshake.abort_handle()) {
                    refusals.crowded(peer, crowd);
                }
            }
            Err(error) if is_lack_of_room(&error) => {
                refusals.no_room(&error);
                if strangers.send_one_away() {
                    // Its descriptor is free once its task had its turn.
                    tokio::task::yield_now().await;
                } else {
                    spare.turn_one_away(&listener).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Whoever it was has left already, or the network broke below them (accept(2)).
            Err(error) => tracing::debug!(%error, "a connection ended before it was taken in"),
        }
    }
}

/// Number of descriptors that this process may have.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(usize::MAX)
}

/// Number of handshakes that may be under way: of so many descriptors, others need some too.
fn strangers_at_once(descriptors: usize) -> usize {
    (descriptors / HANDSHAKE_DESCRIPTORS_DIVISOR).clamp(1, HANDSHAKES_AT_ONCE)
}

/// Number of descriptors that are not for handshakes.
fn kept(descriptors: usize) -> usize {
    (descriptors / DESCRIPTORS_KEPT_DIVISOR).min(DESCRIPTORS_KEPT)
}

/// Whether the system has no descriptor or memory for one more connection.
fn is_lack_of_room(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| lacks.iter().any(|lack| lack.raw_os_error() == code))
}

/// A descriptor that is held for the moment in which there is no other: it lets somebody be told that there is no room,
/// by closing the connection, instead of leaving them to wait for an answer.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        // Without one, whoever comes waits until there is room.
        Self(File::open("/dev/null").ok())
    }

    async fn turn_one_away(&mut self, listener: &TcpListener) {
        if self.0.take().is_some() {
            // Somebody else may have been faster to take the descriptor. That one is served, then.
            let _ = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        }
        *self = Self::new();
    }
}

/// Lets in whoever proves that it knows the secret and then says something sealed. Until then it is a stranger.
async fn welcome(
    mut stream: TcpStream,
    peer: SocketAddr,
    door: &Door,
    node: &Node,
    budget: Budget,
) -> Result<(), HandshakeError> {
    socket::prepare(&stream)?;
    let welcome = async {
        let established = handshake::respond(&mut stream, door.demand()).await?;
        if let Some(key) = established.peer {
            tracing::debug!(peer = address::shown(peer), %key, role = %established.role, "a machine that is listed");
        }
        let (reader, writer) = stream.into_split();
        match connection::over_once_heard(reader, writer, established.keys, budget).await {
            Ok(transport) => {
                let Established { role, version, secret, peer: machine, .. } = established;
                let machine = machine.map(|key| key.id());
                let proof = Proof { role, version, secret: Some(secret), machine };
                node.serve(transport, address::shown(peer), proof);
            }
            // A dispatcher that dialled several addresses of this node at once uses one of them.
            Err(reason) => {
                tracing::debug!(peer = address::shown(peer), %reason, "it ended before its first message")
            }
        }
        Ok(())
    };
    timeout(HANDSHAKE_TIME, welcome).await.unwrap_or(Err(HandshakeError::Timeout))
}
