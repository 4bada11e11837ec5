//! Nodes that let in only the machines they list, and dispatchers that know nodes by their keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pp_dispatcher::{Builder, Dispatcher, JobError, NodeInfo, NodeState};
use pp_protocol::machine::MachineKey;
use pp_tests::process::{Process, SECRET, Server, ServerOptions, Signal, binary, command};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use tempfile::TempDir;

use crate::jobs::{self, dispatcher, hang, only_node, slow_square, square};

/// What is "at once" for an operator who has told a node to let somebody in no more.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Machines with keys, and lists of them.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The key of a machine, made if it has none.
    fn key(&self, machine: &str) -> PathBuf {
        let path = self.0.path().join(machine).join("machine_key");
        MachineKey::read_or_create(&path).expect("a key can be made");
        path
    }

    /// The line by which a machine is listed.
    fn line(&self, machine: &str) -> String {
        let key = MachineKey::read(&self.key(machine)).expect("it was made");
        format!("{} {machine}\n", key.public())
    }

    /// The list of a node.
    fn list(&self, node: &str) -> PathBuf {
        self.0.path().join(format!("authorized_keys of {node}"))
    }

    fn write_list(&self, node: &str, lines: &[String]) {
        fs::write(self.list(node), lines.concat()).expect("a list can be written");
    }

    /// A node that lets in those of these lines.
    fn node(&self, name: &str, lines: &[String]) -> Server {
        self.write_list(name, lines);
        let text = |path: PathBuf| path.to_str().expect("paths here are text").to_owned();
        let arguments = ["-i", "127.0.0.1", "--name", name].map(Into::into).into_iter().chain([
            "--authorized-keys".into(),
            text(self.list(name)),
            "--machine-key".into(),
            text(self.key(name)),
        ]);
        Server::start_with(ServerOptions { arguments: arguments.collect(), ..ServerOptions::default() })
    }

    /// A dispatcher on a machine, which uses these nodes.
    fn builder<'a>(&self, machine: &str, servers: impl IntoIterator<Item = &'a Server>) -> Builder {
        jobs::builder(servers).machine_key(self.key(machine))
    }

    /// As [`builder`](Self::builder), started and connected to all of them.
    fn dispatcher<'a>(
        &self,
        machine: &str,
        servers: impl IntoIterator<Item = &'a Server> + Clone,
    ) -> Dispatcher {
        let dispatcher = self.builder(machine, servers.clone()).start().expect("it starts");
        let count = servers.into_iter().count();
        assert_eq!(dispatcher.wait_for_nodes(count, PATIENCE), count, "{:?}", dispatcher.nodes());
        dispatcher
    }

    /// The file in which a machine remembers nodes.
    fn known_nodes(&self, machine: &str) -> PathBuf {
        self.key(machine).with_file_name("known_nodes")
    }
}

/// Waits until the only node refuses, or is refused.
fn refused(dispatcher: &Dispatcher) -> NodeInfo {
    wait_within(PATIENCE, "the node not to be used", || {
        let node = only_node(dispatcher);
        (node.state == NodeState::Refused).then_some(node)
    })
}

fn says(node: &NodeInfo, parts: &[&str]) {
    let said = node.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} are not in: {said}");
}

fn all_are_squares(dispatcher: &Dispatcher, numbers: std::ops::Range<u64>) {
    let jobs: Vec<_> = numbers.clone().map(|n| dispatcher.submit(square, (n,))).collect();
    for (n, job) in numbers.zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
}

fn read_again(server: &mut Server) {
    server.process().signal(Signal::HUP);
}

pub(crate) fn a_machine_that_is_listed_runs_jobs_and_one_that_is_not_is_told_the_line_to_add() {
    let site = Site::new();
    let mut server = site.node("render1", &[site.line("ada")]);
    let ada = site.dispatcher("ada", [&server]);
    all_are_squares(&ada, 0..1_000);

    let grace = site.builder("grace", [&server]).start().expect("it starts");
    let key = site.line("grace");
    let key = key.split(' ').next().expect("it is the first word");
    says(&refused(&grace), &["does not list", key, "ppctl key show", "SIGHUP"]);
    let line = server.process().wait_for_stderr("not listed among the authorized keys");
    assert!(line.contains(key) && line.contains("127.0.0.1") && line.contains("WARN"), "{line}");
    all_are_squares(&ada, 0..100);
}

pub(crate) fn a_dispatcher_without_a_key_is_told_how_to_make_one() {
    let site = Site::new();
    let server = site.node("render1", &[]);
    let home = site.0.path().join("nobody");
    fs::create_dir(&home).expect("a directory");
    let ppctl = |home: &Path, words: &[&str]| {
        let mut command = command(binary("ppctl"), home);
        let mut process =
            Process::start(command.args(words).env("PP_SECRET", SECRET).env("PP_DISCOVER", "0"));
        let status = process.wait();
        (status.success(), process.stdout(), process.stderr())
    };
    let address = server.address();
    let nodes = ["nodes", "--node", &address];
    let (found, said, _) = ppctl(&home, &nodes);
    assert!(
        !found && said.contains("asks for the key of this machine") && said.contains("ppctl key new"),
        "{said}"
    );

    let (made, line, said) = ppctl(&home, &["key", "new"]);
    assert!(made && line.starts_with("ppk1-") && said.contains("authorized keys"), "{line}{said}");
    let (_, shown, _) = ppctl(&home, &["key", "show"]);
    let (_, path, _) = ppctl(&home, &["key", "path"]);
    assert_eq!(shown, line);
    assert!(Path::new(path.trim()).starts_with(&home) && Path::new(path.trim()).exists(), "{path}");
    let (again, _, said) = ppctl(&home, &["key", "new"]);
    assert!(!again && said.contains("has a key already"), "{said}");

    // One who only looks is an operator.
    let mut server = server;
    site.write_list("render1", &[format!("operate {line}\n")]);
    read_again(&mut server);
    server.process().wait_for_stderr("authorized keys were read again");
    let (found, said, error) = ppctl(&home, &nodes);
    assert!(found && said.contains("connected"), "{said}{error}");
    // One who measures jobs sends some, and gives no orders.
    let ping = ["ping", "--count", "1", &address];
    for (options, pinged) in [("", true), ("no-submit,operate ", false), ("operate ", true)] {
        site.write_list("render1", &[format!("# {pinged}, {options}\n{options}{line}\n")]);
        let before = server.process().stderr().matches("were read again").count();
        read_again(&mut server);
        wait_until("the list to be read", || {
            server.process().stderr().matches("were read again").count() > before
        });
        let (found, said, error) = ppctl(&home, &ping);
        assert!(
            found == pinged && (found || error.contains("not as a dispatcher")),
            "{options}: {said}{error}"
        );
    }
    // What it knows of the node does not get in the way of a second look.
    assert!(ppctl(&home, &nodes).0);
}

pub(crate) fn options_say_as_what_a_machine_may_connect() {
    let site = Site::new();
    let monitoring = format!("no-submit,operate {}", site.line("monitoring"));
    let mut server = site.node("render1", &[site.line("ada"), monitoring]);
    let ada = site.dispatcher("ada", [&server]);
    let resized = ada.resize(&server.address(), 3).expect_err("it may give no orders").to_string();
    assert!(resized.contains("not as an operator") && resized.contains("operate"), "{resized}");
    server.process().wait_for_stderr("listed, but not for a connection as operator");

    let monitoring = site.builder("monitoring", [&server]).start().expect("it starts");
    says(&refused(&monitoring), &["not as a dispatcher", "no-submit"]);
    let operator = site.builder("monitoring", [&server]).observer(true).start().expect("it starts");
    assert_eq!(operator.wait_for_nodes(1, PATIENCE), 1, "{:?}", operator.nodes());
    operator.resize(&server.address(), 3).expect("it may give orders");
    wait_until("the slots", || only_node(&ada).slots == 3);
    all_are_squares(&ada, 0..100);
}

pub(crate) fn a_stolen_nodes_key_and_the_secret_submit_nowhere() {
    let site = Site::new();
    let lines = [site.line("ada")];
    let servers = [site.node("render1", &lines), site.node("render2", &lines)];
    let ada = site.dispatcher("ada", &servers);
    let work: Vec<_> = (0..100).map(|n| ada.submit(slow_square, (n, 10))).collect();
    // All that is on the disk of the first node.
    for server in &servers {
        let thief = site.builder("render1", [server]).start().expect("it starts");
        let job = thief.submit(square, (6,));
        says(&refused(&thief), &["does not list"]);
        assert!(!job.has_ended());
        let order = site.builder("render1", [server]).observer(true).start().expect("it starts");
        says(&refused(&order), &["does not list"]);
        // Nor with the secret alone.
        let other = jobs::builder([server]).machine_key(site.key("other")).start().expect("it starts");
        says(&refused(&other), &["does not list"]);
    }
    for (n, job) in (0..).zip(work) {
        assert_eq!(job.wait(), Ok(n * n), "honest work loses nothing");
    }
}

pub(crate) fn a_line_that_is_removed_ends_its_sessions_and_no_others() {
    let site = Site::new();
    let (ada, grace) = (site.line("ada"), site.line("grace"));
    let mut server = site.node("render1", &[ada.clone(), grace]);
    let thief = site.dispatcher("grace", [&server]);
    let honest = site.dispatcher("ada", [&server]);
    // Jobs make no files beside the list and the key of their node.
    let place = tempfile::tempdir().expect("a directory");
    let started = place.path().join("started");
    let stolen = thief.submit(hang, (started.to_str().expect("paths here are text").to_owned(),));
    wait_until("the job to run", || started.exists());
    let work: Vec<_> = (0..200).map(|n| honest.submit(slow_square, (n, 10))).collect();
    let worker =
        wait_within(PATIENCE, "its process", || fs::read_to_string(&started).ok()?.trim().parse().ok());

    // A list that makes no sense changes nothing.
    site.write_list("render1", &["no-sumbit ppk1-0\n".into()]);
    read_again(&mut server);
    let line = server.process().wait_for_stderr("no-sumbit");
    assert!(line.contains("line 1") && line.contains("those of before stay"), "{line}");
    assert_eq!(only_node(&thief).state, NodeState::Connected);

    site.write_list("render1", &[ada]);
    let asked = Instant::now();
    read_again(&mut server);
    wait_until("the session to end", || only_node(&thief).state != NodeState::Connected);
    wait_until("its job to be killed", || !pp_tests::process::is_alive(worker));
    assert!(asked.elapsed() < AT_ONCE, "it took {:?}", asked.elapsed());
    says(&refused(&thief), &["does not list"]);
    assert!(!stolen.has_ended(), "it waits for a node");
    for (n, job) in (0..).zip(work) {
        assert_eq!(job.wait(), Ok(n * n), "honest work loses nothing");
    }
    thief.shutdown();
    assert!(matches!(stolen.wait(), Err(JobError::Cancelled)));
}

pub(crate) fn a_node_that_is_known_is_believed_with_its_key_only() {
    let site = Site::new();
    let lines = [site.line("ada")];
    let mut server = site.node("render1", &lines);
    drop(site.dispatcher("ada", [&server]));
    let known = fs::read_to_string(site.known_nodes("ada")).expect("it is remembered");
    assert!(known.contains(&server.address()) && known.contains("ppk1-"), "{known}");
    let pinned = site.line("render1");
    let pinned = pinned.split(' ').next().expect("it is the first word");

    // Whoever has the secret, and the address, and a key of his own.
    fs::remove_file(site.key("render1")).expect("it is there");
    let other = site.line("render1");
    let other = other.split(' ').next().expect("it is the first word");
    server.restart();
    let ada = site.builder("ada", [&server]).start().expect("it starts");
    let job = ada.submit(square, (6,));
    let file = site.known_nodes("ada").display().to_string();
    says(&refused(&ada), &["not the node that is known", pinned, other, "remove line 1", &file]);
    assert!(!server.log().contains("dispatcher connected") || !job.has_ended());

    // Once that is said to be meant, it is used.
    fs::write(site.known_nodes("ada"), "").expect("it can be written");
    assert_eq!(job.wait(), Ok(36));
}

pub(crate) fn a_node_that_is_known_by_its_key_is_not_believed_with_the_secret_alone() {
    let site = Site::new();
    let server = site.node("render1", &[site.line("ada")]);
    drop(site.dispatcher("ada", [&server]));
    let port = server.port();
    drop(server);
    let impostor = Server::start_with(ServerOptions { port, ..ServerOptions::default() });
    let ada = site.builder("ada", [&impostor]).start().expect("it starts");
    let file = site.known_nodes("ada").display().to_string();
    says(&refused(&ada), &["is known by the key", "the secret alone", "remove line 1", &file]);
    assert!(!impostor.log().contains("asking for its program"), "nothing was sent: {}", impostor.log());
}

pub(crate) fn nodes_of_either_kind_share_the_work_of_one_dispatcher() {
    let site = Site::new();
    let servers = [site.node("render1", &[site.line("ada")]), Server::start(2)];
    let ada = site.dispatcher("ada", &servers);
    let jobs: Vec<_> = (0..200).map(|n| ada.submit(slow_square, (n, 5))).collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    let ended: Vec<_> = ada.stats().nodes.iter().map(|node| node.jobs_ended).collect();
    assert!(ended.iter().filter(|jobs| **jobs > 20).count() == 2, "each does its part: {ended:?}");
    let only_secret = dispatcher([&servers[1]]);
    all_are_squares(&only_secret, 0..100);
}
