//! Parts: bytes that running jobs send ahead of their results, on their way to their dispatcher.
//!
//! They are numbered as they are sent, and kept until they are taken; on a new connection those that were not are sent again:
//! none is lost, and none counts twice. While as many are under way as may be, further ones wait here, one of each worker at
//! most, since a worker is read from again once its part is on its way. So its writes block, and the pipes of what it runs
//! fill. Outcomes are not held up by that, but for the one behind a part that waits: it has not been read.

use std::collections::VecDeque;

use pp_protocol::limits::{PART_BYTES_AT_NODE, PART_BYTES_SENT};
use pp_protocol::{FromNode, Part, Payload, Stream};

use super::{Action, ConnectionKey, Core, SessionKey, WorkerKey};

#[derive(Debug)]
pub(super) struct Parts {
    /// Bytes that may be under way, by the weight of parts.
    room: usize,
    /// Parts that were sent and not taken, oldest first, and how much that is.
    kept: VecDeque<Part>,
    kept_bytes: usize,
    /// Number of the youngest of them that have not been sent on this connection.
    unsent: usize,
    /// Number of parts that were ever sent.
    sent: u64,
    /// Parts that wait until there is room, and their workers.
    waiting: VecDeque<(WorkerKey, Part)>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            room: PART_BYTES_SENT,
            kept: VecDeque::new(),
            kept_bytes: 0,
            unsent: 0,
            sent: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl Parts {
    /// There are so many sessions at the node.
    pub(super) fn is_one_of(&mut self, sessions: usize) {
        self.room = (PART_BYTES_AT_NODE / sessions.max(1)).min(PART_BYTES_SENT);
    }

    /// Whether the worker is not read from because its part waits.
    pub(super) fn holds(&self, worker: WorkerKey) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == worker)
    }

    /// Bytes that have been sent and were not taken, as far as is known.
    pub(super) fn under_way(&self) -> usize {
        self.kept_bytes
    }

    /// Number of those that were sent and not taken, or wait.
    pub(super) fn count(&self) -> usize {
        self.kept.len() + self.waiting.len()
    }

    /// Whether so many can have been taken.
    pub(super) fn may_have_sent(&self, parts: u64) -> bool {
        parts <= self.sent
    }

    /// The first `taken` parts have been taken.
    pub(super) fn taken(&mut self, taken: u64) {
        let first_kept = self.sent - self.kept.len() as u64;
        let sent = self.kept.len() - self.unsent;
        let done = usize::try_from(taken.saturating_sub(first_kept)).unwrap_or(usize::MAX).min(sent);
        self.kept_bytes -= self.kept.drain(..done).map(|part| part.weight()).sum::<usize>();
    }

    /// Those that were not taken are to be sent again, on a new connection.
    pub(super) fn send_all_again(&mut self) {
        self.unsent = self.kept.len();
    }

    /// Sends what can be. Asked after every event, when there is nearly always nothing.
    #[inline]
    pub(super) fn flush(&mut self, connection: ConnectionKey, actions: &mut Vec<Action>) {
        if self.unsent > 0 || !self.waiting.is_empty() {
            self.flush_some(connection, actions);
        }
    }

    fn flush_some(&mut self, connection: ConnectionKey, actions: &mut Vec<Action>) {
        let first = self.sent - self.unsent as u64;
        let again = self.kept.range(self.kept.len() - self.unsent..);
        let again = (first..).zip(again.cloned()).map(|(number, part)| FromNode::Part(number, part));
        actions.extend(again.map(|message| Action::Send(connection, message)));
        self.unsent = 0;
        while let Some((worker, part)) =
            self.waiting.pop_front_if(|(_, part)| self.kept_bytes + part.weight() <= self.room)
        {
            self.kept_bytes += part.weight();
            self.kept.push_back(part.clone());
            actions.push(Action::Send(connection, FromNode::Part(self.sent, part)));
            self.sent += 1;
            actions.push(Action::ReadOn(worker));
        }
    }
}

impl Core {
    /// A worker sent bytes ahead of the result of the piece of work of this number. It is not read from until they are on their
    /// way.
    pub(super) fn worker_part(
        &mut self,
        key: WorkerKey,
        number: u32,
        stream: Stream,
        bytes: Payload,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        // Whatever it was given before has been reported before.
        let Some(piece) = worker.work.front().filter(|piece| piece.number == number) else {
            // It sends what it was not asked for: whatever it runs, it is no worker any more.
            return self.kill_worker(key, actions);
        };
        let attempt = piece.attempt.id;
        worker.quiet_beats = 0;
        worker.sent_ahead = Some(attempt);
        if let Some(session) = self.sessions.get_mut(&worker.lane.session) {
            session.parts.waiting.push_back((key, Part { attempt, stream, bytes }));
        }
    }

    /// A worker is gone: its part that waits is of no use, since its attempt did not end well.
    pub(super) fn drop_part_of(&mut self, key: WorkerKey, session: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.parts.waiting.retain(|(waiting, _)| *waiting != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use pp_protocol::limits::PART_BYTES;
    use pp_protocol::{AttemptId, JobId};

    use super::*;

    const NEAR: ConnectionKey = ConnectionKey(1);

    fn part(bytes: usize) -> Part {
        let attempt = AttemptId { job: JobId::new(1, 0), number: 1 };
        Part { attempt, stream: Stream::Stdout, bytes: Payload::from(vec![7; bytes]) }
    }

    /// Numbers of the parts that are sent now, and the workers that are read from again.
    fn sent(parts: &mut Parts) -> (Vec<u64>, Vec<u32>) {
        let (mut actions, mut numbers, mut workers) = (Vec::new(), Vec::new(), Vec::new());
        parts.flush(NEAR, &mut actions);
        for action in actions {
            match action {
                Action::Send(NEAR, FromNode::Part(number, _)) => numbers.push(number),
                Action::ReadOn(worker) => workers.push(worker.0),
                other => panic!("{other:?}"),
            }
        }
        (numbers, workers)
    }

    #[test]
    fn no_more_is_under_way_than_may_be_and_a_worker_waits_for_its_own_part() {
        let mut parts = Parts::default();
        let fitting = PART_BYTES_SENT / part(PART_BYTES).weight();
        for worker in 0..=fitting {
            parts.waiting.push_back((WorkerKey(worker as u32), part(PART_BYTES)));
        }
        let (numbers, workers) = sent(&mut parts);
        assert_eq!((numbers.len(), workers.len()), (fitting, fitting));
        assert!(parts.holds(WorkerKey(fitting as u32)) && !parts.holds(WorkerKey(0)));
        assert!(parts.under_way() <= PART_BYTES_SENT);
        assert_eq!(sent(&mut parts), (vec![], vec![]));
        parts.taken(1);
        assert_eq!(sent(&mut parts), (vec![fitting as u64], vec![fitting as u32]));
    }

    #[test]
    fn what_was_not_taken_is_sent_again_under_its_number_and_nobody_waits_for_it() {
        let mut parts = Parts::default();
        (0..3).for_each(|_| parts.waiting.push_back((WorkerKey(0), part(10))));
        assert_eq!(sent(&mut parts), (vec![0, 1, 2], vec![0, 0, 0]));
        parts.taken(1);
        parts.send_all_again();
        parts.waiting.push_back((WorkerKey(0), part(10)));
        assert_eq!(sent(&mut parts), (vec![1, 2, 3], vec![0]));
        parts.taken(u64::MAX);
        assert_eq!((parts.count(), parts.under_way()), (0, 0));
        assert!(parts.may_have_sent(4) && !parts.may_have_sent(5));
    }

    #[test]
    fn what_has_not_been_sent_on_this_connection_cannot_have_been_taken() {
        let mut parts = Parts::default();
        parts.waiting.push_back((WorkerKey(0), part(10)));
        sent(&mut parts);
        parts.send_all_again();
        parts.taken(1);
        assert_eq!(parts.count(), 1);
    }

    #[test]
    fn where_there_are_many_sessions_each_has_its_part() {
        let mut parts = Parts::default();
        parts.is_one_of(16);
        assert_eq!(parts.room, PART_BYTES_SENT);
        parts.is_one_of(pp_protocol::limits::SESSIONS);
        assert!(parts.room >= 4 * part(PART_BYTES).weight() && parts.room < PART_BYTES_SENT);
    }
}
