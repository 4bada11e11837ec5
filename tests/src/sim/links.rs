//! A dispatcher's connections: dialled, greeted, kept apart from older ones, as its shell does.

use std::time::Duration;

use pp_dispatcher::core::{DialFailure, Event, NodeKey, NodeRefusal, Unreachable};
use pp_node::core::Program;
use pp_protocol::limits::HANDSHAKE_TIME;
use pp_protocol::{
    Digest, FromNode, Hello, Payload, ProgramBuild, ProgramId, ProgramOffer, Resume, ToNode, VersionRange,
};

use super::World;
use super::agenda::What;
use super::ledger::JobName;
use super::network::{Connection, ConnectionId, Message, Packet, Stage, Toward, from_node};
use super::site::{node_of, target};

/// Time that a TCP connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// The programs of every dispatcher, and what each consists of.
pub(super) const FIRST: ProgramId = ProgramId::FIRST;
pub(super) const SECOND: ProgramId = ProgramId(2);
pub(super) const PROGRAM: &[u8] = b"program";

impl World {
    /// The connection to the node, if it stands.
    pub(super) fn established(&self, site: usize, key: NodeKey) -> Option<ConnectionId> {
        let id = *self.sites[site].links.get(&key)?;
        (self.connections[id.0].stage == Stage::Up).then_some(id)
    }

    pub(super) fn site_sends(&mut self, site: usize, key: NodeKey, message: ToNode) {
        let Some(id) = self.established(site, key) else { return };
        if let ToNode::Run(attempts) = &message {
            for attempt in attempts {
                let job = JobName::of(&attempt.args);
                self.ledger.sent(job, attempt.id, self.now);
                self.story.record(self.now, Some(job), || {
                    format!("dispatcher {site}: {job} attempt {} to node {}", attempt.id.number, key.0)
                });
            }
        }
        let message = self.spoil_to_node(message);
        self.check_message(site, key, &message);
        for _ in 0..self.times_to_send(&message) {
            self.send(id, Message::ToNode(message.clone()));
        }
    }

    pub(super) fn dial(&mut self, site: usize, key: NodeKey, resume: Option<Resume>) {
        self.reset(site, key);
        resume.iter().for_each(|resume| self.check_resume(site, key, resume));
        let id = ConnectionId(self.connections.len());
        self.connections.push(Connection::new(site, node_of(key), key, resume));
        self.sites[site].links.insert(key, id);
        self.launch(id, Toward::Node, Packet::Syn);
        self.agenda.add(self.now + CONNECT_TIME, What::DialTimeout(id, Stage::Connecting));
    }

    /// Drops the connection and whatever is under way; events of it are out of date from now on.
    pub(super) fn reset(&mut self, site: usize, key: NodeKey) {
        if let Some(id) = self.sites[site].links.remove(&key) {
            let connection = &mut self.connections[id.0];
            connection.reading[Toward::Dispatcher as usize] = false;
            self.stop_sending(id, Toward::Node);
        }
    }

    pub(super) fn dial_failed(&mut self, site: usize, id: ConnectionId, failure: DialFailure) {
        let key = self.connections[id.0].link;
        self.story.record_of_site(self.now, site, || {
            format!("dispatcher {site}: dial of node {}: {failure:?}", key.0)
        });
        self.reset(site, key);
        self.site_event(site, Event::DialFailed(key, Box::new(failure)));
    }

    pub(super) fn site_packet(&mut self, site: usize, id: ConnectionId, packet: Packet) {
        let key = self.connections[id.0].link;
        if !self.sites[site].is_current(key, id) {
            return;
        }
        let stage = self.connections[id.0].stage;
        match (stage, packet) {
            (Stage::Connecting, Packet::SynAck) => {
                self.reach(id, Stage::Shaking);
                self.launch(id, Toward::Node, Packet::Handshake);
            }
            (Stage::Shaking, Packet::HandshakeDone) => {
                self.reach(id, Stage::Greeting);
                let hello = self.hello(site, id);
                self.send(id, Message::ToNode(ToNode::Hello(Box::new(hello))));
                for offer in self.offers(site, id) {
                    self.send(id, Message::ToNode(offer));
                }
            }
            (Stage::Greeting, Packet::Batch(batch)) => self.greeted(site, id, batch),
            (Stage::Up, Packet::Batch(batch)) => {
                self.site_receives(site, key, batch.into_iter().filter_map(from_node).collect());
            }
            (Stage::Connecting, Packet::Rst) => {
                self.dial_failed(
                    site,
                    id,
                    DialFailure::Unreachable(Unreachable::NotListening { at: "there".into() }),
                );
            }
            (Stage::Shaking | Stage::Greeting, Packet::Fin | Packet::Rst) => {
                self.dial_failed(
                    site,
                    id,
                    DialFailure::Unreachable(Unreachable::Broken("it was closed".into())),
                );
            }
            (Stage::Up, Packet::Fin | Packet::Rst) => {
                let line = || format!("dispatcher {site}: link to node {} is down", key.0);
                self.story.record_of_site(self.now, site, line);
                self.reset(site, key);
                self.site_event(site, Event::LinkDown(key));
            }
            _ => {}
        }
    }

    fn site_receives(&mut self, site: usize, key: NodeKey, messages: Vec<FromNode>) {
        self.arrivals.note(site, key, &messages);
        self.site_event(site, Event::Received(key, messages));
    }

    pub(super) fn reach(&mut self, id: ConnectionId, stage: Stage) {
        self.connections[id.0].stage = stage;
        self.agenda.add(self.now + HANDSHAKE_TIME, What::DialTimeout(id, stage));
    }

    pub(super) fn hello(&self, site: usize, id: ConnectionId) -> Hello {
        Hello {
            session: self.sites[site].session,
            name: format!("dispatcher {site}"),
            resume: self.connections[id.0].resume.clone(),
            fresh_workers: false,
        }
    }

    /// The first program is built for both kinds of machine, the second one for one of them.
    fn offers(&self, site: usize, id: ConnectionId) -> Vec<ToNode> {
        let build = |program, kind: usize| ProgramBuild {
            digest: self.digest(site, program, kind),
            target: target(kind),
            bytes: 1000,
            name: "program".into(),
        };
        let is_local = self.nodes[self.connections[id.0].node].local_to.is_some();
        let first = if is_local { Vec::new() } else { [0, 1].map(|kind| build(FIRST, kind)).to_vec() };
        let builds = |program| if program == FIRST { first.clone() } else { vec![build(program, 0)] };
        let programs = self.options.programs().into_iter();
        programs.map(|program| ToNode::Offer(ProgramOffer { program, builds: builds(program) })).collect()
    }

    fn digest(&self, site: usize, program: ProgramId, kind: usize) -> Digest {
        Digest([self.sites[site].program + 4 * (program.0 as u8) + 2 * kind as u8; 32])
    }

    /// Program that a node has to start as a worker for a job.
    pub(super) fn program_of(&self, node: usize, job: JobName) -> Program {
        let site = job.site as usize;
        match self.ledger.job(job).spec.program {
            ProgramId::BUILT_IN => Program::Own,
            FIRST if self.nodes[node].local_to.is_some() => Program::Own,
            program => Program::Sent(self.digest(site, program, node % 2)),
        }
    }

    /// Whether a node runs every program.
    pub(super) fn runs_everything(&self, node: usize) -> bool {
        !self.options.several_programs || node.is_multiple_of(2) && self.nodes[node].local_to.is_none()
    }

    pub(super) fn greeted(&mut self, site: usize, id: ConnectionId, batch: Vec<Message>) {
        let key = self.connections[id.0].link;
        let mut messages = batch.into_iter().filter_map(from_node);
        match messages.next() {
            Some(FromNode::Welcome(welcome)) => {
                self.connections[id.0].stage = Stage::Up;
                self.story.record_of_site(self.now, site, || {
                    let Welcomed { node, resumed, held } = (&*welcome).into();
                    format!(
                        "dispatcher {site}: welcomed by node {} ({node}), resumed {resumed}, held {held}",
                        key.0
                    )
                });
                if !welcome.resumed {
                    self.arrivals.begin(site, key);
                }
                self.site_event(site, Event::LinkUp(key, welcome, VersionRange::SPOKEN.newest));
                let rest: Vec<_> = messages.collect();
                if !rest.is_empty() && self.sites[site].is_current(key, id) {
                    self.site_receives(site, key, rest);
                }
            }
            Some(FromNode::Refused(refusal)) => {
                self.dial_failed(site, id, DialFailure::Refused(NodeRefusal::Session(refusal)));
            }
            _ => self.dial_failed(site, id, DialFailure::Refused(NodeRefusal::NoWelcome)),
        }
    }

    pub(super) fn send_program(&mut self, id: ConnectionId, digest: Digest) {
        // The last piece may be small, and even empty.
        let pieces = [(&PROGRAM[..4], false), (&PROGRAM[4..], false), (&[], true)];
        for (number, (bytes, last)) in (0..).zip(pieces) {
            let bytes = Payload::from(bytes.to_vec());
            self.send(id, Message::ToNode(ToNode::ProgramChunk { digest, number, bytes, last }));
        }
    }
}

/// Line of the story about a welcome.
struct Welcomed {
    node: pp_protocol::NodeId,
    resumed: bool,
    held: usize,
}

impl From<&pp_protocol::Welcome> for Welcomed {
    fn from(welcome: &pp_protocol::Welcome) -> Self {
        Self { node: welcome.node, resumed: welcome.resumed, held: welcome.held.len() }
    }
}
