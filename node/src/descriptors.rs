//! How many descriptors this process, and its jobs, may have.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit with which this process was started, if it was raised.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit of this process to what it may be raised to. Each worker takes five or six descriptors, and the usual
/// limit of 1,024 is there for programs that use select(2), which nothing here does.
pub(crate) fn raise_limit() {
    BEFORE.get_or_init(|| {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let before = current.filter(|current| maximum.is_none_or(|maximum| *current < maximum))?;
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        raised.is_ok().then_some(before)
    });
}

/// The limit that jobs are to have, where it is not that of this process.
pub(crate) fn limit_of_jobs() -> Option<u64> {
    *BEFORE.get()?
}

/// How many descriptors this process may have now.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
