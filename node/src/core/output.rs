//! Output of jobs, on its way to their dispatcher.
//!
//! It is sent as it comes, before outcomes that come later. The dispatcher says how much of it has arrived; while too much
//! has not, those workers of the session that print are not read from, so that a job that floods waits as it would for a
//! slow terminal, and nobody else does. Nothing is dropped while the dispatcher is connected and reads; what is dropped
//! otherwise is counted, and that is told in its place.

use std::collections::BTreeSet;

use pp_protocol::limits::{OUTPUT_BYTES_AT_NODE, OUTPUT_BYTES_KEPT, OUTPUT_BYTES_SENT};
use pp_protocol::{FromNode, OutputLine, Stream};

use super::{Action, Core, SessionKey, WorkerKey};
use crate::wrapping::is_before;

#[derive(Debug)]
pub(super) struct Output {
    /// Bytes that may be kept, sent or not.
    room: usize,
    /// Lines not sent, and how much that is.
    lines: Vec<OutputLine>,
    bytes: usize,
    /// Lines dropped since, and before.
    dropped: u64,
    dropped_before: u64,
    /// Bytes sent on this connection that have not arrived, as far as known.
    under_way: usize,
    /// Workers that are not read from until more has arrived.
    held: BTreeSet<WorkerKey>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            room: OUTPUT_BYTES_KEPT,
            lines: Vec::new(),
            bytes: 0,
            dropped: 0,
            dropped_before: 0,
            under_way: 0,
            held: BTreeSet::new(),
        }
    }
}

impl Output {
    /// There are so many sessions at the node.
    pub(super) fn is_one_of(&mut self, sessions: usize) {
        self.room = (OUTPUT_BYTES_AT_NODE / sessions.max(1)).min(OUTPUT_BYTES_KEPT);
    }

    /// Bytes that may be under way before workers that print have to wait.
    fn ahead(&self) -> usize {
        (self.room / 2).min(OUTPUT_BYTES_SENT)
    }

    fn add(&mut self, line: OutputLine) {
        let weight = line.weight();
        // What follows on something that was dropped comes after the word of it.
        if self.dropped > 0 || self.bytes + weight + self.under_way > self.room {
            self.dropped += 1;
        } else {
            self.bytes += weight;
            self.lines.push(line);
        }
    }

    /// Lines to be sent now, if there are any. Asked after every event, when there is nearly always nothing.
    #[inline]
    pub(super) fn take_lines(&mut self) -> Option<Vec<OutputLine>> {
        if self.lines.is_empty() && self.dropped == 0 { None } else { self.take_some_lines() }
    }

    fn take_some_lines(&mut self) -> Option<Vec<OutputLine>> {
        if self.dropped > 0 && self.under_way < self.room / 2 {
            let dropped = std::mem::take(&mut self.dropped);
            self.dropped_before += dropped;
            let text = format!("({dropped} lines of output were dropped: they could not be sent in time)");
            let line = OutputLine { attempt: None, stream: Stream::Stderr, text };
            self.bytes += line.weight();
            self.lines.push(line);
        }
        self.under_way += std::mem::take(&mut self.bytes);
        Some(std::mem::take(&mut self.lines)).filter(|lines| !lines.is_empty())
    }

    /// Lines that were ever dropped.
    pub(super) fn dropped_lines(&self) -> u64 {
        self.dropped_before + self.dropped
    }

    /// Bytes that have been sent and have not arrived, as far as is known.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether the worker is not read from because of what is under way.
    pub(super) fn holds(&self, worker: WorkerKey) -> bool {
        self.held.contains(&worker)
    }

    /// So much has arrived.
    fn arrived(&mut self, bytes: u64, actions: &mut Vec<Action>) {
        self.under_way = self.under_way.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        if self.under_way <= self.ahead() / 2 {
            self.release(actions);
        }
    }

    /// There is no connection any more: whether what was under way has arrived is not known, and nothing more will.
    pub(super) fn disconnected(&mut self, actions: &mut Vec<Action>) {
        self.under_way = 0;
        self.release(actions);
    }

    fn release(&mut self, actions: &mut Vec<Action>) {
        let held = std::mem::take(&mut self.held).into_iter();
        actions.extend(held.map(|worker| Action::HoldOutput(worker, false)));
    }
}

impl Core {
    /// Lines were printed when the worker had started so many pieces of work.
    pub(super) fn worker_output(
        &mut self,
        key: WorkerKey,
        started: u32,
        stream: Stream,
        lines: Vec<String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&key) else { return };
        // Beyond it the worker may have thrown away what was revoked.
        let begun = worker.work.partition_point(|piece| is_before(piece.number, started));
        let running = begun.checked_sub(1).map(|last| worker.work[last].attempt.id);
        let Some(attempt) = running.or(worker.last) else { return };
        let Some(session) = self.sessions.get_mut(&worker.lane.session) else { return };
        let is_connected = session.connection().is_some();
        let output = &mut session.output;
        for text in lines {
            output.add(OutputLine { attempt: Some(attempt), stream, text });
        }
        let is_much = output.bytes + output.under_way >= output.ahead();
        if is_much && is_connected && output.held.insert(key) {
            actions.push(Action::HoldOutput(key, true));
        }
    }

    /// So much of what its jobs printed has arrived at the dispatcher.
    pub(super) fn output_arrived(&mut self, key: SessionKey, bytes: u64, actions: &mut Vec<Action>) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.output.arrived(bytes, actions);
        }
    }

    /// Sends what a session has not been sent, before it is ended.
    pub(super) fn send_last_output(&mut self, key: SessionKey, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.output.disconnected(actions);
        if let Some(connection) = session.connection()
            && let Some(lines) = session.output.take_lines()
        {
            actions.push(Action::Send(connection, FromNode::Output(lines)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(weight: usize) -> OutputLine {
        let empty = OutputLine { attempt: None, stream: Stream::Stdout, text: String::new() };
        let text = "x".repeat(weight - empty.weight());
        OutputLine { text, ..empty }
    }

    fn weight(lines: &[OutputLine]) -> usize {
        lines.iter().map(OutputLine::weight).sum()
    }

    #[test]
    fn so_much_is_kept_and_what_follows_on_something_dropped_is_dropped_too() {
        let mut output = Output::default();
        output.add(line(OUTPUT_BYTES_KEPT - 1_000));
        output.add(line(1_000));
        assert_eq!((output.bytes, output.dropped), (OUTPUT_BYTES_KEPT, 0));
        let mut output = Output::default();
        output.add(line(OUTPUT_BYTES_KEPT - 1_000));
        output.add(line(1_001));
        output.add(line(100));
        assert_eq!((output.lines.len(), output.dropped), (1, 2));
    }

    #[test]
    fn where_there_are_many_sessions_each_has_its_part_and_half_of_that_is_sent_ahead() {
        let mut output = Output::default();
        output.is_one_of(16);
        assert_eq!((output.room, output.ahead()), (OUTPUT_BYTES_KEPT, OUTPUT_BYTES_SENT));
        output.is_one_of(1_024);
        assert_eq!((output.room, output.ahead()), (512 << 10, 256 << 10));
        output.add(line(output.room));
        output.add(line(100));
        assert_eq!((output.lines.len(), output.dropped), (1, 1));
    }

    #[test]
    fn word_of_what_was_dropped_is_sent_once_half_of_what_is_under_way_has_arrived() {
        let half = OUTPUT_BYTES_KEPT / 2;
        let mut output = Output { under_way: half, dropped: 3, ..Output::default() };
        assert_eq!(output.take_lines(), None);
        output.arrived(1, &mut Vec::new());
        let word = output.take_lines().expect("there is room for it");
        assert!(word[0].text.contains("3 lines"), "{word:?}");
        assert_eq!((output.under_way, output.bytes), (half - 1 + weight(&word), 0));
        assert_eq!(output.take_lines(), None);
    }

    #[test]
    fn workers_are_read_from_again_once_half_of_what_is_sent_ahead_has_arrived() {
        let worker = WorkerKey(1);
        let held = BTreeSet::from([worker]);
        let mut output = Output { under_way: OUTPUT_BYTES_SENT, held, ..Output::default() };
        let mut actions = Vec::new();
        let half = OUTPUT_BYTES_SENT as u64 / 2;
        output.arrived(half - 1, &mut actions);
        assert_eq!(actions, []);
        output.arrived(1, &mut actions);
        assert_eq!(actions, [Action::HoldOutput(worker, false)]);
    }
}
