//! Starting a worker: its socket pair, page and shared memory, then its process or thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pp_protocol::room::{self, Arena, Rooms, View};
use pp_protocol::secret::SECRET_VARIABLE;
use pp_protocol::worker::WORKER_ENVIRONMENT;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::WorkerProgram;
use super::leftovers::Inherited;
use super::link::Link;
use crate::confinement::NODE_VARIABLE;
use crate::core::StartFailure;
use crate::descriptors;
#[cfg(target_os = "linux")]
use crate::launcher::{Belongings, Launch};
use crate::lending::{Borrower, Lender};
use crate::page::{Marks, Page};
use crate::worker::{NodeGone, handover};

/// Time for which a file may be busy: another thread's fork holds a descriptor to write it until that child's exec.
const BUSY_TIME: Duration = Duration::from_secs(1);
/// Pause before the next try.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Size of a socket's buffer in each direction. With the usual 200 KiB a large payload takes three times as long, because
/// the two processes have to wait for each other that much more often.
const SOCKET_BYTES: usize = 1 << 20;

/// Everything a worker needs before it is started.
pub(super) struct Prepared {
    pub(super) page: Arc<Page>,
    pub(super) link: Arc<Link>,
    pub(super) reader: OwnedReadHalf,
    pub(super) borrower: Option<Borrower>,
    pub(super) plan: Plan,
}

/// Plan of starting a worker.
pub(super) enum Plan {
    Process(Box<ProcessPlan>),
    Thread {
        /// The worker's end of the socket pair.
        socket: UnixStream,
        page: Arc<Page>,
    },
}

/// Memory that a worker and the node share, as the node has it.
struct Shared {
    /// What the node lends from.
    arena: Arc<Arena>,
    /// What the worker does.
    view: Arc<View>,
}

/// How to start a worker that is a process.
pub(super) struct ProcessPlan {
    start: Start,
    /// The worker's end of the socket pair.
    socket: UnixStream,
    page: OwnedFd,
    /// Those of node and worker.
    arenas: Option<(Arc<Arena>, OwnedFd)>,
    /// The directory of files that its session keeps.
    files: Option<OwnedFd>,
    /// The value of [`WORKER_ENVIRONMENT`].
    environment: String,
}

/// The program of a process.
enum Start {
    File(PathBuf),
    #[cfg(target_os = "linux")]
    Launched(Launch),
}

/// A worker that has been started.
#[derive(Debug)]
pub(super) enum Body {
    Process {
        child: Box<Child>,
        /// Marks that everything it starts has, too.
        inherited: Inherited,
        /// What it has of its own, if it was launched.
        #[cfg(target_os = "linux")]
        belongings: Option<Belongings>,
    },
    Thread,
}

impl Body {
    /// Whether a launcher started it.
    pub(super) fn is_launched(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Process { belongings, .. } => belongings.is_some(),
            _ => false,
        }
    }

    /// Whether it was killed because it had used up the memory that it may have.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Process { belongings: Some(belongings), .. } => belongings.ran_out_of_memory(),
            _ => false,
        }
    }

    /// Removes what it had of its own, and ends whatever is left in its control group.
    pub(super) async fn remove_belongings(&mut self) {
        #[cfg(target_os = "linux")]
        if let Self::Process { belongings, .. } = self
            && let Some(belongings) = belongings.take()
        {
            belongings.removed().await;
        }
    }

    /// Waits until a process has ended, or the socket of a thread has.
    pub(super) async fn ended(&mut self, is_cut_off: bool) -> Option<ExitStatus> {
        match self {
            // An error means that somebody else in this process waited for it, so that its status is lost.
            Self::Process { child, .. } => child.wait().await.ok(),
            Self::Thread if is_cut_off => None,
            Self::Thread => std::future::pending().await,
        }
    }
}

/// Descriptors that no worker is started with: connections, programs and the workers there are need them. A smaller part
/// where few may be had at all.
const DESCRIPTORS_KEPT: u64 = 64;
const PART_KEPT: u64 = 8;

impl Prepared {
    /// The worker may read what is in these rooms.
    pub(super) fn new(program: WorkerProgram, rooms: &Rooms, files: Option<OwnedFd>) -> io::Result<Self> {
        let (node_end, socket) = UnixStream::pair()?;
        keep_some(&node_end)?;
        for end in [&node_end, &socket] {
            // The system may grant less, which only makes large payloads slower.
            let _ = set_socket_send_buffer_size(end, SOCKET_BYTES);
        }
        let (page, shared, plan) = match program {
            WorkerProgram::File(path) => Self::process(Start::File(path), socket, rooms, files)?,
            #[cfg(target_os = "linux")]
            WorkerProgram::Launched(launch) => Self::process(Start::Launched(launch), socket, rooms, files)?,
            WorkerProgram::ThisProgramInThreads => {
                let page = Page::in_memory();
                (Arc::clone(&page), None, Plan::Thread { socket, page })
            }
        };
        node_end.set_nonblocking(true)?;
        let (reader, writer) = tokio::net::UnixStream::from_std(node_end)?.into_split();
        let (lender, borrower) = shared.map_or((None, None), |Shared { arena, view }| {
            let lender = Lender::new(Arc::clone(&page), Marks::Arguments, arena);
            (Some(lender), Some(Borrower::new(Arc::clone(&page), Marks::Results, view)))
        });
        Ok(Self { page, link: Arc::new(Link::new(writer, lender)), reader, borrower, plan })
    }

    fn process(
        start: Start,
        socket: UnixStream,
        rooms: &Rooms,
        files: Option<OwnedFd>,
    ) -> io::Result<(Arc<Page>, Option<Shared>, Plan)> {
        let (page, file) = Page::shared()?;
        // Without shared memory, large payloads go through the socket.
        let (arenas, shared) = match rooms.arena().zip(room::new_arena().ok()) {
            Some((arena, (worker, view))) => {
                (Some((Arc::clone(&arena), worker)), Some(Shared { arena, view }))
            }
            None => (None, None),
        };
        let environment = handover::environment(&socket)?;
        let plan = ProcessPlan { start, socket, page: file, arenas, files, environment };
        Ok((Arc::new(page), shared, Plan::Process(Box::new(plan))))
    }
}

impl Plan {
    /// Starts the worker off the node's task, in a thread of its own: where the system has none, that is the worker's failure
    /// to start, while a runtime would panic.
    pub(super) async fn start_aside(self, link: Arc<Link>) -> Result<Body, StartFailure> {
        let (tell, started) = oneshot::channel();
        // What the node's task does with a process, whoever starts it, is done within its runtime.
        let runtime = Handle::current();
        let start = move || {
            let _inside = runtime.enter();
            // If nobody listens any more, the node has ended.
            if let Err(Ok(Body::Process { mut child, .. })) = tell.send(self.start(link.socket())) {
                let _ = child.start_kill();
            }
        };
        let failure = |error| failure(explain_shortage(&error), &error);
        thread::Builder::new().name("pp-start".into()).spawn(start).map_err(failure)?;
        started.await.unwrap_or_else(|_| Err(failure(io::ErrorKind::OutOfMemory.into())))
    }

    /// Starts the worker. Blocks for as long as the system takes to load the program, within a tokio runtime.
    fn start(self, node_end: BorrowedFd<'_>) -> Result<Body, StartFailure> {
        match self {
            Self::Process(plan) => {
                let path = plan.start.path();
                plan.start(node_end).map_err(|error| failure(explain_start(&path, &error), &error))
            }
            Self::Thread { socket, page } => start_thread(socket, page)
                .map_err(|error| failure(explain_shortage(&error), &error))
                .map(|()| Body::Thread),
        }
    }
}

/// Fails as if there were no descriptors left if there are few: the system always gives the lowest number that is free.
fn keep_some(new: &UnixStream) -> io::Result<()> {
    let limit = descriptors::limit();
    let kept = DESCRIPTORS_KEPT.min(limit / PART_KEPT);
    let number = u64::try_from(new.as_raw_fd()).unwrap_or_default();
    if number < limit - kept { Ok(()) } else { Err(Errno::MFILE.into()) }
}

impl Start {
    /// Where the program is, for people.
    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            #[cfg(target_os = "linux")]
            Self::Launched(launch) => launch.path().to_path_buf(),
        }
    }
}

impl ProcessPlan {
    fn start(self, node_end: BorrowedFd<'_>) -> io::Result<Body> {
        let Self { start, socket, page, arenas, files, environment } = self;
        keep_some(&socket.try_clone()?)?;
        super::memory::look();
        #[cfg(target_os = "linux")]
        let mut belongings = None;
        let mut command = match start {
            Start::File(path) => {
                let mut command = Command::new(path);
                // This process may be a job of a node itself.
                command.env_remove(NODE_VARIABLE);
                command
            }
            #[cfg(target_os = "linux")]
            Start::Launched(launch) => {
                let (command, its_own) = launch.command(node_end)?;
                belongings = Some(its_own);
                Command::from(command)
            }
        };
        let arenas = arenas.as_ref().map(|(node, worker)| (node.file(), worker));
        handover::give(node_end, &page, arenas, files.as_ref().map(OwnedFd::as_fd))?;
        command
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env(WORKER_ENVIRONMENT, &environment)
            // Jobs have no use for the secret of the cluster.
            .env_remove(SECRET_VARIABLE)
            .process_group(0);
        let child = Box::new(spawn(&mut command)?);
        Ok(Body::Process {
            child,
            inherited: Inherited::new(environment),
            #[cfg(target_os = "linux")]
            belongings,
        })
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    let busy_until = Instant::now() + BUSY_TIME;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < busy_until =>
            {
                thread::sleep(BUSY_PAUSE);
            }
            started => return started,
        }
    }
}

fn start_thread(socket: UnixStream, page: Arc<Page>) -> io::Result<()> {
    let serve = move || {
        if let Err(error) = crate::worker::run(socket, page, None, NodeGone::EndThread, None) {
            tracing::warn!(%error, "a worker thread ended");
        }
    };
    crate::worker::jobs_thread(serve).map(drop)
}

fn failure(reason: String, error: &io::Error) -> StartFailure {
    StartFailure { reason, stderr: Vec::new(), is_shortage: is_shortage(error) }
}

/// Whether the system lacks something that it may have again: descriptors, processes, memory.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// Text that says what is short, and what to do about it.
pub(crate) fn explain_shortage(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!(
            "{} descriptors, which is the limit here, are too few; raise it (ulimit -Hn, or LimitNOFILE= of the service)",
            descriptors::limit()
        ),
        Some(Errno::NFILE) => "the machine has no descriptors left (sysctl fs.file-max)".into(),
        Some(Errno::AGAIN) => {
            "no more processes and threads are permitted; raise the limit (ulimit -u, TasksMax= of the service, \
             --worker-processes, pids.max of the cgroup)"
                .into()
        }
        Some(Errno::NOMEM | Errno::NOBUFS) => format!("memory is short ({error})"),
        _ => format!("the system refused: {error}"),
    }
}

/// Why a program cannot be started, and what to do about it.
pub(crate) fn explain_start(path: &Path, error: &io::Error) -> String {
    if is_shortage(error) {
        return explain_shortage(error);
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound if path.exists() => {
            "the loader or interpreter that it names is missing here; was it built for another C library? \
             A build for a musl target runs anywhere"
        }
        io::ErrorKind::NotFound => "the file is gone",
        io::ErrorKind::PermissionDenied => {
            "the system does not permit it; is the file on a file system mounted noexec?"
        }
        io::ErrorKind::InvalidData => "the file holds another program by now",
        io::ErrorKind::ExecutableFileBusy => "somebody is still writing the file",
        _ if Errno::from_io_error(error) == Some(Errno::NOEXEC) => {
            "it is no program for this machine; was it built for another processor?"
        }
        _ => "the system refused",
    };
    format!("cannot start {}: {reason} ({error})", path.display())
}
