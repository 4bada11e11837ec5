//! Connections: greetings, resumed sessions, heartbeats, farewells.

use std::time::Duration;

use pp_protocol::limits::{
    CONNECTIONS_WITHOUT_SESSION, NAME_BYTES, OUTCOMES_KEPT, PAYLOAD_BYTES, QUEUED_BYTES, SESSIONS,
    args_bytes_at_node, cut,
};
use pp_protocol::{
    Attempt, AttemptId, Farewell, FromNode, Hello, Moment, ProgramId, Refusal, RefusalKind, Resume, Role,
    ToNode, Welcome,
};

use super::lanes::{Lane, LaneKey};
use super::session::{Link, Session};
use super::{Action, ConnectionKey, Core, Program, Proof, SessionKey, SystemLoad};

/// No more than this is made up for by sending work ahead.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Limits on the large arguments of all sessions, as multiples of the limit for one: beyond it, windows are closed; beyond that,
/// attempts are returned as they come.
const ARGS_ASKED_FOR: u64 = 2;
const ARGS_TURNED_AWAY: u64 = 3;
/// Time between two heartbeats of a node.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Connection {
    /// Proof of the peer, which says what it may send, and the version that is spoken.
    pub(super) proof: Proof,
    /// Peer on it, once it has greeted.
    pub(super) peer: Peer,
    /// Time of the last arrival.
    heard: Moment,
    /// The question that is on its way, and when it was sent.
    asked: Option<(u64, Moment)>,
    /// Round trip of a ping, as far as known.
    pub(super) round_trip: Duration,
    /// When it was last sent a frame of what happens here.
    pub(super) frame_at: Option<Moment>,
}

impl Connection {
    fn new(now: Moment, proof: Proof) -> Self {
        let round_trip = Duration::ZERO;
        Self { proof, peer: Peer::Unknown, heard: now, asked: None, round_trip, frame_at: None }
    }

    /// Learns from an answer. A long time may be the peer's own, so it counts for less than a short one.
    fn answered(&mut self, now: Moment, number: u64) {
        let Some((_, sent)) = self.asked.take_if(|(asked, _)| *asked == number) else { return };
        let took = now.since(sent).min(LONGEST_ROUND_TRIP);
        let longer = took.saturating_sub(self.round_trip);
        self.round_trip = if longer.is_zero() { took } else { self.round_trip + longer / 4 };
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Peer {
    Unknown,
    Session(SessionKey),
    Operator,
}

impl Core {
    pub(super) fn connected(
        &mut self,
        now: Moment,
        key: ConnectionKey,
        proof: Proof,
        actions: &mut Vec<Action>,
    ) {
        if !self.is_accepted(proof) {
            // It was, when the handshake began.
            return actions.push(Action::Close(key));
        }
        self.make_way(actions);
        *self.counters.connections.entry(proof.role).or_default() += 1;
        self.connections.insert(key, Connection::new(now, proof));
        self.heartbeat.get_or_insert(now + HEARTBEAT);
    }

    /// Closes the oldest of the connections without a session if there are as many as may be.
    fn make_way(&mut self, actions: &mut Vec<Action>) {
        let without = || self.connections.iter().filter(|(_, it)| !matches!(it.peer, Peer::Session(_)));
        if let Some((oldest, _)) = without().next()
            && without().count() >= CONNECTIONS_WITHOUT_SESSION
        {
            self.refuse(*oldest, Refusal::TooManyConnections(CONNECTIONS_WITHOUT_SESSION as u32), actions);
        }
    }

    pub(super) fn heard(&mut self, now: Moment, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.heard = now;
        }
    }

    /// Neighbours that cancel attempts are taken in as one: to look through the workers costs the same for many.
    pub(super) fn received_all(
        &mut self,
        now: Moment,
        key: ConnectionKey,
        messages: Vec<ToNode>,
        actions: &mut Vec<Action>,
    ) {
        let mut cancelled = Vec::new();
        for message in messages {
            if let ToNode::Cancel(attempts) = message {
                cancelled.extend(attempts);
                continue;
            }
            if !cancelled.is_empty() {
                self.received(now, key, ToNode::Cancel(std::mem::take(&mut cancelled)), actions);
            }
            self.received(now, key, message, actions);
        }
        if !cancelled.is_empty() {
            self.received(now, key, ToNode::Cancel(cancelled), actions);
        }
    }

    fn received(&mut self, now: Moment, key: ConnectionKey, message: ToNode, actions: &mut Vec<Action>) {
        // The connection may have been closed by a message before this one in the same batch.
        let Some(connection) = self.connections.get(&key) else { return };
        let Connection { proof: Proof { role, version, .. }, peer, .. } = *connection;
        if let Err(violation) = message.rule().check(role, peer != Peer::Unknown, version) {
            return self.cut_off(key, peer, Refusal::NotPermitted(violation.to_string()), actions);
        }
        match (peer, message) {
            (_, ToNode::Hello(hello)) => match role {
                Role::Dispatcher => self.greeted(now, key, *hello, actions),
                Role::Operator => {
                    self.set_peer(key, Peer::Operator);
                    self.welcome(key, false, Vec::new(), 0, actions);
                }
            },
            (_, ToNode::Pong(number)) => {
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.answered(now, number);
                }
            }
            (_, ToNode::Ping(number)) => actions.push(Action::Send(key, FromNode::Pong(number))),
            (_, ToNode::Resize(slots)) => self.resize(slots, actions),
            (_, ToNode::Drain) => self.drain(now, actions),
            (_, ToNode::ExplainJob(job)) => self.ask_of_job(key, job, actions),
            (_, ToNode::Watch(interval_ns)) => self.watch(now, key, interval_ns, actions),
            (Peer::Session(session), message) => self.session_message(now, session, message, actions),
            (Peer::Operator, ToNode::Goodbye) => self.close(key, actions),
            (Peer::Operator | Peer::Unknown, _) => {}
        }
    }

    /// Closes the connection of a peer for which more waits than it has left unacknowledged: it does not read what it is sent,
    /// whatever it says.
    pub(super) fn behind(&mut self, key: ConnectionKey, waiting: usize, actions: &mut Vec<Action>) {
        let Some(peer) = self.connections.get(&key).map(|connection| connection.peer) else { return };
        let unacknowledged = match peer {
            Peer::Session(session) => self.sessions.get(&session).map_or(0, Session::unacknowledged_bytes),
            Peer::Unknown | Peer::Operator => 0,
        };
        if waiting > QUEUED_BYTES + unacknowledged {
            let how = format!("it does not read what it is sent, and {waiting} bytes wait for it");
            self.cut_off(key, peer, Refusal::NotPermitted(how), actions);
        }
    }

    /// Closes the connection of a peer that does what it may not, and says why. It has no session after that.
    fn cut_off(&mut self, key: ConnectionKey, peer: Peer, refusal: Refusal, actions: &mut Vec<Action>) {
        if let Peer::Session(session) = peer {
            self.end_session(session, actions);
        }
        self.refuse(key, refusal, actions);
    }

    fn session_message(&mut self, now: Moment, key: SessionKey, message: ToNode, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match message {
            ToNode::Run(attempts) => self.run(key, attempts, actions),
            ToNode::Cancel(attempts) => self.cancel(key, &attempts, actions),
            ToNode::Recall(attempts) => self.recall(key, &attempts, actions),
            ToNode::Ack(received) => session.acknowledged(received),
            ToNode::OutputReceived(bytes) => self.output_arrived(key, bytes, actions),
            ToNode::PartsTaken(taken) => session.parts.taken(taken),
            ToNode::Waiting(jobs) => session.waiting = jobs,
            ToNode::ProgramChunk { digest, number, bytes, last } => {
                self.program_chunk(now, key, (digest, number), bytes, last, actions)
            }
            ToNode::ProgramUnavailable(digest, reason) => {
                self.program_unavailable(key, digest, reason, actions)
            }
            ToNode::Offer(offer) => self.offered(key, offer, actions),
            ToNode::JobExplained(number, text) => self.job_explained(key, number, &text, actions),
            ToNode::Goodbye => {
                let connection = session.connection();
                self.end_session(key, actions);
                if let Some(connection) = connection {
                    self.close(connection, actions);
                }
            }
            ToNode::Hello(_)
            | ToNode::Ping(_)
            | ToNode::Pong(_)
            | ToNode::Resize(_)
            | ToNode::Drain
            | ToNode::ExplainJob(_)
            | ToNode::Watch(_) => {}
        }
    }

    /// Attempts to run, within what the session was granted; one that sends more is told so and cut off.
    fn run(&mut self, key: SessionKey, attempts: Vec<Attempt>, actions: &mut Vec<Action>) {
        let args_bytes = Session::args_bytes_of(attempts.iter());
        // Nearly always there are no large ones, and nothing is to be added up.
        let are_turned_away =
            args_bytes > 0 && self.args_bytes() + args_bytes > ARGS_TURNED_AWAY * self.args_limit;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let (granted, args) = (session.granted(), session.args_bytes() + args_bytes);
        // What has ended here has not been heard of there, so that this is at most what the dispatcher counts itself.
        let is_within = session.held() + attempts.len() <= granted;
        if !is_within || session.unsettled() + attempts.len() > granted + OUTCOMES_KEPT {
            let how = format!("it sent more attempts than it may have here, which are {granted} at most");
            return self.protocol_broken(key, &how, actions);
        }
        // Those of one attempt are always taken.
        let most = self.args_limit.max(PAYLOAD_BYTES as u64);
        if args > most {
            let how =
                format!("it sent arguments of {args} bytes, and {most} is the limit for a dispatcher here");
            return self.protocol_broken(key, &how, actions);
        }
        if are_turned_away {
            session.turn_away(attempts);
        } else {
            self.counters.retries += attempts.iter().filter(|attempt| attempt.id.number > 1).count() as u64;
            session.take_in(attempts, args_bytes);
        }
    }

    fn greeted(&mut self, now: Moment, key: ConnectionKey, hello: Hello, actions: &mut Vec<Action>) {
        let known =
            self.sessions.iter().find(|(_, session)| session.id == hello.session).map(|(key, _)| *key);
        let is_out_of_date =
            |session| self.sessions.get(&session).is_some_and(|session| session.youngest_connection > key);
        match (known, hello.resume) {
            // It was given up by its dispatcher while it was on the way, and tells of what was then.
            (Some(session), _) if is_out_of_date(session) => {
                self.refuse(key, Refusal::AlreadyConnected(self.config.id), actions);
            }
            (Some(session), Some(resume)) if self.is_about(session, &resume) => {
                self.resume_session(now, session, key, &resume, actions);
                // Word of the node's own functions may have been lost with the connection that broke off; programs are
                // offered again, and told of then.
                self.send_program_status(LaneKey { session, program: ProgramId::BUILT_IN }, actions);
                // A program may have been under way on it.
                self.program_source_lost(session, actions);
            }
            _ if self.draining.is_some() => self.refuse(key, Refusal::Draining, actions),
            // The same dispatcher found this node under another address: its first connection stays.
            (Some(session), _) if self.sessions.get(&session).is_some_and(|s| s.connection().is_some()) => {
                self.refuse(key, Refusal::AlreadyConnected(self.config.id), actions);
            }
            (known, resume) => {
                if let Some(old) = known {
                    self.end_session(old, actions);
                }
                let hello = Hello { resume, ..hello };
                self.begin_session(key, &hello, actions);
            }
        }
    }

    /// Whether a dispatcher that comes back means this session, and not one it had before.
    fn is_about(&self, session: SessionKey, resume: &Resume) -> bool {
        let session = self.sessions.get(&session);
        let possible = session
            .is_some_and(|session| session.may_have_sent(resume.outcomes_received, resume.parts_taken));
        resume.node == self.config.id && possible
    }

    fn begin_session(&mut self, connection: ConnectionKey, hello: &Hello, actions: &mut Vec<Action>) {
        if self.sessions.len() >= SESSIONS {
            return self.refuse(connection, Refusal::TooManySessions(SESSIONS as u32), actions);
        }
        let key = SessionKey(self.next_session);
        self.next_session += 1;
        self.counters.sessions_begun += 1;
        let name = cut(&hello.name, NAME_BYTES).to_owned();
        let proof = self.connections.get(&connection).map(|connection| connection.proof);
        let mut session = Session::new(hello.session, name, connection, proof);
        session.fresh_workers = hello.fresh_workers || self.config.fresh_worker_per_job;
        if !self.has_no_room() {
            session.grant(session.window_for(self.share_of(key), Duration::ZERO));
        }
        let window = session.window();
        self.sessions.insert(key, session);
        self.share_room();
        self.set_peer(connection, Peer::Session(key));
        self.welcome(connection, false, Vec::new(), window, actions);
        // A dispatcher takes the node's own functions to be ready unless it is told.
        if !self.is_ready(Program::Own) {
            self.send_program_status(LaneKey { session: key, program: ProgramId::BUILT_IN }, actions);
        }
    }

    /// A dispatcher does what none does: its session is over.
    pub(super) fn protocol_broken(&mut self, key: SessionKey, how: &str, actions: &mut Vec<Action>) {
        match self.sessions.get(&key).and_then(Session::connection) {
            Some(connection) => {
                self.cut_off(connection, Peer::Session(key), Refusal::NotPermitted(how.into()), actions);
            }
            None => self.end_session(key, actions),
        }
    }

    /// The dispatcher is back: both sides have said what they hold, the node gives up what the dispatcher has.
    fn resume_session(
        &mut self,
        now: Moment,
        key: SessionKey,
        connection: ConnectionKey,
        resume: &Resume,
        actions: &mut Vec<Action>,
    ) {
        let in_workers: Vec<_> = self.workers.values().flat_map(|worker| worker.attempts_of(key)).collect();
        let proof = self.connections.get(&connection).map(|connection| connection.proof);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.output.disconnected(actions);
        if let Link::Connected(old) = std::mem::replace(&mut session.link, Link::Connected(connection)) {
            self.connections.remove(&old);
            actions.push(Action::Close(old));
        }
        self.counters.sessions_resumed += 1;
        session.youngest_connection = connection;
        session.proof = proof;
        session.acknowledged(resume.outcomes_received);
        session.parts.taken(resume.parts_taken);
        let mut wanted = resume.held.clone();
        wanted.sort_unstable();
        let queued = session.lanes.iter().flat_map(Lane::waiting).map(|attempt| attempt.id);
        let held: Vec<_> = queued.chain(in_workers).chain(session.kept()).collect();
        let unwanted: Vec<_> = held.iter().copied().filter(|id| wanted.binary_search(id).is_err()).collect();
        session.send_all_again();
        let window = session.window();
        self.set_peer(connection, Peer::Session(key));
        self.heard(now, connection);
        self.welcome(connection, true, held, window, actions);
        self.cancel(key, &unwanted, actions);
    }

    pub(super) fn disconnected(&mut self, now: Moment, key: ConnectionKey, actions: &mut Vec<Action>) {
        let Some(connection) = self.connections.remove(&key) else { return };
        self.counters.connections_lost += 1;
        self.watchers.forget(key);
        if let Peer::Session(session_key) = connection.peer {
            self.broken_off(session_key, now + self.config.grace, actions);
        }
    }

    /// The dispatcher of a session is gone, and may come back.
    pub(super) fn broken_off(&mut self, key: SessionKey, until: Moment, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.link = Link::Silent { until };
        session.output.disconnected(actions);
        self.program_source_lost(key, actions);
    }

    /// Closes a connection from this side, leaving its session (if any) as it is.
    pub(super) fn close(&mut self, key: ConnectionKey, actions: &mut Vec<Action>) {
        if self.connections.remove(&key).is_some() {
            self.watchers.forget(key);
            actions.push(Action::Close(key));
        }
    }

    pub(super) fn refuse(&mut self, key: ConnectionKey, refusal: Refusal, actions: &mut Vec<Action>) {
        *self.counters.refusals.entry(RefusalKind::from(&refusal)).or_default() += 1;
        actions.push(Action::Send(key, FromNode::Refused(refusal)));
        self.close(key, actions);
    }

    fn set_peer(&mut self, key: ConnectionKey, peer: Peer) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.peer = peer;
        }
    }

    fn welcome(
        &self,
        connection: ConnectionKey,
        resumed: bool,
        held: Vec<AttemptId>,
        window: u32,
        actions: &mut Vec<Action>,
    ) {
        let welcome = Welcome {
            node: self.config.id,
            name: self.config.name.clone(),
            software: concat!("ppserver ", env!("CARGO_PKG_VERSION")).into(),
            confinement: self.config.confinement.clone(),
            target: self.config.target.clone(),
            libc: self.config.libc.clone(),
            resumed,
            held,
            window,
            status: self.status(),
        };
        actions.push(Action::Send(connection, FromNode::Welcome(Box::new(welcome))));
        if let Some(shortage) = self.shortage() {
            actions.push(Action::Send(connection, FromNode::Trouble(Some(shortage.clone()))));
        }
    }

    /// Ends a session for good: its attempts are killed, its queues are dropped, its programs are let go.
    pub(super) fn end_session(&mut self, key: SessionKey, actions: &mut Vec<Action>) {
        self.send_last_output(key, actions);
        let Some(session) = self.sessions.remove(&key) else { return };
        self.share_room();
        self.counters.late_outcomes += session.kept().count() as u64;
        session.add_to(&mut self.counters);
        self.program_source_lost(key, actions);
        self.end_workers_of(key, actions);
        self.forget_unused_programs();
    }

    fn share_room(&mut self) {
        let sessions = self.sessions.len();
        self.sessions.values_mut().for_each(|session| session.is_one_of(sessions));
    }

    /// Size of the large arguments of all attempts.
    fn args_bytes(&self) -> u64 {
        self.sessions.values().map(Session::args_bytes).sum()
    }

    /// Whether there are so many large arguments that no more are asked for.
    pub(super) fn has_enough_args(&self) -> bool {
        self.args_bytes() > ARGS_ASKED_FOR * self.args_limit
    }

    /// What dispatchers are told of the memory limits what they send: the most that any of them can have been told.
    pub(super) fn loaded(&mut self, system: SystemLoad) {
        self.system = system;
        self.args_limit = self.args_limit.max(args_bytes_at_node(system.memory_total));
    }

    pub(super) fn forget_silent_sessions(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let over = |session: &Session| session.forget_at().is_some_and(|at| at <= now);
        let forgotten: Vec<_> =
            self.sessions.iter().filter(|(_, session)| over(session)).map(|(key, _)| *key).collect();
        self.counters.sessions_lost += forgotten.len() as u64;
        for key in forgotten {
            self.end_session(key, actions);
        }
    }

    /// Says that the node lives, and closes connections that have been silent for too long.
    pub(super) fn beat(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(due) = self.heartbeat.filter(|due| *due <= now) else { return };
        // If this process was suspended or starved, the silence was its own: peers get that time back.
        let own_lateness = now.since(due);
        for connection in self.connections.values_mut().filter(|_| own_lateness > HEARTBEAT) {
            connection.heard = (connection.heard + own_lateness).min(now);
        }
        let silence = self.config.silence;
        let silent = |connection: &Connection| now.since(connection.heard) > silence;
        let silent: Vec<_> =
            self.connections.iter().filter(|(_, c)| silent(c)).map(|(key, _)| *key).collect();
        for key in silent {
            actions.push(Action::Close(key));
            self.disconnected(now, key, actions);
        }
        self.announce_status(actions);
        self.watch_quiet_workers(actions);
        self.pings += 1;
        for (key, connection) in &mut self.connections {
            if connection.asked.is_none() && matches!(connection.peer, Peer::Session(_)) {
                connection.asked = Some((self.pings, now));
                actions.push(Action::Send(*key, FromNode::Ping(self.pings)));
            }
        }
        self.heartbeat = (!self.connections.is_empty()).then_some(now + HEARTBEAT);
    }

    /// Tells every peer the node's state.
    pub(super) fn announce_status(&self, actions: &mut Vec<Action>) {
        let status = self.status();
        let greeted = self.connections.iter().filter(|(_, connection)| connection.peer != Peer::Unknown);
        actions.extend(greeted.map(|(key, _)| Action::Send(*key, FromNode::Status(status))));
    }

    /// Says goodbye to every peer.
    pub(super) fn farewell(&mut self, now: Moment, reason: Farewell, actions: &mut Vec<Action>) {
        self.watchers.forget_all();
        for key in std::mem::take(&mut self.connections).into_keys() {
            actions.push(Action::Send(key, FromNode::Goodbye(reason)));
            actions.push(Action::Close(key));
        }
        for session in self.sessions.values_mut().filter(|session| session.connection().is_some()) {
            session.link = Link::Silent { until: now + self.config.grace };
        }
    }
}

/// What the shell asks, to have each session's payloads kept apart.
#[cfg(feature = "shell")]
impl Core {
    /// Session of the dispatcher on a connection, once it has greeted.
    pub(crate) fn session_on(&self, connection: ConnectionKey) -> Option<SessionKey> {
        match self.connections.get(&connection)?.peer {
            Peer::Session(session) => Some(session),
            Peer::Unknown | Peer::Operator => None,
        }
    }

    /// Session whose attempts a worker runs.
    pub(crate) fn session_of(&self, worker: super::WorkerKey) -> Option<SessionKey> {
        self.workers.get(&worker).map(|worker| worker.lane.session)
    }

    /// Whether the session is kept.
    pub(crate) fn has_session(&self, session: SessionKey) -> bool {
        self.sessions.contains_key(&session)
    }
}
