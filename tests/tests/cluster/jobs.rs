//! Jobs for the nodes.

use std::time::Duration;

use pp_dispatcher::{Builder, Dispatcher, NodeInfo, NodeKind, Output, job};
use pp_tests::process::{SECRET, Server};
use pp_tests::wait::PATIENCE;

#[job]
pub(crate) fn square(n: u64) -> u64 {
    n * n
}

/// Sleeps, and yields the worker's process id.
#[job]
pub(crate) fn nap(milliseconds: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    std::process::id()
}

/// Waits until so many have begun, of which each leaves a file in `directory`, and yields the worker's process id.
#[job]
pub(crate) fn meet(directory: String, number: usize, count: usize) -> u32 {
    let directory = std::path::Path::new(&directory);
    std::fs::write(directory.join(number.to_string()), "").expect("it can be written");
    let have_come = || std::fs::read_dir(directory).expect("it is there").count() >= count;
    pp_tests::wait::wait_until("the others to begin", have_come);
    std::process::id()
}

/// Sleeps, and yields the square.
#[job]
pub(crate) fn slow_square(n: u64, milliseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    n * n
}

/// Appends its worker's process id to a file, then sleeps for ever.
#[job]
pub(crate) fn hang(file: String) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a file");
    writeln!(file, "{}", std::process::id()).expect("it can be written");
    std::thread::sleep(Duration::from_secs(3_600));
}

/// Starts processes in sessions of their own, appends their ids and its worker's to a file, then sleeps for ever.
#[job]
pub(crate) fn start_strays_and_hang(file: String) {
    let sleep = "sleep 3600 </dev/null >/dev/null 2>&1 &";
    let script = format!("{sleep} echo $!; (setsid sh -c '{sleep} echo $!')");
    let mut command = std::process::Command::new("setsid");
    let strays = command.args(["sh", "-c", &script]).output().expect("a shell can be started");
    let strays = String::from_utf8(strays.stdout).expect("numbers are text");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a file");
    let lines = format!("{strays}{}\n", std::process::id());
    std::io::Write::write_all(&mut file, lines.as_bytes()).expect("it can be written");
    std::thread::sleep(Duration::from_secs(3_600));
}

/// Number of descriptors a job may have.
#[job]
pub(crate) fn descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

#[job]
pub(crate) fn greet(name: String) {
    println!("hello {name}");
}

#[job]
pub(crate) fn echo(bytes: bytes::Bytes) -> bytes::Bytes {
    bytes
}

/// Returns so many bytes.
#[job]
pub(crate) fn grow(bytes: usize) -> bytes::Bytes {
    vec![7; bytes].into()
}

/// Uses so many bytes of memory, for a moment.
#[job]
pub(crate) fn eat_memory(bytes: usize) -> u64 {
    let eaten = vec![1_u8; bytes];
    std::hint::black_box(&eaten).iter().map(|byte| u64::from(*byte)).sum()
}

#[job]
pub(crate) fn abort() {
    eprintln!("I cannot go on");
    std::process::abort();
}

/// A dispatcher that knows the secret and has no cores of its own.
pub(crate) fn builder<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Builder {
    let addresses = servers.into_iter().map(Server::address);
    Dispatcher::builder()
        .local_workers(0)
        .discover(false)
        .secret(SECRET)
        .output(Output::EventsOnly)
        .nodes(addresses)
}

/// As [`builder`], started and connected to all of them.
pub(crate) fn dispatcher<'a>(servers: impl IntoIterator<Item = &'a Server> + Clone) -> Dispatcher {
    let dispatcher = builder(servers.clone()).start().expect("it starts");
    let count = servers.into_iter().count();
    assert_eq!(dispatcher.wait_for_nodes(count, PATIENCE), count, "{:?}", dispatcher.nodes());
    dispatcher
}

/// View of a server that the dispatcher has.
pub(crate) fn node(dispatcher: &Dispatcher, server: &Server) -> Option<NodeInfo> {
    dispatcher.nodes().into_iter().find(|node| node.address == server.address())
}

/// View of the only node that is not the dispatcher's own.
pub(crate) fn only_node(dispatcher: &Dispatcher) -> NodeInfo {
    let mut others = dispatcher.nodes().into_iter().filter(|node| node.kind != NodeKind::Local);
    others.next().expect("a node was named")
}
