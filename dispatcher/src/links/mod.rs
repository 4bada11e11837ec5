//! Connections to nodes: dialled, greeted, kept apart by generation.

mod address;
mod credentials;
pub(crate) mod discovery;
pub(crate) mod programs;
pub(crate) mod secret;
mod selection;
mod strangers;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pp_node::{Node, Proof};
use pp_protocol::address::shown;
use pp_protocol::connection::{self, LinkError, Sender, Transport};
use pp_protocol::environment;
use pp_protocol::handshake::{self, HandshakeError, MACHINE_KEYS, SHARED_SECRET};
use pp_protocol::limits::{HANDSHAKE_TIME, QUEUED_BYTES};
use pp_protocol::socket;
use pp_protocol::{
    Digest, FromNode, Hello, Moment, NodeId, OutputLine, ProgramOffer, Refusal, Resume, Role, SessionId,
    ToNode, Version, VersionRange, Welcome,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub use self::address::{Address, AddressError};
use self::credentials::{ForNode, Keyring};
use self::discovery::Addresses;
use self::programs::OfferedPrograms;
pub use self::programs::{ProgramError, ProgramFiles};
use self::secret::DialSecret;
pub use self::selection::{NodePattern, Selection};
pub(crate) use self::strangers::Admission;
use self::strangers::Strangers;
use self::uploads::Uploads;
use crate::core::{DialFailure, DialStage, Event, NodeKey, NodeRefusal, Unreachable};

/// Time that a TCP connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Time that giving an order may take.
pub(crate) const ORDER_TIME: Duration = Duration::from_secs(5);

/// Result of an order; else the reason.
pub(crate) type OrderResult = Result<(), DialFailure>;

/// Something happened to a connection.
pub(crate) struct LinkEvent {
    node: NodeKey,
    /// Number of the connection to the node: word of an earlier one is out of date.
    generation: u32,
    what: What,
}

enum What {
    Up(Box<Welcome>, Version, Sender<ToNode>, SocketLabel),
    Failed(Failed),
    Received(Vec<FromNode>),
    Down,
}

/// The address a connection was made to, for people.
type SocketLabel = Option<SocketAddr>;

/// All connections of a dispatcher.
pub(crate) struct Links {
    dialler: Arc<Dialler>,
    links: BTreeMap<NodeKey, Link>,
    strangers: Strangers,
    /// Dials that wait for their turn.
    held: VecDeque<HeldDial>,
    /// Time at which those are dialled whose turn it is.
    turns_at: Option<Moment>,
    events: mpsc::UnboundedSender<LinkEvent>,
}

/// A dial of a node that was announced and has proved nothing, at an address where others like it were dialled of late.
struct HeldDial {
    node: NodeKey,
    generation: u32,
    resume: Option<Resume>,
}

struct Link {
    /// What identifies the node to discovery.
    identity: String,
    addresses: Addresses,
    /// Addresses dialled last, if it was announced.
    dialled: Vec<SocketAddr>,
    /// Address it was last connected to.
    connected_to: SocketLabel,
    /// The life of the node that last answered there.
    node: Option<NodeId>,
    /// Stage of the last dial.
    stage: Arc<Stage>,
    generation: u32,
    sender: Option<Sender<ToNode>>,
    /// Programs that are being sent on it.
    uploads: Uploads,
    task: Option<JoinHandle<()>>,
}

/// Everything needed to dial any node.
pub(crate) struct Dialler {
    session: SessionId,
    name: String,
    keyring: Keyring,
    local: Node,
    programs: Arc<OfferedPrograms>,
    role: Role,
    /// Whether each job has a worker of its own.
    fresh_workers: bool,
}

impl Links {
    pub(crate) fn new(dialler: Dialler, events: mpsc::UnboundedSender<LinkEvent>) -> Self {
        Self {
            dialler: Arc::new(dialler),
            links: BTreeMap::new(),
            strangers: Strangers::default(),
            held: VecDeque::new(),
            turns_at: None,
            events,
        }
    }

    /// Whether a node that was announced is taken notice of.
    pub(crate) fn admit(&mut self, node: NodeKey, addresses: &[SocketAddr]) -> Admission {
        self.strangers.admit(node, addresses)
    }

    /// A node is not announced any more.
    pub(crate) fn gone(&mut self, node: NodeKey) {
        self.strangers.gone(node);
    }

    /// There is no such node any more.
    pub(crate) fn forget(&mut self, node: NodeKey) {
        self.close(node);
        self.links.remove(&node);
    }

    pub(crate) fn set_addresses(&mut self, node: NodeKey, identity: String, addresses: Addresses) {
        let link = self.links.entry(node).or_insert_with(|| Link {
            identity,
            addresses: addresses.clone(),
            dialled: Vec::new(),
            connected_to: None,
            node: None,
            stage: Arc::default(),
            generation: 0,
            sender: None,
            uploads: Uploads::default(),
            task: None,
        });
        link.addresses = addresses;
    }

    /// Where a node is connected, or may be dialled.
    pub(crate) fn addresses(&self, node: NodeKey) -> Option<Addresses> {
        let link = self.links.get(&node)?;
        Some(match (&link.addresses, link.connected_to) {
            (Addresses::Announced(_), Some(at)) => Addresses::Announced(vec![at]),
            (addresses, _) => addresses.clone(),
        })
    }

    /// Address of a node, for people.
    pub(crate) fn address(&self, node: NodeKey) -> String {
        match self.links.get(&node) {
            None => String::new(),
            Some(Link { connected_to: Some(address), .. }) => shown(*address),
            Some(Link { addresses, .. }) => match addresses {
                Addresses::Local => String::new(),
                Addresses::Named(address) => address.to_string(),
                Addresses::Announced(all) => all.first().copied().map(shown).unwrap_or_default(),
            },
        }
    }

    /// The address of a node, and the one at which it is in use, if that is another: as they were named.
    pub(crate) fn elsewhere(&self, node: NodeKey) -> Option<[String; 2]> {
        let here = self.links.get(&node)?;
        // One that was not dialled, as it only announced itself, has told no life.
        let is_same = |link: &Link| match here.node {
            Some(life) => link.sender.is_some() && link.node == Some(life),
            None => link.is_at_one_of(&here.addresses),
        };
        let (other, there) = self.links.iter().find(|(other, link)| **other != node && is_same(link))?;
        Some([(node, here), (*other, there)].map(|(node, link)| match &link.addresses {
            Addresses::Named(address) => address.to_string(),
            _ => self.address(node),
        }))
    }

    /// Stage of a dial that is under way.
    pub(crate) fn stage(&self, node: NodeKey) -> Option<DialStage> {
        Some(self.links.get(&node)?.stage.reached())
    }

    /// Starts to connect, once it is its turn; what comes of it arrives as an event.
    pub(crate) fn dial(&mut self, now: Moment, node: NodeKey, resume: Option<Resume>) {
        let Some(link) = self.links.get_mut(&node) else { return };
        link.reset();
        link.stage = Arc::default();
        let generation = link.generation;
        self.dial_or_hold(now, HeldDial { node, generation, resume });
    }

    /// Time at which [`Self::take_turns`] is due.
    pub(crate) fn turns_at(&self) -> Option<Moment> {
        self.turns_at
    }

    /// Dials whoever's turn it is.
    pub(crate) fn take_turns(&mut self, now: Moment) {
        self.turns_at = None;
        for held in std::mem::take(&mut self.held) {
            self.dial_or_hold(now, held);
        }
    }

    fn dial_or_hold(&mut self, now: Moment, dial: HeldDial) {
        let HeldDial { node, generation, resume } = dial;
        let link = self.links.get_mut(&node).filter(|link| link.generation == generation);
        let Some(link) = link else { return };
        let addresses = match &link.addresses {
            Addresses::Announced(all) => {
                link.dialled = self.strangers.permit(now, all);
                if link.dialled.is_empty() {
                    self.held.push_back(HeldDial { node, generation, resume });
                    self.turns_at.get_or_insert(now + strangers::EVERY);
                    return;
                }
                Addresses::Announced(link.dialled.clone())
            }
            others => others.clone(),
        };
        let is_stranger = link.is_announced() && !self.strangers.has_proved(node);
        let whom = Whom { identity: link.identity.clone(), addresses, is_stranger };
        let (dialler, events) = (Arc::clone(&self.dialler), self.events.clone());
        let stage = Arc::clone(&link.stage);
        stage.reach(DialStage::Name);
        link.task = Some(tokio::spawn(async move {
            // Once the dispatcher has ended, nobody is interested.
            let report = |what| events.send(LinkEvent { node, generation, what }).is_ok();
            let greeted = match dialler.dial(dialler.role, whom, resume, &stage).await {
                Ok(greeted) => greeted,
                Err(failed) => {
                    report(What::Failed(failed));
                    return;
                }
            };
            let Greeted { dialled: Dialled { transport, version, address }, welcome, rest } = greeted;
            let Transport { sender, mut receiver, .. } = transport;
            report(What::Up(welcome, version, sender, address));
            if !rest.is_empty() {
                report(What::Received(rest));
            }
            loop {
                let what = match receiver.recv().await {
                    Some(Ok(messages)) => What::Received(messages),
                    Some(Err(error)) => {
                        tracing::debug!(node = node.0, %error, "connection ended");
                        What::Down
                    }
                    None => What::Down,
                };
                let is_down = matches!(what, What::Down);
                if !report(what) || is_down {
                    return;
                }
            }
        }));
    }

    /// Event for the core, unless this one is out of date.
    pub(crate) fn take<T>(&mut self, event: LinkEvent) -> Option<Event<T>> {
        let LinkEvent { node, generation, what } = event;
        let link = self.links.get_mut(&node).filter(|link| link.generation == generation)?;
        Some(match what {
            What::Up(welcome, version, sender, address) => {
                link.sender = Some(sender);
                link.connected_to = address;
                link.node = Some(welcome.node);
                self.proved(node, address);
                Event::LinkUp(node, welcome, version)
            }
            What::Failed(Failed { failure, node: answered, proved_at }) => {
                tracing::debug!(node = node.0, ?failure, "dial failed");
                link.node = answered;
                let failure = match self.in_use_at(node) {
                    Some(same) if failure == DialFailure::Refused(NodeRefusal::GuessableSecret) => {
                        self.links.entry(node).and_modify(|link| link.node = Some(same));
                        DialFailure::Refused(NodeRefusal::Session(Refusal::AlreadyConnected(same)))
                    }
                    _ => failure,
                };
                match proved_at {
                    Some(_) => self.proved(node, proved_at),
                    None => self.strangers.failed(node),
                }
                Event::DialFailed(node, Box::new(failure))
            }
            What::Received(messages) => Event::Received(node, messages),
            What::Down => {
                link.reset();
                Event::LinkDown(node)
            }
        })
    }

    /// The node that is in use under another name, and connected at an address at which this one is announced.
    fn in_use_at(&self, node: NodeKey) -> Option<NodeId> {
        let here = &self.links.get(&node)?.addresses;
        self.links.values().find(|link| link.is_at_one_of(here))?.node
    }

    /// The node that answered at `address` knows the secret.
    fn proved(&mut self, node: NodeKey, address: SocketLabel) {
        let Some(link) = self.links.get(&node) else { return };
        if let (Addresses::Announced(_), Some(address)) = (&link.addresses, address) {
            self.strangers.proved(node, address, &link.dialled);
        }
    }

    pub(crate) fn send(&self, node: NodeKey, message: ToNode) {
        let Some(link) = self.links.get(&node) else { return };
        let Some(sender) = &link.sender else { return };
        // If the connection has just broken, that is reported by its own event.
        let _ = sender.send(message);
        let waiting = sender.waiting_bytes();
        if waiting > QUEUED_BYTES {
            tracing::warn!(
                "{} does not read what it is sent, and {waiting} bytes wait for it: its connection is closed",
                self.address(node)
            );
            let down = LinkEvent { node, generation: link.generation, what: What::Down };
            // Once the dispatcher has ended, nobody is interested.
            let _ = self.events.send(down);
        }
    }

    /// Gives an order to a node, on an operator's connection made for it: what a dispatcher proved to be may not give any.
    /// What comes of it is told once the node has taken it.
    pub(crate) fn order(&self, node: NodeKey, order: ToNode) -> std::sync::mpsc::Receiver<OrderResult> {
        let (result, results) = std::sync::mpsc::sync_channel(1);
        let Some(link) = self.links.get(&node) else { return results };
        let dialler = Arc::clone(&self.dialler);
        // Where it answers now: its other addresses may lead to it no more.
        let (addresses, is_stranger) = match link.connected_to {
            Some(address) => (Addresses::Announced(vec![address]), false),
            None => (link.addresses.clone(), link.is_announced()),
        };
        let whom = Whom { identity: link.identity.clone(), addresses, is_stranger };
        tokio::spawn(async move {
            let given = timeout(ORDER_TIME, dialler.order(whom, order)).await;
            // Whoever has stopped waiting needs no word.
            let _ = result.try_send(given.unwrap_or(Err(DialFailure::Unreachable(Unreachable::NotAnswered))));
        });
        results
    }

    pub(crate) fn close(&mut self, node: NodeKey) {
        if let Some(link) = self.links.get_mut(&node) {
            link.reset();
        }
    }

    /// Sends a program in pieces; compressing it happens elsewhere.
    pub(crate) fn send_program(&mut self, node: NodeKey, digest: Digest) {
        if let Some(link) = self.links.get_mut(&node)
            && let Some(sender) = &link.sender
        {
            link.uploads.begin(digest, &self.dialler.programs, sender);
        }
    }

    /// A node has so many pieces of a program.
    pub(crate) fn program_written(&self, node: NodeKey, digest: Digest, pieces: u32) {
        if let Some(link) = self.links.get(&node) {
            link.uploads.written(digest, pieces);
        }
    }

    /// Waits until everything sent has been taken by the connections.
    pub(crate) async fn farewell(&mut self) {
        for link in self.links.values_mut() {
            link.sender = None;
        }
        for link in self.links.values_mut() {
            if let Some(task) = link.task.take() {
                let _ = task.await;
            }
        }
    }
}

impl LinkEvent {
    /// Lines that jobs printed, of all that it tells.
    pub(crate) fn into_output(self) -> impl Iterator<Item = (NodeKey, Vec<OutputLine>)> {
        let received = if let What::Received(messages) = self.what { messages } else { Vec::new() };
        received.into_iter().filter_map(move |message| match message {
            FromNode::Output(lines) => Some((self.node, lines)),
            _ => None,
        })
    }
}

impl Link {
    fn is_announced(&self) -> bool {
        matches!(self.addresses, Addresses::Announced(_))
    }

    /// Whether it is connected at an address of a node that is announced.
    fn is_at_one_of(&self, addresses: &Addresses) -> bool {
        let Addresses::Announced(all) = addresses else { return false };
        self.sender.is_some() && self.connected_to.is_some_and(|at| all.contains(&at))
    }

    /// Drops the connection and whatever is under way; events of it are out of date from now on.
    fn reset(&mut self) {
        self.generation += 1;
        self.sender = None;
        self.uploads = Uploads::default();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// A node that is to be dialled.
struct Whom {
    /// What identifies it to discovery.
    identity: String,
    addresses: Addresses,
    /// It was announced, which anybody can do, and has proved nothing.
    is_stranger: bool,
}

/// A connection to a node that has proved that it knows the secret.
struct Dialled {
    transport: Transport<ToNode, FromNode>,
    version: Version,
    address: SocketLabel,
}

/// The same, greeted.
struct Greeted {
    dialled: Dialled,
    welcome: Box<Welcome>,
    /// Messages that arrived with its welcome.
    rest: Vec<FromNode>,
}

/// A dial has come to nothing.
struct Failed {
    failure: DialFailure,
    /// The node that answered, where it is one that is in use under another address.
    node: Option<NodeId>,
    /// Address at which it had proved before that it knows the secret, if it did.
    proved_at: SocketLabel,
}

impl From<DialFailure> for Failed {
    fn from(failure: DialFailure) -> Self {
        Self { failure, node: None, proved_at: None }
    }
}

/// Stage of a dial; of one to several addresses, that of the best.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

impl Stage {
    fn reach(&self, stage: DialStage) {
        self.0.fetch_max(stage as u8, Ordering::Relaxed);
    }

    fn reached(&self) -> DialStage {
        let reached = self.0.load(Ordering::Relaxed);
        let all = [DialStage::Welcome, DialStage::Proof, DialStage::Connection, DialStage::Name];
        all.into_iter().find(|stage| *stage as u8 <= reached).unwrap_or(DialStage::Turn)
    }
}

impl Dialler {
    pub(crate) fn new(
        session: SessionId,
        (secret, machine_key): (Option<DialSecret>, Option<PathBuf>),
        local: Node,
        programs: OfferedPrograms,
        (observer, fresh_workers): (bool, bool),
    ) -> Self {
        let role = if observer { Role::Operator } else { Role::Dispatcher };
        let keyring = Keyring { secret: secret.map(Arc::new), machine_key };
        Self { session, name: own_name(), keyring, local, programs: Arc::new(programs), role, fresh_workers }
    }

    async fn dial(
        &self,
        role: Role,
        whom: Whom,
        resume: Option<Resume>,
        stage: &Arc<Stage>,
    ) -> Result<Greeted, Failed> {
        let (dialled, offers) = match &whom.addresses {
            Addresses::Local => {
                let (transport, nodes) = connection::in_memory();
                let version = VersionRange::SPOKEN.newest;
                self.local.serve(
                    nodes,
                    "this program".into(),
                    Proof { role, version, secret: None, machine: None },
                );
                let offers = if role == Role::Dispatcher { self.programs.offers_here() } else { Vec::new() };
                (Dialled { transport, version, address: None }, offers)
            }
            Addresses::Named(address) => {
                let all = address.look_up().await;
                let all = all.map_err(|error| DialFailure::Unreachable(Unreachable::Name(error.into())))?;
                self.dial_any(role, &whom, all, stage).await?
            }
            Addresses::Announced(all) => self.dial_any(role, &whom, all.clone(), stage).await?,
        };
        let hello = Hello {
            session: self.session,
            name: self.name.clone(),
            resume,
            fresh_workers: self.fresh_workers,
        };
        let proved_at = dialled.address;
        greet(dialled, hello, offers).await.map_err(|failed| Failed { proved_at, ..failed })
    }

    /// Gives an order, and waits until the node has taken it.
    async fn order(&self, whom: Whom, order: ToNode) -> Result<(), DialFailure> {
        let greeted = self.dial(Role::Operator, whom, None, &Arc::default()).await;
        let Transport { sender, mut receiver, .. } =
            greeted.map_err(|failed| failed.failure)?.dialled.transport;
        for message in [order, ToNode::Goodbye] {
            // A connection that has just broken ends below.
            let _ = sender.send(message);
        }
        drop(sender);
        // A farewell is answered by closing the connection: what came before it has been taken then.
        while let Some(received) = receiver.recv().await {
            match received {
                Ok(messages) => {
                    let refused = messages.into_iter().find_map(|message| match message {
                        FromNode::Refused(refusal) => Some(refusal),
                        _ => None,
                    });
                    if let Some(refusal) = refused {
                        return Err(DialFailure::Refused(NodeRefusal::Session(refusal)));
                    }
                }
                Err(LinkError::Closed) => break,
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Dials every address at once; the first one where a node proves that it knows the secret is used.
    async fn dial_any(
        &self,
        role: Role,
        whom: &Whom,
        addresses: Vec<SocketAddr>,
        stage: &Arc<Stage>,
    ) -> Result<(Dialled, Vec<ProgramOffer>), DialFailure> {
        let (keyring, identity, is_stranger) =
            (self.keyring.clone(), whom.identity.clone(), whom.is_stranger);
        // Files may be on a disk that answers when it likes.
        let credentials = tokio::task::spawn_blocking(move || keyring.for_node(identity, is_stranger))
            .await
            .map_err(broken)?;
        let credentials = Arc::new(credentials.map_err(DialFailure::Refused)?);
        let programs = Arc::clone(&self.programs);
        let offers = if role == Role::Operator {
            Vec::new()
        } else {
            let offers = tokio::task::spawn_blocking(move || programs.offers()).await.map_err(broken)?;
            offers.map_err(|reason| DialFailure::Refused(NodeRefusal::ProgramUnreadable(reason)))?
        };
        let mut dials = JoinSet::new();
        stage.reach(DialStage::Connection);
        for address in addresses {
            let (credentials, stage) = (Arc::clone(&credentials), Arc::clone(stage));
            dials.spawn(async move { dial_one(address, &credentials, role, &stage).await });
        }
        let mut worst = DialFailure::Unreachable(Unreachable::NoAddress);
        while let Some(dialled) = dials.join_next().await {
            match dialled {
                Ok(Ok(dialled)) => return Ok((dialled, offers)),
                Ok(Err(failure)) => worst = more_telling(worst, failure),
                Err(error) => worst = more_telling(worst, broken(error)),
            }
        }
        Err(worst)
    }
}

async fn dial_one(
    address: SocketAddr,
    credentials: &ForNode,
    role: Role,
    stage: &Stage,
) -> Result<Dialled, DialFailure> {
    let refused = DialFailure::Refused;
    let mut stream = connect(address, stage).await?;
    let first = if credentials.is_node_known() {
        credentials.of_machine().map_err(refused)?
    } else {
        credentials.of_secret()
    };
    let mut shaken = handshake::initiate(&mut stream, first, role).await;
    if let Err(HandshakeError::PatternMismatch(MACHINE_KEYS)) = shaken {
        let with_key = credentials.of_machine().map_err(refused)?;
        stream = connect(address, stage).await?;
        shaken = handshake::initiate(&mut stream, with_key, role).await;
    }
    let established = shaken.map_err(|error| failure_of(error, credentials, shown(address)))?;
    if let Some(key) = established.peer {
        credentials.remember(key).await.map_err(refused)?;
    }
    stage.reach(DialStage::Welcome);
    let (reader, writer) = stream.into_split();
    let transport = connection::over(reader, writer, established.keys);
    Ok(Dialled { transport, version: established.version, address: Some(address) })
}

async fn connect(address: SocketAddr, stage: &Stage) -> Result<TcpStream, DialFailure> {
    let at = || shown(address);
    let connecting = match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
        Err(_) => Err(Unreachable::NoAnswer { at: at(), within: CONNECT_TIME }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Unreachable::NotListening { at: at() })
        }
        Ok(connected) => connected
            .and_then(|stream| socket::prepare(&stream).map(|()| stream))
            .map_err(|error| Unreachable::NotConnected { error: error.into(), at: at() }),
    };
    let stream = connecting.map_err(DialFailure::Unreachable)?;
    stage.reach(DialStage::Proof);
    Ok(stream)
}

/// What a handshake that came to nothing says of the node.
fn failure_of(error: HandshakeError, credentials: &ForNode, at: String) -> DialFailure {
    let not_as_known = match &error {
        HandshakeError::Io(_) | HandshakeError::Closed | HandshakeError::Timeout => {
            return DialFailure::Unreachable(Unreachable::Handshake { error, at });
        }
        HandshakeError::OtherNodeKey { shown } => credentials.not_as_known(Some(shown.clone()), &at),
        HandshakeError::PatternMismatch(SHARED_SECRET) => credentials.not_as_known(None, &at),
        _ => None,
    };
    DialFailure::Refused(not_as_known.unwrap_or(NodeRefusal::Handshake { error, at }))
}

async fn greet(mut dialled: Dialled, hello: Hello, offers: Vec<ProgramOffer>) -> Result<Greeted, Failed> {
    let _ = dialled.transport.sender.send(ToNode::Hello(Box::new(hello)));
    for offer in offers {
        let _ = dialled.transport.sender.send(ToNode::Offer(offer));
    }
    let answer = timeout(HANDSHAKE_TIME, dialled.transport.receiver.recv()).await;
    let mut messages = match answer {
        Err(_) => return Err(DialFailure::Unreachable(Unreachable::NotAnswered).into()),
        Ok(None) => return Err(broken(LinkError::Closed).into()),
        Ok(Some(Err(error))) => return Err(broken(error).into()),
        Ok(Some(Ok(messages))) => messages.into_iter(),
    };
    match messages.next() {
        Some(FromNode::Welcome(welcome)) => Ok(Greeted { dialled, welcome, rest: messages.collect() }),
        Some(FromNode::Refused(refusal)) => {
            let node = if let Refusal::AlreadyConnected(node) = refusal { Some(node) } else { None };
            Err(Failed { node, ..DialFailure::Refused(NodeRefusal::Session(refusal)).into() })
        }
        _ => Err(DialFailure::Refused(NodeRefusal::NoWelcome).into()),
    }
}

/// Of two failures the one that says more: a refusal, then "nothing listens", then silence.
fn more_telling(one: DialFailure, other: DialFailure) -> DialFailure {
    let rank = |failure: &DialFailure| match failure {
        DialFailure::Refused(_) => 2,
        DialFailure::Unreachable(Unreachable::NotListening { .. }) => 1,
        DialFailure::Unreachable(_) => 0,
    };
    if rank(&other) >= rank(&one) { other } else { one }
}

/// Name of this dispatcher, for the people who look after the nodes.
fn own_name() -> String {
    let said = |name| environment::text(name).ok().flatten();
    let user = said("USER").or_else(|| said("LOGNAME")).unwrap_or_else(|| "somebody".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "somewhere".into());
    let program = std::env::current_exe().ok();
    let program =
        program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    format!("{user}@{} {} {}", host.trim(), program.unwrap_or_else(|| "?".into()), std::process::id())
}

fn broken(how: impl ToString) -> DialFailure {
    DialFailure::Unreachable(Unreachable::Broken(how.to_string()))
}
