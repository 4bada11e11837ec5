//! The promises of a dispatcher on its local cores, with real worker processes.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use pp_dispatcher::{
    Builder, ClusterEvent, Dispatcher, Job, JobError, JobId, JobStatus, Output, as_completed, job,
};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use serde::{Deserialize, Serialize};

#[job]
fn square(n: u64) -> u64 {
    n * n
}

#[job]
fn add(a: i32, b: String, c: Vec<u8>) -> String {
    format!("{a}{b}{}", c.len())
}

#[job]
fn nothing() {}

#[job]
fn worker_id() -> u32 {
    std::process::id()
}

/// Sleeps, and yields the worker's process id.
#[job]
fn nap(milliseconds: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    std::process::id()
}

/// Writes its worker's process id to a file, then sleeps for ever.
#[job]
fn hang(file: String) {
    std::fs::write(&file, std::process::id().to_string()).expect("the file can be written");
    std::thread::sleep(Duration::from_secs(3_600));
}

#[job]
fn fail(message: String) -> u64 {
    panic!("{message}")
}

#[job]
fn end_worker(how: String) {
    eprintln!("about to {how}");
    match how.as_str() {
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        _ => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("a process can kill itself"),
    }
    std::thread::sleep(Duration::from_secs(10));
}

/// Ends its worker the first time, works the second time.
#[job]
fn die_once(file: String) -> u32 {
    if std::fs::remove_file(&file).is_ok() {
        std::process::abort();
    }
    42
}

#[job]
fn print_lines(count: u32) {
    for n in 0..count {
        println!("line {n}");
    }
    eprintln!("and an error");
}

#[job]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Starts a process that outlives the call, and yields its id.
#[job]
fn leave_a_child() -> u32 {
    // In a session of its own.
    std::process::Command::new("setsid").args(["sleep", "3600"]).spawn().expect("it can be started").id()
}

fn not_registered(n: u64) -> u64 {
    n
}

mod inner {
    use super::job;

    /// Of the same name as another function.
    #[job]
    pub(crate) fn square(n: u64) -> u64 {
        1_000 + n
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Circle { radius: f64 },
    Square(f64),
}

#[job]
fn area(shape: Shape) -> Result<f64, String> {
    match shape {
        Shape::Circle { radius } if radius < 0.0 => Err("a radius is not negative".into()),
        Shape::Circle { radius } => Ok(3.0 * radius * radius),
        Shape::Square(side) => Ok(side * side),
    }
}

fn dispatcher(workers: usize) -> Dispatcher {
    Dispatcher::builder()
        .discover(false)
        .local_workers(workers)
        .output(Output::EventsOnly)
        .start()
        .expect("it starts")
}

fn results_come_back_to_the_call_that_asked() {
    let dispatcher = dispatcher(2);
    let jobs: Vec<_> = (0..1_000).map(|n| dispatcher.submit(square, (n,))).collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    assert_eq!(dispatcher.submit(add, (1, "x".into(), vec![0; 9])).wait(), Ok("1x9".into()));
    assert_eq!(dispatcher.submit(nothing, ()).wait(), Ok(()));
    assert_eq!(dispatcher.submit(area, (Shape::Square(3.0),)).wait(), Ok(Ok(9.0)));
    let error = dispatcher.submit(area, (Shape::Circle { radius: -1.0 },)).wait();
    assert_eq!(error, Ok(Err("a radius is not negative".into())), "an error of the function is a result");
    let large = vec![7; 5 << 20];
    assert_eq!(dispatcher.submit(echo, (large.clone(),)).wait(), Ok(large));
    let stats = dispatcher.stats();
    assert_eq!(stats.nodes[0].jobs_ended, 1_005);
    assert!(stats.to_string().contains("      1005 |        100.00 |"), "{stats}");
}

fn functions_of_one_name_in_different_modules_stay_apart() {
    let dispatcher = dispatcher(1);
    assert_eq!(dispatcher.submit(square, (5,)).wait(), Ok(25));
    assert_eq!(dispatcher.submit(inner::square, (5,)).wait(), Ok(1_005));
}

fn a_function_without_the_attribute_is_refused_with_what_to_do() {
    let error =
        dispatcher(1).submit(not_registered, (1,)).wait().expect_err("it is not registered").to_string();
    assert!(error.contains("not_registered") && error.contains("#[job]"), "{error}");
}

fn jobs_run_in_other_processes_as_many_at_once_as_there_are_workers() {
    let dispatcher = dispatcher(3);
    let started = Instant::now();
    let jobs: Vec<_> = (0..3).map(|_| dispatcher.submit(nap, (300,))).collect();
    let workers: BTreeSet<_> = jobs.into_iter().map(|job| job.wait().expect("it naps")).collect();
    assert_eq!(workers.len(), 3, "each in a worker of its own");
    assert!(!workers.contains(&std::process::id()));
    assert!(started.elapsed() < Duration::from_millis(850), "at the same time: {:?}", started.elapsed());
}

fn a_panic_is_an_outcome_with_message_and_place_and_the_worker_lives_on() {
    let dispatcher = dispatcher(1);
    let before = dispatcher.submit(worker_id, ()).wait();
    let Err(JobError::Panicked(panic)) = dispatcher.submit(fail, ("no such luck".into(),)).wait() else {
        panic!("it should have panicked")
    };
    assert_eq!(panic.message, "no such luck");
    assert!(panic.place.as_deref().is_some_and(|place| place.contains("local.rs:")), "{:?}", panic.place);
    assert_eq!(dispatcher.submit(worker_id, ()).wait(), before);
}

fn a_worker_killed_mid_job_is_replaced_and_the_job_retried() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("once");
    std::fs::write(&file, "").expect("a file");
    let dispatcher = dispatcher(1);
    let events = dispatcher.events();
    let neighbours: Vec<_> = (0..50).map(|n| dispatcher.submit(square, (n,))).collect();
    let job = dispatcher.submit(die_once, (file.display().to_string(),));
    let later: Vec<_> = (0..50).map(|n| dispatcher.submit(square, (n,))).collect();
    assert_eq!(job.wait(), Ok(42));
    for (n, job) in (0..50).chain(0..50).zip(neighbours.into_iter().chain(later)) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    wait_within(PATIENCE, "word of the retry", || {
        events.try_next().filter(|event| matches!(event, ClusterEvent::JobRetried { .. }))
    });
}

fn a_job_that_always_kills_its_worker_is_lost_after_three_attempts_and_the_others_finish() {
    let dispatcher = dispatcher(2);
    for (how, expected) in [
        ("kill", "killed by signal 9 (SIGKILL)"),
        ("abort", "signal 6 (SIGABRT)"),
        ("exit", "exited with code 7"),
    ] {
        let others: Vec<_> = (0..100).map(|n| dispatcher.submit(square, (n,))).collect();
        let poison = dispatcher.submit(end_worker, (how.into(),));
        let more: Vec<_> = (0..100).map(|n| dispatcher.submit(square, (n,))).collect();
        let error = poison.wait().expect_err("it kills its workers");
        let JobError::Lost(history) = &error else { panic!("{error}") };
        assert_eq!(history.iter().map(|failure| failure.attempt).collect::<Vec<_>>(), [1, 2, 3], "{error}");
        for failure in history {
            assert!(failure.cause.to_string().contains(expected), "{failure}");
            assert!(failure.cause.to_string().contains(&format!("about to {how}")), "last words: {failure}");
        }
        for (n, job) in (0..100).chain(0..100).zip(others.into_iter().chain(more)) {
            assert_eq!(job.wait(), Ok(n * n));
        }
    }
}

fn cancelling_a_running_job_kills_its_worker_at_once() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("pid");
    let dispatcher = dispatcher(1);
    let job = dispatcher.submit(hang, (file.display().to_string(),));
    let queued = dispatcher.submit(square, (3,));
    let pid = wait_within(PATIENCE, "the job to start", || {
        std::fs::read_to_string(&file).ok()?.parse::<i32>().ok()
    });
    assert!(matches!(job.status(), JobStatus::AtNode(_)), "{:?}", job.status());
    let started = Instant::now();
    job.cancel();
    assert_eq!(job.wait(), Err(JobError::Cancelled));
    assert!(started.elapsed() < Duration::from_secs(1));
    wait_until("the worker to be gone", || !is_alive(pid));
    assert_eq!(queued.wait(), Ok(9), "the next job runs");
}

fn a_job_beyond_its_time_limit_is_killed_and_the_slot_is_free_again() {
    let dispatcher = dispatcher(1);
    let limit = Duration::from_millis(200);
    let started = Instant::now();
    let slow = dispatcher.job(nap, (60_000,)).timeout(limit).submit();
    let quick = dispatcher.job(nap, (1,)).timeout(limit).submit();
    assert_eq!(slow.wait(), Err(JobError::TimedOut(limit)));
    assert!(quick.wait().is_ok(), "waiting for its turn does not count");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

fn callbacks_fire_once_each_and_one_that_panics_changes_nothing_else() {
    let dispatcher = dispatcher(2);
    let fired = Arc::new(Mutex::new(Vec::new()));
    for n in 0..200 {
        let fired = Arc::clone(&fired);
        dispatcher
            .job(square, (n,))
            .callback(move |result| {
                fired.lock().expect("it is not poisoned while it is held briefly").push(n);
                assert_ne!(n, 77, "a callback that panics");
                assert_eq!(result, Ok(n * n));
            })
            .submit();
    }
    dispatcher.wait();
    let mut fired = fired.lock().expect("it is whole").clone();
    fired.sort_unstable();
    assert_eq!(fired, (0..200).collect::<Vec<_>>());
}

fn callbacks_may_submit_jobs_and_wait_covers_those() {
    let dispatcher = dispatcher(2);
    let ended = Arc::new(AtomicUsize::new(0));
    fn chain(dispatcher: &Dispatcher, ended: &Arc<AtomicUsize>, left: u64) {
        let (again, counter) = (dispatcher.clone(), Arc::clone(ended));
        dispatcher
            .job(square, (left,))
            .group("chain")
            .callback(move |result| {
                assert_eq!(result, Ok(left * left));
                counter.fetch_add(1, Ordering::SeqCst);
                if left > 0 {
                    chain(&again, &counter, left - 1);
                }
            })
            .submit();
    }
    chain(&dispatcher, &ended, 20);
    dispatcher.wait_group("chain");
    assert_eq!(ended.load(Ordering::SeqCst), 21);
    dispatcher.wait();
}

fn waiting_with_a_timeout_gives_up_in_time_and_the_job_goes_on() {
    let dispatcher = dispatcher(1);
    let job = dispatcher.submit(nap, (400,));
    assert!(!dispatcher.wait_timeout(Duration::from_millis(20)));
    let job = job.wait_timeout(Duration::from_millis(20)).expect_err("it naps longer");
    assert!(job.wait().is_ok());
    assert!(dispatcher.wait_timeout(PATIENCE));
}

/// Most inputs that a map reads before it yields the first result.
const MAPPED_AHEAD: usize = 128 * 1024;

fn map_keeps_the_order_reads_lazily_and_ends() {
    let dispatcher = dispatcher(2);
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let endless = (0_u64..).inspect(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let squares: Vec<_> =
        dispatcher.map(square, endless).take(50_000).map(|result| result.expect("a square")).collect();
    assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
    let read = read.load(Ordering::SeqCst);
    assert!(read <= 50_000 + MAPPED_AHEAD, "it read {read}");
    let mut unordered: Vec<_> =
        dispatcher.map(square, 0..5_000).unordered().map(|result| result.expect("a square")).collect();
    unordered.sort_unstable();
    assert_eq!(unordered, (0..5_000).map(|n| n * n).collect::<Vec<_>>());
    let tuples = [(1, "a".to_owned(), vec![]), (2, "b".to_owned(), vec![1])];
    let sums: Vec<_> = dispatcher.starmap(add, tuples).collect::<Result<_, _>>().expect("sums");
    assert_eq!(sums, ["1a0", "2b1"]);
}

fn as_completed_yields_whichever_ends_first() {
    let dispatcher = dispatcher(2);
    let ended = dispatcher.submit(nap, (1,));
    wait_until("a job to end before anybody asks for an identifier", || ended.has_ended());
    assert!(ended.id().is_some());
    // By now short naps are expected, and one worker seems to be enough for both.
    let jobs = [dispatcher.submit(nap, (600,)), dispatcher.submit(nap, (1,))];
    let slow = jobs[0].id();
    let order: Vec<_> = as_completed(jobs).map(|job| (job.id(), job.wait().is_ok())).collect();
    assert_eq!(order.len(), 2);
    assert!(order.iter().all(|(_, ok)| *ok));
    assert_ne!(order[0].0, slow, "the short one came first");
}

/// Asks for a job's identifier when woken.
struct Asker {
    about: Job<u32>,
    tell: mpsc::Sender<Option<JobId>>,
}

impl Wake for Asker {
    fn wake(self: Arc<Self>) {
        self.tell.send(self.about.id()).expect("somebody listens");
    }
}

fn a_waker_that_asks_does_not_wait_for_itself() {
    let dispatcher = dispatcher(2);
    let (tell, told) = mpsc::channel();
    let asker = Arc::new(Asker { about: dispatcher.submit(nap, (60_000,)), tell });
    let mut short = pin!(dispatcher.submit(nap, (1_000,)));
    let waker = Waker::from(Arc::clone(&asker));
    assert!(short.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(told.recv_timeout(PATIENCE), Ok(None), "it is the dispatcher's own thread that wakes");
    assert!(asker.about.id().is_some());
}

fn jobs_are_futures() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dispatcher = dispatcher(2);
    runtime.block_on(async {
        assert_eq!(dispatcher.submit(square, (12,)).await, Ok(144));
        let slow = dispatcher.submit(nap, (60_000,));
        assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    });
}

fn resizing_changes_how_many_run_at_once_down_to_none_and_back() {
    let dispatcher = dispatcher(1);
    let at_once = |dispatcher: &Dispatcher| {
        let jobs: Vec<_> = (0..8).map(|_| dispatcher.submit(nap, (100,))).collect();
        jobs.into_iter().map(|job| job.wait().expect("it naps")).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(at_once(&dispatcher), 1);
    dispatcher.set_local_workers(4).expect("four is a sensible number");
    wait_until("the dispatcher to see four slots", || dispatcher.nodes()[0].slots == 4);
    assert_eq!(at_once(&dispatcher), 4);
    dispatcher.resize("local", 0).expect("the local node is connected");
    wait_until("the dispatcher to see no slot", || dispatcher.nodes()[0].slots == 0);
    let waiting: Vec<_> = (0..20).map(|n| dispatcher.submit(square, (n,))).collect();
    assert!(!dispatcher.wait_timeout(Duration::from_millis(100)), "nothing runs without slots");
    dispatcher.set_local_workers(2).expect("two is a sensible number");
    for (n, job) in (0..).zip(waiting) {
        assert_eq!(job.wait(), Ok(n * n));
    }
    assert!(dispatcher.resize("", 2).is_err(), "no name is nobody's name");
    let error = dispatcher.resize("nowhere", 2).expect_err("there is no such node").to_string();
    assert!(error.contains("\"nowhere\"") && error.contains("local"), "{error}");
}

fn shrinking_during_a_run_loses_nothing() {
    let dispatcher = dispatcher(4);
    let jobs: Vec<_> = (0..200).map(|_| dispatcher.submit(nap, (10,))).collect();
    for workers in [1, 3, 0, 2] {
        dispatcher.set_local_workers(workers).expect("a sensible number");
        let _ = dispatcher.wait_timeout(Duration::from_millis(100));
    }
    assert_eq!(jobs.into_iter().filter_map(|job| job.wait().ok()).count(), 200);
}

/// A result that cannot be taken in where it is waited for.
#[derive(Serialize)]
struct Unwelcome;

impl<'de> Deserialize<'de> for Unwelcome {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("I do not come back")
    }
}

#[job]
fn unwelcome() -> Unwelcome {
    Unwelcome
}

#[job]
fn complain(text: String) {
    eprintln!("{text}");
}

fn a_result_whose_deserialize_panics_is_an_error_of_that_job_alone() {
    let dispatcher = dispatcher(1);
    let error = dispatcher.submit(unwelcome, ()).wait().err().expect("it panics");
    assert!(matches!(error, JobError::Result { .. }) && error.to_string().contains("panicked"), "{error}");
    let (told, heard) = std::sync::mpsc::channel();
    let tell = move |result: Result<Unwelcome, _>| told.send(result.is_err()).expect("somebody listens");
    dispatcher.job(unwelcome, ()).callback(tell).submit();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(true), "the callback is called with the error");
    assert_eq!(dispatcher.submit(square, (5,)).wait(), Ok(25));
}

fn the_last_words_of_a_worker_are_those_of_the_job_that_ended_it() {
    let dispatcher = dispatcher(1);
    dispatcher.submit(complain, ("of another job".into(),)).wait().expect("it returns");
    let error = dispatcher.submit(end_worker, ("abort".into(),)).wait().expect_err("it dies").to_string();
    assert!(error.contains("about to abort") && !error.contains("of another job"), "{error}");
}

fn after_a_shutdown_callbacks_are_still_called_once_and_events_end() {
    let dispatcher = dispatcher(1);
    dispatcher.shutdown();
    let (told, heard) = std::sync::mpsc::channel();
    let tell = move |result| told.send(result).expect("somebody listens");
    dispatcher.job(square, (1,)).group("late").callback(tell).submit();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Err(JobError::ShutDown)));
    assert!(heard.recv().is_err(), "it is gone after the one call");
    assert!(dispatcher.wait_timeout(PATIENCE) && dispatcher.wait_group_timeout("late", PATIENCE));
    assert_eq!(dispatcher.events().count(), 0);
}

fn what_jobs_print_arrives_line_by_line() {
    let dispatcher = dispatcher(1);
    let events = dispatcher.events();
    let job = dispatcher.submit(print_lines, (20,));
    let id = job.id();
    assert!(id.is_some(), "every job that was submitted has an identifier");
    job.wait().expect("it prints");
    let mut lines = Vec::new();
    wait_until("all lines", || {
        while let Some(event) = events.try_next() {
            if let ClusterEvent::Printed { job, line, .. } = event {
                assert_eq!(job, id);
                lines.push(line);
            }
        }
        lines.len() == 21
    });
    assert!((0..20).all(|n| lines.contains(&format!("line {n}"))), "{lines:?}");
    assert!(lines.contains(&"and an error".to_owned()), "{lines:?}");
}

fn shutting_down_resolves_every_handle_and_leaves_no_process() {
    let dispatcher = dispatcher(2);
    let child = dispatcher.submit(leave_a_child, ()).wait().expect("it leaves a child");
    let worker = dispatcher.submit(worker_id, ()).wait().expect("it has one");
    let jobs: Vec<_> = (0..100_000).map(|_| dispatcher.submit(nap, (10_000,))).collect();
    let started = Instant::now();
    dispatcher.shutdown();
    assert!(jobs.into_iter().all(|job| job.wait() == Err(JobError::Cancelled)));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    wait_until("the worker to be gone", || !is_alive(worker as i32));
    wait_until("its child to be gone", || !is_alive(child as i32));
    assert_eq!(dispatcher.submit(square, (1,)).wait(), Err(JobError::ShutDown));
    assert_eq!(dispatcher.stats().nodes[0].jobs_ended, 2);
}

fn what_a_job_leaves_running_ends_with_it_where_each_has_a_worker_of_its_own() {
    let builder = Dispatcher::builder().discover(false).local_workers(1).output(Output::EventsOnly);
    let dispatcher = builder.fresh_workers(true).start().expect("it starts");
    let [first, second] = [(); 2].map(|()| dispatcher.submit(leave_a_child, ()));
    for child in [first, second].map(|job| job.wait().expect("it leaves a child")) {
        wait_until("its child to be gone", || !is_alive(child as i32));
    }
    let workers =
        [(); 3].map(|()| dispatcher.submit(worker_id, ())).map(|job| job.wait().expect("it has one"));
    assert_eq!(workers.into_iter().collect::<BTreeSet<_>>().len(), 3);
}

fn submitting_waits_or_says_so_while_as_much_is_pending_as_may_be() {
    let limited = |builder: Builder| {
        let dispatcher = builder.local_workers(1).discover(false).start().expect("it starts");
        let first = dispatcher.submit(nap, (200,));
        assert!(dispatcher.job(echo, (vec![1; 900],)).try_submit().is_ok(), "there is room for one more");
        let full = dispatcher.job(echo, (vec![1; 900],)).try_submit().expect_err("there is no room");
        let waited = Instant::now();
        assert_eq!(full.submit().wait(), Ok(vec![1; 900]), "waiting makes room");
        assert!(first.has_ended() && waited.elapsed() < PATIENCE);
    };
    limited(Dispatcher::builder().pending_jobs(2));
    limited(Dispatcher::builder().pending_bytes(900));
}

fn waiting_for_ever_is_a_timeout_like_any_other() {
    let dispatcher = dispatcher(1);
    let job = dispatcher.submit(square, (3,));
    assert!(dispatcher.wait_timeout(Duration::MAX));
    assert!(matches!(job.wait_timeout(Duration::MAX), Ok(Ok(9))));
    assert_eq!(dispatcher.wait_for_nodes(1, Duration::MAX), 0, "none will ever come");
}

fn in_process_workers_give_the_same_results() {
    let dispatcher = Dispatcher::builder().in_process(true).local_workers(2).start().expect("it starts");
    assert_eq!(dispatcher.submit(worker_id, ()).wait(), Ok(std::process::id()));
    assert!(dispatcher.map(square, 0..1_000).zip(0..).all(|(result, n)| result == Ok(n * n)));
    assert!(matches!(dispatcher.submit(fail, ("x".into(),)).wait(), Err(JobError::Panicked(_))));
}

/// Whether a process runs; one that has ended and waits to be collected does not.
fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ") && !status.contains(") X ")
}

fn an_option_that_makes_no_sense_is_the_outcome_of_its_job() {
    let dispatcher = Dispatcher::builder().local_workers(1).start().expect("it starts");
    for (job, part) in [
        (dispatcher.job(nap, (1,)).timeout(Duration::ZERO), "timeout is 0 s; it has to be longer"),
        (dispatcher.job(nap, (1,)).max_attempts(0), "max_attempts is 0; it has to be 1 or more"),
    ] {
        let error = job.submit().wait().expect_err("it makes no sense").to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(dispatcher.job(nap, (1,)).timeout(Duration::MAX).max_attempts(u32::MAX).submit().wait().is_ok());
    for patience in [Duration::ZERO, Duration::MAX] {
        assert_eq!(dispatcher.wait_for_nodes(0, patience), 0);
        assert!(dispatcher.wait_timeout(patience));
    }
}

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![
        results_come_back_to_the_call_that_asked,
        functions_of_one_name_in_different_modules_stay_apart,
        a_function_without_the_attribute_is_refused_with_what_to_do,
        jobs_run_in_other_processes_as_many_at_once_as_there_are_workers,
        a_panic_is_an_outcome_with_message_and_place_and_the_worker_lives_on,
        a_worker_killed_mid_job_is_replaced_and_the_job_retried,
        a_job_that_always_kills_its_worker_is_lost_after_three_attempts_and_the_others_finish,
        cancelling_a_running_job_kills_its_worker_at_once,
        a_job_beyond_its_time_limit_is_killed_and_the_slot_is_free_again,
        callbacks_fire_once_each_and_one_that_panics_changes_nothing_else,
        callbacks_may_submit_jobs_and_wait_covers_those,
        waiting_with_a_timeout_gives_up_in_time_and_the_job_goes_on,
        map_keeps_the_order_reads_lazily_and_ends,
        as_completed_yields_whichever_ends_first,
        a_waker_that_asks_does_not_wait_for_itself,
        jobs_are_futures,
        resizing_changes_how_many_run_at_once_down_to_none_and_back,
        shrinking_during_a_run_loses_nothing,
        what_jobs_print_arrives_line_by_line,
        a_result_whose_deserialize_panics_is_an_error_of_that_job_alone,
        the_last_words_of_a_worker_are_those_of_the_job_that_ended_it,
        after_a_shutdown_callbacks_are_still_called_once_and_events_end,
        shutting_down_resolves_every_handle_and_leaves_no_process,
        an_option_that_makes_no_sense_is_the_outcome_of_its_job,
        what_a_job_leaves_running_ends_with_it_where_each_has_a_worker_of_its_own,
        submitting_waits_or_says_so_while_as_much_is_pending_as_may_be,
        waiting_for_ever_is_a_timeout_like_any_other,
        in_process_workers_give_the_same_results,
    ]);
}
