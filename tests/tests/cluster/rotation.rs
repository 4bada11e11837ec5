//! A secret that is replaced by another one while jobs run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pp_dispatcher::{Dispatcher, NodeState};
use pp_protocol::secret::Secret;
use pp_tests::process::{Server, ServerOptions, Signal, is_alive};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};

use crate::jobs::{hang, slow_square};

/// Jobs that end between one step and the next.
const JOBS_BETWEEN: u64 = 300;

fn write(path: &Path, secrets: &[&Secret]) {
    let lines: String = secrets.iter().map(|secret| format!("{}\n", secret.text())).collect();
    let draft = path.with_extension("new");
    std::fs::write(&draft, lines).expect("a file");
    std::fs::set_permissions(&draft, Permissions::from_mode(0o600)).expect("its mode is set");
    std::fs::rename(&draft, path).expect("it is replaced");
}

/// Jobs that are submitted all the time, each of which has to succeed.
struct Load {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    fn start(dispatcher: Dispatcher) -> Self {
        let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&done), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let inputs = (0..).take_while(move |_| !stopped.load(Ordering::Relaxed)).map(|n: u64| (n, 3));
            for (n, squared) in dispatcher.starmap(slow_square, inputs).enumerate() {
                assert_eq!(squared, Ok((n * n) as u64), "nothing is lost");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { done, stop, thread }
    }

    fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        wait_until("jobs that end", || self.done.load(Ordering::Relaxed) >= before + JOBS_BETWEEN);
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every job succeeded");
    }
}

pub(crate) fn a_secret_is_replaced_in_three_steps_under_load_and_a_thief_is_out_within_a_second() {
    let home = tempfile::tempdir().expect("a directory");
    let [at_nodes, at_dispatchers] = ["nodes", "dispatchers"].map(|name| home.path().join(name));
    // Beside the secret no job makes anything.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let hung = elsewhere.path().join("hung");
    let (old, new) = (Secret::random(), Secret::random());
    write(&at_nodes, &[&old]);
    write(&at_dispatchers, &[&old]);
    let options = ServerOptions {
        secret: None,
        environment: vec![("PP_SECRET_FILE".into(), at_nodes.display().to_string())],
        ..ServerOptions::default()
    };
    let mut servers = [Server::start_with(options.clone()), Server::start_with(options)];
    let addresses = servers.each_ref().map(Server::address);
    let connect = |builder: pp_dispatcher::Builder| {
        builder.local_workers(0).discover(false).nodes(&addresses).start().expect("it starts")
    };
    let thief = connect(Dispatcher::builder().secret(old.text()));
    let stolen = thief.submit(hang, (hung.display().to_string(),));
    let worker = wait_within(PATIENCE, "the thief's job to run", || {
        std::fs::read_to_string(&hung).ok()?.trim().parse().ok()
    });
    let load = Load::start(connect(Dispatcher::builder().secret_file(&at_dispatchers)));
    load.goes_on();
    let mut reload = |secrets: &[&Secret]| {
        write(&at_nodes, secrets);
        for server in &mut servers {
            server.process().signal(Signal::HUP);
            server.process().wait_for_stderr(&format!("again accepted={}", secrets.len()));
        }
    };

    reload(&[&old, &new]);
    load.goes_on();
    write(&at_dispatchers, &[&new]);
    load.goes_on();
    reload(&[&new]);
    let removed = Instant::now();
    wait_until("the thief's job to be ended", || !is_alive(worker));
    let took = removed.elapsed();
    load.goes_on();
    load.stop();
    assert!(took < Duration::from_secs(1), "it went on for {took:?}");
    wait_until("the thief to be refused", || {
        thief.nodes().iter().filter(|node| node.state == NodeState::Refused).count() == addresses.len()
    });
    assert!(!stolen.has_ended());
    for server in &mut servers {
        server.process().wait_for_stderr("resumed=true");
    }
}
