//! Copies of stragglers: when nothing waits and slots idle, an attempt that takes long gets a second one elsewhere.
//!
//! Only jobs whose submitter said that they may run twice are copied. A copy is a job of its own whose owner is the original:
//! if it succeeds first, the original is resolved with its result and cancelled where it runs; any other outcome of it is of
//! no interest. (Zaharia et al., "Improving MapReduce Performance in Heterogeneous Environments", 2008.)

use std::collections::BTreeSet;
use std::time::Duration;

use pp_protocol::{JobId, Moment, ProgramId, ToNode};

use super::job::{Copying, Owner};
use super::{Action, Core, NodeKey};

/// Run time before which an attempt is never copied: it would hardly be worth the message.
const WORTH_COPYING: Duration = Duration::from_millis(20);
/// A node whose attempts take at most so many percent of the time gets copies even of what does not take long.
const MUCH_FASTER_PERCENT: u64 = 67;
/// Limit on the attempts that are looked at, those that are out longest first.
const LOOKED_AT: usize = 16;

impl<T> Core<T> {
    /// Gives idle slots copies of attempts that take long. To be called when nothing waits.
    pub(super) fn copy_stragglers(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        while let Some((id, idle)) = self.copyable_now(now) {
            self.copy(id, idle, actions);
        }
    }

    /// A job that is worth copying, and a node with a slot that has nothing to do.
    fn copyable_now(&mut self, now: Moment) -> Option<(JobId, NodeKey)> {
        if self.copyable.is_empty() {
            return None;
        }
        let idle: Vec<_> = self.takers.idle_of_each_class().map(|(key, runs)| (key, runs.clone())).collect();
        idle.into_iter().find_map(|(key, runs)| Some((self.straggler(now, key, &runs)?, key)))
    }

    /// The job whose attempt has been out longest, of those that a copy at `idle` may overtake.
    fn straggler(&mut self, now: Moment, idle: NodeKey, runs: &BTreeSet<ProgramId>) -> Option<JobId> {
        let mut stale = Vec::new();
        let mut found = None;
        let usual_at = |key, function| {
            let times = &self.nodes.get(&key)?.session()?.run_times;
            times.of(function).or(times.mean())
        };
        for (sent, id) in self.copyable.iter().take(LOOKED_AT) {
            let out = self.jobs.find(*id).filter(|job| job.owner.is_submitter());
            let Some((at, program, function)) =
                out.and_then(|job| Some((job.node()?, job.program(), job.function)))
            else {
                stale.push((*sent, *id));
                continue;
            };
            if !runs.contains(&program) {
                continue;
            }
            let usual = usual_at(at, function).unwrap_or(0);
            // Where jobs take much less time, a copy is likely to win however soon it is made.
            let at_idle = usual_at(idle, function);
            let is_much_faster = at_idle.is_some_and(|idle| idle < usual / 100 * MUCH_FASTER_PERCENT);
            let patience = if is_much_faster { Duration::ZERO } else { Duration::from_nanos(usual) };
            let due = *sent + patience.max(WORTH_COPYING);
            if due > now {
                self.copy_due = Some(self.copy_due.map_or(due, |known| known.min(due)));
            } else if at != idle {
                found = Some(*id);
                break;
            }
        }
        for entry in stale {
            self.copyable.remove(&entry);
        }
        found
    }

    fn copy(&mut self, id: JobId, idle: NodeKey, actions: &mut Vec<Action<T>>) {
        let Some(original) = self.jobs.find(id) else { return };
        let copy = self.jobs.insert(original.copy(id));
        if let Some(original) = self.jobs.find_mut(id) {
            let before = std::mem::replace(&mut original.rare().copying, Copying::Copied { copy });
            if let Copying::Candidate { sent } = before {
                self.copyable.remove(&(sent, id));
            }
        }
        let (Some(node), Some(job)) = (self.nodes.get_mut(&idle), self.jobs.find_mut(copy)) else { return };
        let slots = node.status.slots;
        let Some(session) = node.session_mut() else { return };
        let attempt = session.take_on(idle, slots, copy, job);
        actions.push(Action::Send(idle, ToNode::Run(vec![attempt])));
        self.update_taker(idle);
    }

    /// Nobody needs this copy any more.
    pub(super) fn give_up_copy(&mut self, copy: JobId) {
        let Some(job) = self.jobs.find_mut(copy) else { return };
        let Owner::Original(_) = std::mem::replace(&mut job.owner, Owner::Nobody) else { return };
        self.cancel_at_node(copy);
    }
}
