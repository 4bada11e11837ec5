//! What jobs find of the secret of the node that they run on.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::chown;

use pp_dispatcher::job;
use pp_protocol::secret::Secret;
use pp_tests::process::{Server, ServerOptions};

use crate::jobs::{builder, square};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;
/// What hides the text that is looked for from whoever looks for it.
const VEIL: u8 = 0x5a;
/// Memory that is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Places in which a job finds a text that it is given veiled: its own memory, and what processes were started with.
#[job]
fn places_of(veiled: Vec<u8>) -> Vec<String> {
    let mut places = Vec::new();
    for name in ["environ", "cmdline"] {
        for process in std::fs::read_dir("/proc").expect("it is there").flatten() {
            let path = process.path().join(name);
            if std::fs::read(&path).is_ok_and(|bytes| holds(&bytes, &veiled)) {
                places.push(path.display().to_string());
            }
        }
    }
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

/// Whether a range of memory holds it. Pieces overlap; what cannot be read, as pages of the kernel, holds nothing.
fn is_held(memory: &mut File, start: u64, end: u64, veiled: &[u8]) -> bool {
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = start;
    while at < end {
        let length = PIECE_BYTES.min((end - at) as usize);
        let read =
            memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read(&mut piece[..length])).unwrap_or(0);
        if holds(&piece[..read], veiled) {
            return true;
        }
        // What was read is not to be found in this very buffer.
        piece[..read].fill(0);
        at += if read > veiled.len() { (read - veiled.len()) as u64 } else { PIECE_BYTES as u64 };
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
        let secret = Secret::random();
        let mut arguments = ServerOptions::default().arguments;
        arguments.extend(["--store".into(), store.path().display().to_string()]);
        let server = Server::start_with(ServerOptions {
            wrapper,
            arguments,
            secret: Some(secret.text().into()),
            ..ServerOptions::default()
        });
        let dispatcher = builder([&server]).secret(secret.text()).start().expect("it starts");
        assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9), "a daemon that hides its memory runs jobs");
        let found = |text: &str| {
            let veiled = text.bytes().map(|byte| byte ^ VEIL).collect::<Vec<_>>();
            dispatcher.submit(places_of, (veiled,)).wait().expect("it looks")
        };
        assert_eq!(found(secret.text()), [""; 0]);
        assert!(
            found("PP_WORKER").iter().any(|place| place.starts_with("memory")),
            "it does find what is there"
        );
        assert!(!server.log().contains(secret.text()), "and it is not logged");
    }
}
