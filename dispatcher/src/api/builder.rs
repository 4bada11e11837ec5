//! Settings of a dispatcher: from code, else from the environment, else by default.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pp_node::functions::Registry;
use pp_node::processes;
use pp_protocol::environment;
use pp_protocol::limits::SLOTS;
use pp_protocol::machine::{self, KeyError, MACHINE_KEY_VARIABLE, MachineKey};
use pp_protocol::private::PrivateError;
use pp_protocol::secret::{self, FoundSecrets, SecretError};

use super::dispatcher::Dispatcher;
use super::error::StartError;
use super::init;
use crate::client::settings::{LOST_AFTER, SUSPECT_AFTER};
use crate::client::{Client, Output, PendingLimits, Settings};
use crate::core::JobsPerNode;
use crate::links::{Address, ProgramFiles, Selection};

/// Ranges that make sense for these. Either side is heard of at least once a second, so that less would lose nodes all
/// the time.
const SUSPECT_AFTER_RANGE: RangeInclusive<Duration> = Duration::from_millis(1_500)..=DAY;
const LOST_AFTER_RANGE: RangeInclusive<Duration> = Duration::from_secs(2)..=DAY;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Threads that run callbacks, at most.
const CALLBACK_THREADS: usize = 1_024;

impl Dispatcher {
    /// Says how a dispatcher is to be set up.
    ///
    /// ```
    /// use pp_dispatcher::Dispatcher;
    ///
    /// // Threads of this process instead of workers, for a test.
    /// let dispatcher = Dispatcher::builder().in_process(true).local_workers(2).start()?;
    /// assert_eq!(dispatcher.nodes()[0].name, "local");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Says how a dispatcher is to be set up. What is not said is taken from the environment:
///
/// | variable | instead of |
/// |---|---|
/// | `PP_NODES` | [`nodes`](Self::nodes), separated by commas |
/// | `PP_DISCOVER` | [`discover`](Self::discover): 1 or 0 |
/// | `PP_SECRET`, `PP_SECRET_FILE` | [`secret`](Self::secret) |
/// | `PP_MACHINE_KEY` | [`machine_key`](Self::machine_key) |
/// | `PP_LOCAL_WORKERS` | [`local_workers`](Self::local_workers) |
/// | `PP_LOG` | a `tracing` subscriber of the program: `debug`, `pp_dispatcher=debug,pp_node=info` |
///
/// A variable that is blank is not set. What makes no sense is an error of [`start`](Self::start) that says what does.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing happens before start() is called"]
pub struct Builder {
    discover: Option<bool>,
    discover_by_default: bool,
    local_workers: Option<usize>,
    in_process: bool,
    nodes: Option<Vec<String>>,
    more_nodes: Vec<String>,
    selection: Selection,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    machine_key: Option<PathBuf>,
    observer: bool,
    fresh_workers: bool,
    programs: Vec<PathBuf>,
    only_built_in: bool,
    jobs_per_node: Option<JobsPerNode>,
    max_attempts: Option<u32>,
    suspect_after: Option<Duration>,
    lost_after: Option<Duration>,
    pending_jobs: Option<usize>,
    pending_bytes: Option<usize>,
    callback_threads: Option<usize>,
    output: Output,
}

impl Builder {
    /// Whether to look for nodes on the network (mDNS). Off unless said otherwise. With a secret that is a passphrase of less than
    /// 20 characters, those that are found are not dialled, since anybody can announce one to try guesses: they have to be named.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// let builder = Dispatcher::builder().discover(true);
    /// assert!(builder.discovers()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = Some(discover);
        self
    }

    /// Whether to look for nodes on the network where neither [`discover`](Self::discover) nor the environment says so.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // On, unless whoever starts the program says `PP_DISCOVER=0`.
    /// let builder = Dispatcher::builder().discover_by_default(true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discover_by_default(mut self, discover: bool) -> Self {
        self.discover_by_default = discover;
        self
    }

    /// Number of local cores to use; zero is allowed. All this process may use, unless set.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // This machine only submits.
    /// let builder = Dispatcher::builder().discover(true).local_workers(0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn local_workers(mut self, workers: usize) -> Self {
        self.local_workers = Some(workers);
        self
    }

    /// Whether local workers are threads of this process instead of processes: for tests, doc examples and debuggers.
    /// Results are the same; nothing is isolated, and nothing can be killed.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, built_in};
    /// let dispatcher = Dispatcher::builder().in_process(true).start()?;
    /// assert_eq!(dispatcher.submit(built_in::echo, (vec![7],)).wait()?, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_process(mut self, in_process: bool) -> Self {
        self.in_process = in_process;
        self
    }

    /// Adds a node by address: `host`, `host:port`, or `dns:name[:port]` for every address the name has, looked up
    /// again and again. It is dialled for ever.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder()
    ///     .node("render1") // at the usual port
    ///     .node("[fd00::2]:60001")
    ///     .node("dns:ppserver.example") // each address the name has
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node(mut self, address: impl Into<String>) -> Self {
        self.nodes.get_or_insert_default().push(address.into());
        self
    }

    /// Adds nodes as [`node`](Self::node) does.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder().nodes(["render1", "render2:60001"]).start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nodes<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.nodes.get_or_insert_default().extend(addresses.into_iter().map(Into::into));
        self
    }

    /// Adds nodes to those that are said otherwise, in the environment too. For tools that take further nodes.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// // Those that `PP_NODES` names, and what the command line says.
    /// let dispatcher = Dispatcher::builder().more_nodes(std::env::args().skip(1)).start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn more_nodes<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.more_nodes.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// Of the nodes that are found on the network, only those are used whose name fits this: `*` stands for any characters,
    /// `?` for one, and upper and lower case are the same. Said several times, those that fit one of them. Nodes that are named
    /// by their address are used in any case.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// let builder = Dispatcher::builder().discover(true).found_nodes("gpu*");
    /// ```
    pub fn found_nodes(mut self, pattern: impl AsRef<str>) -> Self {
        self.selection.add_found(pattern.as_ref());
        self
    }

    /// Leaves a node out, whether it is found or named: by its name, a pattern as in [`found_nodes`](Self::found_nodes), or its
    /// address, with or without the port. No job runs there. The dispatcher's own cores are left out by
    /// [`local_workers(0)`](Self::local_workers).
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// let builder = Dispatcher::builder().discover(true).without_node("laptop*").without_node("10.0.0.7");
    /// ```
    pub fn without_node(mut self, node: impl AsRef<str>) -> Self {
        self.selection.leave_out(node.as_ref());
        self
    }

    /// The secret the nodes share. If it is neither said here nor in the environment, it is read from
    /// `~/.config/ppserver/secret`.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let secret = std::fs::read_to_string("/run/secrets/ppserver")?;
    /// let dispatcher = Dispatcher::builder().node("render1").secret(secret).start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// A file that holds the secret and that only its owner can read. Of several lines the first is used. The file is read
    /// again when it has changed, before a node is dialled.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder().node("render1").secret_file("/etc/ppserver/secret").start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_file = Some(path.into());
        self
    }

    /// The file with the key of this machine, for nodes that let in only machines they list (`ppserver --authorized-keys`).
    /// If it is neither said here nor in the environment, it is `~/.config/ppserver/machine_key`, where `ppctl key new` makes
    /// one. The keys that such nodes show are remembered beside it, in `known_nodes`: a node that shows another one later is
    /// refused.
    pub fn machine_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.machine_key = Some(path.into());
        self
    }

    /// Only looks at nodes and gives them orders: no job runs on them, nor here. For operators' tools.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let operator = Dispatcher::builder().observer(true).node("render1").start()?;
    /// operator.wait_for_nodes(1, Duration::from_secs(5));
    /// operator.resize("render1", 4)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observer(mut self, observer: bool) -> Self {
        self.observer = observer;
        self
    }

    /// Whether the worker of a job ends with it, on every node, and with it everything that the job has started. Unless said
    /// so, what a job leaves running as it returns stays until its worker ends: when a job of it is cancelled or runs too
    /// long, when the node has no more use for it, or when this dispatcher ends. Starting a worker takes some milliseconds.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// let builder = Dispatcher::builder().fresh_workers(true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fresh_workers(mut self, fresh_workers: bool) -> Self {
        self.fresh_workers = fresh_workers;
        self
    }

    /// Whether only functions of [`built_in`](crate::built_in) are called, which every node has: then this program is sent
    /// to none.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, built_in};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # pp_dispatcher::init();
    /// let dispatcher = Dispatcher::builder().in_process(true).only_built_in(true).start()?;
    /// assert_eq!(dispatcher.submit(built_in::echo, (vec![1, 2, 3],)).wait()?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn only_built_in(mut self, only_built_in: bool) -> Self {
        self.only_built_in = only_built_in;
        self
    }

    /// Adds a build of this program for nodes of another kind: the path of its executable.
    ///
    /// ```no_run
    /// # use pp_dispatcher::Dispatcher;
    /// let dispatcher = Dispatcher::builder()
    ///     .discover(true)
    ///     .program("target/aarch64-unknown-linux-gnu/release/render") // for the ARM machines
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.programs.push(path.into());
        self
    }

    /// Number of jobs of this dispatcher that run at each node at once, its own cores included: a number, or one that depends
    /// on the processors of the node. A node's own slots remain the upper bound. All slots, unless set. Then nothing is sent
    /// ahead either, so that jobs of less than some milliseconds take longer.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, JobsPerNode};
    /// // Jobs that use several threads each.
    /// let two = Dispatcher::builder().jobs_per_node(2);
    /// let half = Dispatcher::builder().jobs_per_node(JobsPerNode::Percent(50.0));
    /// ```
    pub fn jobs_per_node(mut self, jobs: impl Into<JobsPerNode>) -> Self {
        self.jobs_per_node = Some(jobs.into());
        self
    }

    /// Number of times that a job may be running as its worker or node dies. Three, unless set;
    /// at least one.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // A job that kills its worker is not tried again.
    /// let builder = Dispatcher::builder().max_attempts(1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Silence of a node before it gets no new jobs. Three seconds, unless set; 1.5 s at least, and
    /// no longer than [`lost_after`](Self::lost_after).
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let builder = Dispatcher::builder().suspect_after(Duration::from_secs(10)).lost_after(Duration::from_secs(30));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn suspect_after(mut self, silence: Duration) -> Self {
        self.suspect_after = Some(silence);
        self
    }

    /// Silence of a node before its jobs run elsewhere. Five seconds, unless set; two seconds at
    /// least.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// use std::time::Duration;
    ///
    /// // Nodes on a link that is gone for seconds at a time.
    /// let builder = Dispatcher::builder().lost_after(Duration::from_secs(30));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lost_after(mut self, silence: Duration) -> Self {
        self.lost_after = Some(silence);
        self
    }

    /// Number of jobs that may be pending before submitting waits, those included whose callback has not returned. Ten
    /// million, unless said otherwise; at least one.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // `submit` waits when it is a thousand jobs ahead of the nodes.
    /// let builder = Dispatcher::builder().pending_jobs(1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pending_jobs(mut self, limit: usize) -> Self {
        self.pending_jobs = Some(limit);
        self
    }

    /// Total size in bytes of the serialised arguments of pending jobs before submitting waits. Four GiB,
    /// unless said otherwise; at least one.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// let builder = Dispatcher::builder().pending_bytes(256 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pending_bytes(mut self, limit: usize) -> Self {
        self.pending_bytes = Some(limit);
        self
    }

    /// Number of threads that run callbacks: 1 to 1,024. One, unless set; it calls them one after the other, in the
    /// order in which their jobs ended, so that a callback that sleeps, or waits for a disk or a network, holds up all the
    /// others for as long.
    ///
    /// With several that order is kept within each [group](crate::JobBuilder::group), of which one callback runs at a time;
    /// those of jobs without a group may run side by side, and in any order.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // Callbacks that write to a disk, four at a time.
    /// let builder = Dispatcher::builder().callback_threads(4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn callback_threads(mut self, threads: usize) -> Self {
        self.callback_threads = Some(threads);
        self
    }

    /// Destination of the lines that jobs print.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, Output};
    ///
    /// // The program shows what jobs print itself, as it hears of it by events().
    /// let builder = Dispatcher::builder().output(Output::EventsOnly);
    /// ```
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Whether nodes are looked for on the network, as said here, in the environment, or by default.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// // Tools look for nodes only where they are told so.
    /// if Dispatcher::builder().discovers()? {
    ///     eprintln!("looking for nodes");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the environment says something else than yes or no.
    pub fn discovers(&self) -> Result<bool, StartError> {
        match self.discover {
            Some(discover) => Ok(discover),
            None => Ok(environment::switch("PP_DISCOVER")?.unwrap_or(self.discover_by_default)),
        }
    }

    /// Starts the dispatcher. Nodes are connected to in the background: jobs can be submitted at once.
    ///
    /// Where local workers are processes, this raises the process's soft limit on descriptors to the hard one, as each takes
    /// five of them. Jobs have the limit as it was before; a program that uses select(2) itself, or whose children do, may
    /// set it back.
    ///
    /// ```
    /// use pp_dispatcher::{Dispatcher, StartError};
    ///
    /// let senseless = Dispatcher::builder().in_process(true).pending_jobs(0).start();
    /// assert!(matches!(senseless, Err(StartError::Setting { .. })));
    /// ```
    ///
    /// # Errors
    /// When something said here or in the environment makes no sense, the secret file cannot be used, or
    /// [`init`](crate::init) was not called, or this is a job.
    pub fn start(self) -> Result<Dispatcher, StartError> {
        if pp_node::worker::started_as_worker() {
            return Err(if pp_node::worker::serves() {
                StartError::InsideJob
            } else {
                StartError::InsideWorker
            });
        }
        if processes::is_forked() {
            return Err(StartError::Forked);
        }
        Registry::of_this_program()?;
        log_as_told()?;
        let settings = self.settings()?;
        // Wherever workers are started from this program, they have to get to init().
        let starts_workers = !self.observer && (!self.in_process || settings.is_remote());
        if starts_workers && !init::is_reached() {
            return Err(StartError::WithoutInit);
        }
        Ok(Dispatcher::new(Client::start(settings)?))
    }

    fn settings(&self) -> Result<Settings, StartError> {
        let (suspect_after, lost_after) = self.silences()?;
        at_least_one("max_attempts", self.max_attempts)?;
        at_least_some(self.jobs_per_node)?;
        at_least_one("pending_jobs", self.pending_jobs)?;
        at_least_one("pending_bytes", self.pending_bytes)?;
        let callback_threads = self.callback_threads.unwrap_or(1);
        if !(1..=CALLBACK_THREADS).contains(&callback_threads) {
            return Err(StartError::CallbackThreads { threads: callback_threads, most: CALLBACK_THREADS });
        }
        let named = match &self.nodes {
            Some(nodes) => nodes.clone(),
            None => environment::list("PP_NODES")?.unwrap_or_default(),
        };
        let nodes = named.iter().chain(&self.more_nodes).map(|text| Address::parse(text));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let discover = self.discovers()?;
        let local_workers = match self.local_workers {
            _ if self.observer => 0,
            Some(workers) => workers,
            None => environment::parsed("PP_LOCAL_WORKERS", "a whole number")?
                .unwrap_or_else(|| pp_node::processors() as usize),
        };
        let local_workers = u32::try_from(local_workers).ok().filter(|workers| *workers <= SLOTS);
        let local_workers = local_workers.ok_or(StartError::TooManyWorkers)?;
        let is_remote = discover || !nodes.is_empty();
        let defaults = Settings::new(local_workers, self.programs());
        Ok(Settings {
            in_process: self.in_process,
            observer: self.observer,
            fresh_workers: self.fresh_workers,
            nodes,
            discover,
            selection: self.selection.clone(),
            secret: if is_remote { self.find_secret()? } else { None },
            machine_key: if is_remote { self.find_machine_key()? } else { None },
            jobs_per_node: self.jobs_per_node,
            max_attempts: self.max_attempts.unwrap_or(defaults.max_attempts),
            suspect_after,
            lost_after,
            output: self.output,
            pending: PendingLimits {
                jobs: self.pending_jobs.unwrap_or(defaults.pending.jobs),
                bytes: self.pending_bytes.unwrap_or(defaults.pending.bytes),
            },
            callback_threads,
            ..defaults
        })
    }

    /// An observer, and one that calls only what nodes have themselves, has no use for any.
    fn programs(&self) -> Vec<ProgramFiles> {
        if self.observer || self.only_built_in {
            return Vec::new();
        }
        vec![ProgramFiles { own: true, builds: self.programs.clone() }]
    }

    /// Silence of a node before it gets no new jobs, and before it is lost.
    fn silences(&self) -> Result<(Duration, Duration), StartError> {
        let lost_after = self.lost_after.unwrap_or(LOST_AFTER.max(self.suspect_after.unwrap_or_default()));
        let suspect_after = self.suspect_after.unwrap_or(SUSPECT_AFTER.min(lost_after));
        let wrong = |setting, value: Duration, range: &RangeInclusive<Duration>, and: &str| {
            let expected = format!("from {:?} to {:?}{and}", range.start(), range.end());
            Err(StartError::Setting { setting, value: format!("{value:?}"), expected })
        };
        if !LOST_AFTER_RANGE.contains(&lost_after) {
            return wrong("lost_after", lost_after, &LOST_AFTER_RANGE, "");
        }
        if !SUSPECT_AFTER_RANGE.contains(&suspect_after) || suspect_after > lost_after {
            let and = format!(", and no longer than lost_after, which is {lost_after:?}");
            return wrong("suspect_after", suspect_after, &SUSPECT_AFTER_RANGE, &and);
        }
        Ok((suspect_after, lost_after))
    }

    fn find_secret(&self) -> Result<Option<FoundSecrets>, SecretError> {
        secret::find(self.secret.as_deref(), self.secret_file.as_deref())
    }

    /// Where the key of this machine is, or would be. One that was said has to be there.
    fn find_machine_key(&self) -> Result<Option<PathBuf>, KeyError> {
        let said = self.machine_key.clone().or_else(|| environment::path(MACHINE_KEY_VARIABLE));
        match said {
            Some(path) => MachineKey::read(&path).map(|_| Some(path)),
            None => match machine::default_path() {
                Err(PrivateError::NoHome) => Ok(None),
                path => Ok(Some(path?)),
            },
        }
    }
}

/// With `PP_LOG` set, what the dispatcher does is written to standard error, unless the program has set up `tracing`.
///
/// # Errors
/// When it does not say what to write.
fn log_as_told() -> Result<(), StartError> {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = environment::log_filter::<Targets>("PP_LOG")?;
    if let Some(filter) = filter {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        // Failing means that somebody else has set one up, who is to be left alone.
        let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    }
    Ok(())
}

/// Refuses zero where none at all makes no sense.
fn at_least_one<T: PartialEq + From<u8>>(setting: &'static str, value: Option<T>) -> Result<(), StartError> {
    if value == Some(T::from(0)) {
        return Err(StartError::Setting { setting, value: "0".into(), expected: "1 or more".into() });
    }
    Ok(())
}

/// Refuses a limit under which no job would run.
fn at_least_some(limit: Option<JobsPerNode>) -> Result<(), StartError> {
    let (value, expected) = match limit {
        Some(JobsPerNode::Exactly(0)) => ("0".into(), "1 or more"),
        Some(JobsPerNode::Percent(percent)) if percent.is_nan() || percent <= 0.0 => {
            (format!("{percent}%"), "more than 0%")
        }
        _ => return Ok(()),
    };
    Err(StartError::Setting { setting: "jobs_per_node", value, expected: expected.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        let seconds = Duration::from_secs;
        let builder = || Dispatcher::builder().observer(true).discover(false).nodes([""; 0]);
        for (builder, parts) in [
            (builder().lost_after(Duration::ZERO), ["lost_after is 0ns", "from 2s to 86400s"]),
            (builder().lost_after(Duration::MAX), ["lost_after", "from 2s to 86400s"]),
            (builder().suspect_after(Duration::ZERO), ["suspect_after is 0ns", "from 1.5s"]),
            (builder().suspect_after(Duration::MAX), ["lost_after", "to 86400s"]),
            (
                builder().suspect_after(seconds(6)).lost_after(seconds(4)),
                ["suspect_after is 6s", "no longer than lost_after, which is 4s"],
            ),
            (builder().jobs_per_node(0), ["jobs_per_node is 0", "1 or more"]),
            (builder().jobs_per_node(JobsPerNode::Percent(0.0)), ["jobs_per_node is 0%", "more than 0%"]),
            (builder().max_attempts(0), ["max_attempts is 0", "1 or more"]),
            (builder().pending_jobs(0), ["pending_jobs is 0", "1 or more"]),
            (builder().pending_bytes(0), ["pending_bytes is 0", "1 or more"]),
            (builder().observer(false).local_workers(4_097), ["at most 4096 workers", "fewer"]),
            (builder().node("render1:70000"), ["render1:70000", "HOST:PORT"]),
            (builder().node("render1:0"), ["render1:0", "HOST:PORT"]),
        ] {
            let error = builder.start().map(|_| ()).expect_err("it makes no sense").to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn one_silence_brings_the_other_along() {
        let seconds = Duration::from_secs;
        let silences = |builder: Builder| builder.silences().expect("they make sense");
        let builder = Dispatcher::builder;
        assert_eq!(silences(builder()), (seconds(3), seconds(5)));
        assert_eq!(silences(builder().lost_after(seconds(2))), (seconds(2), seconds(2)));
        assert_eq!(silences(builder().suspect_after(seconds(9))), (seconds(9), seconds(9)));
    }
}
