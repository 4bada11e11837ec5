//! The daemon of a cluster as a library: a node that dispatchers reach over the network.
//!
//! [`serve`] takes a socket that listens and runs a node on it until it is told to stop. The program `ppserver` is that, and
//! what belongs to a process of its own: command line, configuration file, signals, pid file, log, the search for a secret.
//! None of these is here, so that a test, a bench or another program can have a daemon within itself, at any free port.
//!
//! ```
//! use std::time::Duration;
//!
//! use pp_node::{NodeConfig, Workers};
//! use pp_protocol::secret::Secret;
//! use tokio::sync::oneshot;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! println!("named by PP_NODES={}", listener.local_addr()?);
//! let mut node = NodeConfig::new("within", 2);
//! node.workers = Workers::Threads; // processes are started from this program, which has to be prepared for that
//! let (stop, stopped) = oneshot::channel::<()>();
//! let daemon = tokio::spawn(ppserver::serve(
//!     listener,
//!     ppserver::Settings { node, ..ppserver::Settings::new(Secret::random()) },
//!     async { drop(stopped.await) },
//! ));
//! // Dispatchers that know the secret use it now.
//! drop(stop);
//! daemon.await??;
//! # Ok(())
//! # })
//! # }
//! ```

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod advertise;
mod listener;
mod load;
pub mod metrics;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pp_node::confinement::Confinement;
use pp_node::{Node, NodeConfig};
use pp_protocol::address;
use pp_protocol::machine::{AuthorizedKeys, MachineKey};
use pp_protocol::secret::Secrets;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::advertise::Advertiser;
use self::listener::{Door, Refusals};

/// The settings of a daemon. Those of its node are in [`NodeConfig`], and nowhere else.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The secrets that dispatchers have to know one of.
    pub secrets: Secrets,
    /// The machines that may connect; without it, any that knows the secret.
    pub machines: Option<Machines>,
    /// Name, slots, workers, programs, patience.
    pub node: NodeConfig,
    /// Whether the node is announced on the local network (mDNS).
    pub announce: bool,
    /// The daemon ends once no dispatcher has been connected for so long.
    pub idle: Option<Duration>,
}

/// Keys of machines, which are asked for besides the secret: whoever connects has one that is listed.
#[derive(Clone, Debug)]
pub struct Machines {
    /// The key of this machine, by which dispatchers know it.
    pub key: MachineKey,
    /// The machines that may connect, and as what.
    pub authorized: AuthorizedKeys,
}

impl Settings {
    /// The defaults: a node called `node` with as many slots as there are processors, which nobody is told of and which
    /// stays. Its workers are confined: they run the programs of others.
    pub fn new(secrets: impl Into<Secrets>) -> Self {
        let mut node = NodeConfig::new("node", pp_node::processors());
        node.confinement = Some(Confinement::default());
        Self { secrets: secrets.into(), machines: None, node, announce: false, idle: None }
    }
}

/// A daemon could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The socket does not listen.
    #[error("the socket does not listen: {0}")]
    Socket(#[from] std::io::Error),
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] pp_node::StartError),
    /// The node cannot be announced.
    #[error("cannot announce this node on the network: {0}; without that it can be named with PP_NODES")]
    Announce(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs a daemon on `listener` until `shutdown` completes and what runs then has finished; or until it has been idle for
/// as long as the settings say.
///
/// [`Daemon`] is the same for whoever wants to do more with it: end it at once, resize it, read its statistics.
///
/// # Errors
/// When it cannot be started.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let daemon = Daemon::start(listener, settings)?;
    let node = daemon.node().clone();
    let ended = daemon.ended();
    tokio::pin!(ended);
    tokio::select! {
        () = shutdown => node.drain(),
        () = &mut ended => return Ok(()),
    }
    ended.await;
    Ok(())
}

/// A daemon that runs. Dropped, it ends at once, and so do the jobs that it runs.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    door: watch::Sender<Door>,
    address: SocketAddr,
    advertiser: Option<Advertiser>,
    idle: Option<Duration>,
    /// Whoever came to nothing at its door.
    refusals: Arc<Refusals>,
    /// Tasks that end with the daemon: taking in connections, reports of load, HTTP.
    tasks: JoinSet<()>,
}

impl Daemon {
    /// Starts a daemon on the current tokio runtime: dispatchers are served from now on.
    ///
    /// # Errors
    /// When the socket does not listen, or the node cannot be started or announced.
    pub fn start(listener: TcpListener, settings: Settings) -> Result<Self, StartError> {
        let Settings { secrets, machines, node, announce, idle } = settings;
        let address = listener.local_addr()?;
        let (name, slots) = (node.name.clone(), node.slots);
        let node = Node::start(node)?;
        let door = Door { secrets, machines };
        node.accept_only(door.accepted());
        let door = watch::Sender::new(door);
        let advertiser = announce.then(|| Advertiser::start(node.clone(), name.clone(), address));
        let advertiser = advertiser.transpose().map_err(|error| StartError::Announce(error.into()))?;
        tracing::info!(
            slots,
            advertised = announce,
            confined = node.confinement(),
            "ppserver {} \"{name}\" listens on {}",
            env!("CARGO_PKG_VERSION"),
            address::shown(address)
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(load::report(node.clone()));
        let refusals = Arc::<Refusals>::default();
        tasks.spawn(listener::serve(listener, door.subscribe(), node.clone(), Arc::clone(&refusals)));
        Ok(Self { node, door, address, advertiser, idle, refusals, tasks })
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` on `listener` (HTTP) for as long as the daemon lives: to anybody who reaches
    /// it. What is told there names no job, function, dispatcher or peer.
    ///
    /// Requests have to name this server: by the address that they come to, by `localhost` where that is of loopback, or by one
    /// of `names`.
    ///
    /// # Errors
    /// When the socket does not listen.
    pub fn serve_http(&mut self, listener: TcpListener, names: Vec<String>) -> Result<(), StartError> {
        let address = address::shown(listener.local_addr()?);
        tracing::info!("serves /metrics, /healthz and /readyz at http://{address}/");
        self.tasks.spawn(web::serve(listener, names, self.node.clone(), Arc::clone(&self.refusals)));
        Ok(())
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its node, which can be drained, killed, resized and asked for statistics.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The way to have it accept other secrets.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance { node: self.node.clone(), door: self.door.clone() }
    }

    /// Waits until the node has ended: it was drained or killed, or idle for too long.
    pub async fn ended(mut self) {
        let keep_up_to_date = async {
            match &self.advertiser {
                Some(advertiser) => advertiser.keep_up_to_date().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = idle(&self.node, self.idle) => {
                tracing::info!("no dispatcher for so long: exiting");
                self.node.drain();
                self.node.ended().await;
            }
            () = self.node.ended() => {}
            () = keep_up_to_date => {}
        }
        if let Some(advertiser) = self.advertiser.take() {
            advertiser.goodbye().await;
        }
    }
}

/// The secrets that a daemon accepts, and the machines it lists, which can be replaced while it runs.
#[derive(Clone, Debug)]
pub struct Acceptance {
    node: Node,
    door: watch::Sender<Door>,
}

impl Acceptance {
    /// From now on these secrets are accepted, and no other. Whoever came with another is cut off; a dispatcher that comes
    /// back at once with one of these goes on as if nothing had been, the jobs of any other are ended.
    pub fn replace(&self, secrets: Secrets) {
        self.change(|door| door.secrets = secrets);
    }

    /// From now on these machines may connect, and no other, if the daemon asks for keys at all. Whoever is listed no more, or
    /// not for what it connected as, is cut off, and its jobs are ended.
    pub fn replace_authorized(&self, authorized: AuthorizedKeys) {
        self.change(|door| {
            if let Some(machines) = &mut door.machines {
                machines.authorized = authorized;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Door)) {
        // Newcomers first: whoever is still let in as before is told from the others by the node.
        self.door.send_modify(change);
        self.node.accept_only(self.door.borrow().accepted());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tasks.abort_all();
        // One that has ended does not hear it.
        self.node.kill();
    }
}

/// Returns when no dispatcher has been connected for as long as `limit`; never without one.
async fn idle(node: &Node, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    let mut status = node.status();
    loop {
        if status.wait_for(|status| status.sessions == 0).await.is_err() {
            return std::future::pending().await;
        }
        let connected = status.wait_for(|status| status.sessions > 0);
        if tokio::time::timeout(limit, connected).await.is_err() {
            return;
        }
    }
}
