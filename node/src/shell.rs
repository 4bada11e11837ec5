//! The node's shell: one task that owns the core, feeds it what happens and performs what it decides.

mod programs;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use pp_protocol::connection::{Sender, Transport};
use pp_protocol::limits::{QUEUED_BYTES, SLOTS};
use pp_protocol::room::{self, Rooms};
use pp_protocol::{
    FromNode, Moment, NodeId, NodeStatus, Outcome, ProgramStatus, Role, Target, ToNode, WorkerShortage,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::programs::StoredPrograms;
pub use self::programs::own_executable;
use crate::confinement::Confinement;
use crate::core::{
    Accepted, Action, ConnectionKey, Core, CoreConfig, Event, Program, Proof, SessionKey, Statistics,
    SystemLoad, WorkerKey,
};
use crate::descriptors::TooFewDescriptors;
use crate::kept::SessionFiles;
use crate::page::monotonic_ns;
use crate::pool::{WorkerEvent, WorkerHandle, WorkerProgram};

/// Batches of messages that wait for the core; their connections are held back beyond that.
const BATCHES_WAITING: usize = 64;
/// Size of freed blocks that are kept for the next ones.
const FREED_BYTES_KEPT: usize = 2 << 20;
/// Events taken in before the core's deadline is looked at again.
const EVENTS_AT_ONCE: usize = 64;

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name, for people.
    pub name: String,
    /// Room for attempts: how many workers there may be. Zero is allowed.
    pub slots: u32,
    /// Processors the node may use, for people.
    pub cpus: u32,
    /// Target that programs have to be built for: this one, but in tests.
    pub target: Target,
    /// Kind of workers.
    pub workers: Workers,
    /// Store of programs that dispatchers send; without it only the node's own program runs.
    pub store: Option<StoreConfig>,
    /// What jobs may do on this machine. Without it they may do what this process may: a dispatcher's own cores run what is
    /// the user's own program.
    pub confinement: Option<Confinement>,
    /// Whether each worker runs one attempt only.
    pub fresh_worker_per_job: bool,
    /// Silence after which a connection is closed.
    pub silence: Duration,
    /// Time for which a session without connection is kept.
    pub grace: Duration,
    /// Time that running attempts have to end when the node drains.
    pub drain_time: Duration,
}

impl NodeConfig {
    /// The defaults: worker processes, no program store, connections closed after 5 s of silence, sessions kept for
    /// 10 s, 30 s to drain.
    pub fn new(name: impl Into<String>, slots: u32) -> Self {
        Self {
            name: name.into(),
            slots,
            cpus: processors(),
            target: Target::here(),
            workers: Workers::Processes,
            store: None,
            confinement: None,
            fresh_worker_per_job: false,
            silence: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// The processors that this process may use, by its affinity and its cgroup's quota: as many slots as a node has by default.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32).min(SLOTS)
}

/// Kind of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// A process of its own, which can be killed.
    Processes,
    /// A thread of this process: for tests and debuggers. Nothing can be killed.
    Threads,
}

/// Settings of a store of programs.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory, made if it is missing.
    pub directory: PathBuf,
    /// Number of bytes that may be kept before the least recently used program goes.
    pub limit_bytes: u64,
}

/// A node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program store cannot be used.
    #[error(
        "cannot use {} to keep programs in: {source}; make it one that this user may write to, or choose another \
         directory (--store)", .directory.display()
    )]
    Store {
        /// The directory.
        directory: PathBuf,
        /// Reason.
        source: std::io::Error,
    },
    /// The kernel does not confine workers as strictly as it was told to.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    NotConfined(#[from] crate::launcher::NotConfined),
    /// There is no place for what jobs write.
    #[error(
        "cannot make a directory for what jobs write in {}: {source}; set TMPDIR to one that this user may write to",
        .directory.display()
    )]
    Scratch {
        /// Where it was to be.
        directory: PathBuf,
        /// Why it cannot.
        source: std::io::Error,
    },
    /// Workers that are confined are started by this program, which is not prepared for that.
    #[error(
        "this program cannot start confined workers: pp_node::worker::serve_if_worker() (or pp_dispatcher::init()) has to be \
         the first thing in its main function"
    )]
    NotPrepared,
    /// There is no room for a worker.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The functions of this program are not in order.
    #[error(transparent)]
    Functions(#[from] crate::functions::RegistryError),
    /// The path of this program's executable is unknown.
    #[error("cannot find this program's executable file: {0}")]
    Executable(std::io::Error),
}

/// A running node. Cheap to clone; the node runs until it is drained or killed.
#[derive(Clone, Debug)]
pub struct Node {
    id: NodeId,
    confinement: Arc<str>,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<NodeStatus>,
    ended: watch::Receiver<bool>,
}

#[derive(Debug)]
enum Command {
    Serve(Transport<FromNode, ToNode>, String, Proof),
    Event(Event),
    Statistics(oneshot::Sender<Statistics>),
}

impl Node {
    /// Starts a node on the current tokio runtime.
    ///
    /// # Errors
    /// When the program store or this program's own functions cannot be used.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        crate::functions::Registry::of_this_program()?;
        keep_freed_memory();
        if config.workers == Workers::Processes {
            crate::descriptors::ensure_descriptors()?;
        }
        let programs = StoredPrograms::open(&config)?;
        let id = NodeId::random();
        let core = Core::new(CoreConfig {
            id,
            started: now(),
            name: config.name,
            slots: config.slots,
            cpus: config.cpus,
            target: config.target,
            libc: crate::processes::c_library(),
            fresh_worker_per_job: config.fresh_worker_per_job,
            stores_programs: config.store.is_some(),
            confinement: programs.confinement().to_owned(),
            silence: config.silence,
            grace: config.grace,
            drain_time: config.drain_time,
        });
        let confinement = programs.confinement().into();
        let (commands, command_queue) = mpsc::unbounded_channel();
        let (status, status_seen) = watch::channel(core.status());
        let (ended, ended_seen) = watch::channel(false);
        let actor = Actor::new(core, config.workers, programs, status, command_queue);
        tokio::spawn(async move {
            actor.run().await;
            let _ = ended.send(true);
        });
        Ok(Self { id, confinement, commands, status: status_seen, ended: ended_seen })
    }

    /// This life of the node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What its workers are confined to, for people: what was asked for, as far as the system has the means.
    pub fn confinement(&self) -> &str {
        &self.confinement
    }

    /// Serves a peer that proved that it knows a secret, and to be in a role (or lives in this process). What it may send
    /// follows from the role alone.
    pub fn serve(&self, transport: Transport<FromNode, ToNode>, peer: String, proof: Proof) {
        let _ = self.commands.send(Command::Serve(transport, peer, proof));
    }

    /// From now on these proofs open the node: whoever came with another is cut off, and unless it comes back at once with
    /// one of these, its session is over.
    pub fn accept_only(&self, accepted: Accepted) {
        self.send(Event::AcceptOnly(accepted));
    }

    /// Changes the number of slots.
    pub fn resize(&self, slots: u32) {
        self.send(Event::Resize(slots));
    }

    /// Reports load and memory of the machine, to be passed on with the next heartbeat.
    pub fn report_load(&self, load: SystemLoad) {
        self.send(Event::Load(load));
    }

    /// Takes no more, finishes what runs, then ends.
    pub fn drain(&self) {
        self.send(Event::Drain);
    }

    /// Ends at once.
    pub fn kill(&self) {
        self.send(Event::Kill);
    }

    fn send(&self, event: Event) {
        let _ = self.commands.send(Command::Event(event));
    }

    /// Waits until the node has been drained or killed and all its workers are gone.
    pub async fn ended(&self) {
        // An error means that the actor is gone, which is what is waited for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Slots, load, memory, as they change.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Numbers for people; `None` once the node has ended.
    pub async fn statistics(&self) -> Option<Statistics> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Statistics(answer)).ok()?;
        answered.await.ok()
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [starting, idle, busy] = self.workers;
        let status = &self.status;
        writeln!(
            f,
            "{}: {} slots, {busy} busy, {idle} idle, {starting} starting, {} waiting{}",
            self.name,
            status.slots,
            status.queued,
            if status.draining { ", draining" } else { "" }
        )?;
        writeln!(f, " jobs ended | job time sum | time per job | slots | dispatcher")?;
        for session in &self.sessions {
            let sum = session.run_time.as_secs_f64();
            let each = if session.ended == 0 { 0.0 } else { sum / session.ended as f64 };
            let away = if session.connected { "" } else { " (not connected)" };
            writeln!(
                f,
                " {:>10} | {sum:>12.4} | {each:>12.6} | {:>5} | {}{away}",
                session.ended, session.slots_used, session.name
            )?;
        }
        let late_outcomes = self.counters.late_outcomes;
        if late_outcomes > 0 {
            writeln!(
                f,
                " {late_outcomes:>10} outcomes came too late for their dispatchers, and were dropped"
            )?;
        }
        Ok(())
    }
}

/// A batch from a connection, or its end.
type Input = (ConnectionKey, Result<Vec<ToNode>, String>);

struct Actor {
    core: Core,
    kind: Workers,
    programs: StoredPrograms,
    workers: BTreeMap<WorkerKey, WorkerHandle>,
    connections: BTreeMap<ConnectionKey, Peer>,
    /// Where the large arguments of each session are, which its workers may read; and those of some that are over.
    rooms: BTreeMap<SessionKey, Rooms>,
    /// What each session keeps here, once it has workers of the node's own program.
    files: BTreeMap<SessionKey, SessionFiles>,
    next_connection: u32,
    commands: mpsc::UnboundedReceiver<Command>,
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    worker_events: mpsc::UnboundedReceiver<(WorkerKey, WorkerEvent)>,
    worker_sender: mpsc::UnboundedSender<(WorkerKey, WorkerEvent)>,
    status: watch::Sender<NodeStatus>,
    /// Shortage that was last logged.
    shortage: Option<WorkerShortage>,
    actions: Vec<Action>,
    ended: bool,
}

struct Peer {
    name: String,
    role: Role,
    /// Whether it is a dispatcher that has said who it is.
    has_greeted: bool,
    sender: Sender<FromNode>,
    rooms: Arc<OnceLock<Rooms>>,
    /// What passes on what it says.
    listening: AbortHandle,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Actor {
    fn new(
        core: Core,
        kind: Workers,
        programs: StoredPrograms,
        status: watch::Sender<NodeStatus>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let (input_sender, inputs) = mpsc::channel(BATCHES_WAITING);
        let (worker_sender, worker_events) = mpsc::unbounded_channel();
        Self {
            core,
            kind,
            programs,
            workers: BTreeMap::new(),
            connections: BTreeMap::new(),
            rooms: BTreeMap::new(),
            files: BTreeMap::new(),
            next_connection: 0,
            commands,
            inputs,
            input_sender,
            worker_events,
            worker_sender,
            status,
            shortage: None,
            actions: Vec::new(),
            ended: false,
        }
    }

    async fn run(mut self) {
        let _keeper = room::Keeper::new();
        while !self.ended {
            let deadline = self.core.next_deadline();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    // Nobody can reach the node any more: whoever is connected may finish.
                    None => self.handle(Event::Drain),
                },
                Some(event) = self.worker_events.recv() => {
                    self.worker_event(event);
                    for _ in 0..EVENTS_AT_ONCE {
                        let Ok(event) = self.worker_events.try_recv() else { break };
                        self.worker_event(event);
                    }
                }
                Some(input) = self.inputs.recv() => self.input(input),
                Some(event) = self.programs.event() => self.handle(event),
                () = sleep_until(deadline) => {}
                () = room::tidied() => {}
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                self.handle(Event::Tick);
                self.forget_files();
            }
            if self.shortage.as_ref() != self.core.shortage() {
                self.shortage = self.core.shortage().cloned();
                match &self.shortage {
                    Some(shortage) => tracing::warn!("{}: {shortage}", self.core.name()),
                    None => tracing::info!("{}: all slots can be used again", self.core.name()),
                }
            }
            let status = self.core.status();
            self.status.send_if_modified(|seen| std::mem::replace(seen, status) != status);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Serve(transport, peer, proof) => self.serve(transport, peer, proof),
            Command::Event(event) => self.handle(event),
            Command::Statistics(answer) => {
                let _ = answer.send(self.core.statistics());
            }
        }
    }

    fn serve(&mut self, transport: Transport<FromNode, ToNode>, name: String, proof: Proof) {
        let key = ConnectionKey(self.next_connection);
        self.next_connection += 1;
        let Proof { role, version, .. } = proof;
        tracing::debug!(peer = name, %role, %version, "connected");
        let Transport { sender, mut receiver, rooms } = transport;
        let inputs = self.input_sender.clone();
        let listening = tokio::spawn(async move {
            while let Some(received) = receiver.recv().await {
                let input = received.map_err(|reason| reason.to_string());
                if inputs.send((key, input)).await.is_err() {
                    return;
                }
            }
        });
        let listening = listening.abort_handle();
        self.connections.insert(key, Peer { name, role, has_greeted: false, sender, rooms, listening });
        self.handle(Event::Connected(key, proof));
    }

    fn input(&mut self, (key, received): Input) {
        match received {
            Ok(messages) => {
                if let [ToNode::Hello(hello), ..] = &messages[..]
                    && let Some(peer) = self.connections.get_mut(&key)
                    && peer.role == Role::Dispatcher
                {
                    peer.has_greeted = true;
                    tracing::info!(
                        dispatcher = hello.name,
                        resumed = hello.resume.is_some(),
                        "dispatcher connected"
                    );
                }
                self.handle(Event::Received(key, messages));
            }
            Err(reason) => {
                if let Some(peer) = self.connections.remove(&key) {
                    if peer.has_greeted {
                        tracing::info!(peer = peer.name, reason, "disconnected");
                    }
                    self.handle(Event::Disconnected(key));
                }
            }
        }
    }

    fn worker_event(&mut self, (key, event): (WorkerKey, WorkerEvent)) {
        let progress = self.workers.get(&key).map(WorkerHandle::progress).unwrap_or_default();
        let event = match event {
            WorkerEvent::Ready { functions, names } => {
                tracing::debug!(worker = key.0, functions, "worker ready");
                self.handle(Event::FunctionsNamed(key, names));
                Event::WorkerReady(key)
            }
            WorkerEvent::Finished(finished) => Event::WorkerFinished(key, finished),
            WorkerEvent::Skipped(number) => Event::WorkerSkipped(key, number),
            WorkerEvent::Output { stream, started, lines } => {
                Event::WorkerOutput(key, started, stream, lines)
            }
            WorkerEvent::Part(number, stream, bytes) => Event::WorkerPart(key, number, stream, bytes),
            WorkerEvent::Moving => Event::WorkerMoving(key),
            WorkerEvent::FailedToStart(failure) => {
                let stderr = failure.stderr.join(" | ");
                // What is short is said once, and not for every worker.
                if failure.is_shortage {
                    tracing::debug!(worker = key.0, reason = failure.reason, stderr, "worker did not start");
                } else {
                    tracing::warn!(worker = key.0, reason = failure.reason, stderr, "worker did not start");
                }
                self.workers.remove(&key);
                Event::WorkerFailed(key, failure)
            }
            WorkerEvent::Exited(death) => {
                let worker = self.workers.remove(&key);
                if worker.is_some_and(|worker| worker.was_told_to_end()) {
                    tracing::debug!(worker = key.0, "worker ended");
                } else {
                    tracing::warn!(worker = key.0, death = %death.death, "worker died");
                }
                Event::WorkerExited(key, progress, death)
            }
        };
        self.handle(event);
    }

    /// Lets the core take in an event, performs what it decides, and answers what it asks on the way.
    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = std::mem::take(&mut self.actions);
            self.core.handle(now(), event, &mut actions);
            for action in actions.drain(..) {
                events.extend(self.perform(action));
            }
            self.actions = actions;
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send(key, message) => {
                if let FromNode::Welcome(_) = message {
                    self.give_rooms(key);
                }
                let peer = self.connections.get(&key)?;
                log_sent(&peer.name, &message);
                // If the connection has just broken, that is reported by its own event.
                let _ = peer.sender.send(message);
                let waiting = peer.sender.waiting_bytes();
                return (waiting > QUEUED_BYTES).then_some(Event::Behind(key, waiting));
            }
            Action::Close(key) => {
                if let Some(peer) = self.connections.remove(&key) {
                    tracing::debug!(peer = peer.name, "connection closed");
                }
                self.forget_files();
            }
            Action::LocateProgram(digest) => self.programs.locate(digest),
            Action::StoreProgram { digest, size, piece, last } => {
                self.programs.store(digest, size, piece, last)
            }
            Action::AbandonProgram(digest) => self.programs.abandon(&digest),
            Action::Spawn(key, program) => self.spawn(key, program),
            Action::Assign(key, works) => {
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.assign(works);
                }
            }
            Action::Observe(key) => {
                return self.workers.get(&key).map(|worker| Event::Observed(key, worker.progress()));
            }
            Action::Look(keys) => {
                let looked =
                    keys.into_iter().filter_map(|key| Some((key, self.workers.get(&key)?.progress())));
                return Some(Event::Looked(looked.collect()));
            }
            Action::Revoke(key) => {
                return self.workers.get(&key).map(|worker| Event::Revoked(key, worker.revoke()));
            }
            Action::HoldOutput(key, held) => {
                if let Some(worker) = self.workers.get(&key) {
                    worker.hold_output(held);
                }
            }
            Action::ReadOn(key) => {
                if let Some(worker) = self.workers.get(&key) {
                    worker.read_on();
                }
            }
            Action::Kill(key) => {
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.kill();
                }
            }
            Action::Retire(key) => {
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.retire();
                }
            }
            Action::End => self.ended = true,
        }
        None
    }

    /// Says where the large arguments are put of a dispatcher that is about to be welcomed: where those of its session are,
    /// whichever connection they came on.
    fn give_rooms(&mut self, connection: ConnectionKey) {
        let Some(session) = self.core.session_on(connection) else { return };
        let Some(Peer { rooms: slot, .. }) = self.connections.get(&connection) else { return };
        self.rooms.retain(|session, _| self.core.has_session(*session));
        let new = || slot.get().cloned().unwrap_or_else(Rooms::apart);
        let _ = slot.set(self.rooms.entry(session).or_insert_with(new).clone());
    }

    fn spawn(&mut self, key: WorkerKey, program: Program) {
        let session = self.core.session_of(key);
        let files = session.filter(|_| program == Program::Own).and_then(|session| self.files_of(session));
        let program = match self.kind {
            Workers::Threads => WorkerProgram::ThisProgramInThreads,
            Workers::Processes => self.programs.of_workers(program),
        };
        tracing::debug!(worker = key.0, "starting a worker");
        let rooms = session.and_then(|session| self.rooms.get(&session).cloned());
        let rooms = rooms.unwrap_or_else(Rooms::apart);
        let handle = WorkerHandle::spawn(key, program, &rooms, files, self.worker_sender.clone());
        self.workers.insert(key, handle);
    }

    /// The directory of the files that a session keeps here. Without it, and without a descriptor for it, it keeps none.
    fn files_of(&mut self, session: SessionKey) -> Option<OwnedFd> {
        if !self.files.contains_key(&session) {
            self.files.insert(session, self.programs.files_of_session()?);
        }
        self.files.get(&session)?.as_fd().try_clone_to_owned().ok()
    }

    /// Removes what sessions have kept here that are over. There may be much: that takes a thread its time.
    fn forget_files(&mut self) {
        let over = self.files.extract_if(.., |session, _| !self.core.has_session(*session));
        let over: Vec<_> = over.map(|(_, files)| files).collect();
        if !over.is_empty() {
            // Where there is no thread to be had, dropping what it was to do does it.
            let _ = thread::Builder::new().name("pp-remove".into()).spawn(move || drop(over));
        }
    }
}

/// Has the allocator keep memory that is freed. Lists of attempts and outcomes come and go all the time: given back to the
/// system, each would be mapped and cleared anew. glibc keeps blocks up to the size of the largest mapping that was ever freed
/// (mallopt(3), `M_MMAP_THRESHOLD`), and twice as much at the end of its heap; to other allocators this is nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FREED_BYTES_KEPT)));
}

fn log_sent(peer: &str, message: &FromNode) {
    match message {
        FromNode::Outcomes(_, outcomes) if tracing::enabled!(tracing::Level::DEBUG) => {
            for Outcome { id, run_time_ns, ended } in outcomes {
                let run_time = Duration::from_nanos(*run_time_ns);
                tracing::debug!(job = %id.job, attempt = id.number, ?run_time, peer, "{}", ended.word());
            }
        }
        FromNode::Refused(refusal) => tracing::warn!(peer, %refusal, "refused"),
        FromNode::ProgramNeeded(digest) => {
            tracing::info!(peer, program = digest.short(), "asking for its program")
        }
        FromNode::Program(program, ProgramStatus::Refused(refusal)) => {
            tracing::warn!(peer, program = program.0, %refusal, "its program does not run here");
        }
        _ => {}
    }
}

fn now() -> Moment {
    Moment(monotonic_ns())
}

async fn sleep_until(deadline: Option<Moment>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(Instant::now() + deadline.since(now())).await,
        None => std::future::pending().await,
    }
}
