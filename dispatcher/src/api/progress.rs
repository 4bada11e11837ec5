//! How far jobs have come, shown to people.
//!
//! What is shown is found out by looking, from time to time, at counts that are kept anyway: a job costs nothing for it.

use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use futures_core::Stream;

use crate::api::error::JobError;
use crate::client::bottom::{self, Bottom};
use crate::client::{Client, Course};
use crate::core::NodeState;
use crate::progress::{Form, Means, Progress};

/// Time between two looks where a line is drawn over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks, and between two lines, where they follow each other.
const LOOK_FOR_LINES_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far jobs have come, for as long as it is kept: see [`Dispatcher::show_progress`](crate::Dispatcher::show_progress).
///
/// On a terminal, a bar at its bottom says it on standard error: what is done, how much failed, how many jobs end in a second, and
/// how long it will go on, judged by how long jobs took. What jobs print appears above it. Elsewhere a line goes to the log
/// (`tracing`, at level `INFO`) every ten seconds; without one, nothing is said. The last line stays. Of several at once, one has the
/// bottom of the terminal; the others say how it was when they end.
#[must_use = "nothing is shown any more once it is dropped"]
pub struct ProgressShown {
    end: Arc<End>,
    thread: Option<JoinHandle<()>>,
}

/// Whether nothing is to be shown any more.
#[derive(Debug, Default)]
struct End {
    has_come: Mutex<bool>,
    changed: Condvar,
}

impl End {
    /// Waits for it, so long. True once it has come.
    fn wait(&self, time: Duration) -> bool {
        let has_come = self.has_come.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(has_come, time, |has_come| !*has_come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn come(&self) {
        *self.has_come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// What is known of the jobs that are shown.
#[derive(Clone, Copy, Debug)]
struct Seen {
    total: Option<u64>,
    ended: u64,
    failed: u64,
}

impl Seen {
    /// Those that had not ended by the time of `before`.
    fn since(before: Course, now: Course) -> Self {
        Self {
            total: Some(now.added.saturating_sub(before.removed) as u64),
            ended: now.removed.saturating_sub(before.removed) as u64,
            failed: now.failed.saturating_sub(before.failed) as u64,
        }
    }
}

impl ProgressShown {
    /// All jobs of the dispatcher that have not ended, and those to come.
    pub(crate) fn of_all(client: Client) -> Self {
        let handle = Arc::clone(client.handle());
        let before = handle.counts().course();
        Self::start(client, move || Seen::since(before, handle.counts().course()))
    }

    /// Those of a group.
    pub(crate) fn of_group(client: Client, name: &str) -> Self {
        let group = client.group(name);
        let before = group.course();
        Self::start(client, move || Seen::since(before, group.course()))
    }

    fn start(client: Client, look: impl Fn() -> Seen + Send + 'static) -> Self {
        let end = Arc::<End>::default();
        let mut shower = Shower::new(client, Box::new(look));
        let is_ended = Arc::clone(&end);
        let thread = thread::Builder::new().name("pp-progress".into()).spawn(move || {
            while !is_ended.wait(shower.look_every()) {
                shower.show();
            }
            shower.show_last();
        });
        // It is no reason to do without the jobs themselves.
        let thread = thread.map_err(|error: io::Error| tracing::warn!(%error, "progress is not shown")).ok();
        Self { end, thread }
    }
}

impl Drop for ProgressShown {
    fn drop(&mut self) {
        self.end.come();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ProgressShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressShown").finish_non_exhaustive()
    }
}

/// Looks, and shows what has changed.
struct Shower {
    client: Client,
    look: Box<dyn Fn() -> Seen + Send>,
    is_on_terminal: bool,
    /// The line that is drawn over, once nobody else has it.
    bottom: Option<Bottom>,
    began: Instant,
    progress: Progress,
    seen: Seen,
    means: Means,
    /// Jobs that nodes ended, and how long they ran, when that was last looked at.
    ran: (u64, Duration),
    next_line: Instant,
}

impl Shower {
    fn new(client: Client, look: Box<dyn Fn() -> Seen + Send>) -> Self {
        let now = Instant::now();
        let mut new = Self {
            client,
            look,
            is_on_terminal: bottom::is_there(),
            bottom: None,
            began: now,
            progress: Progress::default(),
            seen: Seen { total: None, ended: 0, failed: 0 },
            means: Means::default(),
            ran: (0, Duration::ZERO),
            next_line: now + LINE_EVERY,
        };
        new.run_time_of_one();
        new
    }

    fn look_every(&self) -> Duration {
        if self.is_on_terminal { LOOK_EVERY } else { LOOK_FOR_LINES_EVERY }
    }

    fn show(&mut self) {
        self.take_in();
        let at = self.began.elapsed();
        if self.is_on_terminal {
            let line = self.progress.line(at, self.means, Form::Bar, bottom::columns());
            if self.bottom.is_none() {
                self.bottom = Bottom::take();
            }
            self.bottom.iter().for_each(|bottom| bottom.draw(line.clone()));
        } else if self.next_line <= Instant::now() {
            self.next_line += LINE_EVERY;
            tracing::info!("{}", self.line());
        }
    }

    fn show_last(&mut self) {
        self.take_in();
        if self.is_on_terminal {
            let at = self.began.elapsed();
            let last = self.progress.line(at, self.means, Form::Bar, bottom::columns());
            drop(self.bottom.take());
            let _ = bottom::above(|stderr| writeln!(stderr, "\r{last}\x1b[J"));
        } else {
            tracing::info!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        self.progress.line(self.began.elapsed(), self.means, Form::Text, usize::MAX)
    }

    fn take_in(&mut self) {
        let seen = (self.look)();
        let before = std::mem::replace(&mut self.seen, seen);
        if let Some(total) = seen.total {
            self.progress.counted(total);
        }
        let run_time = self.run_time_of_one();
        let ended = seen.ended.saturating_sub(before.ended);
        if ended > 0 {
            let run_time = run_time.saturating_mul(u32::try_from(ended).unwrap_or(u32::MAX));
            let failed = seen.failed.saturating_sub(before.failed);
            self.progress.several_ended(self.began.elapsed(), ended, run_time, failed);
        }
    }

    /// How long a job ran, of those that have ended of late; and what there is to run them on.
    fn run_time_of_one(&mut self) -> Duration {
        let stats = self.client.stats();
        let is_used = |state| matches!(state, NodeState::Connected | NodeState::Preparing);
        let used = stats.nodes.iter().filter(|node| is_used(node.state) && node.most_jobs > 0);
        self.means = used.fold(Means::default(), |means, node| Means {
            nodes: means.nodes + 1,
            slots: means.slots + node.most_jobs,
        });
        let ran = stats.nodes.iter().fold((0, Duration::ZERO), |(jobs, run_time), node| {
            (jobs + node.jobs_ended, run_time + node.run_time)
        });
        let before = std::mem::replace(&mut self.ran, ran);
        let jobs = u32::try_from(ran.0.saturating_sub(before.0)).unwrap_or(u32::MAX);
        ran.1.saturating_sub(before.1).checked_div(jobs).unwrap_or_default()
    }
}

/// The results of a map, with its progress shown while they are taken: see
/// [`Map::with_progress`](crate::Map::with_progress).
#[must_use = "nothing happens before results are asked for"]
pub struct WithProgress<I> {
    results: I,
    taken: Arc<Taken>,
    shown: Option<ProgressShown>,
}

/// Results that were taken.
#[derive(Debug, Default)]
struct Taken {
    ended: AtomicU64,
    failed: AtomicU64,
}

impl<I> WithProgress<I> {
    /// Of so many results, if that is known.
    pub(crate) fn new(client: Client, total: Option<u64>, results: I) -> Self {
        let taken = Arc::<Taken>::default();
        let counted = Arc::clone(&taken);
        let look = move || Seen {
            total,
            ended: counted.ended.load(Ordering::Relaxed),
            failed: counted.failed.load(Ordering::Relaxed),
        };
        Self { results, taken, shown: Some(ProgressShown::start(client, look)) }
    }

    fn take<R>(&mut self, result: Option<Result<R, JobError>>) -> Option<Result<R, JobError>> {
        match &result {
            None => drop(self.shown.take()),
            Some(result) => {
                self.taken.failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
                self.taken.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }
}

impl<R, I: Iterator<Item = Result<R, JobError>>> Iterator for WithProgress<I> {
    type Item = Result<R, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.results.next();
        self.take(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.results.size_hint()
    }
}

impl<R, I: Stream<Item = Result<R, JobError>> + Unpin> Stream for WithProgress<I> {
    type Item = Result<R, JobError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.results).poll_next(context));
        Poll::Ready(this.take(result))
    }
}

impl<I: fmt::Debug> fmt::Debug for WithProgress<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithProgress").field("results", &self.results).finish_non_exhaustive()
    }
}
