//! Metrics of a node: each is moved by what it counts, none falls that only rises, and whatever runs, they are few.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use pp_dispatcher::client::ProgramFiles;
use pp_dispatcher::{Dispatcher, Job, Output, job};
use pp_protocol::{
    Attempt, AttemptId, Digest, FromNode, FunctionId, Hello, JobId, ProgramId, Resume, SessionId, ToNode,
};
use pp_tests::http::{self, Answered};
use pp_tests::process::{OTHER_SECRET, Process, SECRET, Server, ServerOptions, command};
use pp_tests::wait::wait_until;
use ppserver::metrics::{Kind, METRICS};
use rustix::process::Signal;
use serde::ser::{Error, Serialize, Serializer};

use crate::jobs::{abort, builder, dispatcher, grow, nap, square};
use crate::peer::{PROGRAM, Peer, attempt};
use crate::programs::{client, number_of, submit};

/// Makes this program one that floods the node named by it, as soon as the file named by `CLUSTER_TEST_FILE` is there.
pub(crate) const FLOODING: &str = "CLUSTER_TEST_FLOODING";
/// Lines of a flood: more than a node keeps of a session.
const FLOOD_LINES: usize = 24_000;
/// Series that a node may have, whatever runs.
const MOST_SERIES: usize = 300;

/// A result that cannot be told to anybody.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it has no words"))
    }
}

#[job]
fn unspeakable() -> Unspeakable {
    Unspeakable
}

#[job]
fn panics() {
    panic!("as it is meant to");
}

/// Says that it has begun, waits for the file to be gone, and prints more than anybody keeps.
#[job]
fn flood(file: String) {
    std::fs::write(format!("{file}.begun"), "").expect("it can be written");
    let told = std::path::Path::new(&file);
    pp_tests::wait::wait_until("the word to go on", || told.exists());
    for _ in 0..FLOOD_LINES {
        println!("{}", "x".repeat(1_000));
    }
}

pub(crate) fn flood_from(node: &str) {
    let dispatcher = Dispatcher::builder().local_workers(0).node(node).output(Output::EventsOnly);
    let dispatcher = dispatcher.start().expect("it starts");
    let file = std::env::var("CLUSTER_TEST_FILE").expect("it was told");
    drop(dispatcher.submit(flood, (file,)).wait());
}

/// A node that serves HTTP.
struct Node {
    server: Server,
    http: String,
}

impl Node {
    fn start(workers: usize) -> Self {
        let mut options = ServerOptions { workers, ..ServerOptions::default() };
        options.arguments.extend(["--http", "127.0.0.1:0"].map(String::from));
        let mut server = Server::start_with(options);
        let said = server.process().wait_for_stderr("serves /metrics");
        let (_, rest) = said.split_once("http://").expect("it says where");
        let http = rest.split('/').next().expect("there is more").to_owned();
        Self { server, http }
    }

    fn get(&self, path: &str) -> Answered {
        http::get(&self.http, path)
    }

    fn scrape(&self) -> Scrape {
        let answered = self.get("/metrics");
        assert_eq!(answered.status, 200, "{answered:?}");
        Scrape::of(&answered.body)
    }
}

/// Values by series.
#[derive(Clone, Debug)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value follows");
            (series.to_owned(), value.parse().expect("a value is a number"))
        });
        Self(series.collect())
    }

    fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series} is not in {self:?}"))
    }

    /// Values of one metric.
    fn of_metric<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let belongs = move |series: &str| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', '_']) && is_part(rest))
        };
        self.0.iter().filter(move |(series, _)| belongs(series)).map(|(series, value)| (series, *value))
    }
}

/// Whether it is what comes behind the name of a metric, and not of a longer name.
fn is_part(rest: &str) -> bool {
    rest.starts_with('{') || ["_bucket{", "_sum", "_count"].iter().any(|part| rest.starts_with(part))
}

/// All that was seen of the metrics of one node.
struct Watched<'a> {
    node: &'a Node,
    last: Scrape,
    moved: BTreeMap<String, bool>,
}

impl<'a> Watched<'a> {
    fn begin(node: &'a Node) -> Self {
        let last = node.scrape();
        let moved = last.0.keys().map(|series| (series.clone(), false)).collect();
        Self { node, last, moved }
    }

    /// Looks again; what only rises has not fallen.
    fn look(&mut self) -> &Scrape {
        let now = self.node.scrape();
        for metric in METRICS.iter().filter(|metric| metric.kind() != Kind::Gauge) {
            for (series, value) in self.last.of_metric(metric.name) {
                assert!(now.value(series) >= value, "{series} fell from {value} to {}", now.value(series));
            }
        }
        for (series, moved) in &mut self.moved {
            *moved |= now.value(series) != self.last.value(series);
        }
        self.last = now;
        &self.last
    }

    /// Waits until a series has that value at least.
    fn see(&mut self, series: &str, least: f64) {
        wait_until(series, || self.look().value(series) >= least);
    }
}

fn outcome(kind: &str) -> String {
    format!("ppserver_attempts_total{{outcome=\"{kind}\"}}")
}

pub(crate) fn every_metric_is_moved_by_what_it_counts_and_no_counter_falls() {
    let mut node = Node::start(2);
    let mut seen = Watched::begin(&node);
    jobs_end_in_every_way(&node, &mut seen);
    peers_come_and_go(&node, &mut seen);
    strangers_prove_nothing(&node, &mut seen);
    programs_are_no_good(&node, &mut seen);
    a_dispatcher_is_lost_while_its_job_prints(&node, &mut seen);
    let moved = seen.moved;
    // At last: it is told to stop while something runs.
    let busy = dispatcher([&node.server]);
    let job = busy.submit(nap, (60_000,));
    wait_until("it to run", || node.scrape().value("ppserver_slots_busy") >= 1.0);
    assert_eq!(node.get("/readyz").status, 200);
    node.server.process().signal(Signal::TERM);
    wait_until("it to drain", || node.scrape().value("ppserver_draining") == 1.0);
    let ready = node.get("/readyz");
    assert!(ready.status == 503 && ready.body.contains("draining"), "{ready:?}");
    assert_eq!(node.get("/healthz").status, 200);
    drop(job);
    // What is as it is from the start, and the load, which is the machine's.
    let steady = ["build_info", "start_time_seconds", "cpus", "memory_bytes", "load_average", "draining"];
    for metric in METRICS {
        let is_steady = steady.iter().any(|name| metric.name.strip_prefix("ppserver_") == Some(name));
        let mut series = moved.iter().filter(|(series, _)| {
            series.strip_prefix(metric.name).is_some_and(|rest| rest.is_empty() || is_part(rest))
        });
        assert!(is_steady || series.any(|(_, moved)| *moved), "{} was not moved", metric.name);
    }
    let of_outcomes = moved.iter().filter(|(series, _)| series.starts_with("ppserver_attempts_total"));
    let unmoved: Vec<_> = of_outcomes.filter(|(_, moved)| !**moved).collect();
    assert!(unmoved.is_empty(), "{unmoved:?}");
}

fn jobs_end_in_every_way(node: &Node, seen: &mut Watched<'_>) {
    let dispatcher = dispatcher([&node.server]);
    assert_eq!(dispatcher.submit(square, (3,)).wait(), Ok(9));
    seen.see(&outcome("succeeded"), 1.0);
    seen.see("ppserver_programs_received_total", 1.0);
    let endings = [
        dispatcher.submit(panics, ()).wait().is_err(),
        dispatcher.submit(unspeakable, ()).wait().is_err(),
        dispatcher.job(nap, (60_000,)).timeout(Duration::from_millis(50)).submit().wait().is_err(),
        dispatcher.job(abort, ()).max_attempts(2).submit().wait().is_err(),
        dispatcher.submit(grow, (pp_protocol::limits::PAYLOAD_BYTES + 1,)).wait().is_err(),
    ];
    assert_eq!(endings, [true; 5]);
    let kinds = ["panicked", "bad_result", "timed_out", "worker_died", "result_too_large"];
    kinds.iter().for_each(|kind| seen.see(&outcome(kind), 1.0));
    seen.see("ppserver_attempt_retries_total", 1.0);
    seen.see("ppserver_workers_lost_total{reason=\"signal\"}", 2.0);
    let job = dispatcher.submit(nap, (60_000,));
    seen.see("ppserver_slots_busy", 1.0);
    let others: Vec<_> = (0..20).map(|_| dispatcher.submit(nap, (60_000,))).collect();
    seen.see("ppserver_dispatchers_queued_jobs", 15.0);
    others.iter().for_each(Job::cancel);
    job.cancel();
    seen.see(&outcome("cancelled"), 1.0);
    // Short ones are sent ahead of the slots.
    let naps: Vec<_> = (0..400).map(|_| dispatcher.submit(nap, (2,))).collect();
    seen.see("ppserver_attempts_queued", 1.0);
    assert!(naps.into_iter().all(|job| job.wait().is_ok()));
    assert!(seen.last.value("ppserver_attempt_duration_seconds_bucket{le=\"0.001\"}") >= 1.0);
    dispatcher.resize(&node.server.address(), 0).expect("it is connected");
    wait_until("no slots", || seen.look().value("ppserver_slots") == 0.0);
    let ready = node.get("/readyz");
    assert!(ready.status == 503 && ready.body.contains("no slots"), "{ready:?}");
    dispatcher.resize(&node.server.address(), 2).expect("it is connected");
    seen.see("ppserver_slots", 2.0);
}

/// Says something, and gives it the time that it takes to be sent.
fn say(peer: &mut Peer, message: ToNode) {
    peer.say(message);
    peer.listen();
}

fn peers_come_and_go(node: &Node, seen: &mut Watched<'_>) {
    let mut peer = Peer::dispatcher(&node.server);
    let unknown = |job| Attempt { program: ProgramId::BUILT_IN, ..attempt(job, Default::default()) };
    say(&mut peer, ToNode::Run(vec![unknown(1)]));
    seen.see(&outcome("unknown_function"), 1.0);
    let echo = number_of(&pp_node::built_in::echo);
    say(&mut peer, ToNode::Run(vec![Attempt { function: echo, ..unknown(2) }]));
    seen.see(&outcome("bad_arguments"), 1.0);
    // A program that it never offered: it goes back.
    say(&mut peer, ToNode::Run(vec![attempt(3, Default::default())]));
    seen.see(&outcome("returned"), 1.0);
    say(&mut peer, ToNode::Recall(vec![AttemptId { job: JobId::new(3, 0), number: 1 }]));
    seen.see("ppserver_attempts_recalled_total", 1.0);
    // It takes its outcomes, and says goodbye without having said so.
    say(&mut peer, ToNode::Goodbye);
    seen.see("ppserver_outcomes_dropped_total", 3.0);

    let session = SessionId::random();
    let greet = |resume| {
        let mut peer = Peer::connect(&node.server.address());
        let hello = Hello { session, name: "again".into(), resume, fresh_workers: false };
        peer.say(ToNode::Hello(Box::new(hello)));
        peer.hear("an answer", |told| matches!(told, FromNode::Welcome(_) | FromNode::Refused(_)));
        peer
    };
    let first = greet(None);
    let id = first.told.iter().find_map(|told| match told {
        FromNode::Welcome(welcome) => Some(welcome.node),
        _ => None,
    });
    drop(greet(None));
    seen.see("ppserver_connections_refused_total{reason=\"already_connected\"}", 1.0);
    drop(first);
    seen.see("ppserver_connections_lost_total", 1.0);
    let resume =
        Resume { node: id.expect("it was welcomed"), outcomes_received: 0, parts_taken: 0, held: Vec::new() };
    say(&mut greet(Some(resume)), ToNode::Goodbye);
    seen.see("ppserver_sessions_resumed_total", 1.0);
}

fn strangers_prove_nothing(node: &Node, seen: &mut Watched<'_>) {
    let other = builder([&node.server]).secret(OTHER_SECRET).start().expect("it starts");
    seen.see("ppserver_handshakes_failed_total{reason=\"other_secret\"}", 1.0);
    drop(other);
    let garbage = http::get(&node.server.address(), "/");
    assert_eq!(garbage.status, 0, "{garbage:?}");
    seen.see("ppserver_handshakes_failed_total{reason=\"not_ppserver\"}", 1.0);
    let silent: Vec<_> =
        (0..300).map(|_| TcpStream::connect(node.server.address()).expect("it listens")).collect();
    seen.see("ppserver_handshakes_crowded_total", 1.0);
    drop(silent);
    seen.see("ppserver_handshakes_failed_total{reason=\"closed\"}", 1.0);
}

fn programs_are_no_good(node: &Node, seen: &mut Watched<'_>) {
    let mut peer = Peer::dispatcher(&node.server);
    let digest = Digest([7; 32]);
    peer.offer(PROGRAM.0, digest, 10);
    peer.hear("to be asked for it", |told| matches!(told, FromNode::ProgramNeeded(_)));
    let bytes = bytes::Bytes::from_static(b"no program").into();
    say(&mut peer, ToNode::ProgramChunk { digest, number: 0, last: true, bytes });
    seen.see("ppserver_programs_failed_total", 1.0);
    say(&mut peer, ToNode::Goodbye);
    // A program that knows nothing of us: it ends instead of saying that it is ready.
    let program = ProgramFiles { own: false, builds: vec!["/bin/true".into()] };
    let stranger = client(&node.server, vec![program]);
    let told = submit(&stranger, PROGRAM, FunctionId(1), &(1_u64,));
    seen.see("ppserver_workers_failed_total", 1.0);
    drop((stranger, told));
}

fn a_dispatcher_is_lost_while_its_job_prints(node: &Node, seen: &mut Watched<'_>) {
    let home = tempfile::tempdir().expect("a directory");
    let (file, begun) = (home.path().join("go"), home.path().join("go.begun"));
    let mut command = command(std::env::current_exe().expect("a path"), home.path());
    command.env(FLOODING, node.server.address()).env("CLUSTER_TEST_FILE", &file).env("PP_SECRET", SECRET);
    let mut flooding = Process::start(&mut command);
    wait_until("its job to begin", || begun.exists());
    flooding.kill();
    std::fs::write(&file, "").expect("it can be written");
    seen.see("ppserver_output_lines_dropped_total", 1.0);
    seen.see("ppserver_sessions_lost_total", 1.0);
    seen.see("ppserver_workers_killed_total", 1.0);
}

pub(crate) fn fifty_dispatchers_make_no_series_and_promtool_finds_nothing_to_say() {
    let node = Node::start(2);
    let before = node.scrape().0.len();
    let peers: Vec<_> = (0..50).map(|_| Peer::dispatcher(&node.server)).collect();
    wait_until("all to be there", || node.scrape().value("ppserver_sessions") >= 50.0);
    let answered = node.get("/metrics");
    drop(peers);
    assert!(
        answered.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        answered.head
    );
    let series = Scrape::of(&answered.body).0.len();
    assert_eq!(series, before);
    assert!(series <= MOST_SERIES, "{series} series");
    let Ok(promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return println!(
            "SKIPPED: without promtool (Debian: prometheus) nobody judges the names of metrics here"
        );
    };
    std::io::Write::write_all(&mut promtool.stdin.as_ref().expect("it is piped"), answered.body.as_bytes())
        .expect("it reads");
    let judged = promtool.wait_with_output().expect("it ends");
    let said = [judged.stdout, judged.stderr].concat();
    assert!(judged.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
