//! The dispatcher's shell: one thread that owns the core, feeds it what happens and performs what it decides.

mod intake;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pp_node::page::monotonic_ns;
use pp_node::{Node, NodeConfig, Workers};
use pp_protocol::room;
use pp_protocol::secret::Secret;
use pp_protocol::{Moment, SessionId, ToNode};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use self::intake::Intake;
use crate::api::builder::Output;
use crate::api::error::{ResizeError, result_of};
use crate::client::callbacks::Due;
use crate::client::events;
use crate::client::printer::Printer;
use crate::client::shared::{JobTicket, Resolved, Shared, Wakes, become_dispatcher_thread};
use crate::client::stats::{NodeInfo, Stats};
use crate::core::{Action, Config, Core, Event, NodeKey, NodeKind, NodeState, NodeView, Report};
use crate::links::discovery::{self, Found};
use crate::links::programs::Programs;
use crate::links::{Address, Dialler, LinkEvent, Links, OrderResult};

/// Link events taken in before the inbox is looked at again.
const LINK_EVENTS_AT_ONCE: usize = 64;
/// How long the farewell to the nodes may take, and then the end of the local workers.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the shell is told once.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) local_workers: u32,
    pub(crate) in_process: bool,
    /// Only look at nodes: run nothing on them, and nothing here.
    pub(crate) observer: bool,
    /// Whether each job has a worker of its own.
    pub(crate) fresh_workers: bool,
    pub(crate) nodes: Vec<Address>,
    pub(crate) discover: bool,
    pub(crate) secret: Option<Secret>,
    pub(crate) programs: Vec<PathBuf>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) suspect_after: Duration,
    pub(crate) lost_after: Duration,
    pub(crate) output: Output,
}

impl Setup {
    /// Whether there may be nodes beside the local one.
    pub(crate) fn is_remote(&self) -> bool {
        self.discover || !self.nodes.is_empty()
    }
}

/// Starts the dispatcher's thread, and the local node in it.
///
/// The runtime is made there and ends there, whatever fails: it must not be dropped by whoever starts a dispatcher, since
/// that may be a task of another runtime.
pub(crate) fn start(
    setup: Setup,
    shared: Arc<Shared>,
    printer: Printer,
) -> Result<JoinHandle<()>, crate::StartError> {
    let programs = Programs::open(&setup.programs)?;
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("pp-dispatcher".into()).spawn(move || {
        pp_node::processes::meet_errors_not_signals();
        become_dispatcher_thread();
        let (runtime, actor) = match prepare(setup, &shared, programs, printer) {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let _ = tell.send(Ok(()));
        if catch_unwind(AssertUnwindSafe(|| runtime.block_on(actor.run()))).is_err() {
            tracing::error!("the dispatcher has failed; its jobs end as shut down");
            shared.fail();
        }
        // Whatever still blocks (a name being looked up, say) is not waited for.
        runtime.shutdown_background();
    })?;
    let started = told.recv();
    started.unwrap_or_else(|_| Err(std::io::Error::other("the dispatcher's thread has panicked").into()))?;
    Ok(thread)
}

fn prepare(
    setup: Setup,
    shared: &Arc<Shared>,
    programs: Programs,
    printer: Printer,
) -> Result<(Runtime, Actor), crate::StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let actor = {
        let _inside = runtime.enter();
        let workers = if setup.in_process { Workers::Threads } else { Workers::Processes };
        let local = Node::start(NodeConfig { workers, ..NodeConfig::new("local", setup.local_workers) })?;
        Actor::new(setup, Arc::clone(shared), local, programs, printer)
    };
    Ok((runtime, actor))
}

/// Somebody waits for so many nodes, until then.
pub(crate) struct WaitForNodes {
    pub(crate) count: usize,
    pub(crate) until: Instant,
    pub(crate) tell: std::sync::mpsc::SyncSender<()>,
}

/// Owns the core. Everything here runs on the dispatcher's thread.
pub(crate) struct Actor {
    pub(crate) core: Core<JobTicket>,
    pub(crate) local: Node,
    shared: Arc<Shared>,
    intake: Intake,
    setup: Setup,
    links: Links,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    found: mpsc::Receiver<Found>,
    /// Keeps discovery alive.
    _discovery: Option<discovery::Discovery>,
    printer: Printer,
    /// The nodes found, by what identifies them to discovery.
    known: BTreeMap<String, NodeKey>,
    actions: Vec<Action<JobTicket>>,
    /// Callbacks of what was resolved by the event at hand.
    callbacks_due: Vec<Due>,
    /// Who waited for it.
    wakes: Wakes,
    /// Who is to be told when nodes are in use.
    waiting_for_nodes: Vec<WaitForNodes>,
    ended: bool,
}

impl Actor {
    fn new(setup: Setup, shared: Arc<Shared>, local: Node, programs: Programs, printer: Printer) -> Self {
        let session = SessionId::random();
        let mut config = Config::new(session, session.0 as u64);
        config.max_attempts = setup.max_attempts.unwrap_or(config.max_attempts);
        config.suspect_after = setup.suspect_after;
        config.lost_after = setup.lost_after;
        config.observer = setup.observer;
        let (events, link_events) = mpsc::unbounded_channel();
        let (found_sender, found) = mpsc::channel(discovery::WORDS_WAITING);
        let links = Links::new(
            Dialler::new(
                session,
                setup.secret.clone(),
                local.clone(),
                programs,
                (setup.observer, setup.fresh_workers),
            ),
            events,
        );
        let discovery = discovery::start(&setup.nodes, setup.discover, &found_sender);
        Self {
            core: Core::new(config),
            local,
            shared,
            intake: Intake::default(),
            links,
            link_events,
            found,
            _discovery: discovery,
            printer,
            known: BTreeMap::new(),
            actions: Vec::new(),
            callbacks_due: Vec::new(),
            wakes: Wakes::default(),
            waiting_for_nodes: Vec::new(),
            ended: false,
            setup,
        }
    }

    async fn run(mut self) {
        let _keeper = room::Keeper::new();
        let shared = Arc::clone(&self.shared);
        self.find(Found::local());
        // The nodes named are known from the start, so that they are seen by whoever asks at once.
        for found in discovery::named(&self.setup.nodes).collect::<Vec<_>>() {
            self.find(found);
        }
        while !self.ended {
            let deadline = self.core.next_deadline();
            let mut is_busy = false;
            tokio::select! {
                biased;
                Some(event) = self.link_events.recv() => {
                    is_busy = true;
                    self.link_event(event);
                    for _ in 0..LINK_EVENTS_AT_ONCE {
                        let Ok(event) = self.link_events.try_recv() else { break };
                        self.link_event(event);
                    }
                }
                () = std::future::ready(()), if self.intake.is_waiting() => {}
                () = shared.wake.notified() => {}
                Some(found) = self.found.recv() => self.find(found),
                () = sleep_until(deadline) => {}
                () = room::tidied() => {}
            }
            // What is left there is looked for again: word of it has not been taken.
            self.take_in(!is_busy);
            if deadline.is_some_and(|deadline| deadline <= now()) {
                self.handle(Event::Tick);
            }
        }
        self.leave().await;
    }

    fn handle(&mut self, event: Event<JobTicket>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.handle(now(), event, &mut actions);
        let mut resolved = Resolved::default();
        for action in actions.drain(..) {
            match action {
                Action::Resolve(ticket, resolution) => {
                    resolved.jobs += 1;
                    resolved.args_bytes += resolution.args_bytes;
                    let outcome = result_of(resolution.outcome, resolution.function);
                    ticket.0.accepted(resolution.job);
                    self.callbacks_due.extend(
                        ticket.0.settle(outcome, &mut self.wakes).map(|outcome| Due { ticket, outcome }),
                    );
                }
                Action::Dial(node, resume) => self.links.dial(node, resume),
                Action::Send(node, message) => self.links.send(node, message),
                Action::Close(node) => self.links.close(node),
                Action::SendProgram(node, digest) => self.links.send_program(node, digest),
                Action::Report(report) => self.report(report),
            }
        }
        self.actions = actions;
        if !self.callbacks_due.is_empty() {
            resolved.with_callback = self.callbacks_due.len();
            self.shared.call_back(&mut self.callbacks_due);
        }
        self.shared.resolved(resolved);
        self.wakes.wake_all();
        let (mut capacity, mut slots) = (0, 0);
        for node in self.core.nodes() {
            capacity += node.window as usize;
            slots += node.status.slots as usize;
        }
        self.shared.capacity.store(capacity, Ordering::Relaxed);
        self.shared.slots.store(slots, Ordering::Relaxed);
        if !self.waiting_for_nodes.is_empty() {
            let nodes = self.nodes_in_use();
            self.waiting_for_nodes.retain(|waiting| {
                if nodes >= waiting.count {
                    // Whoever has stopped waiting needs no word.
                    let _ = waiting.tell.try_send(());
                }
                nodes < waiting.count
            });
        }
    }

    /// Tells whoever waits when so many nodes beside the local one can be given jobs, or that none will ever be.
    pub(crate) fn wait_for_nodes(&mut self, waiting: WaitForNodes) {
        let none_will_come = !self.setup.is_remote();
        if none_will_come || self.nodes_in_use() >= waiting.count {
            let _ = waiting.tell.try_send(());
        } else {
            let now = Instant::now();
            self.waiting_for_nodes.retain(|waiting| waiting.until > now);
            self.waiting_for_nodes.push(waiting);
        }
    }

    /// Nodes beside the local one that can be given jobs.
    pub(crate) fn nodes_in_use(&self) -> usize {
        let in_use = |node: &NodeView<'_>| node.kind != NodeKind::Local && node.state == NodeState::Connected;
        self.core.nodes().filter(in_use).count()
    }

    fn find(&mut self, found: Found) {
        match found {
            Found::Node { identity, name, addresses, kind } => {
                let next = NodeKey(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
                let node = *self.known.entry(identity).or_insert(next);
                self.links.set_addresses(node, addresses);
                self.handle(Event::NodeFound { node, name, kind });
            }
            Found::Gone { identity } => {
                if let Some(node) = self.known.get(&identity) {
                    self.handle(Event::NodeGone(*node));
                }
            }
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        if let Some(event) = self.links.take(event) {
            self.handle(event);
        }
    }

    fn report(&mut self, report: Report) {
        let name = |node| self.node_name(node);
        let event = match report {
            Report::Printed(node, lines) => {
                let node = name(node);
                for line in lines {
                    self.tell(&events::Event::Printed {
                        node: node.clone(),
                        job: line.attempt.map(|attempt| attempt.job),
                        stream: line.stream,
                        line: line.text,
                    });
                }
                return;
            }
            Report::NodeConnected(node) => {
                events::Event::NodeConnected { node: name(node), slots: self.slots(node) }
            }
            Report::NodeSuspected(node) => events::Event::NodeSuspected { node: name(node) },
            Report::NodeLost(node, reason, jobs) => {
                events::Event::NodeLost { node: name(node), reason, jobs }
            }
            Report::NodeRefused(node, reason) => events::Event::NodeRefused { node: name(node), reason },
            Report::NodeTroubled(node, reason) => events::Event::NodeTroubled { node: name(node), reason },
            Report::NodeResized(node, slots) => {
                events::Event::NodeResized { node: name(node), slots: slots as usize }
            }
            Report::JobRetried(job, failure) => events::Event::JobRetried { job, failure },
            Report::Stalled(jobs) => events::Event::Stalled { jobs, reason: self.why_nothing_runs() },
        };
        self.tell(&event);
    }

    fn tell(&mut self, event: &events::Event) {
        let shown = match event {
            events::Event::Printed { .. } => self.setup.output == Output::Shown,
            // Nobody may be listening, and without this the program would seem to hang.
            events::Event::Stalled { .. } | events::Event::NodeTroubled { .. } => true,
            _ => false,
        };
        match event {
            events::Event::Printed { node, job, line, .. } if self.setup.output == Output::Raw => {
                self.printer.print(events::printed(node, *job, line));
            }
            event if shown => self.printer.print(event.to_string()),
            _ => {}
        }
        tracing::info!("{event}");
        self.shared.listeners.tell(event);
    }

    fn why_nothing_runs(&self) -> String {
        let nodes: Vec<_> = self.stats().nodes.iter().map(ToString::to_string).collect();
        if self.setup.discover { format!("{}; looking for more", nodes.join("; ")) } else { nodes.join("; ") }
    }

    pub(crate) fn node_name(&self, node: NodeKey) -> String {
        self.core.nodes().find(|view| view.key == node).map_or_else(String::new, |view| view.name.to_owned())
    }

    fn slots(&self, node: NodeKey) -> usize {
        self.core.nodes().find(|view| view.key == node).map_or(0, |view| view.status.slots as usize)
    }

    pub(crate) fn stats(&self) -> Stats {
        let nodes = self.core.nodes().map(|view| NodeInfo {
            name: view.name.into(),
            address: self.links.address(view.key),
            kind: view.kind,
            state: view.state,
            reason: self.reason(&view),
            slots: view.status.slots as usize,
            busy: view.status.busy as usize,
            queued: view.status.queued as usize,
            dispatchers: view.status.sessions as usize,
            cpus: view.status.cpus as usize,
            jobs_at_node: view.attempts,
            jobs_ended: view.jobs,
            run_time: view.run_time,
            load: view.status.load,
            memory: (view.status.memory_used, view.status.memory_total),
        });
        Stats {
            nodes: nodes.collect(),
            unresolved: self.core.unresolved(),
            late_outcomes: self.core.late_outcomes(),
            elapsed: Duration::ZERO,
        }
    }

    /// Why a node is not used.
    fn reason(&self, view: &NodeView<'_>) -> Option<String> {
        let elsewhere = || {
            let address = self.links.elsewhere(view.key)?;
            Some(format!("it is the same node as the one at {address}, which is in use"))
        };
        let said = || view.reason.map(Into::into);
        match view.state {
            NodeState::Refused => elsewhere().or_else(said),
            NodeState::Connecting => said().or_else(|| self.links.waits_for(view.key).map(Into::into)),
            _ => said(),
        }
    }

    /// Has a node resized; what comes of it is told later.
    pub(crate) fn resize(&mut self, name: &str, slots: u32) -> Result<Receiver<OrderResult>, ResizeError> {
        let stats = self.stats();
        let keys: Vec<_> = self.core.nodes().map(|view| view.key).collect();
        let labels =
            |nodes: &[&NodeInfo]| nodes.iter().map(|node| node.label()).collect::<Vec<_>>().join(", ");
        // An address is of one node, whatever others are called. The local one has none.
        let at = |node: &&NodeInfo| !name.is_empty() && (node.address == name || node.label() == name);
        let nodes: Vec<_> = stats.nodes.iter().collect();
        let found = match nodes.iter().copied().filter(at).collect::<Vec<_>>() {
            found if found.is_empty() => nodes.iter().copied().filter(|node| node.name == name).collect(),
            found => found,
        };
        let node = match found[..] {
            [node] => node,
            [] => return Err(ResizeError::NoSuchNode { name: name.into(), known: labels(&nodes) }),
            _ => return Err(ResizeError::Ambiguous { name: name.into(), known: labels(&found) }),
        };
        let Some((_, key)) = nodes.iter().zip(keys).find(|(known, _)| std::ptr::eq(**known, node)) else {
            return Err(ResizeError::NotConnected(name.into()));
        };
        match (node.kind, node.state) {
            (NodeKind::Local, _) | (_, NodeState::Preparing | NodeState::Connected | NodeState::Suspect) => {
                Ok(self.links.order(key, ToNode::Resize(slots)))
            }
            _ => Err(ResizeError::NotConnected(name.into())),
        }
    }

    /// Resolves everything and ends the thread.
    pub(crate) fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.shared.close();
        // What was submitted or asked while this was on its way is answered like everything else, and jobs are told their
        // identifiers: nobody can ask for one any more.
        self.take_in_the_rest();
        self.handle(Event::Shutdown);
    }

    async fn leave(mut self) {
        self.shared.callbacks.close();
        self.local.kill();
        let _ = tokio::time::timeout(FAREWELL, self.links.farewell()).await;
        // What was printed and is on its way still counts.
        while let Ok(event) = self.link_events.try_recv() {
            for (node, lines) in event.into_output() {
                self.report(Report::Printed(node, lines));
            }
        }
        self.shared.listeners.close();
        let _ = tokio::time::timeout(FAREWELL, self.local.ended()).await;
    }
}

fn now() -> Moment {
    Moment(monotonic_ns())
}

async fn sleep_until(deadline: Option<Moment>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now())).await,
        None => std::future::pending().await,
    }
}
