//! Events to come, in the order of time; what happens at the same time, in the order it was put down.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use pp_node::core::WorkerKey;
use pp_protocol::{Digest, Moment};

use super::faults::Fault;
use super::network::{ConnectionId, Stage, Toward};
use super::node::NodeInput;
use super::site::SiteInput;
use super::worker::Step;

/// Something that is to happen. Nodes and dispatchers are named by their place in the world's lists.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Messages sent over a connection in this direction become packets.
    Flush(ConnectionId, Toward),
    /// The foremost packet in this direction arrives.
    Arrive(ConnectionId, Toward),
    /// A dial has been at this stage for as long as it may.
    DialTimeout(ConnectionId, Stage),
    /// The dispatcher has compressed its program and sends it.
    SendProgram(ConnectionId, Digest),
    /// The deadline of a node's core has come, if the count of its changes is still this.
    NodeWakes(usize, u64),
    /// The deadline of a dispatcher's core has come, if the count of its changes is still this.
    SiteWakes(usize, u64),
    /// Something reaches the task of a node in this life of it.
    NodeInput(usize, u32, NodeInput),
    /// Something reaches the thread of a dispatcher.
    SiteInput(usize, SiteInput),
    /// A worker process does its next step.
    Worker(usize, u32, WorkerKey, Step),
    /// A fault strikes.
    Strike,
    /// A fault is over.
    Mend(Fault),
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    number: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap yields its greatest first, which is to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Everything that is to happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Entry>,
    next: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Moment, what: What) {
        self.entries.push(Entry { at, number: self.next, what });
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Moment, What)> {
        self.entries.pop().map(|entry| (entry.at, entry.what))
    }

    /// Number of events that were ever put down.
    pub(super) fn count(&self) -> u64 {
        self.next
    }
}
