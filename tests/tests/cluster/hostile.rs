//! Peers and jobs that do what they should not: the others must not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::{JobError, NodeState};
use pp_protocol::connection::{self, Transport};
use pp_protocol::handshake;
use pp_protocol::secret::Secret;
use pp_protocol::{FromNode, Hello, Role, SessionId, ToNode};
use pp_tests::process::{SECRET, Server, ServerOptions, resident};
use pp_tests::wait::{wait_until, wait_within};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::jobs::{abort, builder, dispatcher, eat_memory, echo, grow, nap, only_node, square};

pub(crate) fn one_poison_job_among_a_thousand_costs_three_workers_and_nothing_else() {
    let servers = [Server::start(2), Server::start(2)];
    let dispatcher = dispatcher(&servers);
    let mut jobs: Vec<_> = (0..500).map(|n| dispatcher.submit(square, (n,))).collect();
    let poison = dispatcher.submit(abort, ());
    jobs.extend((500..999).map(|n| dispatcher.submit(square, (n,))));
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    let Err(JobError::Lost(history)) = poison.wait() else { panic!("it cannot have ended well") };
    assert_eq!(history.len(), 3);
    assert_ne!(history[0].node, "", "each says where");
    let died: usize = servers.iter().map(|server| server.log().matches("death=").count()).sum();
    assert_eq!(died, 3, "no other worker died");
}

pub(crate) fn a_length_that_is_a_lie_costs_the_daemon_no_memory() {
    let mut server = Server::start(1);
    let pid = server.process().id().as_raw_nonzero().get() as u32;
    let before = resident(pid);
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        // A greeting as it should be, then a frame of "4 GiB".
        let sent =
            stream.write_all(b"ppsv\x01\x01\x01\x00\x01\x00").and_then(|()| stream.write_all(&[0xff; 64]));
        assert!(sent.is_ok() || resident(pid) > 0);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        let mut answer = Vec::new();
        // Closed or reset: both are an end.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 64, "a stranger is told next to nothing");
    }
    let after = resident(pid);
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
    assert_eq!(dispatcher([&server]).submit(square, (5,)).wait(), Ok(25));
}

/// Length of a greeting, and of the node's answer to it (`protocol/README.md`).
const GREETING_BYTES: usize = 10;
const ANSWER_BYTES: usize = 26;

/// Bytes that a dispatcher that knows the secret sends before anything is sealed, as somebody on the way sees them.
fn recorded_first_flight(address: &str) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut node = TcpStream::connect(address).expect("it listens");
    runtime.block_on(async move {
        let (mut dispatcher, mut way) = tokio::io::duplex(4_096);
        let secret = Secret::parse(SECRET).expect("it is a secret");
        let recording = async move {
            let mut flight = vec![0; GREETING_BYTES];
            way.read_exact(&mut flight).await.expect("it greets");
            node.write_all(&flight).expect("it is open");
            let mut answer = [0; ANSWER_BYTES];
            node.read_exact(&mut answer).expect("it is answered");
            way.write_all(&answer).await.expect("it is open");
            let length = way.read_u16_le().await.expect("it proves what it knows");
            let mut message = vec![0; length.into()];
            way.read_exact(&mut message).await.expect("it is whole");
            flight.extend(length.to_le_bytes());
            flight.extend(message);
            // Somebody on the way goes on with it as they like: the node has not had it.
            flight
        };
        tokio::join!(recording, handshake::initiate(&mut dispatcher, &secret, Role::Dispatcher)).0
    })
}

/// Answer of a node after its greeting, until it closes.
fn answer_to(address: &str, flight: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    stream.write_all(flight).expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is closed in time");
    answer.split_off(ANSWER_BYTES)
}

pub(crate) fn a_recorded_first_flight_replayed_ten_thousand_times_opens_nothing_and_keeps_nobody_out() {
    let mut server = Server::start(1);
    let (pid, address) = (server.process().id().as_raw_nonzero().get() as u32, server.address());
    let flight = recorded_first_flight(&address);
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    let joined = || {
        let started = Instant::now();
        let dispatcher = dispatcher([&server]);
        assert_eq!(dispatcher.submit(square, (9,)).wait(), Ok(81));
        started.elapsed()
    };
    let usual = joined();
    let (memory_before, open_before) = (resident(pid), open());
    let most_open = std::thread::scope(|scope| {
        let replays: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..2_500 {
                        // One byte of a frame of one: the secret is not proved.
                        assert_eq!(answer_to(&address, &flight), [1, 0, 0x82]);
                    }
                })
            })
            .collect();
        let mut most = 0;
        while !replays.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            most = most.max(open());
            let took = joined();
            assert!(took < usual + Duration::from_secs(2), "{took:?} instead of {usual:?}");
        }
        most
    });
    assert!(most_open < open_before + 32, "{open_before} descriptors before, up to {most_open} meanwhile");
    wait_until("what was opened to be closed", || open() <= open_before);
    let memory = resident(pid);
    assert!(memory < memory_before + (8 << 20), "{memory_before} bytes before, {memory} after");
}

pub(crate) fn a_dispatcher_may_neither_resize_nor_drain_a_node() {
    let server = Server::start(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (order, name) in [(ToNode::Resize(7), "Resize"), (ToNode::Drain, "Drain")] {
        let refused = runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(server.address()).await.expect("it listens");
            let secret = Secret::parse(SECRET).expect("it is a secret");
            let keys = handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
            let (reader, writer) = stream.into_split();
            let mut transport = connection::over::<_, _, ToNode, FromNode>(reader, writer, keys);
            let hello = Hello {
                session: SessionId::random(),
                name: "it would like to".into(),
                resume: None,
                fresh_workers: false,
            };
            for message in [ToNode::Hello(Box::new(hello)), order] {
                transport.sender.send(message).expect("it is connected");
            }
            let mut received = Vec::new();
            while let Some(Ok(messages)) = transport.receiver.recv().await {
                received.extend(messages);
            }
            received.into_iter().find_map(|message| match message {
                FromNode::Refused(refusal) => Some(refusal.to_string()),
                _ => None,
            })
        });
        let refused = refused.unwrap_or_else(|| panic!("{name} was not refused: {}", server.log()));
        assert!(refused.contains(&format!("{name} is not for a connection of a dispatcher")), "{refused}");
    }
    let dispatcher = dispatcher([&server]);
    assert_eq!(dispatcher.submit(square, (9,)).wait(), Ok(81), "it does not drain");
    assert_eq!(only_node(&dispatcher).slots, 1);
}

pub(crate) fn a_dispatcher_that_stops_reading_is_cut_off_and_the_others_are_served() {
    let mut server = Server::start(1);
    let stuck = std::thread::spawn({
        let address = server.address();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
                let secret = Secret::parse(SECRET).expect("it is a secret");
                let keys =
                    handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
                let (reader, writer) = stream.into_split();
                // Small enough to fill up soon; nothing is taken out of it.
                let Transport { sender, receiver, .. } =
                    connection::over::<_, _, ToNode, FromNode>(reader, writer, keys);
                let hello = Hello {
                    session: SessionId::random(),
                    name: "stuck".into(),
                    resume: None,
                    fresh_workers: false,
                };
                sender.send(ToNode::Hello(Box::new(hello))).expect("it is connected");
                let started = Instant::now();
                // It neither answers nor asks: the node hears nothing, and closes.
                while !sender.is_closed() && started.elapsed() < Duration::from_secs(20) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                drop(receiver);
                started.elapsed()
            })
        }
    });
    let others = dispatcher([&server]);
    while !stuck.is_finished() {
        let asked = Instant::now();
        assert_eq!(others.submit(square, (7,)).wait(), Ok(49));
        assert!(asked.elapsed() < Duration::from_secs(2), "the others wait {:?}", asked.elapsed());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(stuck.join().expect("it does not panic") < Duration::from_secs(15), "it is cut off");
    server.process().wait_for_stderr("dispatcher connected");
}

pub(crate) fn a_result_or_an_argument_beyond_the_limit_is_an_outcome() {
    let server = Server::start(1);
    let dispatcher = dispatcher([&server]);
    let huge = vec![7_u8; (1 << 30) + 1];
    let error =
        dispatcher.submit(echo, (bytes::Bytes::from(huge),)).wait().expect_err("it is too much").to_string();
    assert!(error.contains("limit is 1073741824"), "{error}");
    let error = dispatcher.submit(grow, ((1 << 30) + 1,)).wait().expect_err("it is too much");
    assert!(matches!(error, JobError::TooLarge { limit: 1_073_741_824, .. }), "{error}");
    assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9));
}

/// A file system with next to no room, gone when dropped.
struct Tight(TempDir);

impl Tight {
    fn new(bytes: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "none"]).arg(directory.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        // What cannot be unmounted shows in the directory that cannot be removed.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

pub(crate) fn a_node_whose_disk_is_full_says_so_and_takes_part_once_there_is_room() {
    let Some(tight) = Tight::new("1m") else {
        return eprintln!("skipped: a file system cannot be mounted here (needs root)");
    };
    let store = tight.0.path().display().to_string();
    let mut full = Server::start_with(ServerOptions {
        environment: vec![("PP_STORE".into(), store.clone())],
        ..ServerOptions::default()
    });
    let dispatcher = builder([&full]).local_workers(1).start().expect("it starts");
    assert_eq!(dispatcher.submit(square, (8,)).wait(), Ok(64), "the other cores do the work");
    let node = wait_within(Duration::from_secs(20), "the node to say what is in the way", || {
        Some(only_node(&dispatcher)).filter(|node| {
            node.reason.as_ref().is_some_and(|reason| reason.to_string().contains("make room"))
        })
    });
    assert!(node.to_string().contains(&store), "{node}");
    assert_eq!(node.state, NodeState::Preparing, "it tries again");
    full.process().wait_for_stderr("program not stored");
    let is_empty = || std::fs::read_dir(tight.0.path()).expect("it is there").next().is_none();
    wait_until("nothing half to be left", is_empty);
    let mut mount = Command::new("mount");
    mount.args(["-o", "remount,size=1g"]).arg(tight.0.path());
    assert!(mount.status().is_ok_and(|status| status.success()), "there is room");
    wait_within(Duration::from_secs(40), "the node to take part", || {
        Some(only_node(&dispatcher)).filter(|node| node.state == NodeState::Connected)
    });
}

pub(crate) fn a_worker_killed_for_lack_of_memory_is_told_as_that() {
    // The memory controller of the first version of cgroups, or of the second.
    let groups = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(std::path::Path::new);
    let name = format!("pp-tests-{}", std::process::id());
    let made = groups.iter().zip(["memory.limit_in_bytes", "memory.max"]).find_map(|(root, limit)| {
        let group = root.join(&name);
        std::fs::create_dir(&group).ok()?;
        let limited = std::fs::write(group.join(limit), (300 << 20).to_string());
        if limited.is_err() {
            let _ = std::fs::remove_dir(&group);
        }
        limited.ok().map(|()| group)
    });
    let Some(group) = made else {
        return eprintln!("skipped: memory cannot be limited here (needs root and cgroups)");
    };
    let mut server = Server::start(1);
    let pid = server.process().id().as_raw_nonzero().to_string();
    std::fs::write(group.join("cgroup.procs"), pid).expect("it can be moved");
    {
        let dispatcher = dispatcher([&server]);
        let error = dispatcher.job(eat_memory, (600 << 20,)).max_attempts(1).submit().wait();
        let error = error.expect_err("there is not so much").to_string();
        assert!(error.contains("memory ran out"), "{error}");
        assert_eq!(dispatcher.submit(square, (6,)).wait(), Ok(36), "the daemon lives on");
    }
    server.process().kill();
    wait_until("the group to be empty", || std::fs::remove_dir(&group).is_ok());
}

pub(crate) fn five_hundred_silent_connections_keep_nobody_out() {
    let server = Server::start(1);
    let silent: Vec<_> = (0..500).map_while(|_| TcpStream::connect(server.address()).ok()).collect();
    assert!(silent.len() > 100);
    let dispatcher = dispatcher([&server]);
    assert!(dispatcher.submit(nap, (1,)).wait().is_ok());
}

pub(crate) fn strangers_that_hold_every_descriptor_do_not_keep_jobs_from_running() {
    let server = Server::start_with(ServerOptions {
        wrapper: vec!["prlimit".into(), "--nofile=64".into()],
        ..ServerOptions::default()
    });
    let silent: Vec<_> = (0..600).map_while(|_| TcpStream::connect(server.address()).ok()).collect();
    assert_eq!(silent.len(), 600);
    let started = Instant::now();
    let dispatcher = builder([&server]).start().expect("it starts");
    assert_eq!(dispatcher.wait_for_nodes(1, Duration::from_secs(15)), 1, "{:?}", dispatcher.nodes());
    let connected = started.elapsed();
    let jobs: Vec<_> = (0..100).map(|n| dispatcher.submit(square, (n,))).collect();
    for (n, job) in (0..).zip(jobs) {
        let result = job.wait_timeout(Duration::from_secs(20)).map_err(|_| "it hangs");
        assert_eq!(result, Ok(Ok(n * n)), "{}", server.log());
    }
    assert!(connected < Duration::from_secs(2), "it was kept out for {connected:?}");
    assert!(!server.log().contains("did not start"), "{}", server.log());
}
