//! How many jobs run where (`-j`).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use pp_dispatcher::{Dispatcher, JobsPerNode, NodeInfo, NodeKind};
use pp_protocol::limits::SLOTS;
use pp_run::counts::JobCount;

/// Memory that is kept free for each local worker of as many as possible, beside what its job takes: a shell, say.
const WORKER_BYTES: u64 = 16 << 20;
/// Local workers for each core to begin with, where there are to be as many as possible.
const FIRST_PER_CORE: usize = 16;
/// Time between two looks at whether more are of use.
const GROW_EVERY: Duration = Duration::from_millis(100);

/// Jobs that run at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Here.
    pub(super) local_workers: usize,
    /// At each node, this machine included.
    pub(super) per_node: Option<JobsPerNode>,
    /// Here there are to be as many as possible, as no machine runs so many: more and more, as long as they are of use.
    pub(super) grows: bool,
}

impl Share {
    /// What `-j` says, on a machine with so many cores.
    pub(super) fn parse(text: Option<&str>, cores: usize) -> anyhow::Result<Self> {
        const MOST: usize = SLOTS as usize;
        let Some(text) = text else { return Ok(Self { local_workers: cores, per_node: None, grows: false }) };
        let count = JobCount::parse(text).context("--jobs")?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let per_node = match count {
            JobCount::Unlimited => None,
            JobCount::Exactly(count) => Some(JobsPerNode::Exactly(number(count))),
            JobCount::More(count) => Some(JobsPerNode::More(number(count))),
            JobCount::Fewer(count) => Some(JobsPerNode::Fewer(number(count))),
            JobCount::Percent(percent) => Some(JobsPerNode::Percent(percent)),
        };
        let Some(local_workers) = count.with_processors(cores).filter(|count| *count <= MOST) else {
            let local_workers = (cores * FIRST_PER_CORE).min(MOST);
            return Ok(Self { local_workers, per_node, grows: true });
        };
        Ok(Self { local_workers, per_node, grows: false })
    }
}

/// Local workers of which there are to be as many as possible.
///
/// More are of use while all are busy and jobs take long. What ends within a moment keeps the cores busy as it is, and
/// starting a worker takes longer than that.
#[derive(Debug)]
pub(super) struct Growth {
    workers: usize,
    ended: u64,
    looks_at: Instant,
}

impl Growth {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, ended: 0, looks_at: Instant::now() + GROW_EVERY }
    }

    /// Has this machine run more jobs at once, if it is time to look and that is of use. Tells whether it does.
    pub(super) fn grow(&mut self, dispatcher: &Dispatcher) -> bool {
        if self.looks_at > Instant::now() {
            return false;
        }
        self.looks_at = Instant::now() + GROW_EVERY;
        let nodes = dispatcher.nodes();
        let local = nodes.iter().find(|node| node.kind == NodeKind::Local);
        let more = local.and_then(|local| self.next(local));
        // It is refused only after the end.
        more.is_some_and(|workers| dispatcher.set_local_workers(workers).is_ok())
    }

    /// How many there are to be from now on, if that is more.
    fn next(&mut self, local: &NodeInfo) -> Option<usize> {
        let ended = local.jobs_ended - std::mem::replace(&mut self.ended, local.jobs_ended);
        let are_busy = local.jobs_at_node >= self.workers && ended < self.workers as u64;
        let most = self.workers.saturating_add(room_for_workers()).min(SLOTS as usize);
        let next = (2 * self.workers).min(most);
        if !are_busy || next <= self.workers {
            return None;
        }
        self.workers = next;
        Some(next)
    }
}

/// Workers for which there is memory, as far as that is known. What else there may be too little of, the node sees for itself.
fn room_for_workers() -> usize {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(usize::MAX, |kib| usize::try_from(kib * 1024 / WORKER_BYTES).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_for_each_node_and_here() {
        let parse = |text| Share::parse(Some(text), 2).map(|share| (share.local_workers, share.per_node));
        for (text, here, per_node) in [
            ("3", 3, Some(JobsPerNode::Exactly(3))),
            ("+1", 3, Some(JobsPerNode::More(1))),
            ("-1", 1, Some(JobsPerNode::Fewer(1))),
            ("150%", 3, Some(JobsPerNode::Percent(150.0))),
            ("0", 32, None),
            ("4097", 32, Some(JobsPerNode::Exactly(4097))),
        ] {
            assert_eq!(parse(text).ok(), Some((here, per_node)), "-j {text}");
        }
        assert!(Share::parse(None, 2).is_ok_and(|share| share.local_workers == 2 && !share.grows));
    }
}
