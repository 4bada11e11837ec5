//! What others find of the secret: jobs of the node that they run on, whoever listens on the way, reads logs, lists
//! processes, or hopes for a core.

use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use pp_dispatcher::job;
use pp_protocol::secret::Secret;
use pp_tests::process::{Process, Server, ServerOptions, Signal, binary, command};
use pp_tests::wiretap::Wiretap;

use crate::jobs::{builder, square};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;
/// What hides the text that is looked for from whoever looks for it.
const VEIL: u8 = 0x5a;
/// Memory that is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// A secret, and all the forms in which its bytes could be somewhere: as it is written, its bits, the key that is made of
/// them, and that as people write numbers.
struct Known {
    text: String,
    forms: Vec<Vec<u8>>,
}

impl Known {
    fn new() -> Self {
        let bits = *Secret::random().key();
        let text = digits(&bits);
        let secret = Secret::parse(&text).expect("it is one");
        let key = secret.key();
        let forms = vec![text.clone().into_bytes(), bits.to_vec(), key.to_vec(), digits(key).into_bytes()];
        Self { text, forms }
    }

    fn veiled(&self) -> Vec<Vec<u8>> {
        self.forms.iter().map(|form| veil(form)).collect()
    }

    /// Whether it is among these bytes.
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.veiled().iter().any(|veiled| holds(bytes, veiled))
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("it is written to memory");
        digits
    })
}

fn veil(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ VEIL).collect()
}

/// Files that tell what processes were started with and hold one of these, which are veiled.
fn processes_with(veiled: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["environ", "cmdline"] {
        for process in std::fs::read_dir("/proc").expect("it is there").flatten() {
            let path = process.path().join(name);
            let is_one = |bytes: Vec<u8>| veiled.iter().any(|veiled| holds(&bytes, veiled));
            if std::fs::read(&path).is_ok_and(is_one) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Places in which a job finds one of what it is given veiled: its own memory, and what processes were started with.
#[job]
fn places_of(veiled: Vec<Vec<u8>>) -> Vec<String> {
    let mut places = processes_with(&veiled);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    let mut memory = File::open("/proc/self/mem").expect("it is this process's own");
    // What it shares with the node is large, empty, and made to be read.
    let is_own = |mode: &str| mode.starts_with('r') && mode.ends_with('p');
    let readable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(is_own));
    for line in readable {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        if is_held(&mut memory, start, end, &veiled) {
            places.push(format!("memory: {line}"));
        }
    }
    places
}

/// Whether a range of memory holds one of them. Pieces overlap; what cannot be read, as pages of the kernel, holds nothing.
fn is_held(memory: &mut File, start: u64, end: u64, veiled: &[Vec<u8>]) -> bool {
    let longest = veiled.iter().map(Vec::len).max().unwrap_or(0);
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = start;
    while at < end {
        let length = PIECE_BYTES.min((end - at) as usize);
        let read =
            memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read(&mut piece[..length])).unwrap_or(0);
        if veiled.iter().any(|veiled| holds(&piece[..read], veiled)) {
            return true;
        }
        // What was read is not to be found in this very buffer.
        piece[..read].fill(0);
        at += if read > longest { (read - longest) as u64 } else { PIECE_BYTES as u64 };
    }
    false
}

fn holds(bytes: &[u8], veiled: &[u8]) -> bool {
    let first = veiled[0] ^ VEIL;
    let begins = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(place, _)| place);
    begins
        .filter_map(|place| bytes.get(place..place + veiled.len()))
        .any(|found| found.iter().zip(veiled).all(|(byte, other)| byte ^ VEIL == *other))
}

pub(crate) fn no_job_finds_the_secret_in_its_memory_or_in_what_processes_were_started_with() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can act as somebody else");
    }
    let as_nobody =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from).to_vec();
    for (user, wrapper) in [(0, Vec::new()), (NOBODY, as_nobody)] {
        let store = tempfile::tempdir().expect("a directory");
        chown(store.path(), Some(user), Some(user)).expect("it is given away");
        let known = Known::new();
        let mut arguments = ServerOptions::default().arguments;
        arguments.extend(["--store".into(), store.path().display().to_string()]);
        let server = Server::start_with(ServerOptions {
            wrapper,
            arguments,
            secret: Some(known.text.clone()),
            ..ServerOptions::default()
        });
        let dispatcher = builder([&server]).secret(&known.text).start().expect("it starts");
        assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9), "a daemon that hides its memory runs jobs");
        let found = |veiled| dispatcher.submit(places_of, (veiled,)).wait().expect("it looks");
        assert_eq!(found(known.veiled()), [""; 0]);
        let there = found(vec![veil(b"PP_WORKER")]);
        assert!(there.iter().any(|place| place.starts_with("memory")), "it does find what is there");
        assert!(!known.is_in(server.log().as_bytes()), "and it is not logged");
    }
}

pub(crate) fn the_secret_is_in_no_log_no_core_no_other_process_and_not_on_the_wire() {
    let known = Known::new();
    let wrapper = ["sh", "-c", "ulimit -c unlimited && exec \"$0\" \"$@\""];
    let mut server = Server::start_with(ServerOptions {
        wrapper: wrapper.map(String::from).to_vec(),
        secret: Some(known.text.clone()),
        environment: vec![("PP_LOG".into(), "trace".into())],
        ..ServerOptions::default()
    });
    let wiretap = Wiretap::start(server.address().parse().expect("an address"));
    let address = wiretap.address.to_string();
    let dispatcher = builder([]).node(&address).secret(&known.text).start().expect("it starts");
    let jobs: Vec<_> = (0..100).map(|n| dispatcher.submit(square, (n,))).collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    // Its own environment is its user's; it is gone when processes are looked through.
    let mut ppctl = command(binary("ppctl"), server.home());
    ppctl.args(["nodes", "--time", "0", "--node", &address]).env("PP_DISCOVER", "0");
    let mut ppctl = Process::start(ppctl.env("PP_SECRET", &known.text).env("PP_LOG", "trace"));
    assert!(ppctl.wait().success(), "{}{}", ppctl.stdout(), ppctl.stderr());
    for (what, said) in [("daemon", server.log()), ("ppctl", ppctl.stderr() + &ppctl.stdout())] {
        assert!(said.contains("DEBUG"), "the {what} says all it can: {said}");
        assert!(!known.is_in(said.as_bytes()), "in the log of the {what}");
    }
    let (said, marked) = (wiretap.recorded(), veil(b"ppsv"));
    assert!(said.iter().filter(|said| holds(said, &marked)).count() >= 4, "two connections were recorded");
    assert!(said.iter().map(Vec::len).sum::<usize>() > 10_000, "with a program and a hundred jobs");
    assert!(!said.iter().any(|said| known.is_in(said)), "on the wire");
    assert_eq!(processes_with(&known.veiled()), [""; 0]);

    server.process().signal(Signal::ABORT);
    let ended = server.process().wait();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "{ended}");
    let home = tempfile::tempdir().expect("a directory");
    let mut other = Command::new("sh");
    let other = other.args(["-c", "ulimit -c unlimited && kill -ABRT $$"]).current_dir(home.path()).status();
    if !other.expect("a shell").core_dumped() {
        eprintln!("that it left no core shows nothing: others leave none here, either");
    }
}
