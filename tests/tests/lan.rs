//! Hosts on a network: `ppserver -a` on two of them, a dispatcher that was told nothing but the secret on the third.
//! They find each other, one dies and comes back, a cable is pulled.
//!
//! The dispatcher is this very program, started once more on its host. What happens to it is a story of lines of JSON
//! on its standard output, and the tests judge that.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pp_dispatcher::{ClusterEvent, Dispatcher, Job, JobError, job};
use pp_protocol::advert;
use pp_tests::adverts;
use pp_tests::network::{Host, Network};
use pp_tests::process::{Process, SECRET, Server, ServerOptions, binary, command};
use pp_tests::wait::wait_until;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// The argument that makes this program the dispatcher of a test.
const DISPATCHER: &str = "--dispatcher";
/// The argument that makes it a port that is watched.
const LISTENER: &str = "--listener";
/// The argument that makes it announce nodes that are none.
const STORM: &str = "--storm";
/// Tells a worker the name of its host.
const HOST_VARIABLE: &str = "LAN_TEST_HOST";
/// Tests at once: they wait for cables, silence and farewells most of the time.
const AT_ONCE: usize = 3;
/// Small jobs on their way at once.
const SMALL_AT_ONCE: usize = 500;

/// Worker that ran a job, and the result.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    host: String,
    worker: u32,
    value: u64,
}

impl Answer {
    fn new(value: u64) -> Self {
        let host = std::env::var(HOST_VARIABLE).expect("workers are given it");
        Self { host, worker: std::process::id(), value }
    }
}

/// Answer that `n` has to have: no other job has it.
fn expected(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// A job of a few milliseconds.
#[job]
fn small(n: u64) -> Answer {
    std::thread::sleep(Duration::from_millis(2 + n % 4));
    Answer::new(expected(n))
}

/// A job that takes a while, and writes down that it was started, and where.
#[job]
fn long(n: u64, milliseconds: u64, runs: PathBuf) -> Answer {
    let mut runs =
        fs::OpenOptions::new().append(true).create(true).open(runs).expect("the file can be written");
    let answer = Answer::new(expected(n));
    // One write of less than a page: lines of several processes do not mix.
    runs.write_all(format!("{n} {}\n", answer.host).as_bytes()).expect("the file can be written");
    std::thread::sleep(Duration::from_millis(milliseconds));
    answer
}

/// Plan of the dispatcher: some long jobs first, then small ones until it is stopped.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    long_jobs: u64,
    long_milliseconds: u64,
    /// File in which long jobs write down that they run.
    runs: PathBuf,
    /// Once there is such a file, no more jobs are submitted.
    stop: PathBuf,
}

/// A line of the dispatcher's story.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// The dispatcher was told by an event.
    Event { text: String, after_ms: u64 },
    /// A callback fired. The worker is the how-maniest that was heard of on its host.
    Called { host: String, worker: usize, job: u64, value: u64, at_ms: u64 },
    /// A callback fired with an error.
    Failed { job: u64, error: String },
    /// All long jobs have ended.
    Long {},
    /// Outcome of a job's handle.
    Outcome { job: u64, value: Result<u64, String> },
    /// Nothing follows.
    End { submitted: u64, late_outcomes: u64 },
}

fn print_line(line: &Line) {
    let text = serde_json::to_string(line).expect("a line can be written as JSON");
    println!("{text}");
}

fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis() as u64
}

/// The dispatcher's part. It knows the secret, from its environment, and that it is to look for nodes.
fn dispatch(plan: &Plan) {
    let started = Instant::now();
    let dispatcher = Dispatcher::builder().discover(true).local_workers(0).start().expect("it starts");
    let events = dispatcher.events();
    let telling = std::thread::spawn(move || {
        for event in events.filter(|event| !matches!(event, ClusterEvent::Printed { .. })) {
            print_line(&Line::Event {
                text: event.to_string(),
                after_ms: started.elapsed().as_millis() as u64,
            });
        }
    });

    let calls = Arc::<Calls>::default();
    let submit_long = |n| {
        let job = dispatcher.job(long, (n, plan.long_milliseconds, plan.runs.clone()));
        job.callback(calls.callback(n)).submit()
    };
    let mut jobs: Vec<Job<Answer>> = (0..plan.long_jobs).map(submit_long).collect();
    dispatcher.wait();
    print_line(&Line::Long {});

    for n in plan.long_jobs.. {
        wait_until("small jobs to end", || (n as usize) < calls.fired() + SMALL_AT_ONCE);
        if plan.stop.exists() {
            break;
        }
        jobs.push(dispatcher.job(small, (n,)).callback(calls.callback(n)).submit());
    }
    dispatcher.wait();
    let submitted = jobs.len() as u64;
    for (n, job) in (0..).zip(jobs) {
        let value = job.wait().map(|answer| answer.value).map_err(|error| error.to_string());
        print_line(&Line::Outcome { job: n, value });
    }
    let late_outcomes = dispatcher.stats().late_outcomes;
    dispatcher.shutdown();
    telling.join().expect("events can be told");
    print_line(&Line::End { submitted, late_outcomes });
}

/// Counts the callbacks, and tells of each.
#[derive(Default)]
struct Calls {
    fired: AtomicUsize,
    /// The workers of each host, in the order in which they were heard of.
    workers: Mutex<BTreeMap<String, Vec<u32>>>,
}

impl Calls {
    fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    fn callback(
        self: &Arc<Self>,
        job: u64,
    ) -> impl FnOnce(Result<Answer, JobError>) + Send + use<> + 'static {
        let calls = Arc::clone(self);
        move |result| {
            match result {
                Ok(answer) => {
                    let worker = calls.number_of(&answer);
                    let Answer { host, value, .. } = answer;
                    print_line(&Line::Called { host, worker, job, value, at_ms: now_ms() });
                }
                Err(error) => print_line(&Line::Failed { job, error: error.to_string() }),
            }
            calls.fired.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn number_of(&self, answer: &Answer) -> usize {
        let mut workers = self.workers.lock().expect("callbacks do not panic");
        let workers = workers.entry(answer.host.clone()).or_default();
        let known = workers.iter().position(|worker| *worker == answer.worker);
        1 + known.unwrap_or_else(|| {
            workers.push(answer.worker);
            workers.len() - 1
        })
    }
}

/// The dispatcher as the tests hold it.
struct Story {
    process: Process,
    plan: Plan,
    /// Directory of the plan's files.
    _home: TempDir,
}

impl Story {
    fn begin(host: &Host, long_jobs: u64, long_milliseconds: u64) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let (runs, stop) = (home.path().join("runs"), home.path().join("stop"));
        let plan = Plan { long_jobs, long_milliseconds, runs, stop };
        let wrapper = host.wrapper();
        let mut command = command(&wrapper[0], home.path());
        command.args(&wrapper[1..]).arg(std::env::current_exe().expect("this program has a path"));
        command.arg(DISPATCHER).arg(serde_json::to_string(&plan).expect("a plan can be written as JSON"));
        Self {
            process: Process::start(command.env("PP_SECRET", SECRET).env("PP_LOG", "warn")),
            plan,
            _home: home,
        }
    }

    /// Waits for a line, and yields it.
    fn wait_for(&self, part: &str) -> Line {
        let line = self.process.wait_for_stdout(part);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits until a worker of the host has answered, and yields when it did. Workers are counted from 1.
    fn wait_for_worker(&self, host: &str, worker: usize) -> u64 {
        match self.wait_for(&format!(r#"{{"called":{{"host":"{host}","worker":{worker},"#)) {
            Line::Called { at_ms, .. } => at_ms,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for an event, and yields how long after its start the dispatcher knew.
    fn wait_for_event(&self, text: &str) -> Duration {
        match self.wait_for(&format!(r#"{{"event":{{"text":"{text}"#)) {
            Line::Event { after_ms, .. } => Duration::from_millis(after_ms),
            other => panic!("{other:?}"),
        }
    }

    /// Hosts on which each long job was started, in order.
    fn runs(&self) -> BTreeMap<u64, Vec<String>> {
        let mut runs: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for line in fs::read_to_string(&self.plan.runs).unwrap_or_default().lines() {
            let (n, host) = line.split_once(' ').expect("a line has a number and a host");
            runs.entry(n.parse().expect("it is a number")).or_default().push(host.into());
        }
        runs
    }

    /// Has no more jobs submitted, and waits for the end.
    fn end(mut self) -> Ended {
        fs::write(&self.plan.stop, "").expect("a file");
        let status = self.process.wait();
        assert!(status.success(), "{status}: {}", self.process.stderr());
        let text = self.process.stdout();
        Ended(text.lines().map(|line| serde_json::from_str(line).expect("it is a line")).collect())
    }
}

/// A story that has ended.
struct Ended(Vec<Line>);

impl Ended {
    /// Asserts that every job had its own right result, once, and that its callback fired once; yields how many there
    /// were, and how many each host answered.
    fn judge(&self) -> (u64, BTreeMap<&str, u64>) {
        let (mut calls, mut outcomes) = (BTreeMap::<u64, u32>::new(), BTreeMap::<u64, u32>::new());
        let mut by_host = BTreeMap::new();
        let mut end = None;
        for line in &self.0 {
            match line {
                Line::Called { job, value, host, .. } => {
                    assert_eq!(*value, expected(*job), "the callback of {job} had the result of another");
                    *calls.entry(*job).or_insert(0) += 1;
                    *by_host.entry(host.as_str()).or_insert(0) += 1;
                }
                Line::Outcome { job, value } => {
                    assert_eq!(*value, Ok(expected(*job)), "job {job}");
                    *outcomes.entry(*job).or_insert(0) += 1;
                }
                Line::Failed { job, error } => panic!("job {job} failed: {error}"),
                Line::End { submitted, .. } => end = Some(*submitted),
                Line::Event { .. } | Line::Long {} => {}
            }
        }
        let submitted = end.expect("the story was told to its end");
        for (what, counts) in [("callbacks", calls), ("outcomes", outcomes)] {
            let not_once = |job: &u64| counts.get(job) != Some(&1);
            let wrong: Vec<_> = (0..submitted).filter(not_once).map(|job| (job, counts.get(&job))).collect();
            assert!(wrong.is_empty(), "each job has exactly one of {what}, but not these: {wrong:?}");
            assert_eq!(counts.len() as u64, submitted, "{what} of jobs that were never submitted");
        }
        (submitted, by_host)
    }

    fn late_outcomes(&self) -> u64 {
        let late = self.0.iter().find_map(|line| match line {
            Line::End { late_outcomes, .. } => Some(*late_outcomes),
            _ => None,
        });
        late.expect("the story was told to its end")
    }

    fn events(&self) -> Vec<&str> {
        let mut events = Vec::new();
        for line in &self.0 {
            if let Line::Event { text, .. } = line {
                events.push(text.as_str());
            }
        }
        events
    }
}

/// `ppserver -a -d` on a host, with two workers.
fn server(host: &Host, name: &str) -> Server {
    Server::start_with(options(host, name))
}

fn options(host: &Host, name: &str) -> ServerOptions {
    ServerOptions {
        wrapper: host.wrapper(),
        arguments: ["-a", "--name", name, "--worker-env", HOST_VARIABLE].map(Into::into).into(),
        environment: vec![(HOST_VARIABLE.into(), name.into())],
        ..ServerOptions::default()
    }
}

fn nodes_are_found_and_one_that_is_killed_loses_nothing_and_is_used_again() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let (mut first, _second) = (server(one, "one"), server(two, "two"));
    let story = Story::begin(three, 0, 0);
    for name in ["one", "two"] {
        let found = story.wait_for_event(&format!("{name} connected with 2 slots"));
        println!("    {name} was found after {found:?}");
        assert!(found < Duration::from_secs(3), "{name} was found only after {found:?}");
        story.wait_for_worker(name, 2);
    }
    story.wait_for(r#""job":1000,"#);

    first.process().signal(Signal::KILL);
    story.wait_for_event("one is lost");
    story.wait_for(r#""job":2000,"#);

    let restarted = SystemTime::now();
    first.restart();
    // The third worker that is heard of is one of the new ppserver.
    let used = story.wait_for_worker("one", 3);
    let used = UNIX_EPOCH + Duration::from_millis(used);
    let used = used.duration_since(restarted).expect("a killed node answers no more");
    println!("    the killed node was used again {used:?} after its restart began");
    assert!(used < Duration::from_secs(5), "it was used again only after {used:?}");
    story.wait_for_worker("one", 4);

    let ended = story.end();
    let (submitted, by_host) = ended.judge();
    println!("    {submitted} jobs: {by_host:?}");
    assert!(submitted > 2_000, "{submitted}");
    let fair = submitted / 10;
    assert!(by_host.len() == 2 && by_host.values().all(|jobs| *jobs > fair), "both take part: {by_host:?}");
    let lost: Vec<_> = ended.events().into_iter().filter(|event| event.contains("is lost")).collect();
    println!("    {lost:?}");
    assert!(lost.len() == 1 && !lost[0].contains(" 0 jobs queued"), "it was killed amid its jobs: {lost:?}");
}

fn a_cable_pulled_for_three_seconds_costs_nothing() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let (_first, _second) = (server(one, "one"), server(two, "two"));
    let story = Story::begin(three, 4, 5_000);
    wait_until("every job to run", || story.runs().len() == 4);
    one.unplug();
    hold(Duration::from_secs(3));
    one.plug();
    story.wait_for(r#""long""#);

    let (runs, ended) = (story.runs(), story.end());
    ended.judge();
    let on_one = runs.values().filter(|hosts| **hosts == ["one"]).count();
    assert_eq!((runs.len(), on_one), (4, 2), "{runs:?}");
    assert!(runs.values().all(|hosts| hosts.len() == 1), "nothing is run again: {runs:?}");
    let events = ended.events();
    assert!(!events.iter().any(|event| event.contains("is lost")), "{events:#?}");
}

fn a_cable_pulled_for_eight_seconds_has_jobs_run_elsewhere_and_the_node_is_used_again() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let (_first, _second) = (server(one, "one"), server(two, "two"));
    let story = Story::begin(three, 4, 4_000);
    wait_until("every job to run", || story.runs().len() == 4);
    one.unplug();
    let unplugged = Instant::now();
    story.wait_for_event("one is lost");
    let lost = unplugged.elapsed();
    println!("    the unplugged node was given up after {lost:?}");
    wait_until("its jobs to run elsewhere", || story.runs().values().map(Vec::len).sum::<usize>() >= 6);
    let rerun = unplugged.elapsed();
    hold(Duration::from_secs(8).saturating_sub(rerun));
    assert!(rerun < Duration::from_secs(8), "they ran elsewhere only after {rerun:?}");
    one.plug();
    let plugged = Instant::now();
    story.wait_for(r#""long""#);
    // Its workers are those it had: the long jobs' answers of them were too late, so these are the first heard.
    story.wait_for_worker("one", 1);
    let used = plugged.elapsed();
    println!("    it was used again at most {used:?} after it was plugged in");
    assert!(used < Duration::from_secs(5), "it was used again only after {used:?}");

    let (runs, ended) = (story.runs(), story.end());
    ended.judge();
    let mut histories: Vec<_> = runs.values().map(|hosts| hosts.join(", ")).collect();
    histories.sort();
    assert_eq!(histories, ["one, two", "one, two", "two", "two"], "{runs:?}");
    println!("    {} outcomes came too late and were dropped", ended.late_outcomes());
}

fn a_node_that_hears_nothing_gets_no_new_jobs_and_its_own_run_elsewhere() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let (_first, _second) = (server(one, "one"), server(two, "two"));
    let story = Story::begin(three, 4, 8_000);
    wait_until("every job to run", || story.runs().len() == 4);
    one.deafen();
    // What it says still arrives, and so it is not silent; but it answers nothing.
    story.wait_for_event("one is silent");
    story.wait_for_event("one is lost");
    wait_until("its jobs to run elsewhere", || story.runs().values().map(Vec::len).sum::<usize>() >= 6);
    one.undeafen();
    story.wait_for(r#""long""#);
    story.wait_for_worker("one", 1);

    let (runs, ended) = (story.runs(), story.end());
    ended.judge();
    let mut histories: Vec<_> = runs.values().map(|hosts| hosts.join(", ")).collect();
    histories.sort();
    assert_eq!(histories, ["one, two", "one, two", "two", "two"], "{runs:?}");
}

/// `ppctl` on a host, started.
fn ppctl(host: &Host, home: &TempDir, arguments: &[&str]) -> Process {
    ppctl_with(host, home, SECRET, arguments)
}

fn ppctl_with(host: &Host, home: &TempDir, secret: &str, arguments: &[&str]) -> Process {
    let wrapper = host.wrapper();
    let mut command = command(&wrapper[0], home.path());
    command.args(&wrapper[1..]).arg(binary("ppctl")).args(arguments);
    Process::start(command.env("PP_SECRET", secret).env("PP_LOG", "pp_dispatcher=debug"))
}

/// List of `ppctl nodes --json` in the end, in order: names and states.
fn listed(ppctl: Process) -> Vec<(String, String)> {
    let listed = listed_with_reasons(ppctl);
    listed.into_iter().map(|(name, state, _)| (name, state)).collect()
}

/// The same, with the reasons why nodes are not used.
fn listed_with_reasons(mut ppctl: Process) -> Vec<(String, String, String)> {
    ppctl.wait();
    let nodes: serde_json::Value = serde_json::from_str(&ppctl.stdout()).unwrap_or_else(|error| {
        panic!("{error}: {}{}", ppctl.stdout(), ppctl.stderr());
    });
    let text = |node: &serde_json::Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let nodes = nodes.as_array().expect("it is a list");
    let line = |node| (text(node, "name"), text(node, "state"), text(node, "reason"));
    let mut listed: Vec<_> = nodes.iter().map(line).collect();
    listed.sort();
    listed
}

fn a_node_is_found_whatever_its_name_and_its_farewell_is_heard() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let long =
        ["x".repeat(55), "ü".repeat(127), format!("{}1", "y".repeat(254)), format!("{}2", "y".repeat(254))];
    let mut names: Vec<&str> = long.iter().map(String::as_str).collect();
    names.extend(["render1.example.org", "a.b", "a\\b", "日本語", "Living Room (2)"]);
    let named =
        |host: &Host, name: &str, port| Server::start_with(ServerOptions { port, ..options(host, name) });
    let mut servers: Vec<_> = names.iter().map(|name| named(one, name, 0)).collect();
    // Of the same name and at the same port, on two hosts.
    servers.extend([named(one, "twin", 60_000), named(two, "twin", 60_000)]);
    names.extend(["twin", "twin"]);
    names.sort_unstable();
    let home = tempfile::tempdir().expect("a directory");
    let look = |seconds| ppctl(three, &home, &["nodes", "--json", "--time", seconds]);
    let (now, watching) = (look("4"), look("60"));
    let expected: Vec<_> = names.iter().map(|name| (name.to_string(), "connected".to_owned())).collect();
    assert_eq!(listed(now), expected);
    let stopped = Instant::now();
    for server in &mut servers {
        server.process().signal(Signal::TERM);
    }
    for server in &mut servers {
        assert!(server.process().wait().success());
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
    // Without a farewell, announcements are believed for minutes.
    wait_until("the farewells", || {
        watching.stderr().matches("not announced any more").count() >= names.len()
    });
    assert!(stopped.elapsed() < Duration::from_secs(5), "farewells took {:?}", stopped.elapsed());
    for name in &names {
        let label = advert::label(name);
        watching.wait_for_stderr(&format!("not announced any more service=\"{label}-"));
    }
}

fn of_the_nodes_that_are_found_those_are_used_that_were_picked() {
    let network = Network::start(3);
    let [one, two, three] = network.hosts() else { panic!("there are three hosts") };
    let _servers = [server(one, "GPU 'a' $(touch x)"), server(two, "cpu-b"), server(two, "gpu-c")];
    let home = tempfile::tempdir().expect("a directory");
    let run = |picked: &[&str]| {
        let arguments = ["run", "--each-node", "-k", "--tag", "--not-node", ":"];
        let mut run = ppctl(three, &home, &[&arguments[..], picked, &["echo", "here"]].concat());
        (run.wait().code(), run.stdout(), run.stderr())
    };
    let there =
        |names: &[&str]| names.iter().map(|name| format!("{name}\there")).collect::<Vec<_>>().join("\n");
    for (picked, names) in [
        (&["--node", "gpu*"][..], &["GPU 'a' $(touch x)", "gpu-c"][..]),
        (&["--not-node", "GPU*"], &["cpu-b"]),
        (&["--node", "*-?", "--not-node", "Gpu-C"], &["cpu-b"]),
        (&[], &["GPU 'a' $(touch x)", "cpu-b", "gpu-c"]),
    ] {
        let (code, printed, said) = run(picked);
        assert_eq!((code, printed), (Some(0), there(names)), "{picked:?}: {said}");
    }
    let (code, printed, said) = run(&["--node", "nobody*"]);
    assert_eq!((code, printed.as_str()), (Some(255), ""), "{said}");
    assert!(said.contains("there is no node"), "{said}");
}

fn what_cannot_be_announced_is_said() {
    // A network of its own, in which nothing is up.
    let wrapper = ["unshare", "--net"].map(Into::into).into();
    let arguments = vec!["-a".into()];
    let mut server = Server::start_with(ServerOptions { wrapper, arguments, ..ServerOptions::default() });
    let said = server.process().wait_for_stderr("could not be announced");
    assert!(said.contains("ERROR") && said.contains("PP_NODES"), "{said}");
}

fn a_link_local_address_keeps_its_interface_wherever_it_is_shown_and_read() {
    let network = Network::start(2);
    let [one, two] = network.hosts() else { panic!("there are two hosts") };
    let there = format!("{}%eth0", one.link_local());
    let arguments = vec!["-i".into(), there.clone(), "--name".into(), "render1".into()];
    let mut server = Server::start_with(ServerOptions { arguments, ..options(one, "render1") });
    let address = format!("[{there}]:{}", server.port());
    server.process().wait_for_stderr(&format!("listens on {address}"));
    let home = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let mut ppctl = ppctl(two, &home, arguments);
        assert!(ppctl.wait().success(), "{arguments:?}: {}{}", ppctl.stdout(), ppctl.stderr());
        ppctl.stdout()
    };
    let by_number = address.replace("%eth0", &format!("%{}", two.interface_index()));
    for node in [&address, &by_number] {
        let listed: serde_json::Value =
            serde_json::from_str(&run(&["nodes", "--json", "--time", "0", "--node", node])).expect("JSON");
        let shown = listed[0]["address"].as_str().expect("it has an address").to_owned();
        assert_eq!(shown, address, "as people write it");
        assert_eq!(run(&["resize", &shown, "3"]).trim(), format!("render1 ({address}): 2 -> 3 slots"));
        assert_eq!(run(&["resize", node, "2"]).trim(), format!("render1 ({address}): 3 -> 2 slots"));
    }
    let peer = format!("[{}%eth0]", two.link_local());
    server.process().wait_for_stderr(&peer);
}

/// Starts this program once more on a host, to do something there.
fn start_on(host: &Host, arguments: &[&str]) -> Process {
    let wrapper = host.wrapper();
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(std::env::current_exe().expect("this program has a path"));
    Process::start(command.args(arguments))
}

/// Takes whatever connects to `port`, and prints the address that it came to; says nothing, ever.
fn listen(port: &str) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).expect("it is free");
    println!("listening");
    let mut held = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        println!("came to {}", stream.local_addr().expect("it has one").ip());
        held.push(stream);
    }
}

fn a_storm_of_announcements_makes_a_dispatcher_attack_nobody_and_ends_no_discovery() {
    const FORGED: &str = "10000";
    const ELSEWHERE: &str = "10.98.0.1";
    let network = Network::start(4);
    let [attacker, bystander, one, two] = network.hosts() else { panic!("there are four hosts") };
    // The dispatcher's way out of its network leads there.
    bystander.add_address(ELSEWHERE);
    two.route_all_by(bystander);
    let watching = start_on(bystander, &[LISTENER, "22"]);
    watching.wait_for_stdout("listening");
    let _first = server(one, "one");
    let story = Story::begin(two, 0, 0);
    story.wait_for_worker("one", 1);

    let targets = [bystander.address.as_str(), ELSEWHERE].map(|ip| format!("{ip}:22"));
    let mut storm = start_on(attacker, &[STORM, &attacker.address, FORGED, &targets[0], &targets[1]]);
    assert!(storm.wait().success(), "{}", storm.stderr());
    let stormed = Instant::now();
    hold(Duration::from_secs(10));
    let came = |to: &str| watching.stdout().matches(&format!("came to {to}")).count();
    let (on_link, off_link) = (came(&bystander.address), came(ELSEWHERE));
    println!(
        "    in {:?}, {on_link} connections to a third party on the link, {off_link} elsewhere",
        stormed.elapsed()
    );
    let started = Instant::now();
    let late = server(one, "late");
    story.wait_for_event("late connected");
    println!("    a node that came then was found after {:?}", started.elapsed());
    drop(late);
    let said = story.process.stderr();
    assert!(said.contains("PP_NODES") && said.lines().count() < 10, "{said}");
    println!("    {said}");
    let ended = story.end();
    let (submitted, by_host) = ended.judge();
    println!("    {submitted} jobs: {by_host:?}");
    assert_eq!(off_link, 0, "what is not on the link is not dialled");
    assert!(on_link <= 5, "{on_link} connections to a third party");
}

fn a_short_passphrase_is_proved_to_no_node_that_only_announces_itself() {
    const SHORT: &str = "twelve chars";
    const LONG: &str = "correct horse battery staple";
    let network = Network::start(3);
    let [attacker, one, two] = network.hosts() else { panic!("there are three hosts") };
    let home = tempfile::tempdir().expect("a directory");
    let watching = start_on(attacker, &[LISTENER, "60000"]);
    watching.wait_for_stdout("listening");
    let nodes = |secret: &str, arguments: &[&str]| {
        let arguments = [&["nodes", "--json", "--time", "5"], arguments].concat();
        let ppctl = ppctl_with(two, &home, secret, &arguments);
        ppctl.wait_for_stderr("node announced");
        let forged = format!("{}:60000", attacker.address);
        let mut storm = start_on(attacker, &[STORM, &attacker.address, "1", &forged]);
        assert!(storm.wait().success(), "{}", storm.stderr());
        listed_with_reasons(ppctl)
    };
    let with = |secret: &str| ServerOptions { secret: Some(secret.into()), ..options(one, "one") };
    let server = Server::start_with(with(SHORT));
    let listed = nodes(SHORT, &[]);
    let [(_, _, forged), (name, state, reason)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((name.as_str(), state.as_str()), ("one", "refused"), "{listed:?}");
    for part in ["only announced itself", "PP_NODES", "ppctl secret new"] {
        assert!(reason.contains(part) && forged.contains(part), "{listed:?}");
    }
    let address = format!("{}:{}", one.address, server.port());
    let listed = nodes(SHORT, &["--node", &address]);
    let is_used = |state: &str| listed.iter().filter(|(_, is, _)| is == state).count();
    assert_eq!(is_used("connected"), 1, "one that is named is dialled: {listed:?}");
    assert!(!listed.iter().any(|(name, _, why)| name == "one" && why.contains("announced")), "{listed:?}");
    assert_eq!(watching.stdout().matches("came to").count(), 0, "nobody has anything to try guesses on");
    drop(server);
    let _server = Server::start_with(with(LONG));
    let listed = nodes(LONG, &[]);
    assert!(listed.iter().any(|(name, state, _)| name == "one" && state == "connected"), "{listed:?}");
    assert_eq!(
        watching.stdout().matches("came to").count(),
        1,
        "a long one is proved to whoever is announced"
    );
}

fn a_node_that_was_heard_of_and_cannot_be_reached_is_explained_as_that() {
    let network = Network::start(3);
    let [attacker, one, two] = network.hosts() else { panic!("there are three hosts") };
    let home = tempfile::tempdir().expect("a directory");
    let _server = server(one, "one");
    let mut explaining = ppctl(two, &home, &["explain", "forged0"]);
    explaining.wait_for_stderr("node announced");
    let nowhere = format!("{}:60000", attacker.address);
    let mut storm = start_on(attacker, &[STORM, &attacker.address, "1", &nowhere]);
    assert!(storm.wait().success(), "{}", storm.stderr());
    assert_eq!(explaining.wait().code(), Some(1));
    let told = explaining.stdout();
    let heard = format!(
        "it was heard of on the network, and cannot be reached: no ppserver listens there ({nowhere})."
    );
    assert!(told.starts_with("forged0 (") && told.contains(&heard), "{told}");
    let mut missing = ppctl(two, &home, &["explain", "two"]);
    assert_eq!(missing.wait().code(), Some(1));
    let told = missing.stdout();
    for part in
        ["No node is called \"two\"; there are: one (", "Look on its machine whether `ppserver -a` runs"]
    {
        assert!(told.contains(part), "{told}");
    }
}

/// Lets a fault last.
fn hold(fault: Duration) {
    std::thread::sleep(fault);
}

fn main() {
    pp_dispatcher::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [DISPATCHER, plan] => return dispatch(&serde_json::from_str(plan).expect("it is a plan")),
        [LISTENER, port] => return listen(port),
        [STORM, from, nodes, ref targets @ ..] => {
            let targets: Vec<_> = targets.iter().map(|target| target.parse().expect("an address")).collect();
            let from = from.parse().expect("an address");
            return adverts::announce(from, nodes.parse().expect("a number"), &targets).expect("it is sent");
        }
        _ => {}
    }
    if let Some(reason) = Network::forbidden() {
        println!("skipped, as no networks can be made here: {reason}");
        pp_tests::harness::run(&[]);
    }
    pp_tests::harness::run_side_by_side(
        AT_ONCE,
        pp_tests::tests![
            nodes_are_found_and_one_that_is_killed_loses_nothing_and_is_used_again,
            a_cable_pulled_for_three_seconds_costs_nothing,
            a_cable_pulled_for_eight_seconds_has_jobs_run_elsewhere_and_the_node_is_used_again,
            a_node_that_hears_nothing_gets_no_new_jobs_and_its_own_run_elsewhere,
            a_node_is_found_whatever_its_name_and_its_farewell_is_heard,
            of_the_nodes_that_are_found_those_are_used_that_were_picked,
            what_cannot_be_announced_is_said,
            a_link_local_address_keeps_its_interface_wherever_it_is_shown_and_read,
            a_storm_of_announcements_makes_a_dispatcher_attack_nobody_and_ends_no_discovery,
            a_short_passphrase_is_proved_to_no_node_that_only_announces_itself,
            a_node_that_was_heard_of_and_cannot_be_reached_is_explained_as_that,
        ],
    );
}
