//! Growing, shrinking, draining, ending.

use std::time::Duration;

use pp_protocol::limits::SLOTS;
use pp_protocol::{Farewell, Moment};

use super::session::Session;
use super::work::{Worker, WorkerState};
use super::{Action, Core, Draining, WorkerKey};

/// Time that dispatchers have to acknowledge the last outcomes of a node that leaves.
const FAREWELL: Duration = Duration::from_secs(2);

impl Core {
    /// Changes the number of slots. Idle workers beyond it leave now, busy ones when their attempt ends.
    pub(super) fn resize(&mut self, slots: u32, actions: &mut Vec<Action>) {
        let slots = slots.min(SLOTS);
        if self.draining.is_some() {
            return self.announce_status(actions);
        }
        self.slots = slots;
        self.end_shortage_beyond_slots();
        let alive = self.workers.values().filter(|worker| !worker.is_ending()).count();
        let mut surplus = alive.saturating_sub(slots as usize);
        // Growing may come before a shrink has taken effect: nobody has to leave who has not left.
        for worker in self.workers.values_mut() {
            worker.leaving = false;
        }
        for idle_first in [true, false] {
            let candidates: Vec<WorkerKey> = self
                .workers
                .iter()
                .filter(|(_, worker)| !worker.is_ending() && worker.is_busy() != idle_first)
                .map(|(key, _)| *key)
                .collect();
            for key in candidates.into_iter().take(surplus) {
                surplus -= 1;
                self.let_go(key, actions);
            }
        }
        if slots == 0 {
            self.return_everything(actions);
        }
        self.announce_status(actions);
    }

    fn let_go(&mut self, key: WorkerKey, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        match worker.state {
            WorkerState::Starting => self.kill_worker(key, actions),
            WorkerState::Ready if !worker.is_busy() => self.retire(key, actions),
            WorkerState::Ending => {}
            _ => {
                worker.leaving = true;
                worker.revoke(key, actions);
            }
        }
    }

    /// Takes no more, gives back what has not started, and ends when what runs has ended.
    pub(super) fn drain(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.draining.is_some() {
            return;
        }
        let until = now + self.config.drain_time;
        self.draining = Some(Draining { until, farewell: false, ended: false });
        self.return_everything(actions);
        self.announce_status(actions);
    }

    /// Ends at once.
    pub(super) fn kill(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.drain(now, actions);
        self.kill_what_runs(actions);
        if let Some(draining) = &mut self.draining {
            draining.until = now;
        }
    }

    /// Attempts that still run when the time to drain is over are killed; then outcomes get a moment to arrive.
    pub(super) fn end_drain_time(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let busy = self.workers.values().any(Worker::is_busy);
        let Some(draining) = self.draining.as_mut().filter(|draining| draining.until <= now) else { return };
        draining.farewell |= !busy;
        draining.until = now + FAREWELL;
        self.kill_what_runs(actions);
    }

    /// Kills every worker. What they were running goes back to the dispatchers: it is not to blame.
    fn kill_what_runs(&mut self, actions: &mut Vec<Action>) {
        for key in self.workers.keys().copied().collect::<Vec<_>>() {
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.recall_all();
            }
            self.kill_worker(key, actions);
        }
    }

    /// Once nothing runs and every outcome has arrived: goodbye.
    pub(super) fn end_if_drained(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(draining) = &mut self.draining else { return };
        if self.workers.values().any(Worker::is_busy) {
            return;
        }
        draining.until = draining.until.min(now + FAREWELL);
        let delivered = self.sessions.values().all(Session::all_acknowledged);
        if !(delivered || draining.farewell) {
            return;
        }
        draining.farewell = true;
        if draining.ended {
            return;
        }
        let idle: Vec<_> = self.idle.iter().map(|(_, key)| *key).collect();
        for key in idle {
            self.retire(key, actions);
        }
        self.farewell(now, Farewell::Stopped, actions);
        let starting: Vec<_> = self.workers.keys().copied().collect();
        for key in starting {
            self.kill_worker(key, actions);
        }
        if self.workers.is_empty()
            && let Some(draining) = &mut self.draining
        {
            draining.ended = true;
            actions.push(Action::End);
        }
    }
}
