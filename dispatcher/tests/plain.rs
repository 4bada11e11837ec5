//! Plain tests, whose `main` is the test harness's: it knows nothing of workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use pp_dispatcher::{Dispatcher, StartError, job};

#[job]
fn double(n: u64) -> u64 {
    2 * n
}

#[test]
fn worker_processes_are_refused_before_they_run_all_tests_again_with_what_to_do() {
    // What is in the environment of those who run this test must not help.
    let builders = [
        Dispatcher::builder().discover(false).nodes([""; 0]),
        Dispatcher::builder().discover(false).nodes([""; 0]).local_workers(0),
        Dispatcher::builder().discover(false).in_process(true).node("127.0.0.1:9").secret("0123456789abcdef"),
    ];
    for builder in builders {
        let error = builder.start().expect_err("its workers would run this test");
        assert!(matches!(error, StartError::WithoutInit), "{error}");
        assert!(error.to_string().contains("in_process(true)"), "{error}");
    }
}

#[test]
fn init_inside_a_test_is_too_late() {
    pp_dispatcher::init();
    let builder = Dispatcher::builder().discover(false).nodes([""; 0]);
    let error = builder.start().expect_err("its workers would run the other tests, too");
    assert!(matches!(error, StartError::WithoutInit), "{error}");
}

#[test]
fn in_process_workers_serve_plain_tests() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    RUNS.fetch_add(1, Ordering::SeqCst);
    let builder = Dispatcher::builder().discover(false).nodes([""; 0]).in_process(true);
    let dispatcher = builder.start().expect("it starts");
    assert_eq!(dispatcher.submit(double, (21,)).wait(), Ok(42));
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
}

#[test]
fn one_that_only_looks_starts_no_worker() {
    let builder = Dispatcher::builder().discover(false).nodes([""; 0]).observer(true);
    assert!(builder.start().is_ok());
}
