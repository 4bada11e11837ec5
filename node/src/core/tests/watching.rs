//! What operators are told who watch.

use pp_protocol::limits::{ACTIVITY_BYTES, WATCHED_ATTEMPTS, WATCHERS};
use pp_protocol::worker::FunctionName;
use pp_protocol::{Activity, Doing, OutcomeKind, Panic};

use super::*;

const OPERATOR: u32 = 100;
const QUARTER: Duration = Duration::from_millis(250);

impl Node {
    fn operator(&mut self, connection: u32) {
        assert_eq!(self.on(proved(ConnectionKey(connection), Role::Operator, None)), []);
        assert_eq!(self.receive(connection, ToNode::Hello(Box::new(hello(connection)))), []);
    }

    /// An operator who is told as often as may be, and has had the first frame.
    fn watched(&mut self) {
        self.operator(OPERATOR);
        let asked = self.receive(OPERATOR, ToNode::Watch(1));
        assert!(matches!(asked[..], [Action::Look(_)]), "{asked:?}");
        let frames = self.on(Event::Looked(Vec::new()));
        assert!(matches!(&frames[..], [Action::Send(_, FromNode::Activity(frame))] if frame.number == 1));
    }

    /// The next frame, for which workers have come so far.
    fn frame(&mut self, workers: &[(u32, Progress)]) -> Activity {
        self.now = self.now + QUARTER;
        let asked = self.on(Event::Tick);
        let keys: Vec<_> = workers.iter().map(|(key, _)| WorkerKey(*key)).collect();
        assert!(asked.contains(&Action::Look(keys)), "those are asked that hold work: {asked:?}");
        let workers = workers.iter().map(|(key, progress)| (WorkerKey(*key), *progress));
        match &self.on(Event::Looked(workers.collect()))[..] {
            [Action::Send(ConnectionKey(OPERATOR), FromNode::Activity(frame))] => {
                assert!(frame.is_within_limits());
                (**frame).clone()
            }
            others => panic!("{others:?}"),
        }
    }
}

fn panicked(number: u32, message: &str) -> Finished {
    Finished { number, run_time_ns: 5, result: WorkResult::Panicked(Panic::new(message)) }
}

#[test]
fn a_running_attempt_is_told_with_the_name_of_its_function_and_for_how_long_it_runs() {
    let mut node = Node::ready(1);
    node.watched();
    let name = FunctionName { function: FUNCTION, name: "fib::\x1bfib".into() };
    assert_eq!(node.on(Event::FunctionsNamed(WorkerKey(0), vec![name])), []);
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let began = node.now;
    let frame = node.frame(&[(0, Progress { started: 2, finished: 1, started_at_ns: began.0 })]);
    let [worker] = frame.workers[..] else { panic!("{:?}", frame.workers) };
    let Doing::Running { function, attempt: id, for_ns } = worker.doing else { panic!("{worker:?}") };
    assert_eq!((frame.function(function), id, for_ns), ("fib::\\x1bfib", attempt(10).id, 250 * MILLISECOND));
    let session = frame.session(worker.session).expect("its session is told");
    assert_eq!(
        (&session.name[..], session.running, session.queued, session.share),
        ("dispatcher 1", 1, 0, 1)
    );
    assert_eq!((frame.number, frame.status.busy), (2, 1));
}

#[test]
fn what_ended_is_counted_and_told_once_what_failed_first() {
    let mut node = Node::ready(1);
    node.watched();
    node.receive(1, ToNode::Run((10..14).map(attempt).collect()));
    let result = WorkResult::Succeeded(Payload::from(vec![1]));
    let long = Finished { number: 2, run_time_ns: 7 * MILLISECOND, result };
    node.on(Event::WorkerFinished(WorkerKey(0), vec![panicked(1, "oh\nno \x1b[31m"), long]));
    let frame = node.frame(&[(0, Progress { started: 3, finished: 3, started_at_ns: 0 })]);
    let told: Vec<_> = frame.attempts.iter().map(|it| (it.attempt, it.ended, &it.reason[..])).collect();
    let expected =
        [(attempt(10).id, OutcomeKind::Panicked, "oh"), (attempt(11).id, OutcomeKind::Succeeded, "")];
    assert_eq!(told, expected);
    assert_eq!(frame.attempts[0].ended_ago_ns, 250 * MILLISECOND);
    let totals = frame.totals.ended;
    assert_eq!(
        (totals.of(OutcomeKind::Succeeded), totals.of(OutcomeKind::Panicked), totals.ended()),
        (2, 1, 3)
    );
    assert_eq!(totals.run_times[..3], [2, 0, 1], "one of it made the worker ready");
    assert!(matches!(frame.workers[0].doing, Doing::Busy));
    assert_eq!(node.frame(&[(0, Progress::default())]).attempts, [], "each once");
}

#[test]
fn a_dead_worker_is_counted_and_its_attempt_told_with_its_run_time_and_reason() {
    let mut node = Node::ready(1);
    node.watched();
    node.receive(1, ToNode::Run(vec![attempt(10)]));
    let progress = Progress { started: 2, finished: 1, started_at_ns: node.now.0 };
    node.now = node.now + QUARTER / 2;
    node.on(Event::WorkerExited(WorkerKey(0), progress, killed()));
    let frame = node.frame(&[]);
    let [ended] = &frame.attempts[..] else { panic!("{:?}", frame.attempts) };
    assert_eq!((ended.ended, ended.run_time_ns), (OutcomeKind::WorkerDied, 125 * MILLISECOND));
    assert_eq!(ended.reason, "it was killed by signal 9 (SIGKILL)");
    assert_eq!(frame.totals.workers_lost, 1);
}

#[test]
fn frames_come_at_most_four_times_a_second_and_stop_when_they_are_not_wanted() {
    let mut node = Node::ready(1);
    node.watched();
    // Whoever asks again, be it after stopping, is not told sooner.
    for interval in [1, 0, 1] {
        assert_eq!(node.receive(OPERATOR, ToNode::Watch(interval)), []);
    }
    node.now = node.now + (QUARTER - Duration::from_nanos(1));
    assert_eq!(node.on(Event::Tick), []);
    assert_eq!(node.core.watchers.due(), Some(node.now + Duration::from_nanos(1)));
    assert_eq!(node.frame(&[]).number, 1);
    assert_eq!(node.receive(OPERATOR, ToNode::Watch(0)), []);
    assert!(node.core.watchers.is_empty() && node.core.watchers.due().is_none());
    node.receive(OPERATOR, ToNode::Watch(1));
    node.on(Event::Disconnected(ConnectionKey(OPERATOR)));
    assert!(node.core.watchers.is_empty(), "one who is gone is told nothing");
}

#[test]
fn one_who_leaves_while_workers_are_asked_is_told_nothing() {
    let mut node = Node::ready(1);
    node.operator(OPERATOR);
    assert_eq!(node.receive(OPERATOR, ToNode::Watch(1)), [Action::Look(Vec::new())]);
    node.on(Event::Disconnected(ConnectionKey(OPERATOR)));
    assert_eq!(node.on(Event::Looked(Vec::new())), []);
}

#[test]
fn no_more_watch_than_may() {
    let mut node = Node::ready(1);
    for operator in 0..=WATCHERS as u32 {
        node.operator(OPERATOR + operator);
        let told = node.receive(OPERATOR + operator, ToNode::Watch(1));
        if operator < WATCHERS as u32 {
            assert_eq!(told, [Action::Look(Vec::new())]);
            continue;
        }
        let key = ConnectionKey(OPERATOR + operator);
        let refused = FromNode::Refused(Refusal::TooManyWatchers(WATCHERS as u32));
        assert_eq!(told, [Action::Send(key, refused), Action::Close(key)]);
    }
}

#[test]
fn a_frame_of_a_node_full_of_everything_fits_and_says_what_was_left_out() {
    const SESSIONS: u32 = 64;
    let mut node = Node::with_slots(600);
    for session in 1..=SESSIONS {
        node.on(connected(ConnectionKey(session)));
        let name = "a name \x1b ".repeat(60);
        node.receive(session, ToNode::Hello(Box::new(Hello { name, ..hello(session) })));
        let build = ProgramBuild {
            digest: Digest([session as u8; 32]),
            target: Target::new("plan9", "z80"),
            bytes: 1,
            name: "program ".repeat(40),
        };
        node.receive(session, offer(ProgramId(2), vec![build]));
        node.receive(session, offer(ProgramId::FIRST, Vec::new()));
        let function = |job| FunctionId(u64::MAX - u64::from(job));
        let attempts = (0..10).map(|job| Attempt { function: function(job % 600), ..attempt(job) });
        node.receive(session, ToNode::Run(attempts.collect()));
    }
    node.now = Moment(u64::MAX / 2);
    node.operator(OPERATOR);
    node.receive(OPERATOR, ToNode::Watch(1));
    node.on(Event::Looked(Vec::new()));
    let keys: Vec<_> = node.core.workers.keys().copied().collect();
    for key in &keys {
        node.on(Event::WorkerReady(*key));
    }
    let message = "\x1b".repeat(300);
    for _ in 0..100 {
        let mut workers = node.core.workers.iter();
        let busy = workers.find_map(|(key, worker)| Some((*key, worker.work.front()?.number)));
        let (key, number) = busy.expect("there is more to do");
        node.on(Event::WorkerFinished(key, vec![panicked(number, &message)]));
    }
    node.now = node.now + QUARTER;
    let looked = match &node.on(Event::Tick)[..] {
        [.., Action::Look(keys)] => keys.clone(),
        others => panic!("{others:?}"),
    };
    let running = Progress { started: 1, finished: 0, started_at_ns: 0 };
    let sent = node.on(Event::Looked(looked.into_iter().map(|key| (key, running)).collect()));
    let [Action::Send(_, FromNode::Activity(frame))] = &sent[..] else { panic!("{sent:?}") };
    assert!(frame.is_within_limits() && frame.weight() > ACTIVITY_BYTES * 3 / 4, "{}", frame.weight());
    let left = frame.left_out;
    assert!(frame.attempts.len() <= WATCHED_ATTEMPTS && !frame.attempts.is_empty());
    assert_eq!(frame.attempts.len() as u64 + left.attempts, 100);
    assert_eq!(frame.workers.len() as u32 + left.workers, node.core.workers.len() as u32);
    assert_eq!(frame.sessions.len() as u32 + left.sessions, SESSIONS);
    assert!(frame.programs.len() as u32 + left.programs >= 2 * SESSIONS);
    assert!(frame.workers.len() > 40 && left.workers > 0 && left.sessions > 0 && left.programs > 0);
}

#[test]
fn a_dispatcher_says_how_many_jobs_wait_there() {
    let mut node = Node::ready(1);
    node.watched();
    assert_eq!(node.receive(1, ToNode::Waiting(70_000)), []);
    assert_eq!(node.frame(&[]).sessions[0].waiting, 70_000);
    assert_eq!(node.core.statistics().sessions[0].waiting, 70_000);
}
