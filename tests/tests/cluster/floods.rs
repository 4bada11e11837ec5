//! Floods of strangers: whoever knows the secret gets in meanwhile, and loses nothing.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::Dispatcher;
use pp_tests::flood::{Flood, long_way};
use pp_tests::network::Network;
use pp_tests::process::{Server, ServerOptions, resident};

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
        let dispatcher = Dispatcher::builder().node(address).secret(pp_tests::process::SECRET);
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
