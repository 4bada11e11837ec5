//! Taking in connections: bound, limited, and served only once the peer has proved that it knows the secret.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::Discriminant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pp_node::Node;
use pp_protocol::connection;
use pp_protocol::handshake::{self, HandshakeError};
use pp_protocol::limits::HANDSHAKES_AT_ONCE;
use pp_protocol::secret::Secret;
use pp_protocol::socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How long to wait after the system refused a connection for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Refusals of one address for one reason are logged at most once in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Refusals whose time is remembered.
const REFUSALS_REMEMBERED: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(
        "port {0} is taken: is another ppserver running? Stop it, or choose another port with -p (0 for any)"
    )]
    Taken(u16),
    #[error("port {0} needs privileges; choose one above 1023 with -p")]
    Privileged(u16),
    #[error("{0} is not an address of this machine; choose one with -i, or leave -i out to listen on all")]
    NotHere(IpAddr),
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, io::Error),
}

/// Binds `port` of `interface`, or of every address this machine has.
pub(crate) async fn bind(interface: Option<IpAddr>, port: u16) -> Result<TcpListener, BindError> {
    let address = SocketAddr::new(interface.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
    let bound = match TcpListener::bind(address).await {
        // A machine without IPv6.
        Err(_) if interface.is_none() => {
            TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).await
        }
        bound => bound,
    };
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken(port),
        io::ErrorKind::PermissionDenied => BindError::Privileged(port),
        io::ErrorKind::AddrNotAvailable => BindError::NotHere(address.ip()),
        _ => BindError::Other(address, error),
    })
}

/// Serves whoever connects and knows the secret, for ever.
///
/// Only so many handshakes are under way at once. Whoever knows the secret is through in milliseconds, so it is the
/// oldest that gives way to a newcomer: connections that say nothing keep nobody out.
pub(crate) async fn serve(listener: TcpListener, secret: Secret, node: Node) {
    let secret = Arc::new(secret);
    let refusals = Arc::<Refusals>::default();
    let mut handshakes = VecDeque::<AbortHandle>::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take in a connection; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        handshakes.retain(|handshake| !handshake.is_finished());
        if handshakes.len() >= HANDSHAKES_AT_ONCE
            && let Some(oldest) = handshakes.pop_front()
        {
            oldest.abort();
        }
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let (secret, node, refusals) = (Arc::clone(&secret), node.clone(), Arc::clone(&refusals));
        let handshake = tokio::spawn(async move {
            if let Err(error) = welcome(stream, peer, &secret, &node).await {
                refusals.log(peer, &error);
            }
        });
        handshakes.push_back(handshake.abort_handle());
    }
}

async fn welcome(
    mut stream: TcpStream,
    peer: SocketAddr,
    secret: &Secret,
    node: &Node,
) -> Result<(), HandshakeError> {
    socket::prepare(&stream)?;
    let established = handshake::respond(&mut stream, secret).await?;
    let (reader, writer) = stream.into_split();
    node.serve(connection::over(reader, writer, established.keys), peer.to_string(), established.role);
    Ok(())
}

/// When refusals of an address for a reason were last logged, so that a scan does not fill the log, nor hide that
/// somebody there has the wrong secret.
#[derive(Default)]
struct Refusals(Mutex<HashMap<(IpAddr, Discriminant<HandshakeError>), Instant>>);

impl Refusals {
    fn log(&self, peer: SocketAddr, error: &HandshakeError) {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = (peer.ip(), std::mem::discriminant(error));
        if last.get(&refusal).is_some_and(|at| now.duration_since(*at) < LOG_EVERY) {
            return;
        }
        if last.len() >= REFUSALS_REMEMBERED {
            last.clear();
        }
        last.insert(refusal, now);
        match error {
            HandshakeError::SecretMismatch => {
                tracing::warn!(%peer, "refused: the secrets differ: it does not know this node's");
            }
            HandshakeError::VersionMismatch { .. } => tracing::warn!(%peer, "refused: {error}"),
            _ => tracing::debug!(%peer, "refused: {error}"),
        }
    }
}
