//! The dispatcher's thread: it owns the core, feeds it what happens and performs what it decides.

mod answers;
mod intake;
mod reports;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pp_node::page::monotonic_ns;
use pp_node::{Node, NodeConfig, Workers};
use pp_protocol::limits::{EXPLANATION_BYTES, STRANGERS_ANNOUNCED, cut};
use pp_protocol::room;
use pp_protocol::{Moment, SessionId, ToNode};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use self::answers::WaitForNodes;
use self::intake::Intake;
use super::callbacks::{Due, Receipt};
use super::counts::Resolved;
use super::handle::Handle;
use super::here::become_dispatcher_thread;
use super::printer::Printer;
use super::settings::{ClientError, Settings};
use super::settle::{JobTicket, Wakes, outcome_of};
use crate::core::{
    Action, Core, DialFailure, DialStage, DispatcherConfig, Event, NodeKey, NodeKind, NodeReason,
    NodeRefusal, NodeState, NodeView, PartKey, Report,
};
use crate::links::discovery::{self, Addresses, Found};
use crate::links::programs::OfferedPrograms;
use crate::links::secret::DialSecret;
use crate::links::{Admission, Dialler, LinkEvent, Links};

/// Link events taken in before the inbox is looked at again.
const LINK_EVENTS_AT_ONCE: usize = 64;
/// Parts that were taken of which the core is told at once.
const TAKEN_AT_ONCE: usize = 1_024;
/// Time for the farewell to the nodes, and then for the end of the local workers.
const FAREWELL: Duration = Duration::from_millis(500);
/// Time to wait for the local node before jobs are taken in.
const LOCAL_TIME: Duration = Duration::from_secs(1);

/// Starts the dispatcher's thread, and the local node in it.
///
/// The runtime is made there and ends there, whatever fails: it must not be dropped by whoever starts a dispatcher, since
/// that may be a task of another runtime.
pub(crate) fn start(
    settings: Settings,
    handle: Arc<Handle>,
    printer: Printer,
) -> Result<JoinHandle<()>, ClientError> {
    let programs = OfferedPrograms::open(&settings.programs)?;
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("pp-dispatcher".into()).spawn(move || {
        pp_node::processes::meet_errors_not_signals();
        become_dispatcher_thread();
        let (runtime, actor) = match prepare(settings, &handle, programs, printer) {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let _ = tell.send(Ok(()));
        if catch_unwind(AssertUnwindSafe(|| runtime.block_on(actor.run()))).is_err() {
            tracing::error!("the dispatcher has failed; its jobs end as shut down");
            handle.fail();
        }
        // Whatever still blocks (a name being looked up, say) is not waited for.
        runtime.shutdown_background();
    })?;
    let started = told.recv();
    started.unwrap_or_else(|_| Err(std::io::Error::other("the dispatcher's thread has panicked").into()))?;
    Ok(thread)
}

fn prepare(
    settings: Settings,
    handle: &Arc<Handle>,
    programs: OfferedPrograms,
    printer: Printer,
) -> Result<(Runtime, Actor), ClientError> {
    if !settings.in_process {
        // The runtime would panic.
        pp_node::ensure_descriptors().map_err(pp_node::StartError::from)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let actor = {
        let _inside = runtime.enter();
        let workers = if settings.in_process { Workers::Threads } else { Workers::Processes };
        let local = Node::start(NodeConfig { workers, ..NodeConfig::new("local", settings.local_workers) })?;
        Actor::new(settings, Arc::clone(handle), local, programs, printer)
    };
    Ok((runtime, actor))
}

/// Owns the core. Everything here runs on the dispatcher's thread.
struct Actor {
    core: Core<JobTicket>,
    local: Node,
    shared: Arc<Handle>,
    intake: Intake,
    settings: Settings,
    links: Links,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    /// Parts that were taken. No more are under way than nodes may send.
    taken: mpsc::UnboundedReceiver<PartKey>,
    tell_taken: mpsc::UnboundedSender<PartKey>,
    found: mpsc::Receiver<Found>,
    /// Looks for nodes until it is dropped.
    discovery: Option<discovery::Discovery>,
    printer: Printer,
    /// The nodes found, by what identifies them to discovery.
    known: BTreeMap<String, NodeKey>,
    /// Names of which every address is a node, as long as they have none, and why.
    unknown_names: BTreeMap<String, NodeReason>,
    /// The key of the next one.
    next_node: u32,
    /// It was said that more are announced than can be known.
    are_strangers_many: bool,
    actions: Vec<Action<JobTicket>>,
    /// Callbacks of what was resolved by the event at hand.
    callbacks_due: Vec<Due>,
    /// Waiters for it.
    wakes: Wakes,
    /// Callers to be answered when nodes are in use.
    waiting_for_nodes: Vec<WaitForNodes>,
    ended: bool,
}

impl Actor {
    fn new(
        settings: Settings,
        shared: Arc<Handle>,
        local: Node,
        programs: OfferedPrograms,
        printer: Printer,
    ) -> Self {
        let session = SessionId::random();
        let mut config = DispatcherConfig::new(session, session.0 as u64);
        config.max_attempts = settings.max_attempts;
        config.suspect_after = settings.suspect_after;
        config.lost_after = settings.lost_after;
        config.jobs_per_node = settings.jobs_per_node;
        config.observer = settings.observer;
        if !settings.observer {
            config.programs.extend(programs.ids());
        }
        let (events, link_events) = mpsc::unbounded_channel();
        let (tell_taken, taken) = mpsc::unbounded_channel();
        let (found_sender, found) = mpsc::channel(discovery::WORDS_WAITING);
        let links = Links::new(
            Dialler::new(
                session,
                (settings.secret.clone().map(DialSecret::new), settings.machine_key.clone()),
                local.clone(),
                programs,
                (settings.observer, settings.fresh_workers),
            ),
            events,
        );
        let discovery = discovery::start(&settings.nodes, settings.discover, &found_sender);
        Self {
            core: Core::new(config),
            local,
            shared,
            intake: Intake::default(),
            links,
            link_events,
            taken,
            tell_taken,
            found,
            discovery,
            printer,
            known: BTreeMap::new(),
            unknown_names: discovery::looked_up(&settings.nodes)
                .map(|address| (address.written(), NodeReason::Dialling(DialStage::Name)))
                .collect(),
            next_node: 0,
            are_strangers_many: false,
            actions: Vec::new(),
            callbacks_due: Vec::new(),
            wakes: Wakes::default(),
            waiting_for_nodes: Vec::new(),
            ended: false,
            settings,
        }
    }

    async fn run(mut self) {
        let _keeper = room::Keeper::new();
        let shared = Arc::clone(&self.shared);
        self.find(Found::local());
        // The nodes named are known from the start, so that they are seen by whoever asks at once.
        for found in discovery::named(&self.settings.nodes).collect::<Vec<_>>() {
            self.find(found);
        }
        self.wait_for_local().await;
        let mut taken = Vec::new();
        while !self.ended {
            let (deadline, turns_at) = (self.core.next_deadline(), self.links.turns_at());
            let mut is_busy = false;
            tokio::select! {
                biased;
                // No more than nodes may send before it: this keeps nobody else waiting.
                _ = self.taken.recv_many(&mut taken, TAKEN_AT_ONCE) => {
                    self.handle(Event::PartsTaken(std::mem::take(&mut taken)));
                }
                Some(event) = self.link_events.recv() => {
                    is_busy = true;
                    self.link_event(event);
                    for _ in 0..LINK_EVENTS_AT_ONCE {
                        let Ok(event) = self.link_events.try_recv() else { break };
                        self.link_event(event);
                    }
                }
                () = std::future::ready(()), if self.intake.is_waiting() => {}
                () = shared.inbox.filled() => {}
                Some(found) = self.found.recv() => self.find(found),
                () = sleep_until(deadline.into_iter().chain(turns_at).min()) => {}
                () = room::tidied() => {}
            }
            // What is left there is looked for again: word of it has not been taken.
            self.take_in(!is_busy);
            if deadline.is_some_and(|deadline| deadline <= now()) {
                self.handle(Event::Tick);
            }
            if turns_at.is_some_and(|at| at <= now()) {
                self.links.take_turns(now());
            }
        }
        self.leave().await;
    }

    /// Takes in what the links tell until the dispatcher's own cores are there: whoever asks for nodes at once, in order to
    /// give each of them a job, is told of these, too.
    async fn wait_for_local(&mut self) {
        let until = tokio::time::Instant::now() + LOCAL_TIME;
        let is_awaited =
            |node: NodeView<'_>| node.kind == NodeKind::Local && node.state == NodeState::Connecting;
        while self.core.nodes().any(is_awaited)
            && let Ok(Some(event)) = tokio::time::timeout_at(until, self.link_events.recv()).await
        {
            self.link_event(event);
        }
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
                    ticket.0.accepted(resolution.job);
                    let outcome = outcome_of(resolution);
                    resolved.failed += usize::from(outcome.is_err());
                    let settled = ticket.0.settle(outcome, &mut self.wakes);
                    let due = settled.map(|outcome| Due::End(ticket, outcome));
                    resolved.with_callback += usize::from(due.is_some());
                    self.callbacks_due.extend(due);
                }
                Action::Part(taker, key, part) => {
                    let receipt = Receipt { key, taken: self.tell_taken.clone() };
                    self.callbacks_due.push(Due::Part(taker, part, receipt));
                }
                Action::Dial(node, resume) => self.links.dial(now(), node, resume),
                Action::Send(node, message) => self.links.send(node, message),
                Action::Close(node) => self.links.close(node),
                Action::SendProgram(node, digest) => self.links.send_program(node, digest),
                Action::ProgramWritten(node, digest, pieces) => {
                    self.links.program_written(node, digest, pieces);
                }
                Action::Explain(node, question, job) => {
                    let text = self.explain(Some(job)).to_string();
                    let text = cut(&text, EXPLANATION_BYTES).to_owned();
                    self.links.send(node, ToNode::JobExplained(question, text));
                }
                Action::Activity(node, activity) => self.publish(node, *activity),
                Action::Report(report) => self.report(report),
            }
        }
        self.actions = actions;
        if !self.callbacks_due.is_empty() {
            self.shared.callbacks.call(&mut self.callbacks_due);
        }
        self.shared.counts.resolved(resolved);
        self.wakes.wake_all();
        let (mut capacity, mut slots) = (0, 0);
        for node in self.core.nodes() {
            capacity += node.window as usize;
            slots += node.status.slots as usize;
        }
        self.shared.counts.set_capacity(capacity, slots);
        self.answer_who_waits_for_nodes();
    }

    fn find(&mut self, found: Found) {
        match found {
            Found::Node { name, addresses, kind, .. }
                if !self.settings.selection.takes(kind, &name, &addresses) =>
            {
                tracing::debug!(name, "left out");
            }
            Found::Node { identity, name, addresses, kind } => {
                let known = self.known.get(&identity).copied();
                let node = known.unwrap_or(NodeKey(self.next_node));
                if let Addresses::Announced(addresses) = &addresses {
                    match self.links.admit(node, addresses) {
                        Admission::Granted => {}
                        Admission::InsteadOf(other) => self.forget(other),
                        Admission::Refused => return self.miss_one(),
                    }
                }
                if known.is_none() {
                    self.next_node += 1;
                    self.known.insert(identity.clone(), node);
                }
                self.links.set_addresses(node, identity, addresses);
                self.handle(Event::NodeFound { node, name, kind });
            }
            Found::LookedUp { name, failed: None } => drop(self.unknown_names.remove(&name)),
            Found::LookedUp { name, failed: Some(cause) } => {
                self.unknown_names.insert(name, NodeReason::Unreachable(cause));
            }
            Found::Gone { identity } => {
                if let Some(node) = self.known.get(&identity).copied() {
                    self.links.gone(node);
                    self.handle(Event::NodeGone(node));
                }
            }
        }
    }

    /// A node that was announced is known no more: others are in its place.
    fn forget(&mut self, node: NodeKey) {
        self.known.retain(|_, known| *known != node);
        self.links.forget(node);
        self.handle(Event::NodeForgotten(node));
        self.say_strangers_are_many();
    }

    /// There is no room to know of a node that was announced.
    fn miss_one(&mut self) {
        if let Some(discovery) = &self.discovery {
            discovery.missed_one();
        }
        self.say_strangers_are_many();
    }

    fn say_strangers_are_many(&mut self) {
        if !std::mem::replace(&mut self.are_strangers_many, true) {
            tracing::warn!(
                "more than {STRANGERS_ANNOUNCED} nodes are announced on this network that have not proved that they know \
                 the secret: they are tried a few at a time; name those that are missing in PP_NODES"
            );
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        if let Some(event) = self.links.take(event) {
            let event = self.unless_left_out(event);
            self.handle(event);
        }
    }

    /// A node that is not to be used by the name that it says itself is left at once.
    fn unless_left_out(&mut self, event: Event<JobTicket>) -> Event<JobTicket> {
        let Event::LinkUp(node, welcome, _) = &event else { return event };
        let node = *node;
        let kind = self.core.nodes().find(|view| view.key == node).map(|view| view.kind);
        let Some((kind, at)) = kind.zip(self.links.addresses(node)) else { return event };
        if self.settings.selection.takes(kind, &welcome.name, &at) {
            return event;
        }
        self.links.send(node, ToNode::Goodbye);
        self.links.close(node);
        Event::DialFailed(node, Box::new(DialFailure::Refused(NodeRefusal::LeftOut)))
    }

    /// Resolves everything and ends the thread.
    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.shared.inbox.close();
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
        self.shared.watches.close();
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
