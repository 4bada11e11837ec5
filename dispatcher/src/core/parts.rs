//! Parts: bytes that jobs send ahead of their results, from their arrival until they are taken.
//!
//! They arrive in order, and once more after a connection broke: those are known by their numbers. A part of a job's current
//! attempt goes to the job's taker, any other is dropped. What was taken is told to the node, which sends no more than
//! [`PART_BYTES_SENT`] beyond that: a taker that is slow holds up the jobs, and nothing piles up here.

use std::collections::VecDeque;

use pp_protocol::limits::{PART_BYTES, PART_BYTES_SENT};
use pp_protocol::{Moment, Part, ToNode, Violation};

use super::job::Job;
use super::nodes::Node;
use super::received::Received;
use super::{Action, Core, NodeKey, NodeRefusal};

/// Name of a part that was handed to its taker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartKey {
    node: NodeKey,
    /// Of the sessions with that node, the one that it came in.
    session: u32,
    number: u64,
}

/// Parts of a session.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Number of this session among those with its node.
    session: u32,
    /// Number of parts that arrived.
    arrived: u64,
    taken: Received,
    /// Number of those that the node was told to be taken.
    told: u64,
    /// Weights of those that arrived and are not taken, or are behind one that is not; and their sum.
    weights: VecDeque<usize>,
    bytes: usize,
}

impl Parts {
    /// Of the so-many-th session with a node.
    pub(super) fn of_session(session: u32) -> Self {
        Self { session, ..Self::default() }
    }

    /// Number of parts that were taken, and are not behind one that is not.
    pub(super) fn taken(&self) -> u64 {
        self.taken.without_gap()
    }

    /// A part arrived. Tells whether it is new.
    fn arrived(&mut self, number: u64, part: &Part) -> Result<bool, Violation> {
        const PART: &str = "Part";
        if number < self.arrived {
            return Ok(false);
        }
        if number > self.arrived {
            return Err(Violation::OutOfOrder(PART));
        }
        if part.bytes.len() > PART_BYTES || self.bytes + part.weight() > PART_BYTES_SENT {
            return Err(Violation::TooMuch(PART));
        }
        self.arrived += 1;
        self.weights.push_back(part.weight());
        self.bytes += part.weight();
        Ok(true)
    }

    /// The part of this number was taken.
    fn take(&mut self, number: u64) {
        let before = self.taken.without_gap();
        self.taken.note(number, 1);
        let done = (self.taken.without_gap() - before) as usize;
        self.bytes -= self.weights.drain(..done.min(self.weights.len())).sum::<usize>();
    }

    /// Number of parts taken, if the node has not been told.
    fn take_word(&mut self) -> Option<u64> {
        let taken = self.taken.without_gap();
        (std::mem::replace(&mut self.told, taken) < taken).then_some(taken)
    }
}

impl<T> Core<T> {
    /// A part arrived. The word for a node that does what none does is the error.
    pub(super) fn part(
        &mut self,
        now: Moment,
        key: NodeKey,
        number: u64,
        part: Part,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(parts) = self.nodes.get_mut(&key).and_then(Node::session_mut).map(|it| &mut it.parts) else {
            return;
        };
        match parts.arrived(number, &part) {
            Ok(false) => return,
            Ok(true) => {}
            Err(violation) => return self.left_by(now, key, NodeRefusal::Violation(violation), actions),
        }
        let is_current = |job: &&Job<T>| job.attempt == part.attempt.number && job.node() == Some(key);
        let job = self.jobs.find(part.attempt.job).filter(is_current).filter(|job| job.owner.is_submitter());
        match job.and_then(Job::taker) {
            Some(taker) => {
                let key = PartKey { node: key, session: parts.session, number };
                actions.push(Action::Part(taker.clone(), key, part));
            }
            // Nobody wants it.
            None => parts.take(number),
        }
    }

    /// Takers have taken these parts.
    pub(super) fn parts_taken(&mut self, parts: &[PartKey], actions: &mut Vec<Action<T>>) {
        for PartKey { node, session, number } in parts {
            let of_node = self.nodes.get_mut(node).and_then(Node::session_mut);
            if let Some(known) = of_node.map(|it| &mut it.parts).filter(|parts| parts.session == *session) {
                known.take(*number);
            }
        }
        let mut nodes: Vec<_> = parts.iter().map(|part| part.node).collect();
        nodes.dedup();
        nodes.into_iter().for_each(|node| self.tell_of_parts(node, actions));
    }

    /// Tells a node how many of its parts were taken, if it has not been told.
    pub(super) fn tell_of_parts(&mut self, key: NodeKey, actions: &mut Vec<Action<T>>) {
        let session = self.nodes.get_mut(&key).and_then(Node::session_mut);
        if let Some(session) = session.filter(|session| session.connection().is_some())
            && let Some(taken) = session.parts.take_word()
        {
            actions.push(Action::Send(key, ToNode::PartsTaken(taken)));
        }
    }
}

#[cfg(test)]
mod tests {
    use pp_protocol::{AttemptId, JobId, Payload, Stream};

    use super::*;

    fn part(bytes: usize) -> Part {
        let attempt = AttemptId { job: JobId::new(1, 0), number: 1 };
        Part { attempt, stream: Stream::Stdout, bytes: Payload::from(vec![7; bytes]) }
    }

    #[test]
    fn a_part_counts_once_and_in_order() {
        let mut parts = Parts::default();
        assert_eq!(parts.arrived(0, &part(1)), Ok(true));
        assert_eq!(parts.arrived(0, &part(1)), Ok(false));
        assert_eq!(parts.arrived(2, &part(1)), Err(Violation::OutOfOrder("Part")));
        assert_eq!(parts.arrived(1, &part(1)), Ok(true));
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_none_is_too_large() {
        let mut parts = Parts::default();
        assert_eq!(parts.arrived(0, &part(PART_BYTES + 1)), Err(Violation::TooMuch("Part")));
        let fitting = (PART_BYTES_SENT / part(PART_BYTES).weight()) as u64;
        for number in 0..fitting {
            assert_eq!(parts.arrived(number, &part(PART_BYTES)), Ok(true));
        }
        assert_eq!(parts.arrived(fitting, &part(PART_BYTES)), Err(Violation::TooMuch("Part")));
        parts.take(0);
        assert_eq!(parts.arrived(fitting, &part(PART_BYTES)), Ok(true));
    }

    #[test]
    fn what_is_taken_counts_once_all_before_it_is() {
        let mut parts = Parts::default();
        (0..3).for_each(|number| assert_eq!(parts.arrived(number, &part(10)), Ok(true)));
        parts.take(1);
        assert_eq!((parts.take_word(), parts.weights.len()), (None, 3));
        parts.take(0);
        assert_eq!((parts.take_word(), parts.take_word(), parts.weights.len()), (Some(2), None, 1));
        parts.take(2);
        assert_eq!((parts.taken(), parts.bytes), (3, 0));
    }
}
