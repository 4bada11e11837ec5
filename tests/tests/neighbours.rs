//! What dispatchers that share a node get at of each other's large payloads: by a job that searches all that its process has
//! for what is not its own, and by one that changes what it can of what the node let it read.
//!
//! An honest program closes the descriptors that its node hands it. This one has copies of them before the library does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use pp_dispatcher::{Dispatcher, job};
use pp_tests::process::{SECRET, Server, ServerOptions};
use pp_tests::wait::{PATIENCE, wait_until};
use rustix::fs::{
    FallocateFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fchmod, fcntl_add_seals, fcntl_getfl,
    ftruncate, seek,
};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Large enough to be lent.
const LARGE: usize = 2 << 20;
/// The name of memory that nodes and workers share.
const SHARED: &str = "/memfd:pp-payloads";
const PAGE: usize = 4096;

/// What a payload consists of; the pattern of each number is another.
fn pattern(number: u8) -> [u8; 32] {
    std::array::from_fn(|place| (place as u8).wrapping_mul(59).wrapping_add(number.wrapping_mul(101)) ^ 0x5a)
}

/// A pattern with each bit turned, to be told what to look for without having it.
fn turned(number: u8) -> Vec<u8> {
    pattern(number).iter().map(|byte| !byte).collect()
}

fn payload(number: u8) -> Bytes {
    pattern(number).repeat(LARGE / 32).into()
}

fn dispatcher(server: &Server) -> Dispatcher {
    let builder = Dispatcher::builder().local_workers(0).discover(false).secret(SECRET);
    let dispatcher = builder.nodes([server.address()]).start().expect("it starts");
    assert_eq!(dispatcher.wait_for_nodes(1, PATIENCE), 1, "{:?}", dispatcher.nodes());
    dispatcher
}

/// Has its arguments for as long as the connection to `gate` stays open, then yields them.
#[job]
fn hold(bytes: Bytes, gate: String) -> Bytes {
    let mut gate = TcpStream::connect(gate).expect("it is there");
    let _ = gate.read(&mut [0]);
    bytes
}

#[job]
fn echo(bytes: Bytes) -> Bytes {
    bytes
}

/// Where in this process these patterns are, which are told with their bits turned.
#[job]
fn search(_mine: Bytes, turned: [Vec<u8>; 2]) -> [Vec<String>; 2] {
    turned.map(|turned| search_all(&turned).expect("a process may look at itself"))
}

fn search_all(turned: &[u8]) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let memory = File::open("/proc/self/mem")?;
    for Mapping { range, name } in mappings()? {
        // What is on disk holds no payloads.
        let is_looked_at = !name.starts_with('/') || name.starts_with(SHARED) || name.starts_with("/dev/shm");
        if is_looked_at && !name.starts_with("[v") && contains(&memory, in_memory(range)?, turned) {
            found.push(name);
        }
    }
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        let name = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if name.starts_with("/memfd:") {
            let file = File::open(entry.path())?;
            if contains(&file, data(file.as_fd()), turned) {
                found.push(format!("descriptor of {name}"));
            }
        }
    }
    Ok(found)
}

/// Whether a page begins with the pattern, at whichever place of it: a payload that is nothing else fills pages.
fn contains(file: &File, parts: Vec<Range<u64>>, turned: &[u8]) -> bool {
    let mut bytes = Vec::new();
    parts.into_iter().any(|part| {
        bytes.resize((part.end - part.start) as usize, 0);
        let is_pattern = |bytes: &[u8]| bytes.iter().zip(turned).all(|(byte, turned)| *byte == !turned);
        let begins_so = |page: &[u8]| page[..2 * turned.len()].windows(turned.len()).any(is_pattern);
        file.read_exact_at(&mut bytes, part.start).is_ok() && bytes.chunks_exact(PAGE).any(begins_so)
    })
}

struct Mapping {
    range: Range<usize>,
    name: String,
}

/// What this process has mapped and may read.
fn mappings() -> io::Result<Vec<Mapping>> {
    let parse = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let name = rest.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        rest.starts_with('r').then_some(Mapping { range: address(start)?..address(end)?, name })
    };
    Ok(fs::read_to_string("/proc/self/maps")?.lines().filter_map(parse).collect())
}

/// The parts of a mapping that hold memory: to look at the others would make them do so.
#[expect(unsafe_code, reason = "there is no safe way to ask that")]
fn in_memory(range: Range<usize>) -> io::Result<Vec<Range<u64>>> {
    let mut is_there = vec![0_u8; range.len() / PAGE];
    // SAFETY: a byte is written for each page, and there is room for so many.
    if unsafe { libc::mincore(range.start as *mut libc::c_void, range.len(), is_there.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let place = |page: usize| (range.start + page * PAGE) as u64;
    let mut parts = Vec::new();
    let mut page = 0;
    for alike in is_there.chunk_by(|one, other| one & 1 == other & 1) {
        if alike[0] & 1 == 1 {
            parts.push(place(page)..place(page + alike.len()));
        }
        page += alike.len();
    }
    Ok(parts)
}

/// The parts of a file that hold memory.
fn data(file: BorrowedFd<'_>) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut end = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(end)) {
        end = seek(file, SeekFrom::Hole(start)).expect("there is one at the end");
        parts.push(start..end);
    }
    parts
}

/// What was tried, and what came of it.
type Attempts = Vec<(String, String)>;

/// What comes of attempts to change what the node lets this process read: of those that are to be refused; of those by
/// which its owner opens it anew, and whether this job's own arguments are others after that.
#[job]
fn attack(mine: Bytes) -> (Attempts, Attempts, bool) {
    let before = mine.to_vec();
    let (mut plain, mut anew) = (Attempts::new(), Attempts::new());
    for entry in fs::read_dir("/proc/self/fd").expect("it is there").flatten() {
        let path = entry.path();
        if !fs::read_link(&path).unwrap_or_default().starts_with(format!("{SHARED} (deleted)")) {
            continue;
        }
        let number: i32 = entry.file_name().to_string_lossy().parse().expect("it is a number");
        #[expect(unsafe_code, reason = "the descriptor is told by its number")]
        // SAFETY: nobody closes what this program keeps for itself.
        let given = unsafe { BorrowedFd::borrow_raw(number) };
        // Its own arena it has to be able to write to.
        if fcntl_getfl(given).expect("it is open").contains(OFlags::RDWR) {
            continue;
        }
        change(given, &path, &mut plain);
        let mode = fchmod(given, Mode::RUSR | Mode::WUSR);
        anew.push(("change its mode".into(), outcome(mode.map_err(Into::into))));
        let writable = OpenOptions::new().read(true).write(true).open(&path);
        if let Ok(writable) = &writable {
            overwrite(writable, &mut anew);
        }
        anew.push(("open it then".into(), outcome(writable)));
    }
    (plain, anew, before != mine)
}

fn outcome<T>(result: io::Result<T>) -> String {
    result.map_or_else(|error| format!("{:?}", error.kind()), |_| "done".into())
}

/// Whatever there is to change memory that one may read.
fn change(given: BorrowedFd<'_>, path: &Path, results: &mut Attempts) {
    let mut tried = |what: &str, result: io::Result<()>| results.push((what.into(), outcome(result)));
    let own = |result: rustix::io::Result<()>| result.map_err(io::Error::from);
    tried("write", own(rustix::io::pwrite(given, b"x", 0).map(drop)));
    tried("make it shorter", own(ftruncate(given, 0)));
    tried("seal it", own(fcntl_add_seals(given, SealFlags::WRITE)));
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    tried("clear it", own(fallocate(given, hole, 0, LARGE as u64)));
    tried("open it", OpenOptions::new().write(true).open(path).map(drop));
    let node = mappings().expect("they can be read");
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").expect("a process may change itself");
    #[expect(unsafe_code, reason = "mappings are to be made writable, which is to be refused")]
    // SAFETY: nothing in this process is changed by what is refused, and nothing of the new mappings is used.
    unsafe {
        let shared = |protection| mmap(std::ptr::null_mut(), LARGE, protection, MapFlags::SHARED, given, 0);
        tried("map it", own(shared(ProtFlags::READ | ProtFlags::WRITE).map(drop)));
        let readable = shared(ProtFlags::READ).expect("it may be read");
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        tried("make a mapping writable", own(mprotect(readable, LARGE, writable)));
        let advised = libc::madvise(readable, LARGE, libc::MADV_REMOVE);
        tried("clear a mapping", if advised == 0 { Ok(()) } else { Err(io::Error::last_os_error()) });
        tried("write to a mapping", memory.write_all_at(b"x", readable as u64));
    }
    assert!(node.iter().any(|mapping| mapping.name.starts_with(SHARED)));
}

/// Overwrites all that is in it, in two ways.
fn overwrite(file: &File, results: &mut Attempts) {
    let mut tried = |what: &str, result: io::Result<()>| results.push((what.into(), outcome(result)));
    for part in data(file.as_fd()) {
        let bytes = vec![0xee; (part.end - part.start) as usize];
        tried("overwrite it", file.write_all_at(&bytes, part.start));
    }
    tried("make it shorter then", ftruncate(file, 0).map_err(Into::into));
    tried("seal it then", fcntl_add_seals(file, SealFlags::WRITE).map_err(Into::into));
}

/// A job that runs until this is opened.
struct Gate(TcpListener);

impl Gate {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    fn address(&self) -> String {
        self.0.local_addr().expect("it has one").to_string()
    }

    /// Waits until the job stands before it, which goes on when what is yielded is dropped.
    fn reached(&self) -> TcpStream {
        self.0.accept().expect("it comes").0
    }
}

fn a_job_finds_nothing_of_what_another_dispatcher_sent() {
    const MINE: u8 = 1;
    const THEIRS: u8 = 2;
    let server = Server::start(3);
    let [mine, theirs] = [(); 2].map(|()| dispatcher(&server));
    let gate = Gate::new();
    // What is sent both before and after its worker is started.
    let held = [(); 2].map(|()| theirs.submit(hold, (payload(THEIRS), gate.address())));
    let reached = [(); 2].map(|()| gate.reached());
    let found = mine.submit(search, (payload(MINE), [MINE, THEIRS].map(turned)));
    let [own, others] = found.wait().expect("it searches");
    assert!(own.iter().any(|place| place.starts_with(SHARED)), "it finds what is there: {own:?}");
    assert!(own.iter().any(|place| place.starts_with("descriptor of")), "{own:?}");
    assert!(others.is_empty(), "{others:?}");
    drop(reached);
    assert!(held.into_iter().all(|held| held.wait() == Ok(payload(THEIRS))));
}

fn a_job_changes_nothing_of_what_another_dispatcher_sent() {
    attack_beside_others(&Server::start(3), true);
}

fn as_another_user_than_the_nodes_a_job_changes_nothing_at_all() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can have jobs run as somebody else");
    }
    let mut options = ServerOptions { workers: 3, ..ServerOptions::default() };
    options.arguments.extend(["--user".into(), "nobody".into()]);
    attack_beside_others(&Server::start_with(options), false);
}

fn attack_beside_others(server: &Server, owns_memory: bool) {
    let [mine, theirs] = [(); 2].map(|()| dispatcher(server));
    let gate = Gate::new();
    let held = theirs.submit(hold, (payload(2), gate.address()));
    let reached = gate.reached();
    let (plain, anew, is_changed) = mine.submit(attack, (payload(1),)).wait().expect("it tries");
    let what: Vec<_> = plain.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what.len(), 9, "{what:?}");
    assert!(plain.iter().all(|(_, result)| result != "done"), "{plain:?}");
    let of_owners: Vec<_> = anew.iter().filter(|(_, result)| result == "done").collect();
    assert_eq!((!of_owners.is_empty(), is_changed), (owns_memory, owns_memory), "{anew:?}");
    assert!(of_owners.iter().all(|(what, _)| !what.starts_with("seal") && !what.starts_with("make it")));
    drop(reached);
    assert!(held.wait() == Ok(payload(2)), "another dispatcher's arguments were changed");
    // The node is none the worse for it, and neither is whoever did it, from the next job on.
    for dispatcher in [&mine, &theirs] {
        assert!(dispatcher.submit(echo, (payload(3),)).wait() == Ok(payload(3)));
    }
}

/// How much a process has mapped, in bytes.
fn mapped(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
}

fn memory_of_a_session_is_there_while_it_is_needed() {
    const ARENA: u64 = 4 << 30;
    let mut server = Server::start(1);
    let pid = server.process().id().as_raw_pid();
    let first = dispatcher(&server);
    let idle: Vec<_> = (0..20).map(|_| dispatcher(&server)).collect();
    let without = mapped(pid);
    assert!(first.submit(echo, (payload(1),)).wait() == Ok(payload(1)));
    let with = mapped(pid);
    assert!(with >= without + ARENA, "the worker may read one");
    for dispatcher in &idle {
        assert!(dispatcher.submit(echo, (payload(2),)).wait() == Ok(payload(2)));
    }
    // One session has the worker, and what the others had is gone with theirs.
    wait_until("what was shared with other workers is gone", || mapped(pid) < with + ARENA);
    drop((first, idle));
    wait_until("all that was shared is gone", || mapped(pid) < without + ARENA);
}

/// Copies of what the node hands to this process, if it is a worker, which nobody closes.
fn keep_what_is_handed_over() {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    if recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut [0; 64])], &mut attached, flags).is_ok() {
        for message in attached.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    let _ = descriptor.into_raw_fd();
                }
            }
        }
    }
}

fn main() {
    keep_what_is_handed_over();
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![
        a_job_finds_nothing_of_what_another_dispatcher_sent,
        a_job_changes_nothing_of_what_another_dispatcher_sent,
        as_another_user_than_the_nodes_a_job_changes_nothing_at_all,
        memory_of_a_session_is_there_while_it_is_needed,
    ]);
}
