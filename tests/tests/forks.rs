//! Children made by `fork()` that start no other program, as libraries for daemons, sandboxes and tests make them: they have
//! the memory of the process that started a dispatcher, and none of its threads.

use std::panic::catch_unwind;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use pp_dispatcher::{
    Dispatcher, Job, JobError, JobStatus, OrderError, Output, StartError, as_completed, job,
};
use pp_tests::process::Process;

/// With this in its environment, this program is the parent of a child instead of running tests.
const PART: &str = "PP_TESTS_PART";

#[job]
fn double(n: u64) -> u64 {
    2 * n
}

#[job]
fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn started() -> Dispatcher {
    let builder = Dispatcher::builder().discover(false).local_workers(4).output(Output::EventsOnly);
    builder.start().expect("it starts")
}

/// Has a child do this, and tells whether it did it to the end.
#[expect(unsafe_code, reason = "this is what is tested")]
fn in_a_child(part: impl FnOnce()) -> bool {
    // SAFETY: none. What other threads held when it was made stays locked in it; it is to use nothing of that.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // One that hangs fails instead.
        // SAFETY: it has the system end this process after a while.
        unsafe { libc::alarm(20) };
        let done = catch_unwind(std::panic::AssertUnwindSafe(part)).is_ok();
        // SAFETY: it ends this process, and does nothing else.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    let mut status = -1;
    // SAFETY: it writes to a variable of this function.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ended == child && status == 0
}

fn a_child_is_refused_at_once_whatever_it_asks_and_its_parent_goes_on() {
    let this = std::env::current_exe().expect("a test program has a path");
    let mut program = Process::start(Command::new(this).env(PART, "parent").env("PP_DISCOVER", "0"));
    assert!(program.wait().success(), "{}", program.stderr());
}

fn use_a_dispatcher_in_a_child() {
    let parents = started();
    let dispatcher = parents.clone();
    let events = dispatcher.events();
    let (running, waited, polled) =
        (submit_sleep(&dispatcher), submit_sleep(&dispatcher), submit_sleep(&dispatcher));
    let mut map = dispatcher.map(double, 0..1_000_u64);
    assert_eq!(map.next(), Some(Ok(0)));
    let mut unordered = dispatcher.map(double, 0..1_000_u64).unordered();
    assert!(unordered.next().is_some_and(|result| result.is_ok()));
    let went_well = in_a_child(|| {
        let refused = |outcome: Result<_, _>| assert_eq!(outcome, Err(JobError::Forked));
        refused(waited.wait().map(drop));
        refused(polled.wait_timeout(Duration::from_secs(60)).expect("it is not waited for").map(drop));
        assert!(running.has_ended() && running.id().is_none() && running.status() == JobStatus::Ended);
        running.cancel();
        refused(as_completed([running]).next().expect("one").wait().map(drop));
        refused(dispatcher.submit(double, (1,)).wait().map(drop));
        assert_eq!(map.next(), Some(Err(JobError::Forked)));
        assert_eq!(map.next(), None);
        assert_eq!(unordered.next(), Some(Err(JobError::Forked)));
        assert_eq!(dispatcher.map(double, [1, 2]).collect::<Vec<_>>(), [Err(JobError::Forked)]);
        callbacks_are_called_and_submit_again(&dispatcher);
        assert!(catch_unwind(std::panic::AssertUnwindSafe(|| dispatcher.wait())).is_err());
        assert!(matches!(dispatcher.resize("local", 2), Err(OrderError::NoAnswer(_))));
        assert!(matches!(dispatcher.set_local_workers(2), Err(OrderError::NoAnswer(_))));
        assert_eq!(dispatcher.wait_for_nodes(1, Duration::from_secs(60)), 0);
        // What was told before is there, and nothing is waited for after that.
        while events.next_timeout(Duration::from_secs(60)).is_some() {}
        let another = Dispatcher::builder().discover(false).in_process(true).start();
        assert!(matches!(another, Err(StartError::Forked)), "{another:?}");
        dispatcher.shutdown();
        drop((map, unordered, dispatcher));
    });
    assert!(went_well);
    assert_eq!(parents.submit(double, (4,)).wait(), Ok(8));
}

fn submit_sleep(dispatcher: &Dispatcher) -> Job<()> {
    dispatcher.submit(sleep, (3_600_000,))
}

fn callbacks_are_called_and_submit_again(dispatcher: &Dispatcher) {
    let (tell, told) = mpsc::channel();
    let again = dispatcher.clone();
    let callback = move |outcome| {
        assert_eq!(outcome, Err(JobError::Forked));
        // This one is not called back: it could go on for ever.
        again.job(double, (2,)).callback(|_| panic!("it is not called back")).submit();
        tell.send(()).expect("it is listened to");
    };
    dispatcher.job(double, (1,)).group("a group").callback(callback).submit();
    told.try_recv().expect("it was called");
}

fn main() {
    pp_dispatcher::init();
    if std::env::var_os(PART).is_some() {
        return use_a_dispatcher_in_a_child();
    }
    pp_tests::harness::run(pp_tests::tests![
        a_child_is_refused_at_once_whatever_it_asks_and_its_parent_goes_on,
    ]);
}
