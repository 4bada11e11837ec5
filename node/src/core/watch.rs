//! Operators who watch this node: how often each is told, and which of the attempts that ended it is told of.
//!
//! Nothing of this costs anything while nobody watches: an attempt that ends is noted only for somebody. What workers run now
//! is asked as a frame is due, of all of them at once ([`Action::Look`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use pp_protocol::limits::{WATCH_INTERVAL, WATCHED_ATTEMPTS, WATCHED_WORKERS, WATCHERS, cut};
use pp_protocol::{Attempt, AttemptId, Ended, FromNode, FunctionId, Moment, OutcomeKind, Refusal, shown};

use super::lanes::LaneKey;
use super::{Action, ConnectionKey, Core, Program, Progress, SessionKey, WorkerKey};

/// Longest reason of a failure that is told.
const REASON_BYTES: usize = 120;

/// Those who watch.
#[derive(Debug, Default)]
pub(super) struct Watchers(BTreeMap<ConnectionKey, Watcher>);

#[derive(Debug)]
struct Watcher {
    interval: Duration,
    /// Time of the next frame; none while workers are asked for it.
    due: Option<Moment>,
    /// Number of frames sent.
    frames: u64,
    strip: Strip,
}

/// Attempts that ended since the last frame: those that failed, then those that took longest.
#[derive(Debug, Default)]
pub(super) struct Strip {
    kept: BinaryHeap<Reverse<Noted>>,
    /// All that ended.
    ended: u64,
}

/// An attempt that ended in a worker. What is told first is greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Noted {
    is_failure: bool,
    pub(super) run_time_ns: u64,
    pub(super) at: Moment,
    pub(super) attempt: AttemptId,
    pub(super) session: SessionKey,
    pub(super) worker: WorkerKey,
    pub(super) program: Program,
    pub(super) function: FunctionId,
    pub(super) ended: OutcomeKind,
    pub(super) reason: String,
}

/// Where an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) worker: WorkerKey,
    pub(super) lane: LaneKey,
    pub(super) program: Program,
}

impl Strip {
    fn wants(&self, rank: (bool, u64)) -> bool {
        self.kept.len() < WATCHED_ATTEMPTS
            || self.kept.peek().is_some_and(|Reverse(least)| (least.is_failure, least.run_time_ns) < rank)
    }

    fn keep(&mut self, noted: Noted) {
        if self.kept.len() == WATCHED_ATTEMPTS {
            self.kept.pop();
        }
        self.kept.push(Reverse(noted));
    }

    /// What was kept, what is told first in front.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = Noted> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(noted)| noted)
    }

    /// Number of all attempts that ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }
}

impl Watchers {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Time of the next frame for anybody.
    #[inline]
    pub(super) fn due(&self) -> Option<Moment> {
        self.0.values().filter_map(|watcher| watcher.due).min()
    }

    pub(super) fn forget(&mut self, key: ConnectionKey) {
        self.0.remove(&key);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Notes an attempt that ended, for everybody who wants to be told of it.
    pub(super) fn note(
        &mut self,
        now: Moment,
        place: Place,
        attempt: &Attempt,
        run_time_ns: u64,
        ended: &Ended,
    ) {
        let (how, mut reason) = (OutcomeKind::from(ended), None);
        for watcher in self.0.values_mut() {
            let strip = &mut watcher.strip;
            strip.ended += 1;
            if !strip.wants((how.is_failure(), run_time_ns)) {
                continue;
            }
            strip.keep(Noted {
                is_failure: how.is_failure(),
                run_time_ns,
                at: now,
                attempt: attempt.id,
                session: place.lane.session,
                worker: place.worker,
                program: place.program,
                function: attempt.function,
                ended: how,
                reason: reason.get_or_insert_with(|| reason_of(ended, attempt)).clone(),
            });
        }
    }
}

/// Reason of a failure in one short line; empty where it did not fail, or the word for it says all.
fn reason_of(ended: &Ended, attempt: &Attempt) -> String {
    let text = match ended {
        Ended::Succeeded(_) | Ended::Cancelled | Ended::Returned | Ended::UnknownFunction => {
            return String::new();
        }
        Ended::Panicked(panic) => panic.message.lines().next().unwrap_or_default().to_owned(),
        Ended::TimedOut => match attempt.time_limit() {
            Some(limit) => format!("its time limit is {limit:?}"),
            None => return String::new(),
        },
        Ended::WorkerDied(death) => format!("it {}", death.death),
        Ended::TooLarge(size, limit) => format!("{size} bytes, and {limit} is the limit"),
        Ended::BadArguments(reason) | Ended::BadResult(reason) => reason.clone(),
    };
    // Shown for what it is before it is cut, so that it is not longer where it arrives.
    cut(&shown(cut(&text, REASON_BYTES)), REASON_BYTES).to_owned()
}

impl Core {
    /// An operator wants to be told so often, or no more.
    pub(super) fn watch(
        &mut self,
        now: Moment,
        key: ConnectionKey,
        interval_ns: u64,
        actions: &mut Vec<Action>,
    ) {
        if interval_ns == 0 {
            return self.watchers.forget(key);
        }
        let interval = Duration::from_nanos(interval_ns).max(WATCH_INTERVAL);
        let last = self.connections.get(&key).and_then(|connection| connection.frame_at);
        // Whoever asks is told soon, and then as often as was asked for.
        let due = last.map_or(now, |last| (last + WATCH_INTERVAL).max(now));
        if let Some(known) = self.watchers.0.get_mut(&key) {
            known.interval = interval;
            known.due = known.due.map(|_| due);
            return;
        }
        if self.watchers.0.len() >= WATCHERS {
            return self.refuse(key, Refusal::TooManyWatchers(WATCHERS as u32), actions);
        }
        let watcher = Watcher { interval, due: Some(due), frames: 0, strip: Strip::default() };
        self.watchers.0.insert(key, watcher);
        self.look(now, actions);
    }

    /// Asks what workers run, if a frame is due.
    pub(super) fn look(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut is_due = false;
        for watcher in self.watchers.0.values_mut() {
            is_due |= watcher.due.take_if(|due| *due <= now).is_some();
        }
        if is_due {
            let busy = self.workers.iter().filter(|(_, worker)| worker.is_busy()).map(|(key, _)| *key);
            actions.push(Action::Look(busy.take(WATCHED_WORKERS).collect()));
        }
    }

    /// Workers have come so far: whoever waits for a frame gets one.
    pub(super) fn looked(
        &mut self,
        now: Moment,
        workers: &[(WorkerKey, Progress)],
        actions: &mut Vec<Action>,
    ) {
        let waits = |watcher: &Watcher| watcher.due.is_none();
        let waiting: Vec<_> =
            self.watchers.0.iter().filter(|(_, it)| waits(it)).map(|(key, _)| *key).collect();
        if waiting.is_empty() {
            return;
        }
        let seen = self.frame_for_all(now, workers);
        for key in waiting {
            let Some(watcher) = self.watchers.0.get_mut(&key) else { continue };
            watcher.due = Some(now + watcher.interval);
            watcher.frames += 1;
            let (number, strip) = (watcher.frames, std::mem::take(&mut watcher.strip));
            let frame = self.frame(now, number, &seen, strip);
            actions.push(Action::Send(key, FromNode::Activity(Box::new(frame))));
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.frame_at = Some(now);
            }
        }
    }
}
