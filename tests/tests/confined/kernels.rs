//! Kernels that lack a means: what a node says is in force, and what is. They are made up by a filter of system calls around
//! the daemon, as service managers and containers have, or by answers to the question for the version of Landlock.

use std::ffi::c_void;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use pp_dispatcher::job;
use pp_tests::process::{Process, Signal, binary, command};
use rustix::process::{Pid, geteuid, kill_process, set_parent_process_death_signal};

use crate::node::{self, NOBODY, Node, Setting, confinement};

/// The first argument of this program where it is to start another one as on another kernel.
pub(crate) const ON_KERNEL: &str = "--on-kernel";

/// What a kernel says when it is asked.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// Every call of Landlock fails so.
    LandlockFails(i32),
    /// Its Landlock is of this version.
    Landlock(i64),
    /// It does not tell a process of itself by `prctl(PR_GET_AUXV)`, as before Linux 6.4.
    WithoutAuxv,
}

impl Kernel {
    /// What starts a program on such a kernel.
    fn wrapper(self) -> Vec<String> {
        let this = std::env::current_exe().expect("there is one");
        let told = match self {
            Self::LandlockFails(error) => format!("-{error}"),
            Self::Landlock(version) => version.to_string(),
            Self::WithoutAuxv => "0".into(),
        };
        vec![this.to_str().expect("paths here are text").to_owned(), ON_KERNEL.into(), told]
    }
}

/// The version that the kernel has, if any.
#[expect(unsafe_code, reason = "a system call that has no other name")]
fn version_here() -> i64 {
    // SAFETY: it is given no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<c_void>(), 0, 1) }
}

/// What a job gets at: whether it reads the secret, and may signal the daemon.
#[job]
fn probe(secret: PathBuf, daemon: i32) -> (bool, bool) {
    let daemon = Pid::from_raw(daemon).expect("a number");
    (std::fs::read(secret).is_ok(), kill_process(daemon, Signal::CONT).is_ok())
}

pub(crate) fn what_is_said_to_be_in_force_is_and_nothing_else_on_any_kernel() {
    let here = version_here();
    if here < 6 {
        return println!(
            "skipped: the Landlock of this kernel is version {here}, 6 is needed to make up older ones"
        );
    }
    let cases = [
        (Kernel::LandlockFails(libc::ENOSYS), "none (it has no Landlock"),
        (Kernel::LandlockFails(libc::EOPNOTSUPP), "none (its Landlock is switched off"),
        // As the filter of systemd 252's @system-service does.
        (Kernel::LandlockFails(libc::EPERM), "none (a filter of system calls refuses Landlock"),
        (Kernel::Landlock(1), "none (its Landlock is version 1"),
        (Kernel::Landlock(2), "secrets but for signals and truncation (its Landlock is version 2"),
        (Kernel::Landlock(4), "secrets but for signals (its Landlock is version 4"),
        (Kernel::Landlock(6), "secrets"),
        (Kernel::Landlock(here), "secrets"),
    ];
    for (kernel, wanted) in cases {
        let wrapper = kernel.wrapper();
        let mut node = Node::start_as(Setting { workers: 1, wrapper: &wrapper, ..Setting::default() });
        let dispatcher = node.dispatcher();
        let said = confinement(&dispatcher);
        assert!(said.starts_with(wanted) && (wanted != "secrets" || said == wanted), "{kernel:?}: {said}");
        let probed = dispatcher.submit(probe, (node.path("secret"), node.pid())).wait();
        let (reads, signals) = probed.expect("it is told");
        assert_eq!(reads, said.starts_with("none"), "{kernel:?}: {said}");
        assert_eq!(signals, said != "secrets", "{kernel:?}: {said}");
        // Whoever starts it reads why.
        assert_eq!(node.server.log().contains("WARN jobs can"), said != "secrets", "{}", node.server.log());
    }
}

pub(crate) fn strict_refuses_to_start_where_it_cannot_be_in_force() {
    let cases = [
        (Kernel::LandlockFails(libc::ENOSYS), "no Landlock"),
        (Kernel::LandlockFails(libc::EPERM), "SystemCallFilter="),
        (Kernel::Landlock(1), "version 1"),
    ];
    let files = node::files(if geteuid().is_root() { 0 } else { NOBODY });
    for (kernel, wanted) in cases {
        if matches!(kernel, Kernel::Landlock(_)) && version_here() < 1 {
            println!("skipped in part: the kernel has no Landlock");
            continue;
        }
        let wrapper = kernel.wrapper();
        let mut words = command(&wrapper[0], files.path());
        words.args(&wrapper[1..]).arg(binary("ppserver")).args(node::arguments(files.path()));
        let mut server = Process::start(words.args(["-p", "0", "--confine", "strict"]));
        let ended = server.wait();
        let said = server.stderr();
        assert!(!ended.success() && said.contains(wanted), "{kernel:?}: {said}");
        assert!(said.contains("choose --confine secrets or none"), "{said}");
    }
}

pub(crate) fn a_daemon_that_hides_its_memory_runs_jobs_on_kernels_before_6_4() {
    let wrapper = Kernel::WithoutAuxv.wrapper();
    let mut node = Node::start_as(Setting { workers: 1, wrapper: &wrapper, ..Setting::default() });
    let probed = node.dispatcher().submit(probe, (node.path("secret"), node.pid())).wait();
    assert!(probed.is_ok(), "{probed:?}: {}", node.server.log());
    assert!(!node.server.log().contains("panicked"), "{}", node.server.log());
}

/// Starts a program, given by `arguments` behind what the kernel is to say, in place of this one. Does not return.
pub(crate) fn start_on_kernel(mut arguments: impl Iterator<Item = String>) {
    let told: i64 = arguments.next().and_then(|told| told.parse().ok()).expect("a number");
    let failed = match told {
        ..0 => refuse_landlock(u32::try_from(-told).expect("an error")),
        0 => refuse_auxv(),
        version => answer_for_landlock(version),
    };
    failed.expect("it can be made up");
    let error = Command::new(arguments.next().expect("a program")).args(arguments).exec();
    panic!("it cannot be started: {error}");
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IS_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const YIELD: u32 = libc::BPF_RET | libc::BPF_K;
/// Where in what a filter sees the number of the call, its first and its third argument are.
const NUMBER_AT: u32 = 0;
const FIRST_AT: u32 = 16;
const FLAGS_AT: u32 = 32;

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn refuse_landlock(error: u32) -> io::Result<()> {
    let calls =
        [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    let [first, second, third] = calls.map(|call| call as u32);
    filter(
        &mut [
            step(LOAD, NUMBER_AT, 0, 0),
            step(IS_EQUAL, first, 2, 0),
            step(IS_EQUAL, second, 1, 0),
            step(IS_EQUAL, third, 0, 1),
            step(YIELD, libc::SECCOMP_RET_ERRNO | error, 0, 0),
            step(YIELD, libc::SECCOMP_RET_ALLOW, 0, 0),
        ],
        0,
    )
    .map(drop)
}

fn refuse_auxv() -> io::Result<()> {
    const PR_GET_AUXV: u32 = 0x4155_5856;
    filter(
        &mut [
            step(LOAD, NUMBER_AT, 0, 0),
            step(IS_EQUAL, libc::SYS_prctl as u32, 0, 3),
            step(LOAD, FIRST_AT, 0, 0),
            step(IS_EQUAL, PR_GET_AUXV, 0, 1),
            step(YIELD, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0, 0),
            step(YIELD, libc::SECCOMP_RET_ALLOW, 0, 0),
        ],
        0,
    )
    .map(drop)
}

/// Whoever asks for the version of Landlock is told this one, by a process that ends with this one.
fn answer_for_landlock(version: i64) -> io::Result<()> {
    let listener = filter(
        &mut [
            step(LOAD, NUMBER_AT, 0, 0),
            step(IS_EQUAL, libc::SYS_landlock_create_ruleset as u32, 0, 3),
            step(LOAD, FLAGS_AT, 0, 0),
            step(IS_EQUAL, 1, 0, 1),
            step(YIELD, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
            step(YIELD, libc::SECCOMP_RET_ALLOW, 0, 0),
        ],
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    )?;
    let parent = rustix::process::getpid();
    #[expect(unsafe_code, reason = "the process is divided in two")]
    // SAFETY: there is one thread only.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        _ => return Ok(()),
    }
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() != Some(parent) {
        std::process::exit(0);
    }
    // Whoever reads what the daemon writes waits for all that could write there.
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    loop {
        answer(listener, version);
    }
}

/// Answers one call that is held up.
#[expect(unsafe_code, reason = "calls that have no other name")]
fn answer(listener: i32, value: i64) {
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    // SAFETY: zeros are right in both structures, which the kernel reads and writes; they are there for as long.
    unsafe {
        let mut asked: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(listener, RECEIVE, &raw mut asked) == 0 {
            let mut told: libc::seccomp_notif_resp = std::mem::zeroed();
            (told.id, told.val) = (asked.id, value);
            libc::ioctl(listener, SEND, &raw mut told);
        }
    }
}

/// Puts a filter into force for this process and all that it becomes and starts.
#[expect(unsafe_code, reason = "calls that have no other name")]
fn filter(steps: &mut [libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    rustix::thread::set_no_new_privs(true)?;
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel reads the filter, which is there, and keeps a copy.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}
