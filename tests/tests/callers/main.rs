//! A dispatcher is asked, fed and ended from everywhere: threads, tasks, wakers, callbacks, `tracing` subscribers.

mod subscriber;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_core::Stream;
use pp_dispatcher::{Dispatcher, JobError, JobStatus, OrderError, Output, StartError, as_completed, job};
use pp_tests::wait::{PATIENCE, wait_until};

#[job]
fn double(n: u64) -> u64 {
    2 * n
}

#[job]
fn nap(milliseconds: u64) -> u32 {
    thread::sleep(Duration::from_millis(milliseconds));
    std::process::id()
}

fn dispatcher(workers: usize) -> Dispatcher {
    builder(workers).start().expect("it starts")
}

fn builder(workers: usize) -> pp_dispatcher::Builder {
    Dispatcher::builder().discover(false).local_workers(workers).output(Output::EventsOnly)
}

/// Does something on a thread of its own, which is given up if it takes too long: a deadlock is a failure, not a hang.
fn in_time<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(act()));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: it panicked or takes for ever"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

// Starting and ending within a runtime.

fn a_start_that_fails_inside_a_runtime_is_an_error_and_leaves_no_thread() {
    const STARTS: usize = 50;
    runtime().block_on(async {
        for _ in 0..STARTS {
            let error = builder(1).program("/nonexistent").start().expect_err("there is no such program");
            assert!(matches!(error, StartError::Program { .. }), "{error}");
        }
        let error = builder(1).program("/dev/null").start().expect_err("it is no program").to_string();
        assert!(error.contains("/dev/null"), "{error}");
    });
    wait_until("the threads for callbacks to be gone", || threads_named("pp-callbacks") < STARTS);
}

fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

fn a_dispatcher_is_used_and_ended_inside_a_runtime() {
    runtime().block_on(async {
        let dispatcher = dispatcher(1);
        assert_eq!(dispatcher.submit(double, (4,)).await, Ok(8));
        drop(dispatcher);
        let dispatcher = builder(1).in_process(true).start().expect("it starts");
        assert_eq!(dispatcher.submit(double, (4,)).wait(), Ok(8));
        dispatcher.shutdown();
    });
}

// Mapping over inputs that block.

fn results_that_feed_the_inputs_of_their_map_flow() {
    in_time("a map that is fed by its results", || {
        let dispatcher = dispatcher(2);
        let (tell, inputs) = mpsc::channel();
        tell.send(1).expect("the map listens");
        for (result, round) in dispatcher.map(double, inputs).unordered().zip(1..) {
            assert_eq!(result, Ok(1 << round));
            if round == 20 {
                break;
            }
            tell.send(1 << round).expect("the map listens");
        }
        let (tell, inputs) = mpsc::channel();
        tell.send(1).expect("the map listens");
        for (result, round) in dispatcher.map(double, inputs).zip(1..) {
            assert_eq!(result, Ok(1 << round));
            if round == 20 {
                break;
            }
            tell.send(1 << round).expect("the map listens");
        }
    });
}

fn what_an_input_that_blocks_would_feed_goes_on_side_by_side() {
    in_time("inputs that come while results are waited for", || {
        let dispatcher = dispatcher(2);
        let (tell, inputs) = mpsc::channel();
        let feeder = thread::spawn(move || {
            for _ in 0..2 {
                tell.send(400).expect("the map listens");
                thread::sleep(Duration::from_millis(20));
            }
        });
        let started = Instant::now();
        let workers: BTreeSet<_> =
            dispatcher.map(nap, inputs).map(|result| result.expect("it naps")).collect();
        assert_eq!(workers.len(), 2, "the second does not wait for the first: {:?}", started.elapsed());
        feeder.join().expect("all were sent");
    });
}

fn the_stream_of_a_map_never_blocks_its_task() {
    let dispatcher = dispatcher(1);
    let (tell, inputs) = mpsc::channel();
    let (tell_other, other_inputs) = mpsc::channel();
    let mut ordered = dispatcher.map(double, inputs);
    let mut unordered = dispatcher.map(double, other_inputs).unordered();
    runtime().block_on(async {
        let mut context = Context::from_waker(Waker::noop());
        let started = Instant::now();
        assert!(Pin::new(&mut ordered).poll_next(&mut context).is_pending(), "nothing has been sent");
        assert!(Pin::new(&mut unordered).poll_next(&mut context).is_pending(), "nothing has been sent");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        for n in 0..3 {
            // Sent while the task waits: it is woken.
            let (tell, tell_other) = (tell.clone(), tell_other.clone());
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(10));
                tell.send(n).and_then(|()| tell_other.send(n)).expect("the maps listen");
            });
            assert_eq!(poll_fn(|context| Pin::new(&mut ordered).poll_next(context)).await, Some(Ok(2 * n)));
            assert_eq!(poll_fn(|context| Pin::new(&mut unordered).poll_next(context)).await, Some(Ok(2 * n)));
        }
        drop((tell, tell_other));
        for _ in 0..2 {
            assert_eq!(poll_fn(|context| Pin::new(&mut ordered).poll_next(context)).await, None);
            assert_eq!(poll_fn(|context| Pin::new(&mut unordered).poll_next(context)).await, None);
        }
    });
}

fn a_map_is_dropped_and_its_dispatcher_ends_while_an_input_blocks() {
    let (tell, inputs) = mpsc::channel();
    let worker = in_time("dropping a map whose input blocks", move || {
        let dispatcher = dispatcher(1);
        let worker = dispatcher.submit(nap, (0,)).wait().expect("it naps");
        let mut results = dispatcher.map(double, inputs);
        tell.send(1).expect("the map listens");
        assert_eq!(results.next(), Some(Ok(2)));
        drop(results);
        drop(dispatcher);
        (worker, tell)
    });
    let (worker, tell) = worker;
    wait_until("the worker to be gone", || !std::path::Path::new(&format!("/proc/{worker}")).exists());
    // Once there is another input, nobody is there to read it.
    let _ = tell.send(2);
    wait_until("the input to be dropped", || tell.send(3).is_err());
}

fn an_input_that_panics_does_so_where_the_results_are_taken() {
    let inputs = || (0_u64..10).inspect(|n| assert_ne!(*n, 5, "no fives"));
    let dispatcher = dispatcher(1);
    let mut results = dispatcher.map(double, inputs());
    assert!((0..5).all(|n| results.next() == Some(Ok(2 * n))), "those before it are yielded");
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.next()));
    assert!(taken.is_err(), "it is not swallowed");
    assert_eq!(results.next(), None);
    let mut results = dispatcher.map(double, inputs()).unordered();
    let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.by_ref().for_each(drop)));
    assert!(all.is_err(), "it is not swallowed");
    assert_eq!(results.next(), None);
}

fn a_map_inside_a_callback_flows() {
    in_time("a map inside a callback", || {
        // As much is pending as may be, and nothing more would be submitted anywhere else.
        let dispatcher = builder(1).pending_jobs(1).start().expect("it starts");
        let (tell, told) = mpsc::channel();
        let inner = dispatcher.clone();
        let callback =
            move |_| tell.send(inner.map(double, 0..100).filter(Result::is_ok).count()).expect("heard");
        dispatcher.job(double, (1,)).callback(callback).submit();
        assert_eq!(told.recv(), Ok(100));
    });
}

// The end, and what is submitted after it.

/// Submits a job whose callback does the same again, whatever it is told.
fn submit_for_ever(dispatcher: &Dispatcher, called: &Arc<AtomicUsize>, by: Arc<Mutex<BTreeSet<String>>>) {
    let (again, counter) = (dispatcher.clone(), Arc::clone(called));
    let callback = move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        by.lock().expect("it is whole").insert(format!("{:?}", thread::current().id()));
        submit_for_ever(&again, &counter, by);
    };
    dispatcher.job(double, (1,)).group("for ever").callback(callback).submit();
}

fn a_callback_that_submits_for_ever_ends_with_its_dispatcher() {
    for threads in [1, 3] {
        let dispatcher = builder(1).callback_threads(threads).start().expect("it starts");
        let (called, by) = (Arc::default(), Arc::default());
        for _ in 0..4 {
            submit_for_ever(&dispatcher, &called, Arc::clone(&by));
        }
        wait_until("some rounds", || called.load(Ordering::SeqCst) > 100);
        let ending = dispatcher.clone();
        let took = in_time("a shutdown", move || {
            let started = Instant::now();
            ending.shutdown();
            started.elapsed()
        });
        assert!(took < Duration::from_secs(4), "nothing was given up: {took:?}");
        // Nobody is left to call it, and nobody waits for it.
        let at_the_end = called.load(Ordering::SeqCst);
        assert!(dispatcher.wait_timeout(PATIENCE) && dispatcher.wait_group_timeout("for ever", PATIENCE));
        thread::sleep(Duration::from_millis(20));
        assert_eq!(called.load(Ordering::SeqCst), at_the_end, "with {threads} threads");
    }
}

fn after_the_end_a_refusal_is_told_once_and_never_inside_submit() {
    let dispatcher = dispatcher(1);
    dispatcher.shutdown();
    for round in 1..=3 {
        let (called, by) = (Arc::default(), Arc::new(Mutex::new(BTreeSet::new())));
        submit_for_ever(&dispatcher, &called, Arc::clone(&by));
        assert!(dispatcher.wait_timeout(PATIENCE));
        assert_eq!(called.load(Ordering::SeqCst), 1, "round {round}");
        let own = format!("{:?}", thread::current().id());
        assert!(!by.lock().expect("it is whole").contains(&own), "it was called inside submit");
    }
}

fn what_cannot_be_submitted_is_told_on_a_thread_of_callbacks() {
    fn not_registered(n: u64) -> u64 {
        n
    }
    let dispatcher = dispatcher(1);
    let (tell, told) = mpsc::channel();
    let tell = move |result| tell.send((result, thread::current().id())).expect("somebody listens");
    dispatcher.job(not_registered, (1,)).callback(tell).submit();
    let (result, by): (Result<u64, _>, ThreadId) = told.recv_timeout(PATIENCE).expect("it is told");
    assert!(matches!(result, Err(JobError::NotRegistered(_))), "{result:?}");
    assert_ne!(by, thread::current().id());
}

// Asking where the dispatcher's own thread is what asks, or waits for whoever asks.

/// Does something once it is woken, and tells what came of it.
struct Act<T, F: Fn() -> T>(F, mpsc::Sender<T>);

impl<T: Send + 'static, F: Fn() -> T + Send + Sync + 'static> Wake for Act<T, F> {
    fn wake(self: Arc<Self>) {
        // Whoever waited may have given up.
        let _ = self.1.send((self.0)());
    }
}

/// Does something on the dispatcher's thread: in a waker.
fn when_woken<T: Send + 'static>(dispatcher: &Dispatcher, act: impl Fn() -> T + Send + Sync + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Act(act, tell)));
    let mut short = pin!(dispatcher.submit(nap, (50,)));
    assert!(short.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    told.recv_timeout(PATIENCE).expect("a waker that asks panicked, or waits for ever")
}

fn wakers_may_ask_anything_while_other_threads_do() {
    let dispatcher = dispatcher(2);
    wait_until("the local node", || dispatcher.nodes().iter().any(|node| node.slots == 2));
    let done = Arc::new(AtomicUsize::new(0));
    let askers: Vec<_> = (0..2)
        .map(|_| {
            let (dispatcher, done) = (dispatcher.clone(), Arc::clone(&done));
            thread::spawn(move || {
                while done.load(Ordering::SeqCst) == 0 {
                    assert_eq!(dispatcher.stats().nodes.len(), dispatcher.nodes().len());
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let asked = dispatcher.clone();
        let (nodes, names) =
            when_woken(&dispatcher, move || (asked.nodes().len(), asked.stats().nodes.len()));
        assert_eq!((nodes, names), (1, 1), "what was said last is told");
    }
    done.store(1, Ordering::SeqCst);
    askers.into_iter().for_each(|asker| asker.join().expect("it asks in vain"));
}

fn on_the_dispatchers_thread_nothing_waits() {
    let dispatcher = builder(2).pending_jobs(2).start().expect("it starts");
    let long = || dispatcher.submit(nap, (60_000,));
    let waited = Mutex::new(Some(long()));
    let outcome = when_woken(&dispatcher, move || {
        waited.lock().expect("it is whole").take().map(pp_dispatcher::Job::wait)
    });
    assert_eq!(outcome, Some(Err(JobError::OnDispatcherThread)));
    dispatcher.shutdown();

    let dispatcher = builder(2).pending_jobs(2).start().expect("it starts");
    let waited = dispatcher.submit(nap, (60_000,));
    let (asked, waited) = (dispatcher.clone(), Arc::new(Mutex::new(Some(waited))));
    let about = Arc::clone(&waited);
    let events = Mutex::new(dispatcher.events());
    let answers = when_woken(&dispatcher, move || {
        let started = Instant::now();
        let mut about = about.lock().expect("it is whole");
        let long = about.take().expect("it is asked once");
        assert_eq!(long.status(), JobStatus::Queued, "it cannot be asked");
        assert!(matches!(asked.resize("local", 2), Err(OrderError::NoAnswer(_))));
        assert_eq!(asked.wait_for_nodes(3, Duration::MAX), 0);
        let long = long.wait_timeout(Duration::from_secs(60)).expect_err("it has not ended");
        let mut all = as_completed([long]);
        *about = all.next();
        while events.lock().expect("it is whole").next().is_some() {}
        let full = [0; 3].map(|_| asked.submit(double, (1,)));
        // Inputs may come as long as this is kept: the map cannot have ended.
        let (_open, inputs) = mpsc::channel();
        let mut map = asked.map(double, inputs);
        assert_eq!(map.next(), Some(Err(JobError::OnDispatcherThread)));
        assert_eq!(map.next(), None, "a refusal is told once");
        assert_eq!(asked.map(double, 0..3).take(1_000).count(), 1);
        assert_eq!(asked.map(double, 0..3).unordered().take(1_000).count(), 1);
        drop(full);
        started.elapsed()
    });
    assert!(answers < Duration::from_secs(2), "{answers:?}");
    let long = waited.lock().expect("it is whole").take().expect("it was yielded as it is");
    long.cancel();
    assert_eq!(long.wait(), Err(JobError::Cancelled));
}

fn the_last_dispatcher_may_be_dropped_by_its_own_thread() {
    let dispatcher = dispatcher(1);
    let worker = dispatcher.submit(nap, (0,)).wait().expect("it naps");
    let (tell, told) = mpsc::channel();
    let last = Mutex::new(None);
    let last = Arc::new(last);
    let waker = {
        let last = Arc::clone(&last);
        let drop_it = move || {
            let started = Instant::now();
            drop(last.lock().expect("it is whole").take());
            started.elapsed()
        };
        Waker::from(Arc::new(Act(drop_it, tell)))
    };
    let mut short = pin!(dispatcher.submit(nap, (100,)));
    assert!(short.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *last.lock().expect("it is whole") = Some(dispatcher);
    let took = told.recv_timeout(PATIENCE).expect("it is dropped");
    assert!(took < Duration::from_secs(1), "it waited for itself: {took:?}");
    wait_until("the worker to be gone", || !std::path::Path::new(&format!("/proc/{worker}")).exists());
}

fn a_waker_that_panics_costs_nobody_else_anything() {
    let dispatcher = dispatcher(1);
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let mut woken = Box::pin(dispatcher.submit(nap, (50,)));
    let waker = Waker::from(Arc::new(Panics));
    assert!(woken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(dispatcher.submit(double, (3,)).wait(), Ok(6), "the dispatcher lives on");
    wait_until("the job to end", || woken.has_ended());
}

fn subscribers_may_ask_and_may_hold_the_lock_of_whoever_asks() {
    let dispatcher = dispatcher(1);
    let asked = dispatcher.clone();
    let (tell, told) = mpsc::channel();
    subscriber::at_each_event(move || {
        let _ = tell.send(asked.nodes().len() + asked.stats().nodes.len());
    });
    let resize = |workers| dispatcher.set_local_workers(workers).expect("a sensible number");
    resize(2);
    told.recv_timeout(PATIENCE).expect("a subscriber that asks waits for ever");
    wait_until("two slots", || dispatcher.nodes()[0].slots == 2);

    let lock = Arc::new(Mutex::new(()));
    let (wanted, waiting) = (Arc::clone(&lock), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&waiting);
    subscriber::at_each_event(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        drop(wanted.lock().expect("it is whole"));
    });
    let held = lock.lock().expect("it is whole");
    resize(1);
    wait_until("the subscriber to want the lock", || waiting.load(Ordering::SeqCst) > 0);
    let started = Instant::now();
    assert_eq!(dispatcher.stats().nodes[0].slots, 2, "what was said last is told");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    drop(held);
    wait_until("word of the one slot", || dispatcher.nodes()[0].slots == 1);
    subscriber::at_each_event(|| ());
}

// Callbacks on several threads.

fn a_callback_that_sleeps_holds_up_no_other_where_there_are_threads_for_both() {
    let dispatcher = builder(1).callback_threads(2).start().expect("it starts");
    let (release, held) = mpsc::channel::<()>();
    let callback = move |_| held.recv_timeout(PATIENCE).expect("it is released");
    dispatcher.job(double, (1,)).group("sleepers").callback(callback).submit();
    let called = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let called = Arc::clone(&called);
        let callback = move |result| {
            assert_ne!(n, 50, "a callback that panics");
            assert_eq!(result, Ok(2 * n));
            called.fetch_add(1, Ordering::SeqCst);
        };
        let job = dispatcher.job(double, (n,)).callback(callback);
        if n % 2 == 0 { job } else { job.group("others") }.submit();
    }
    wait_until("the others", || called.load(Ordering::SeqCst) == 99);
    assert!(dispatcher.wait_group_timeout("others", PATIENCE));
    assert!(!dispatcher.wait_timeout(Duration::ZERO), "one is being called");
    release.send(()).expect("it waits");
    dispatcher.wait();
}

fn callbacks_of_a_group_are_called_in_order_and_one_at_a_time_on_any_number_of_threads() {
    // In one worker, jobs end in the order in which they are submitted.
    let dispatcher = builder(1).callback_threads(4).start().expect("it starts");
    let groups = ["a", "b", "c"].map(|name| (name, Arc::new(Mutex::new(Vec::new()))));
    for n in 0..600_u64 {
        let (name, called) = &groups[n as usize % 3];
        let called = Arc::clone(called);
        let callback = move |_| {
            let mut called = called.try_lock().expect("no two of a group at once");
            thread::yield_now();
            called.push(n);
        };
        dispatcher.job(double, (n,)).group(name).callback(callback).submit();
    }
    dispatcher.wait();
    for ((_, called), first) in groups.iter().zip(0..) {
        let called = called.lock().expect("it is whole");
        assert!(called.iter().copied().eq((first..600).step_by(3)), "{called:?}");
    }
}

fn callbacks_that_wait_count_as_pending() {
    let dispatcher = builder(1).pending_jobs(3).start().expect("it starts");
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    for _ in 0..3 {
        let held = Arc::clone(&held);
        // The first is released by word, the others by there being nobody to give it any more.
        let callback = move |_| {
            let _ = held.lock().expect("it is whole").recv_timeout(PATIENCE);
        };
        let job = dispatcher.job(double, (1,)).callback(callback).submit();
        wait_until("the job to end", || job.has_ended());
    }
    let full = dispatcher.job(double, (2,)).try_submit().expect_err("three wait for their callbacks");
    release.send(()).expect("it waits");
    assert_eq!(full.submit().wait(), Ok(4));
    drop(release);
}

fn nonsense_numbers_of_threads_are_refused() {
    for threads in [0, 1_000_000] {
        let error = builder(1).callback_threads(threads).start().expect_err("nonsense").to_string();
        assert!(error.contains(&threads.to_string()) && error.contains("1 to 1024"), "{error}");
    }
}

fn main() {
    pp_dispatcher::init();
    subscriber::install();
    pp_tests::harness::run(pp_tests::tests![
        a_start_that_fails_inside_a_runtime_is_an_error_and_leaves_no_thread,
        a_dispatcher_is_used_and_ended_inside_a_runtime,
        results_that_feed_the_inputs_of_their_map_flow,
        what_an_input_that_blocks_would_feed_goes_on_side_by_side,
        the_stream_of_a_map_never_blocks_its_task,
        a_map_is_dropped_and_its_dispatcher_ends_while_an_input_blocks,
        an_input_that_panics_does_so_where_the_results_are_taken,
        a_map_inside_a_callback_flows,
        a_callback_that_submits_for_ever_ends_with_its_dispatcher,
        after_the_end_a_refusal_is_told_once_and_never_inside_submit,
        what_cannot_be_submitted_is_told_on_a_thread_of_callbacks,
        wakers_may_ask_anything_while_other_threads_do,
        on_the_dispatchers_thread_nothing_waits,
        the_last_dispatcher_may_be_dropped_by_its_own_thread,
        a_waker_that_panics_costs_nobody_else_anything,
        subscribers_may_ask_and_may_hold_the_lock_of_whoever_asks,
        a_callback_that_sleeps_holds_up_no_other_where_there_are_threads_for_both,
        callbacks_of_a_group_are_called_in_order_and_one_at_a_time_on_any_number_of_threads,
        callbacks_that_wait_count_as_pending,
        nonsense_numbers_of_threads_are_refused,
    ]);
}
