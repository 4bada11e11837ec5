//! Floods of strangers: whoever knows the secret gets in meanwhile, and loses nothing.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::Dispatcher;
use pp_protocol::connection::Message;
use pp_protocol::handshake;
use pp_protocol::limits::{BATCH_MESSAGES, LIST_ITEMS, MESSAGE_OVERHEAD_BYTES, PAYLOAD_BYTES, RECORD_BYTES};
use pp_protocol::record::{SEALED_BYTES, Sealer};
use pp_protocol::secret::Secret;
use pp_protocol::{AttemptId, Hello, JobId, Role, SessionId, ToNode};
use pp_tests::flood::{Flood, long_way};
use pp_tests::network::Network;
use pp_tests::process::{SECRET, Server, ServerOptions, resident};

use crate::jobs::{dispatcher, nap, square};

/// New connections a second.
const A_SECOND: u32 = 5_000;
/// Time for which dispatchers join one after the other, unless `FLOOD_SECONDS` says another.
const SECONDS: u64 = 3;

/// Has dispatchers join over a long way for as long as told, and yields how long the slowest took.
fn slowest_to_join(address: &str) -> Duration {
    let seconds = std::env::var("FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let started = Instant::now();
        let dispatcher = Dispatcher::builder().node(address).secret(SECRET);
        let dispatcher = dispatcher.local_workers(0).start().expect("it starts");
        assert_eq!(dispatcher.wait_for_nodes(1, Duration::from_secs(20)), 1, "{:?}", dispatcher.nodes());
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

/// A daemon withstands a flood from those addresses.
fn withstand(options: ServerOptions, target: IpAddr, sources: Vec<IpAddr>) {
    let server = Server::start_with(options);
    let near: SocketAddr = server.address().parse().expect("an address");
    let far = long_way(near, Duration::from_millis(50)).to_string();
    let usual = dispatcher([&server]);
    let flood = Flood::start(SocketAddr::new(target, server.port()), sources, A_SECOND);
    let jobs: Vec<_> = (0..2_000).map(|n| usual.submit(square, (n,))).collect();
    let started = Instant::now();
    let slowest = slowest_to_join(&far);
    let a_second = (flood.made() as f64 / started.elapsed().as_secs_f64()) as u32;
    println!("    {a_second} connections a second; the slowest dispatcher took {slowest:?}");
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    assert!(a_second > A_SECOND / 10, "{a_second} connections a second are none to withstand");
    assert!(slowest < Duration::from_secs(2), "one took {slowest:?}");
    let lines = server.log().lines().filter(|line| line.contains("have not proved")).count();
    assert!(lines < 40, "{lines} lines: {}", server.log());
}

pub(crate) fn a_flood_from_one_address_keeps_no_distant_dispatcher_out() {
    let [target, source] = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().expect("an address"));
    withstand(ServerOptions::default(), target, vec![source]);
}

/// Makes this program, on a host of its own, one that withstands a flood from addresses of one network.
pub(crate) const ON_A_HOST: &str = "CLUSTER_TEST_FLOODED";

/// Addresses of one customer (RFC 6177).
fn of_one_network() -> impl Iterator<Item = IpAddr> {
    (1..=200_u16).map(|n| Ipv6Addr::new(0xfd00, 0, 0, 7, 0, 0, 0, n).into())
}

pub(crate) fn withstand_one_network() {
    // Without an interface: it listens on all.
    let options = ServerOptions { arguments: Vec::new(), ..ServerOptions::default() };
    withstand(options, Ipv6Addr::LOCALHOST.into(), of_one_network().collect());
}

pub(crate) fn a_flood_from_many_addresses_of_one_network_keeps_no_distant_dispatcher_out() {
    if let Some(reason) = Network::forbidden() {
        return eprintln!("skipped, as no networks can be made here: {reason}");
    }
    let network = Network::start(1);
    let host = &network.hosts()[0];
    of_one_network().for_each(|address| host.add_address(&address.to_string()));
    let mut words = host.wrapper();
    words.push(std::env::current_exe().expect("this program has a path").display().to_string());
    let status = Command::new(&words[0]).args(&words[1..]).env(ON_A_HOST, "1").status();
    assert!(status.expect("it can be started").success());
}

pub(crate) fn a_thousand_connections_that_announce_the_largest_frame_take_no_memory() {
    let mut server = Server::start(1);
    let pid = server.process().id().as_raw_nonzero().get() as u32;
    let dispatcher = dispatcher([&server]);
    assert_eq!(dispatcher.submit(square, (5,)).wait(), Ok(25));
    let before = resident(pid);
    let mut most = before;
    let held: Vec<_> = (0..1_000)
        .map(|n| {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            // A greeting as it should be, then a frame of 4 KiB, of which there is one byte. Those that gave way are closed.
            let _ = stream.write_all(b"ppsv\x01\x01\x01\x00\x01\x00\x00\x10\x00");
            if n % 50 == 0 {
                assert_eq!(dispatcher.submit(square, (n,)).wait(), Ok(n * n));
                most = most.max(resident(pid));
            }
            stream
        })
        .collect();
    println!("    {} KiB more for {} connections", (most - before) >> 10, held.len());
    assert!(most < before + (20 << 20), "{before} bytes before, up to {most} then");
}

/// Kinds of records (`protocol/README.md`): whole messages, and the first piece of a large one.
const BATCH: u8 = 0;
const FIRST_SEGMENT: u8 = 1;
/// What a list of attempts to run begins with.
const RUN: u8 = 0xf0;
/// What arrives of things that do not go on.
const BEGUN_BYTES: usize = 4 << 10;

fn encoded(message: &ToNode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes, &mut |_, _| Ok(())).expect("it can be sent");
    bytes
}

/// The longest list that is no work.
fn longest_list() -> Vec<u8> {
    let attempt = |place| AttemptId { job: JobId::new(place, u32::MAX), number: u32::MAX };
    encoded(&ToNode::Cancel((0..LIST_ITEMS as u32).map(attempt).collect()))
}

/// Seals a record.
fn record(sealer: &mut Sealer, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let plain = [&parts.concat()[..], &[kind]].concat();
    let mut sealed = vec![0; plain.len() + SEALED_BYTES];
    sealer.seal(&plain, &mut sealed).expect("the keys are new");
    sealed
}

/// The beginning of a large message of so many bytes.
fn segment(sealer: &mut Sealer, announced: usize, begun: &[u8]) -> Vec<u8> {
    record(sealer, FIRST_SEGMENT, &[&(announced as u64).to_le_bytes(), begun])
}

/// What peers that know the secret say once they have greeted, and nothing after it.
type Says = fn(&mut Sealer) -> Vec<u8>;

const SAID: [(&str, Says); 5] = [
    ("the largest record, begun", |_| [&[0xff, 0xff][..], &[7; BEGUN_BYTES]].concat()),
    ("the longest list, begun", |sealer| {
        let list = longest_list();
        segment(sealer, list.len(), &list[..BEGUN_BYTES])
    }),
    ("the largest argument, begun", |sealer| {
        let begun = [&[RUN][..], &[7; BEGUN_BYTES]].concat();
        segment(sealer, PAYLOAD_BYTES + MESSAGE_OVERHEAD_BYTES, &begun)
    }),
    ("the longest list", |sealer| {
        let list = longest_list();
        let (first, rest) = list.split_at(list.len() / 2);
        const SEGMENT: u8 = 2;
        [segment(sealer, list.len(), first), record(sealer, SEGMENT, &[rest])].concat()
    }),
    ("records as large as they get", |sealer| {
        let message =
            encoded(&ToNode::Cancel(Vec::from([AttemptId { job: JobId::new(1, 1), number: 1 }; 16])));
        let count = BATCH_MESSAGES.min((RECORD_BYTES - SEALED_BYTES) / message.len());
        let whole = message.repeat(count);
        std::iter::repeat_with(|| record(sealer, BATCH, &[&whole])).take(8).collect::<Vec<_>>().concat()
    }),
];

/// Connects, proves to know the secret, greets, and says that.
async fn connect_and_say(address: &str, says: Says) -> std::io::Result<TcpStream> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let secret = Secret::parse(SECRET).expect("it is a secret");
    let keys = handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
    let mut sealer = Sealer::new(keys);
    let session = SessionId::random();
    let hello = Hello { session, name: "one of a crowd".into(), resume: None, fresh_workers: false };
    let mut said = record(&mut sealer, BATCH, &[&encoded(&ToNode::Hello(Box::new(hello)))]);
    said.extend(says(&mut sealer));
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.write_all(&said)?;
    Ok(stream)
}

pub(crate) fn a_thousand_peers_that_know_the_secret_and_stop_within_something_large_take_no_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut arguments = ServerOptions::default().arguments;
    // So long none of them is silent.
    arguments.extend(["-k", "120"].map(Into::into));
    let mut server = Server::start_with(ServerOptions { arguments, ..ServerOptions::default() });
    let pid = server.process().id().as_raw_nonzero().get() as u32;
    let dispatcher = dispatcher([&server]);
    assert_eq!(dispatcher.submit(square, (5,)).wait(), Ok(25));
    let before = resident(pid);
    let mut most = before;
    let said = SAID.into_iter().cycle().zip(0..1_000);
    let held: Vec<_> = said
        .map(|((what, says), n)| {
            let said = runtime.block_on(connect_and_say(&server.address(), says));
            let stream = said.unwrap_or_else(|error| panic!("{what}: {error}"));
            if n % 50 == 0 {
                assert_eq!(dispatcher.submit(square, (n,)).wait(), Ok(n * n));
                most = most.max(resident(pid));
            }
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(dispatcher.submit(square, (7,)).wait(), Ok(49));
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    most = most.max(resident(pid));
    let all = server.log().matches("one of a crowd").count();
    println!("    {} KiB more for {} connections", (most - before) >> 10, held.len());
    assert!(all >= held.len(), "{all} were let in: {}", server.log());
    // Some 14 KiB are what a session takes; 16.4 MiB were seen for all.
    assert!(most < before + (20 << 20), "{before} bytes before, up to {most} then");
}

pub(crate) fn strangers_leave_descriptors_to_whoever_is_in_where_workers_hold_most() {
    const WORKERS: usize = 40;
    let server = Server::start_with(ServerOptions {
        wrapper: vec!["prlimit".into(), "--nofile=256:256".into()],
        workers: WORKERS,
        ..ServerOptions::default()
    });
    let first = dispatcher([&server]);
    let jobs: Vec<_> = (0..WORKERS).map(|_| first.submit(nap, (300,))).collect();
    assert!(jobs.into_iter().all(|job| job.wait().is_ok()));
    let silent: Vec<_> = (0..600).map_while(|_| TcpStream::connect(server.address()).ok()).collect();
    assert_eq!(silent.len(), 600);
    let started = Instant::now();
    let second = dispatcher([&server]);
    let jobs: Vec<_> = (0..100).map(|n| second.submit(square, (n,))).collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait_timeout(Duration::from_secs(20)).map_err(|_| "it hangs"), Ok(Ok(n * n)));
    }
    println!("    the second dispatcher had its results after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!server.log().contains("no room for another connection"), "{}", server.log());
}
