//! How workers are started that run the programs of others: by a process of the node's own program, which confines itself
//! before it becomes the worker.
//!
//! ```text
//! node ──starts──> its own program: the launcher ──forks──> confines itself, then becomes the program: the worker
//!                    └── stays, as the worker's warden
//! ```
//!
//! What a program may not do is thus decided before it begins, by code that has one thread and is not its own; and the
//! process above it, which ends whatever its jobs leave behind, is none that it could have replaced. What the launcher
//! has to know waits in the socket that is its standard input, before what the [worker](crate::worker) is handed there:
//! nothing is inherited by number, named by a path that was looked at before, or seen in lists of processes.
//!
//! This decides nothing about jobs, nor which programs are started.

mod belongings;
mod executable;
mod groups;
mod in_force;
mod landlock;
mod seccomp;
mod system;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;

use pp_protocol::{Digest, codec};
use rustix::fs::Mode;
use rustix::fs::{Gid, Uid};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, setrlimit, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::belongings::Belongings;
use self::executable::{Executable, Executables};
use self::groups::Groups;
use self::in_force::InForce;
pub use self::in_force::NotConfined;
pub(crate) use self::in_force::check;
use self::landlock::{Rights, Ruleset};
use crate::confinement::{Confinement, Level, User};
use crate::pool::{explain_shortage, explain_start, is_shortage};
use crate::processes;
use crate::scratch::Scratch;
use crate::store::Place;
use crate::worker::{NOT_LAUNCHED, SHORTAGE, handover, warden};

/// Programs that begin so are scripts, which their interpreter reads from the descriptor.
const SCRIPT: &[u8; 2] = b"#!";

/// What programs need to run: they may read it, whatever else they may not.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc"];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
const SHARED_MEMORY: &str = "/dev/shm";
/// Names of directories for what workers write begin so.
const SCRATCH: &str = "ppserver-scratch-";

/// What a launcher is told, besides the program itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    /// What lists of processes show as the name of the program.
    name: OsString,
    /// The worker's own directory.
    scratch: OsString,
    /// Its control group, if it has one.
    group: Option<OsString>,
    /// Where the control groups of all are, which it may read and not change.
    groups: Option<OsString>,
    level: Level,
    user: Option<User>,
    hidden: Vec<OsString>,
    readable: Vec<OsString>,
    writable: Vec<OsString>,
    descriptors: Option<u64>,
    /// Bytes of each process.
    data: Option<u64>,
    /// Processes of its user.
    processes_of_user: Option<u64>,
}

/// A node's means to start launchers.
#[derive(Debug)]
pub struct Launcher {
    /// The environment of workers, but for what each has of its own.
    environment: Vec<(OsString, OsString)>,
    scratch: Arc<Scratch>,
    own: Arc<Executable>,
    sent: Executables,
    /// What was asked for.
    confinement: Confinement,
    /// What of that is.
    in_force: InForce,
}

impl Launcher {
    /// Prepares what all workers have in common. `own` is the program of this process, which is to have `slots` workers, and
    /// moves into a control group of its own if theirs are limited.
    ///
    /// # Errors
    /// When there is no place for what they write.
    pub(crate) fn new(confinement: &Confinement, own: &Path, slots: u32) -> io::Result<Self> {
        let mut confinement = confinement.clone();
        // The launcher is in another directory by then.
        let absolute = |path: &PathBuf| std::path::absolute(path);
        for paths in [&mut confinement.hidden, &mut confinement.readable, &mut confinement.writable] {
            *paths = paths.iter().map(absolute).collect::<io::Result<_>>()?;
        }
        let in_force = InForce::of(&confinement, slots);
        // Another user cannot read the file; who may change it, without Landlock, are jobs of this one.
        let is_kept_from_changes = in_force.level != Level::None && confinement.user.is_none();
        Ok(Self {
            environment: confinement.environment(std::env::vars_os()),
            scratch: Arc::new(Scratch::create_in(&std::env::temp_dir(), SCRATCH)?),
            own: Arc::new(Executable::own(own)?),
            // Where jobs can change the file that a program is kept in, it is started from a copy.
            sent: Executables::new(!is_kept_from_changes),
            in_force,
            confinement,
        })
    }

    /// What is in force, for people.
    pub(crate) fn in_force(&self) -> &str {
        &self.in_force.words
    }
}

/// A worker that is to be launched.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(crate) launcher: Arc<Launcher>,
    /// Digest and place of a program that was sent; or else it is the node's own.
    pub(crate) sent: Option<(Digest, Place)>,
}

impl Launch {
    /// Where the program is, for people.
    pub(crate) fn path(&self) -> &Path {
        self.sent.as_ref().map_or(self.launcher.own.path(), |(_, place)| &place.path)
    }

    /// The process that launches the worker, and what is removed after it. What it is told is in the socket
    /// whose other end is `node_end` then. Blocks for as long as it takes to read the program.
    ///
    /// # Errors
    /// When the program is not there, the worker cannot have a directory or group, or the socket does not take what is told.
    pub(crate) fn command(&self, node_end: BorrowedFd<'_>) -> io::Result<(Command, Belongings)> {
        let launcher = &self.launcher;
        let program = match &self.sent {
            Some((digest, place)) => launcher.sent.open(place, digest)?,
            None => Arc::clone(&launcher.own),
        };
        let scratch = launcher.scratch.part(launcher.confinement.user.as_ref())?;
        let InForce { level, groups, data, processes_of_user, .. } = &launcher.in_force;
        let group = groups.as_ref().map(Groups::for_worker).transpose()?;
        let Confinement { user, hidden, readable, writable, descriptors, .. } = &launcher.confinement;
        let names = |paths: &[PathBuf]| paths.iter().map(|path| path.into()).collect();
        let order = Order {
            name: program.path().into(),
            scratch: scratch.path().into(),
            group: group.as_ref().map(|group| group.path().into()),
            groups: groups.as_ref().map(|groups| groups.mount().into()),
            level: *level,
            user: user.clone(),
            hidden: names(hidden),
            readable: names(readable),
            writable: names(writable),
            descriptors: *descriptors,
            data: *data,
            processes_of_user: *processes_of_user,
        };
        let mut told = Vec::new();
        codec::encode(&order, &mut told).map_err(io::Error::other)?;
        handover::give_order(node_end, &told, program.as_fd())?;
        let mut command = Command::new("/proc/self/exe");
        command.env_clear().envs(launcher.environment.iter().map(|(name, value)| (name, value)));
        command.env("TMPDIR", scratch.path());
        Ok((command, Belongings::new(group, scratch)))
    }
}

/// Launches a worker, and does not return, if a node started this process for that: one whose standard input is the socket
/// of a worker.
pub(crate) fn launch_if_ordered() {
    let ordered = match handover::take_order() {
        Ok(None) => return,
        Ok(Some(ordered)) => ordered,
        Err(error) => fail("read what it was told", &error),
    };
    let (told, program) = ordered;
    let order = codec::decode(&told)
        .unwrap_or_else(|error| fail("understand what it was told", &io::Error::other(error)));
    launch(order, program)
}

fn launch(order: Order, program: OwnedFd) -> ! {
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let (mut command, mut handed) =
        handover::pass_on(Path::new(&path)).unwrap_or_else(|error| fail("be handed its socket", &error));
    handed.arenas = None;
    let files = handed.files.take();
    warden::adopt_orphans();
    handed.page.guard();
    let this = getpid();
    match fork(order.group.as_ref()) {
        Err(error) => fail("have a process for the worker", &error),
        Ok(Some(worker)) => {
            drop((command, program, files));
            warden::guard(worker, &handed, warden::End::Launcher)
        }
        Ok(None) => {
            drop(handed);
            if let Err((what, error)) = confine(&order, program.as_fd(), files.as_ref()) {
                fail(what, &error);
            }
            warden::be_guarded_by(this);
            let stays_open = is_script(&program);
            if let Err(error) = system::close_on_exec_from(3).and_then(|()| keep_open(&program, stays_open)) {
                fail("keep its descriptors to itself", &error);
            }
            let error = command.arg0(&order.name).exec();
            let _ = writeln!(io::stderr(), "{}", explain_start(Path::new(&order.name), &error));
            process::exit(if is_shortage(&error) { SHORTAGE } else { NOT_LAUNCHED })
        }
    }
}

/// Divides this process in two. The child, to which nothing is yielded, is in that control group.
#[expect(unsafe_code, reason = "the process is divided in two")]
fn fork(group: Option<&OsString>) -> io::Result<Option<Pid>> {
    let group = group.map(Path::new);
    if let Some(group) = group {
        let group = File::open(group)?;
        // SAFETY: this process has one thread only: nothing has been started in it yet.
        match unsafe { system::fork_into(group.as_fd()) } {
            Ok(child) => return Ok(child),
            Err(error) if is_shortage(&error) => return Err(error),
            // Kernels before 5.7, and filters of system calls, know no such thing; moving takes the kernel milliseconds.
            Err(_) => {}
        }
    }
    // SAFETY: as above.
    let child = unsafe { processes::fork()? };
    if let (None, Some(group)) = (child, group) {
        std::fs::write(group.join(groups::PROCESSES), "0")
            .unwrap_or_else(|error| fail("enter its control group", &error));
    }
    Ok(child)
}

/// Confines this process, and whatever it becomes or starts, for good. What it fails at is told: a program is not started
/// with less.
fn confine(
    order: &Order,
    program: BorrowedFd<'_>,
    files: Option<&OwnedFd>,
) -> Result<(), (&'static str, io::Error)> {
    fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> (&'static str, io::Error) {
        move |error| (what, error.into())
    }
    umask(Mode::RWXG | Mode::RWXO);
    // When memory runs out, the kernel should end a worker rather than the node. Where that is not permitted, its own choice
    // has to do.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    limit(Resource::Core, Some(0)).map_err(failed("do without core dumps"))?;
    limit(Resource::Nofile, order.descriptors).map_err(failed("have its descriptors limited"))?;
    // Not its address space: memory that is lent takes much of that, and is nobody's own.
    limit(Resource::Data, order.data).map_err(failed("have its memory limited"))?;
    limit(Resource::Nproc, order.processes_of_user).map_err(failed("have its processes limited"))?;
    // A session of its own has no terminal.
    setsid().map_err(failed("have a session of its own"))?;
    system::leave_keyring();
    std::env::set_current_dir(&order.scratch).map_err(failed("enter its directory"))?;
    let reach = reach(order, program, files).map_err(failed("list the files that it may reach"))?;
    drop_bounds();
    if let Some(user) = &order.user {
        become_user(user).map_err(failed("become another user"))?;
    }
    drop_capabilities().map_err(failed("give up its capabilities"))?;
    set_no_new_privs(true).map_err(failed("give up gaining privileges"))?;
    if let Some(reach) = reach {
        reach.enforce().map_err(failed("give up the files that it may not reach"))?;
    }
    let refused = match order.level {
        Level::None => return Ok(()),
        Level::Secrets if !seccomp::is_there() => return Ok(()),
        Level::Secrets => &[],
        Level::Strict => seccomp::REFUSED,
    };
    seccomp::enforce(refused).map_err(failed("give up system calls"))
}

fn limit(resource: Resource, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    // Nobody raises what is lower already.
    let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

/// What files are within reach, where that is not left to their permissions.
fn reach(order: &Order, program: BorrowedFd<'_>, files: Option<&OwnedFd>) -> io::Result<Option<Ruleset>> {
    let hidden: Vec<_> = order.hidden.iter().chain(&order.groups).map(PathBuf::from).collect();
    let ruleset = match order.level {
        Level::None => return Ok(None),
        Level::Secrets => {
            let ruleset = Ruleset::new(Rights::BUT_LISTING, &hidden)?;
            ruleset.grant(Path::new("/"), Rights::ALL)?;
            // Those of the same user could be left, and their limits lifted.
            order.groups.iter().try_for_each(|groups| ruleset.grant_reading(Path::new(groups)))?;
            ruleset
        }
        Level::Strict => {
            let ruleset = Ruleset::new(Rights::ALL, &hidden)?;
            let readable = SYSTEM.iter().map(Path::new).chain(order.readable.iter().map(Path::new));
            readable.into_iter().try_for_each(|path| ruleset.grant(path, Rights::READ))?;
            DEVICES.iter().try_for_each(|path| ruleset.grant(Path::new(path), Rights::USE_DEVICE))?;
            let writable = order.writable.iter().map(Path::new).chain([Path::new(SHARED_MEMORY)]);
            writable.into_iter().try_for_each(|path| ruleset.grant(path, Rights::ALL))?;
            ruleset
        }
    };
    ruleset.grant(Path::new(&order.scratch), Rights::ALL)?;
    if let Some(files) = files {
        ruleset.grant_directory(files.as_fd())?;
    }
    ruleset.grant_program(program)?;
    Ok(Some(ruleset))
}

/// None of what the process becomes can have a capability again.
fn drop_bounds() {
    for capability in CapabilitySet::all().iter() {
        // Not permitted to others than root, who have nothing to lose; and kernels know only some of them.
        let _ = remove_capability_from_bounding_set(capability);
    }
}

fn become_user(user: &User) -> io::Result<()> {
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (id, group) = (Uid::from_raw(user.id), Gid::from_raw(user.group));
    // Of the only thread of this process.
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(id, id, id)?)
}

/// What root may do because it is root is not for jobs, whatever user they run as.
fn drop_capabilities() -> io::Result<()> {
    // A kernel without such a set has nothing in it.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

fn is_script(program: &OwnedFd) -> bool {
    let mut first = [0; SCRIPT.len()];
    rustix::io::pread(program, &mut first, 0).is_ok_and(|count| count == first.len()) && first == *SCRIPT
}

fn keep_open(program: &OwnedFd, stays_open: bool) -> io::Result<()> {
    let flags = if stays_open { FdFlags::empty() } else { FdFlags::CLOEXEC };
    Ok(fcntl_setfd(program, flags)?)
}

/// Ends this process, and says why.
fn fail(what: &str, error: &io::Error) -> ! {
    let _ = match is_shortage(error) {
        true => writeln!(io::stderr(), "{}", explain_shortage(error)),
        false => writeln!(io::stderr(), "the worker could not {what}: {error}"),
    };
    process::exit(if is_shortage(error) { SHORTAGE } else { NOT_LAUNCHED })
}
