//! How many jobs of one dispatcher run at a node at once.

/// Limit on the jobs of a dispatcher that run at each node at once, where that is fewer than the node has slots.
///
/// ```
/// use pp_dispatcher::{Dispatcher, JobsPerNode};
///
/// // Each of these jobs keeps two processors busy.
/// let builder = Dispatcher::builder().jobs_per_node(JobsPerNode::Percent(50.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobsPerNode {
    /// So many.
    Exactly(u32),
    /// So many more than the processors that the node may use.
    More(u32),
    /// So many fewer than them, but one at least.
    Fewer(u32),
    /// So many hundredths of them, rounded up.
    Percent(f64),
}

impl JobsPerNode {
    /// How many that is at a node with so many processors: at least one.
    pub(super) fn with_processors(self, processors: u32) -> u32 {
        let jobs = match self {
            Self::Exactly(jobs) => jobs,
            Self::More(jobs) => processors.saturating_add(jobs),
            Self::Fewer(jobs) => processors.saturating_sub(jobs),
            // What is too large or no number at all becomes the nearest that fits.
            Self::Percent(percent) => (f64::from(processors) * percent / 100.0).ceil() as u32,
        };
        jobs.max(1)
    }
}

impl From<u32> for JobsPerNode {
    fn from(jobs: u32) -> Self {
        Self::Exactly(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_depend_on_processors_and_are_one_at_least() {
        for (limit, of_four) in [
            (JobsPerNode::Exactly(7), 7),
            (JobsPerNode::More(1), 5),
            (JobsPerNode::Fewer(1), 3),
            (JobsPerNode::Fewer(9), 1),
            (JobsPerNode::Percent(30.0), 2),
            (JobsPerNode::Percent(0.1), 1),
            (JobsPerNode::Percent(f64::NAN), 1),
            (JobsPerNode::Percent(f64::INFINITY), u32::MAX),
        ] {
            assert_eq!(limit.with_processors(4), of_four, "{limit:?}");
        }
    }
}
