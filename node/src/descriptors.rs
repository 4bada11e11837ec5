//! Limits on descriptors, of this process and of its jobs.

use std::fmt;
use std::fs::File;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that have to be free where a node starts: for its runtime and its signals, its sockets and files, and
/// one worker.
const LEAST_FREE: usize = 20;

/// Too few descriptors are left for a node. Programs that return it from `main` print its `Debug` form: it is the same text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TooFewDescriptors {
    /// This process may not have enough.
    #[error(
        "this process may have {limit} descriptors (open files), of which fewer than the {LEAST_FREE} that a node needs are \
         free; raise the limit (ulimit -n 1024, ulimit -Hn, or LimitNOFILE= of the service)"
    )]
    Process {
        /// Number it may have.
        limit: u64,
    },
    /// The machine has no more.
    #[error(
        "the machine has no descriptors left (sysctl fs.file-max); end what holds many, or raise the limit"
    )]
    Machine,
}

impl fmt::Debug for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Raises the limit of this process, and makes sure that a node can start: otherwise, what fails is whatever happens to come
/// first, in words that do not say why.
///
/// # Errors
/// When too few descriptors are free.
pub fn ensure_descriptors() -> Result<(), TooFewDescriptors> {
    raise_limit();
    let held = (0..LEAST_FREE).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>();
    match held.map_err(|error| error.raw_os_error().map(Errno::from_raw_os_error)) {
        Err(Some(Errno::MFILE)) => Err(TooFewDescriptors::Process { limit: limit() }),
        Err(Some(Errno::NFILE)) => Err(TooFewDescriptors::Machine),
        // Without that file, what goes wrong is something else.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The limit with which this process was started, if it was raised.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit of this process to what it may be raised to. Each worker takes five or six descriptors, and the usual
/// limit of 1,024 is there for programs that use select(2), which nothing here does.
fn raise_limit() {
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

/// Number of descriptors this process may have now.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
