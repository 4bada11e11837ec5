//! Connections: packets in order and with delay, until they are cut, stall or are closed.
//!
//! A connection has two lanes. What is sent into one waits in its outbox, becomes packets with whatever else was sent
//! meanwhile, and arrives in order. A path that is blocked holds packets back, as TCP does, until it is open again or
//! somebody gives up; a connection that is cut loses what is under way. Large messages are passed by small ones, under
//! the rules of `pp_protocol::connection`.

use std::collections::VecDeque;
use std::time::Duration;

use pp_dispatcher::core::NodeKey;
use pp_node::core::ConnectionKey;
use pp_protocol::{FromNode, Moment, Resume, ToNode};

use super::World;
use super::agenda::What;
use super::node::NodeInput;
use super::site::SiteInput;

/// A connection by its place in the world's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Toward {
    Node,
    Dispatcher,
}

impl Toward {
    pub(super) fn back(self) -> Self {
        match self {
            Self::Node => Self::Dispatcher,
            Self::Dispatcher => Self::Node,
        }
    }
}

/// Stage of a connection, as the dispatcher has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Shaking,
    Greeting,
    Up,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    ToNode(ToNode),
    FromNode(FromNode),
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// "Let us connect", answered by the machine, not by the node.
    Syn,
    SynAck,
    /// "I know the secret", answered by the node.
    Handshake,
    HandshakeDone,
    Batch(Vec<Message>),
    /// Nothing more will come.
    Fin,
    /// There is no such connection.
    Rst,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    outbox: Vec<Message>,
    /// Large messages, and what must not overtake them.
    bulk: VecDeque<Message>,
    flushing: bool,
    /// Nothing more is taken; what was taken is still sent, and then `Fin`.
    closed: bool,
    flight: VecDeque<Packet>,
    last_arrival: Moment,
    /// Number of faults that stall this lane, and no other.
    stalls: u32,
    /// Arrivals that fell due while the lane stalled or the path was blocked.
    held: u32,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) site: usize,
    pub(super) node: usize,
    /// Key of the node at the dispatcher.
    pub(super) link: NodeKey,
    /// The node's life it leads to.
    pub(super) life: u32,
    pub(super) stage: Stage,
    pub(super) resume: Option<Resume>,
    /// Key of the connection at the node.
    pub(super) key: Option<ConnectionKey>,
    /// Whether the node's socket, and the dispatcher's, still takes in packets.
    pub(super) reading: [bool; 2],
    /// The network has forgotten it: nothing arrives any more, and nobody is told.
    vanished: bool,
    lanes: [Lane; 2],
}

impl Connection {
    pub(super) fn new(site: usize, node: usize, link: NodeKey, resume: Option<Resume>) -> Self {
        Self {
            site,
            node,
            link,
            life: 0,
            stage: Stage::Connecting,
            resume,
            key: None,
            reading: [false, true],
            vanished: false,
            lanes: <[Lane; 2]>::default(),
        }
    }

    fn lane(&mut self, toward: Toward) -> &mut Lane {
        &mut self.lanes[toward as usize]
    }

    /// Whether nothing is on its way in that direction.
    pub(super) fn is_quiet(&self, toward: Toward) -> bool {
        let lane = &self.lanes[toward as usize];
        lane.outbox.is_empty() && lane.bulk.is_empty() && lane.flight.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        !self.reading[0] && !self.reading[1]
    }
}

impl World {
    /// Sends a message, unless this end has closed the connection.
    pub(super) fn send(&mut self, id: ConnectionId, message: Message) {
        let toward = match message {
            Message::ToNode(_) => Toward::Node,
            Message::FromNode(_) => Toward::Dispatcher,
        };
        let lane = self.connections[id.0].lane(toward);
        if !lane.closed {
            lane.outbox.push(message);
            self.flush_soon(id, toward);
        }
    }

    fn flush_soon(&mut self, id: ConnectionId, toward: Toward) {
        let lane = self.connections[id.0].lane(toward);
        if !lane.flushing {
            lane.flushing = true;
            let after = self.random.time(Duration::ZERO, Duration::from_micros(20));
            self.agenda.add(self.now + after, What::Flush(id, toward));
        }
    }

    pub(super) fn flush(&mut self, id: ConnectionId, toward: Toward) {
        let bulk_from = self.options.bulk_from;
        let lane = self.connections[id.0].lane(toward);
        lane.flushing = false;
        let mut batch = Vec::new();
        for message in
            std::mem::take(&mut lane.outbox).into_iter().flat_map(|message| message.divide(bulk_from))
        {
            let follows = message.follows_bulk() && !lane.bulk.is_empty();
            if follows || message.weight() >= bulk_from {
                lane.bulk.push_back(message);
            } else {
                batch.push(message);
            }
        }
        let large = lane.bulk.pop_front();
        let (closed, more) = (lane.closed, !lane.bulk.is_empty());
        // What was written together may still arrive in parts.
        let parts = if batch.len() > 1 && self.random.percent(20) { 2 } else { 1 };
        let second = batch.split_off(batch.len() / parts);
        for batch in [batch, second, large.into_iter().collect()] {
            if !batch.is_empty() {
                self.launch(id, toward, Packet::Batch(batch));
            }
        }
        if more {
            self.flush_soon(id, toward);
        } else if closed {
            self.launch(id, toward, Packet::Fin);
        }
    }

    pub(super) fn launch(&mut self, id: ConnectionId, toward: Toward, packet: Packet) {
        let delay = self.delay(id);
        let lane = self.connections[id.0].lane(toward);
        let at = lane.last_arrival.max(self.now + delay);
        lane.last_arrival = at;
        lane.flight.push_back(packet);
        self.agenda.add(at, What::Arrive(id, toward));
    }

    fn delay(&mut self, id: ConnectionId) -> Duration {
        let Connection { site, node, .. } = self.connections[id.0];
        if self.nodes[node].local_to.is_some() {
            return self.random.time(Duration::ZERO, Duration::from_micros(5));
        }
        let usual = self.options.latency;
        let late = self.late.get(&(site, node)).copied().unwrap_or_default();
        self.random.time(usual / 2, usual * 2) + self.random.time(Duration::ZERO, late)
    }

    pub(super) fn arrive(&mut self, id: ConnectionId, toward: Toward) {
        let Connection { site, node, .. } = self.connections[id.0];
        let blocked = self.blocked.contains_key(&(site, node, toward));
        let connection = &mut self.connections[id.0];
        let vanished = connection.vanished;
        let lane = connection.lane(toward);
        if blocked || lane.stalls > 0 {
            lane.held += 1;
            return;
        }
        match lane.flight.pop_front() {
            Some(packet) if !vanished => match toward {
                Toward::Node => self.arrive_at_node(id, packet),
                Toward::Dispatcher => self.arrive_at_site(id, packet),
            },
            _ => {}
        }
    }

    fn arrive_at_node(&mut self, id: ConnectionId, packet: Packet) {
        let Connection { node, life, reading, .. } = self.connections[id.0];
        let machine = &self.nodes[node];
        if machine.is_off {
            return;
        }
        if matches!(packet, Packet::Syn) {
            if !machine.is_up() {
                return self.launch(id, Toward::Dispatcher, Packet::Rst);
            }
            let life = machine.life;
            let connection = &mut self.connections[id.0];
            connection.life = life;
            connection.reading[Toward::Node as usize] = true;
            return self.launch(id, Toward::Dispatcher, Packet::SynAck);
        }
        if !machine.is_up() || machine.life != life || !reading[Toward::Node as usize] {
            return self.answer_stray(id, Toward::Dispatcher, &packet);
        }
        let input = match packet {
            Packet::Handshake => NodeInput::Serve(id),
            Packet::Batch(batch) => NodeInput::Batch(id, batch.into_iter().filter_map(to_node).collect()),
            Packet::Fin | Packet::Rst => NodeInput::Closed(id),
            Packet::Syn | Packet::SynAck | Packet::HandshakeDone => return,
        };
        self.node_input(node, input);
    }

    fn arrive_at_site(&mut self, id: ConnectionId, packet: Packet) {
        let Connection { site, reading, .. } = self.connections[id.0];
        if self.sites[site].is_off {
            return;
        }
        if !self.sites[site].is_alive || !reading[Toward::Dispatcher as usize] {
            return self.answer_stray(id, Toward::Node, &packet);
        }
        self.site_input(site, SiteInput::Packet(id, packet));
    }

    /// Answers a packet that arrives where nobody reads by a reset.
    fn answer_stray(&mut self, id: ConnectionId, toward: Toward, packet: &Packet) {
        if !matches!(packet, Packet::Fin | Packet::Rst) {
            self.launch(id, toward, Packet::Rst);
        }
    }

    /// One end sends no more: what it has queued is still sent, then the other end is told.
    pub(super) fn stop_sending(&mut self, id: ConnectionId, toward: Toward) {
        let lane = self.connections[id.0].lane(toward);
        if !lane.closed {
            lane.closed = true;
            self.flush_soon(id, toward);
        }
    }

    /// The process at one end is gone: what it had queued is lost, and the other end is told by its machine.
    pub(super) fn break_off(&mut self, id: ConnectionId, end: Toward) {
        let connection = &mut self.connections[id.0];
        if !std::mem::take(&mut connection.reading[end as usize]) {
            return;
        }
        let lane = connection.lane(end.back());
        let was_closed = std::mem::replace(&mut lane.closed, true);
        lane.outbox.clear();
        lane.bulk.clear();
        if !was_closed {
            let packet = if self.random.percent(50) { Packet::Fin } else { Packet::Rst };
            self.launch(id, end.back(), packet);
        }
    }

    /// The connection is cut: whatever is under way is lost, both ends find out.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        for toward in [Toward::Node, Toward::Dispatcher] {
            self.connections[id.0].lane(toward).flight.clear();
            self.launch(id, toward, Packet::Rst);
        }
    }

    /// The network forgets the connection. One end finds out, or none; the other has to notice the silence.
    pub(super) fn vanish(&mut self, id: ConnectionId) {
        self.connections[id.0].vanished = true;
        let Connection { site, node, life, .. } = self.connections[id.0];
        match self.random.within(0..=2) {
            0 => self.site_input(site, SiteInput::Packet(id, Packet::Rst)),
            1 if self.nodes[node].is_up() && self.nodes[node].life == life => {
                self.node_input(node, NodeInput::Closed(id));
            }
            _ => {}
        }
    }

    /// A connection makes no progress in one direction, while others between the same two do.
    pub(super) fn stall(&mut self, id: ConnectionId, toward: Toward) {
        self.connections[id.0].lane(toward).stalls += 1;
    }

    pub(super) fn unstall(&mut self, id: ConnectionId, toward: Toward) {
        self.connections[id.0].lane(toward).stalls -= 1;
        self.release(id, toward, Duration::ZERO);
    }

    /// Sends packets that were held back on their way again.
    fn release(&mut self, id: ConnectionId, toward: Toward, after: Duration) {
        let held = std::mem::take(&mut self.connections[id.0].lane(toward).held);
        for _ in 0..held {
            self.agenda.add(self.now + after, What::Arrive(id, toward));
        }
    }

    /// A path is open again. Each connection takes its own time to find out, as retransmission does.
    pub(super) fn unblock(&mut self, site: usize, node: usize, toward: Toward) {
        if let Some(times) = self.blocked.get_mut(&(site, node, toward)) {
            *times -= 1;
            if *times > 0 {
                return;
            }
            self.blocked.remove(&(site, node, toward));
        }
        for index in 0..self.connections.len() {
            if self.connections[index].site != site || self.connections[index].node != node {
                continue;
            }
            let after = self.random.magnitude(Duration::from_millis(1), Duration::from_secs(2));
            self.release(ConnectionId(index), toward, after);
        }
    }
}

fn to_node(message: Message) -> Option<ToNode> {
    match message {
        Message::ToNode(message) => Some(message),
        Message::FromNode(_) => None,
    }
}

pub(super) fn from_node(message: Message) -> Option<FromNode> {
    match message {
        Message::FromNode(message) => Some(message),
        Message::ToNode(_) => None,
    }
}

impl Message {
    /// As `pp_protocol::connection::Message::divide`: what can travel apart from the rest does.
    fn divide(self, bulk_from: usize) -> Vec<Self> {
        match self {
            small if small.weight() < bulk_from => vec![small],
            Self::ToNode(ToNode::Run(attempts)) if attempts.len() > 1 => {
                attempts.into_iter().map(|attempt| Self::ToNode(ToNode::Run(vec![attempt]))).collect()
            }
            Self::FromNode(FromNode::Outcomes(first, outcomes)) if outcomes.len() > 1 => (first..)
                .zip(outcomes)
                .map(|(number, outcome)| Self::FromNode(FromNode::Outcomes(number, vec![outcome])))
                .collect(),
            other => vec![other],
        }
    }

    fn follows_bulk(&self) -> bool {
        match self {
            Self::ToNode(message) => matches!(
                message,
                ToNode::Cancel(_)
                    | ToNode::Recall(_)
                    | ToNode::ProgramChunk { .. }
                    | ToNode::ProgramUnavailable(..)
                    | ToNode::Goodbye
            ),
            Self::FromNode(message) => matches!(message, FromNode::Goodbye(_)),
        }
    }

    /// About how large it is.
    fn weight(&self) -> usize {
        match self {
            Self::ToNode(ToNode::Run(attempts)) => attempts.iter().map(|attempt| attempt.args.len()).sum(),
            Self::FromNode(FromNode::Outcomes(_, outcomes)) => {
                outcomes.iter().map(|outcome| outcome.weight() - 32).sum()
            }
            Self::ToNode(ToNode::ProgramChunk { bytes, .. }) => bytes.len(),
            _ => 0,
        }
    }
}
