//! Peers that know the secret and do not go on: with reading, with a program, with a large message. What they hold is bounded,
//! they are let go of, and whoever comes meanwhile is served.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_protocol::connection::{self, Message, Transport};
use pp_protocol::limits::{
    CLOSING_TIME, LARGE_BYTES_AT_NODE, PROGRAM_CHUNK_BYTES, PROGRAM_CHUNKS_AHEAD, QUEUED_BYTES,
    RECORD_PLAIN_BYTES, UPLOADS, UPLOADS_BEGUN,
};
use pp_protocol::record::{SEALED_BYTES, Sealer};
use pp_protocol::secret::Secret;
use pp_protocol::{
    Digest, FromNode, Hello, ProgramBuild, ProgramId, ProgramOffer, Role, SessionId, Target, ToNode,
    handshake,
};
use pp_tests::process::{SECRET, Server, ServerOptions, descriptors, most_resident, resident, threads};
use pp_tests::wait::{wait_until, wait_within};
use rustix::net::sockopt;

use crate::jobs::{dispatcher, echo, square};
use crate::peer::{HonestWork, pid};

fn hello() -> ToNode {
    ToNode::Hello(Box::new(Hello {
        session: SessionId::random(),
        name: "stuck".into(),
        resume: None,
        fresh_workers: false,
    }))
}

/// A peer that writes what it likes, and reads nothing.
struct Mute {
    stream: TcpStream,
    sealer: Sealer,
}

impl Mute {
    fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (stream, keys) = runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
            // Soon there is no more room for what it does not read.
            sockopt::set_socket_recv_buffer_size(&stream, 4 << 10).expect("a socket");
            let secret = Secret::parse(SECRET).expect("it is a secret");
            let keys = handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
            (stream.into_std().expect("a socket"), keys)
        });
        stream.set_nonblocking(false).expect("a socket");
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
        Self { stream, sealer: Sealer::new(keys) }
    }

    /// Writes a record, however long that takes until `stop`. Whether the connection is still open.
    fn record(&mut self, plain: &[u8], stop: &AtomicBool) -> bool {
        let mut sealed = vec![0; plain.len() + SEALED_BYTES];
        let length = self.sealer.seal(plain, &mut sealed).expect("the keys are new");
        let mut rest = &sealed[..length];
        while !rest.is_empty() && !stop.load(Ordering::Relaxed) {
            match self.stream.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Says all of it in one record.
    fn say(&mut self, messages: &[ToNode]) -> bool {
        let mut plain = Vec::new();
        for message in messages {
            message.encode(&mut plain, &mut |_, _| Ok(())).expect("it can be encoded");
        }
        // The kind of a record of whole messages.
        plain.push(0);
        self.record(&plain, &AtomicBool::new(false))
    }
}

/// A daemon that may have so many descriptors.
fn with_descriptors(limit: &str) -> Server {
    let wrapper = vec!["prlimit".into(), format!("--nofile={limit}:{limit}")];
    Server::start_with(ServerOptions { wrapper, workers: 1, ..ServerOptions::default() })
}

/// Time that somebody needs to come to the node with a program, and to run a job.
fn joined(server: &Server) -> Duration {
    let started = Instant::now();
    assert_eq!(dispatcher([server]).submit(square, (9,)).wait(), Ok(81));
    started.elapsed()
}

pub(crate) fn two_hundred_peers_that_are_closed_and_neither_read_nor_close_keep_nobody_out() {
    let mut server = with_descriptors("256");
    let pid = pid(&mut server);
    let usual = joined(&server);
    let before = descriptors(pid);
    let mut stuck = Vec::new();
    for _ in 0..200 {
        let mut peer = Mute::connect(&server.address());
        // Nobody greets twice.
        peer.say(&[hello(), hello()]);
        stuck.push(peer);
    }
    let took = joined(&server);
    assert!(took < slowed(usual), "{took:?} instead of {usual:?}");
    let began = Instant::now();
    wait_within(CLOSING_TIME + Duration::from_secs(2), "the descriptors to be given back", || {
        (descriptors(pid) <= before).then_some(())
    });
    eprintln!("descriptors were given back after {:?}", began.elapsed());
    drop(stuck);
}

pub(crate) fn a_peer_that_asks_without_end_and_reads_nothing_is_cut_off_and_costs_no_memory() {
    let mut server = Server::start(1);
    let pid = pid(&mut server);
    let mut work = HonestWork::begin(&server);
    let before = most_resident(pid);
    let mut peer = Mute::connect(&server.address());
    peer.say(&[hello()]);
    let questions: Vec<_> = (0..500).map(ToNode::Ping).collect();
    let began = Instant::now();
    let mut asked = 0;
    while peer.say(&questions) {
        asked += questions.len();
        let grew = most_resident(pid) - before;
        assert!(grew < 3 * QUEUED_BYTES as u64, "{asked} questions made the node grow by {grew} bytes");
        assert!(began.elapsed() < Duration::from_secs(20), "{asked} questions, and it is not cut off");
    }
    assert!(server.log().contains("it does not read what it is sent"), "{}", server.log());
    work.goes_on();
    work.ends();
}

/// Dispatchers that each offer programs and, once asked for one, send so many pieces of it and then nothing more. They answer
/// when they are asked whether they live, until this is dropped.
struct Crowd {
    /// Dispatchers that are welcome.
    there: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    /// Uploads that have come as far as they come.
    stuck: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn start(address: &str, dispatchers: u16, programs: u16, pieces: u32) -> Self {
        let [there, asked, stuck] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let stop = Arc::<AtomicBool>::default();
        let counts = [&there, &asked, &stuck].map(Arc::clone);
        let stopped = Arc::clone(&stop);
        let address = address.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for number in 0..dispatchers {
                    let transport = connect(&address).await;
                    tokio::spawn(send_in_part(transport, number, programs, pieces, counts.clone()));
                }
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { there, asked, stuck, stop, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("nothing is wrong with it");
        }
    }
}

async fn connect(address: &str) -> Transport<ToNode, FromNode> {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let secret = Secret::parse(SECRET).expect("it is a secret");
    let keys = handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
    let (reader, writer) = stream.into_split();
    connection::over(reader, writer, keys)
}

async fn send_in_part(
    transport: Transport<ToNode, FromNode>,
    dispatcher: u16,
    programs: u16,
    pieces: u32,
    [there, asked, stuck]: [Arc<AtomicUsize>; 3],
) {
    let Transport { sender, mut receiver, .. } = transport;
    let say = |message| {
        // It is no news if one of them is cut off.
        let _ = sender.send(message);
    };
    say(hello());
    for program in 0..programs {
        let mut digest = [7; 32];
        digest[..2].copy_from_slice(&dispatcher.to_le_bytes());
        digest[2..4].copy_from_slice(&program.to_le_bytes());
        let bytes = u64::from(pieces + 1) * PROGRAM_CHUNK_BYTES as u64;
        let build =
            ProgramBuild { digest: Digest(digest), target: Target::here(), bytes, name: "anything".into() };
        say(ToNode::Offer(ProgramOffer { program: ProgramId(program + 1), builds: vec![build] }));
    }
    let bytes = Bytes::from(vec![7; PROGRAM_CHUNK_BYTES]);
    let send = |digest, numbers: std::ops::Range<u32>| {
        for number in numbers.start.min(pieces)..numbers.end.min(pieces) {
            say(ToNode::ProgramChunk { digest, number, last: false, bytes: bytes.clone().into() });
        }
    };
    while let Some(Ok(messages)) = receiver.recv().await {
        for message in messages {
            match message {
                FromNode::Welcome(_) => {
                    there.fetch_add(1, Ordering::Relaxed);
                }
                FromNode::Ping(number) => say(ToNode::Pong(number)),
                FromNode::ProgramNeeded(digest) => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    send(digest, 0..PROGRAM_CHUNKS_AHEAD);
                }
                FromNode::ProgramWritten(digest, written) => {
                    let next = written + PROGRAM_CHUNKS_AHEAD - 1;
                    send(digest, next..next + 1);
                    stuck.fetch_add(usize::from(written == pieces), Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

/// Bytes of files that a process has open and that have no name any more: memory is none.
fn nameless_bytes(pid: u32) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let nameless = open.filter(|entry| {
        let name = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with("(deleted)") && !name.starts_with("/memfd:")
    });
    nameless.filter_map(|entry| Some(std::fs::metadata(entry.path()).ok()?.len())).sum()
}

/// The most that joining takes if nobody is waited for, where it usually takes so long. Those who kept others out did so for ten
/// seconds and more.
fn slowed(usual: Duration) -> Duration {
    2 * usual + Duration::from_secs(4)
}

pub(crate) fn programs_that_are_sent_in_part_take_bounded_disk_and_memory_and_make_way() {
    const PIECES: u32 = 100;
    const PROGRAM_BYTES: u64 = PIECES as u64 * PROGRAM_CHUNK_BYTES as u64;
    let usual = joined(&Server::start(1));
    let mut server = Server::start(1);
    let pid = pid(&mut server);
    let (memory_before, threads_before) = (most_resident(pid), threads(pid));
    let crowd = Crowd::start(&server.address(), 5, 2, PIECES);
    wait_until("as many as may be to be sent in part", || crowd.stuck.load(Ordering::Relaxed) >= UPLOADS);
    let took = joined(&server);
    assert!(took < slowed(usual), "{took:?} instead of {usual:?}");
    wait_until("the last two to be asked for", || crowd.asked.load(Ordering::Relaxed) >= 10);
    let (disk, grew) = (nameless_bytes(pid), most_resident(pid) - memory_before);
    let threads = threads(pid) - threads_before;
    eprintln!(
        "{took:?} instead of {usual:?}; {disk} bytes on disk, {grew} of memory, {threads} more threads"
    );
    assert!(disk <= 10 * PROGRAM_BYTES, "{disk} bytes on disk");
    let ahead = UPLOADS_BEGUN as u64 * u64::from(PROGRAM_CHUNKS_AHEAD) * PROGRAM_CHUNK_BYTES as u64;
    assert!(grew < ahead + (48 << 20), "the node grew by {grew} bytes");
    assert!(threads <= UPLOADS_BEGUN as u64, "{threads} more threads");
}

pub(crate) fn six_hundred_programs_that_are_offered_and_not_sent_keep_nobody_out() {
    const DISPATCHERS: u16 = 100;
    const PROGRAMS_OF_EACH: u16 = 6;
    let usual = joined(&Server::start(1));
    let mut server = Server::start(1);
    let pid = pid(&mut server);
    let (memory_before, threads_before) = (most_resident(pid), threads(pid));
    let crowd = Crowd::start(&server.address(), DISPATCHERS, PROGRAMS_OF_EACH, 0);
    wait_until("all to be there", || crowd.there.load(Ordering::Relaxed) == usize::from(DISPATCHERS));
    let took = joined(&server);
    let grew = most_resident(pid) - memory_before;
    let threads = threads(pid) - threads_before;
    eprintln!("{took:?} instead of {usual:?}; {grew} bytes of memory, {threads} more threads");
    assert!(took < slowed(usual), "{took:?} instead of {usual:?}");
    assert!(grew < 96 << 20, "the node grew by {grew} bytes");
    assert!(threads <= UPLOADS_BEGUN as u64, "{threads} more threads");
}

pub(crate) fn large_messages_that_arrive_in_part_are_put_together_within_a_budget() {
    const PEERS: usize = 12;
    const MESSAGE_BYTES: usize = 256 << 20;
    const PART_BYTES: usize = MESSAGE_BYTES / 10 * 9;
    const TIME: Duration = Duration::from_secs(12);
    let mut server = Server::start(1);
    let pid = pid(&mut server);
    let honest = dispatcher([&server]);
    let args = Bytes::from(vec![5; 16 << 20]);
    let echoed = || assert_eq!(honest.submit(echo, (args.clone(),)).wait().as_ref(), Ok(&args));
    echoed();
    let before = resident(pid);
    let (stop, cut_off) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..PEERS {
            scope.spawn(|| {
                let mut peer = Mute::connect(&server.address());
                peer.say(&[hello()]);
                // The length of all of it, attempts, and the kind of a first piece.
                let mut first = (MESSAGE_BYTES as u64).to_le_bytes().to_vec();
                first.push(0xf0);
                first.resize(60_000, 0);
                first.push(1);
                let mut sent = first.len();
                let mut is_open = peer.record(&first, &stop);
                let segment = vec![0; RECORD_PLAIN_BYTES];
                while is_open && sent < PART_BYTES && !stop.load(Ordering::Relaxed) {
                    is_open = peer.record(&segment, &stop);
                    sent += segment.len();
                }
                // It lives, and does not go on.
                while is_open && !stop.load(Ordering::Relaxed) {
                    is_open = peer.say(&[ToNode::Ping(1)]);
                    std::thread::park_timeout(Duration::from_millis(500));
                }
                cut_off.fetch_add(usize::from(!is_open), Ordering::Relaxed);
            });
        }
        let (began, mut most, mut rounds, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
        while began.elapsed() < TIME {
            let started = Instant::now();
            echoed();
            slowest = slowest.max(started.elapsed());
            rounds += 1;
            most = most.max(resident(pid).saturating_sub(before));
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!("{rounds} rounds, the slowest {slowest:?}; the node grew by {most} bytes");
        // One that grows is copied, and memory that was used lately is kept for a moment.
        let may_grow = LARGE_BYTES_AT_NODE + 2 * MESSAGE_BYTES + (128 << 20);
        assert!(most < may_grow as u64, "the node grew by {most} bytes");
        assert!(slowest < Duration::from_secs(6), "somebody honest waited {slowest:?}");
    });
    let cut_off = cut_off.load(Ordering::Relaxed);
    assert!((1..PEERS).contains(&cut_off), "{cut_off} were cut off");
    assert!(server.log().contains("while others waited for the room"), "{}", server.log());
    echoed();
}
