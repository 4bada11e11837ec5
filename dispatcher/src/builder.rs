//! How a dispatcher is set up: by code, else by environment, else by default.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pp_node::functions::Registry;
use pp_protocol::limits::SLOTS;
use pp_protocol::secret::{self, Secret, SecretError};

use crate::Dispatcher;
use crate::callbacks;
use crate::error::StartError;
use crate::printer;
use crate::shared::{Limits, Shared};
use crate::shell::{self, Address, Setup};

/// Jobs that may be pending before submitting waits, unless set otherwise.
const PENDING_JOBS: usize = 10_000_000;
/// How large the arguments of pending jobs may be together before submitting waits, unless set otherwise.
const PENDING_BYTES: usize = 4 << 30;

/// What becomes of the lines that jobs print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Each is written to standard error, behind the name of its node and the number of its job.
    #[default]
    Shown,
    /// They are only told as events.
    EventsOnly,
}

/// Says how a dispatcher is to be set up. What is not said is taken from the environment:
///
/// | variable | instead of |
/// |---|---|
/// | `PP_NODES` | [`nodes`](Self::nodes), separated by commas |
/// | `PP_DISCOVER` | [`discover`](Self::discover): 1 or 0 |
/// | `PP_SECRET`, `PP_SECRET_FILE` | [`secret`](Self::secret) |
/// | `PP_LOCAL_WORKERS` | [`local_workers`](Self::local_workers) |
/// | `PP_LOG` | a `tracing` subscriber of the program: `debug`, `pp_dispatcher=debug,pp_node=info` |
#[derive(Clone, Debug, Default)]
#[must_use = "nothing happens before start() is called"]
pub struct Builder {
    discover: Option<bool>,
    discover_by_default: bool,
    local_workers: Option<usize>,
    in_process: bool,
    nodes: Option<Vec<String>>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    observer: bool,
    programs: Vec<PathBuf>,
    max_attempts: Option<u32>,
    suspect_after: Option<Duration>,
    lost_after: Option<Duration>,
    pending_jobs: Option<usize>,
    pending_bytes: Option<usize>,
    output: Output,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether to look for nodes on the network (mDNS). Off unless said otherwise.
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = Some(discover);
        self
    }

    /// Whether to look for nodes on the network where neither [`discover`](Self::discover) nor the environment says so.
    pub fn discover_by_default(mut self, discover: bool) -> Self {
        self.discover_by_default = discover;
        self
    }

    /// How many local cores to use; zero is allowed. All this process may use, unless said otherwise.
    pub fn local_workers(mut self, workers: usize) -> Self {
        self.local_workers = Some(workers);
        self
    }

    /// Whether local workers are threads of this process instead of processes: for tests, doc examples and debuggers.
    /// Results are the same; nothing is isolated, and nothing can be killed.
    pub fn in_process(mut self, in_process: bool) -> Self {
        self.in_process = in_process;
        self
    }

    /// Adds a node by address: `host`, `host:port`, or `dns:name[:port]` for every address the name has, looked up
    /// again and again. It is dialled for ever.
    pub fn node(mut self, address: impl Into<String>) -> Self {
        self.nodes.get_or_insert_default().push(address.into());
        self
    }

    /// Adds nodes as [`node`](Self::node) does.
    pub fn nodes<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.nodes.get_or_insert_default().extend(addresses.into_iter().map(Into::into));
        self
    }

    /// The secret the nodes share. If it is neither said here nor in the environment, it is read from
    /// `~/.config/ppserver/secret`.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// A file that holds the secret and that only its owner can read.
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_file = Some(path.into());
        self
    }

    /// Only looks at nodes and gives them orders: no job runs on them, nor here. For operators' tools.
    pub fn observer(mut self, observer: bool) -> Self {
        self.observer = observer;
        self
    }

    /// Adds a build of this program for nodes of another kind: the path of its executable.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.programs.push(path.into());
        self
    }

    /// How often a job may be the one that was running as its worker or node died. Three, unless said otherwise.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// How long a node may be silent before it gets no new jobs. Three seconds, unless said otherwise.
    pub fn suspect_after(mut self, silence: Duration) -> Self {
        self.suspect_after = Some(silence);
        self
    }

    /// How long a node may be silent before its jobs run elsewhere. Five seconds, unless said otherwise.
    pub fn lost_after(mut self, silence: Duration) -> Self {
        self.lost_after = Some(silence);
        self
    }

    /// How many jobs may be pending before submitting waits. Ten million, unless said otherwise.
    pub fn pending_jobs(mut self, limit: usize) -> Self {
        self.pending_jobs = Some(limit.max(1));
        self
    }

    /// How many bytes the serialised arguments of pending jobs may have together before submitting waits. Four GiB,
    /// unless said otherwise.
    pub fn pending_bytes(mut self, limit: usize) -> Self {
        self.pending_bytes = Some(limit.max(1));
        self
    }

    /// What becomes of the lines that jobs print.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Starts the dispatcher. Nodes are connected to in the background: jobs can be submitted at once.
    ///
    /// # Errors
    /// When something said here or in the environment makes no sense, the secret file cannot be used, or
    /// [`init`](crate::init) was not called.
    pub fn start(self) -> Result<Dispatcher, StartError> {
        if pp_node::worker::started_as_worker() {
            return Err(StartError::InsideWorker);
        }
        Registry::of_this_program()?;
        log_as_told()?;
        let setup = self.setup()?;
        let limits = Limits {
            jobs: self.pending_jobs.unwrap_or(PENDING_JOBS),
            bytes: self.pending_bytes.unwrap_or(PENDING_BYTES),
        };
        let shared = Arc::new(Shared::new(limits));
        let (printer, printing) = printer::start()?;
        let threads = vec![
            callbacks::start(Arc::clone(&shared))?,
            shell::start(setup, Arc::clone(&shared), printer)?,
            printing,
        ];
        Ok(Dispatcher::new(shared, threads))
    }

    fn setup(&self) -> Result<Setup, StartError> {
        let nodes = match &self.nodes {
            Some(nodes) => nodes.clone(),
            None => variable("PP_NODES").map(|nodes| split(&nodes)).unwrap_or_default(),
        };
        let nodes = nodes.iter().map(|text| Address::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let discover = match self.discover {
            Some(discover) => discover,
            None => environment_switch("PP_DISCOVER")?.unwrap_or(self.discover_by_default),
        };
        let local_workers = match self.local_workers {
            _ if self.observer => 0,
            Some(workers) => workers,
            None => environment_number("PP_LOCAL_WORKERS")?.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, Into::into).min(SLOTS as usize)
            }),
        };
        let local_workers = u32::try_from(local_workers).ok().filter(|workers| *workers <= SLOTS);
        let local_workers = local_workers.ok_or(StartError::TooManyWorkers)?;
        let remote = discover || !nodes.is_empty();
        Ok(Setup {
            local_workers,
            in_process: self.in_process,
            observer: self.observer,
            nodes,
            discover,
            secret: if remote { self.find_secret()? } else { None },
            programs: self.programs.clone(),
            max_attempts: self.max_attempts,
            suspect_after: self.suspect_after,
            lost_after: self.lost_after,
            output: self.output,
        })
    }

    fn find_secret(&self) -> Result<Option<Secret>, SecretError> {
        Ok(secret::find(self.secret.as_deref(), self.secret_file.as_deref())?.map(|(secret, _)| secret))
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

    if let Some(value) = variable("PP_LOG") {
        let name = "PP_LOG";
        let filter = value.parse::<Targets>();
        let filter = filter.map_err(|_| StartError::Environment {
            name,
            value,
            expected: "debug, or pp_node=debug,info",
        })?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        // Failing means that somebody else has set one up, who is to be left alone.
        let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    }
    Ok(())
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|address| !address.is_empty()).map(Into::into).collect()
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn environment_switch(name: &'static str) -> Result<Option<bool>, StartError> {
    let Some(value) = variable(name) else { return Ok(None) };
    match value.trim() {
        "1" | "true" | "yes" | "on" => Ok(Some(true)),
        "0" | "false" | "no" | "off" => Ok(Some(false)),
        _ => Err(StartError::Environment { name, value, expected: "1 or 0" }),
    }
}

fn environment_number(name: &'static str) -> Result<Option<usize>, StartError> {
    let Some(value) = variable(name) else { return Ok(None) };
    match value.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(StartError::Environment { name, value, expected: "a whole number" }),
    }
}
