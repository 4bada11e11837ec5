//! Changes that jobs make to the process that runs them and leave behind there: held locks, closed descriptors, deep
//! recursion, runtimes of their own.

use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pp_dispatcher::{Builder, ClusterEvent, Dispatcher, Events, JobError, Output, job};
use pp_tests::process::Process;
use pp_tests::wait::{PATIENCE, wait_until};

/// With this in its environment, this program does what it names instead of running tests.
const PART: &str = "PP_TESTS_PART";
/// `main` of a program that is asynchronous from its first line on.
const ASYNC_MAIN: &str = "async main";
/// `main` of a program that asks for a larger stack.
const DEEP_MAIN: &str = "deep main";

const MEBIBYTE: usize = 1 << 20;

fn builder(workers: usize) -> Builder {
    Dispatcher::builder().discover(false).local_workers(workers).output(Output::EventsOnly)
}

fn dispatcher(workers: usize) -> Dispatcher {
    builder(workers).start().expect("it starts")
}

#[job]
fn worker_id() -> u32 {
    std::process::id()
}

/// Leaves a thread behind that holds a standard stream for ever, and yields the worker's process id.
#[job]
fn leave_a_lock_held(stream: String) -> u32 {
    let (tell, held) = mpsc::channel();
    std::thread::spawn(move || {
        let _locks: (Option<_>, Option<_>) = match stream.as_str() {
            "stdout" => (Some(std::io::stdout().lock()), None),
            _ => (None, Some(std::io::stderr().lock())),
        };
        tell.send(()).expect("the job waits");
        std::thread::sleep(Duration::from_secs(3_600));
    });
    held.recv().expect("the thread tells");
    std::process::id()
}

/// Panics while a thread of its own holds a standard stream.
#[job]
fn panic_with_a_lock_held(stream: String) {
    leave_a_lock_held(stream);
    panic!("all the same");
}

fn a_thread_that_holds_a_standard_stream_holds_up_no_outcome() {
    for (stream, limit) in [("stdout", None), ("stdout", Some(Duration::from_secs(5))), ("stderr", None)] {
        let dispatcher = dispatcher(1);
        let events = dispatcher.events();
        let job = dispatcher.job(leave_a_lock_held, (stream.into(),));
        let job = if let Some(limit) = limit { job.timeout(limit) } else { job };
        let held = job.submit().wait_timeout(PATIENCE).expect("an outcome comes");
        assert!(held.is_ok(), "what the job returned is known: {held:?}");
        assert_not_run_again(&events);
        let next = dispatcher.submit(worker_id, ()).wait_timeout(PATIENCE).expect("its slot is free");
        assert!(next.is_ok() && (stream != "stdout" || next != held), "its worker is replaced");
    }
}

/// Returns while a thread that it leaves behind keeps the outcome from being told, and then ends the worker.
#[job]
fn abort_while_the_outcome_is_owed(runs: String) {
    use std::io::Write;
    let runs = std::fs::OpenOptions::new().create(true).append(true).open(runs);
    runs.and_then(|mut runs| runs.write_all(b"x")).expect("the run is noted");
    let (tell, held) = mpsc::channel();
    std::thread::spawn(move || {
        let _lock = std::io::stdout().lock();
        tell.send(()).expect("the job waits");
        std::thread::sleep(Duration::from_millis(100));
        std::process::abort();
    });
    held.recv().expect("the thread tells");
}

fn a_leftover_that_ends_the_worker_before_the_outcome_is_told_costs_so_many_attempts_and_no_more() {
    let home = tempfile::tempdir().expect("a directory");
    let runs = home.path().join("runs");
    let dispatcher = dispatcher(1);
    let job = dispatcher.job(abort_while_the_outcome_is_owed, (runs.display().to_string(),)).max_attempts(2);
    let outcome = job.submit().wait_timeout(PATIENCE).expect("it does not run for ever");
    assert!(matches!(outcome, Err(JobError::Lost(_))), "{outcome:?}");
    assert_eq!(std::fs::read(runs).expect("it ran").len(), 2);
    assert!(dispatcher.submit(worker_id, ()).wait_timeout(PATIENCE).expect("its slot is free").is_ok());
}

/// That the outcome is the one of the first attempt.
fn assert_not_run_again(events: &Events) {
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, ClusterEvent::JobRetried { .. }), "{event}");
    }
}

fn a_panic_is_told_whoever_holds_a_standard_stream() {
    for stream in ["stdout", "stderr"] {
        let dispatcher = dispatcher(1);
        let panic = dispatcher.submit(panic_with_a_lock_held, (stream.into(),)).wait_timeout(PATIENCE);
        let panic = panic.expect("a panic is told");
        assert!(
            matches!(&panic, Err(JobError::Panicked(panic)) if panic.message == "all the same"),
            "{panic:?}"
        );
    }
}

/// With `in_process`, the program's own thread often holds it: `let mut out = stdout().lock()`.
fn a_program_that_holds_its_standard_output_gets_results_from_its_own_threads() {
    let dispatcher = builder(1).in_process(true).start().expect("it starts");
    let _held = std::io::stdout().lock();
    let job = dispatcher.submit(worker_id, ());
    assert!(matches!(job.wait_timeout(PATIENCE), Ok(Ok(_))));
}

/// Closes what is open, as `closefrom(lowest)` does, and yields the worker's process id.
#[job]
fn close_everything_from(lowest: i32, highest: i32) -> u32 {
    let open = std::fs::read_dir("/proc/self/fd").expect("they are listed");
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let is_open = |descriptor: &i32| std::fs::read_link(format!("/proc/self/fd/{descriptor}")).is_ok();
    let wanted = open.into_iter().filter(|descriptor| (lowest..=highest).contains(descriptor));
    for descriptor in wanted.filter(is_open) {
        #[expect(unsafe_code, reason = "this is what is tested: a job that closes what is not its own")]
        // SAFETY: none; whoever uses it has to live with it.
        unsafe {
            rustix::io::close(descriptor);
        }
    }
    std::process::id()
}

fn a_job_that_closes_every_descriptor_has_its_outcome_and_the_next_one_runs() {
    let dispatcher = dispatcher(1);
    let events = dispatcher.events();
    for (lowest, highest) in [(3, i32::MAX), (0, i32::MAX), (0, 2), (3, 255)] {
        let closed = dispatcher.submit(close_everything_from, (lowest, highest)).wait_timeout(PATIENCE);
        let closed = closed.expect("an outcome comes");
        assert!(closed.is_ok(), "{lowest}..={highest}: {closed:?}");
        assert_not_run_again(&events);
        let next = dispatcher.submit(worker_id, ()).wait_timeout(PATIENCE).expect("its slot is free");
        assert!(next.is_ok(), "{next:?}");
    }
}

/// Ends the connections of all sockets that there are.
#[job]
fn shut_down_every_socket() {
    for descriptor in std::fs::read_dir("/proc/self/fd").expect("they are listed").flatten() {
        let link = std::fs::read_link(descriptor.path()).unwrap_or_default();
        let number = descriptor.file_name().to_str().and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|_| link.to_string_lossy().starts_with("socket:")) {
            #[expect(unsafe_code, reason = "this is what is tested: a job that uses what is not its own")]
            // SAFETY: it is open, and is not closed here.
            let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
    std::thread::sleep(Duration::from_secs(3_600));
}

fn a_job_that_ends_its_workers_connection_is_told_as_that() {
    let error = dispatcher(1).submit(shut_down_every_socket, ()).wait_timeout(PATIENCE);
    let error = error.expect("an outcome comes").expect_err("nothing can be told any more").to_string();
    assert!(
        error.contains("attempt 3") && error.contains("the job closed the worker's connection"),
        "{error}"
    );
    assert!(!error.contains("SIGKILL"), "nobody looks for whoever killed it: {error}");
}

/// Takes its process away what it can: its directory, the right to open anything, its output.
#[job]
fn change_the_process(directory: String) -> u32 {
    use rustix::process::{Resource, Rlimit, setrlimit};
    std::env::set_current_dir(&directory).expect("it is there");
    std::fs::remove_dir(&directory).expect("it is empty");
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").expect("it is there");
    rustix::stdio::dup2_stdin(&nothing).expect("it can be replaced");
    rustix::stdio::dup2_stdout(&nothing).expect("it can be replaced");
    rustix::stdio::dup2_stderr(&nothing).expect("it can be replaced");
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) }).expect("it can be lowered");
    print!("this is gone");
    std::process::id()
}

fn a_job_that_changes_its_process_changes_nothing_for_its_node() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("removed");
    std::fs::create_dir(&directory).expect("a directory");
    let dispatcher = dispatcher(1);
    let changed = dispatcher.submit(change_the_process, (directory.display().to_string(),));
    assert!(changed.wait_timeout(PATIENCE).expect("an outcome comes").is_ok());
    // The next job sees what was changed, and runs all the same.
    assert!(dispatcher.submit(worker_id, ()).wait_timeout(PATIENCE).expect("its slot is free").is_ok());
}

/// Uses about so much stack.
#[job]
fn recurse(bytes: usize) -> usize {
    let used = [1_u8; 1_024];
    let used = std::hint::black_box(&used).iter().map(|byte| usize::from(*byte)).sum::<usize>();
    if bytes > 2 * used { recurse(bytes - 2 * used) + 1 } else { 1 }
}

/// Uses `bytes` of stack, by a measure taken from below.
fn stack_used(depth: usize) -> usize {
    depth * 1_024
}

fn jobs_have_eight_mebibytes_of_stack_in_workers_and_in_threads() {
    for in_process in [false, true] {
        let dispatcher = builder(1).in_process(in_process).start().expect("it starts");
        let depth = dispatcher.submit(recurse, (10 * MEBIBYTE,)).wait_timeout(PATIENCE);
        let depth = depth.expect("an outcome comes").expect("there is room");
        assert!(stack_used(depth) > 4 * MEBIBYTE, "{depth}");
    }
}

/// This program again, as something else than a test.
fn start_part(part: &str) -> Process {
    let this = std::env::current_exe().expect("a test program has a path");
    Process::start(Command::new(this).env(PART, part).env("PP_DISCOVER", "0"))
}

fn a_program_gets_the_stack_that_it_asks_for() {
    let mut program = start_part(DEEP_MAIN);
    assert!(program.wait().success(), "{}", program.stderr());
}

fn deep_main() {
    pp_dispatcher::Init::new().stack_bytes(64 * MEBIBYTE).run();
    for in_process in [false, true] {
        let dispatcher = builder(1).in_process(in_process).start().expect("it starts");
        let depth = dispatcher.submit(recurse, (80 * MEBIBYTE,)).wait().expect("there is room");
        assert!(stack_used(depth) > 32 * MEBIBYTE, "{depth}");
    }
}

/// Builds a runtime of its own, which panics inside another one.
#[job]
fn sleep_in_a_runtime_of_its_own(milliseconds: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
    milliseconds
}

fn a_job_builds_a_runtime_of_its_own_wherever_init_was_called() {
    let mut program = start_part(ASYNC_MAIN);
    assert!(program.wait().success(), "{}", program.stderr());
}

fn async_main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        pp_dispatcher::init();
        for in_process in [false, true] {
            let dispatcher = builder(1).in_process(in_process).start().expect("it starts");
            assert_eq!(dispatcher.submit(sleep_in_a_runtime_of_its_own, (1,)).await, Ok(1));
        }
    });
}

/// Lets a process stop its worker as soon as that has returned from here.
#[job]
fn be_stopped_afterwards() {
    let stop = format!("(sleep 0.2; kill -STOP {}) &", std::process::id());
    Command::new("sh").args(["-c", &stop]).status().expect("a shell can be started");
}

fn a_worker_that_is_stopped_while_it_owes_an_answer_is_replaced() {
    let dispatcher = dispatcher(1);
    let worker = dispatcher.submit(worker_id, ()).wait().expect("it has one");
    dispatcher.submit(be_stopped_afterwards, ()).wait().expect("it returns");
    wait_until("the worker to be stopped", || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        status.contains(") T ")
    });
    let started = Instant::now();
    let next = dispatcher.submit(worker_id, ()).wait_timeout(PATIENCE).expect("an outcome comes");
    assert!(next.is_ok() && started.elapsed() < PATIENCE / 2, "{next:?} after {:?}", started.elapsed());
}

fn main() {
    match std::env::var(PART).as_deref() {
        Ok(ASYNC_MAIN) => return async_main(),
        Ok(DEEP_MAIN) => return deep_main(),
        _ => pp_dispatcher::init(),
    }
    pp_tests::harness::run(pp_tests::tests![
        a_thread_that_holds_a_standard_stream_holds_up_no_outcome,
        a_leftover_that_ends_the_worker_before_the_outcome_is_told_costs_so_many_attempts_and_no_more,
        a_panic_is_told_whoever_holds_a_standard_stream,
        a_program_that_holds_its_standard_output_gets_results_from_its_own_threads,
        a_job_that_closes_every_descriptor_has_its_outcome_and_the_next_one_runs,
        a_job_that_ends_its_workers_connection_is_told_as_that,
        a_job_that_changes_its_process_changes_nothing_for_its_node,
        jobs_have_eight_mebibytes_of_stack_in_workers_and_in_threads,
        a_program_gets_the_stack_that_it_asks_for,
        a_job_builds_a_runtime_of_its_own_wherever_init_was_called,
        a_worker_that_is_stopped_while_it_owes_an_answer_is_replaced,
    ]);
}
