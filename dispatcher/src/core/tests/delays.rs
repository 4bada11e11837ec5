//! Jobs that are not to be sent before a time.

use super::*;

/// From now on.
fn delayed(number: u32, dispatcher: &Dispatcher, delay: Duration) -> NewJob<Number> {
    let not_before = Some(dispatcher.now + delay);
    with_options(number, JobOptions { not_before, ..JobOptions::default() })
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_job_is_sent_when_its_time_has_come_and_not_before() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let until = dispatcher.now + SECOND;
    let job = delayed(0, &dispatcher, SECOND);
    assert_eq!(dispatcher.on(Event::Submit(vec![job])), []);
    assert_eq!(dispatcher.core.job_status(JobId::new(0, 0)), Some(JobStatus::Delayed { until }));
    assert_eq!(dispatcher.pass(SECOND - Duration::from_nanos(1)), []);
    assert_eq!(dispatcher.core.next_deadline(), Some(until));
    assert_eq!(dispatcher.pass(Duration::from_nanos(1)), [run(A, &[(0, 1)])]);
    assert_eq!(dispatcher.outcomes(A, 0, vec![succeeded(0, 1)]), [done(0, A)]);
}

#[test]
fn a_time_that_has_passed_is_no_delay() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let job = delayed(0, &dispatcher, Duration::ZERO);
    assert_eq!(dispatcher.on(Event::Submit(vec![job])), [run(A, &[(0, 1)])]);
}

#[test]
fn delayed_jobs_queue_in_order_of_time_then_of_submission_behind_what_waits() {
    let mut dispatcher = Dispatcher::new();
    let delays = [3, 1, 2, 1].map(|seconds| SECOND * seconds);
    let jobs = (0..).zip(delays).map(|(number, delay)| delayed(number, &dispatcher, delay)).collect();
    assert_eq!(dispatcher.on(Event::Submit(jobs)), []);
    dispatcher.submitted = 4;
    dispatcher.submit(1);
    dispatcher.pass(SECOND * 3);
    let order = [4, 1, 3, 2, 0].map(|job| (job, 1));
    assert_eq!(dispatcher.connect(A, 5, 5), [run(A, &order)]);
}

#[test]
fn a_delayed_job_is_cancelled_like_any_other() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let jobs = [SECOND, SECOND * 2].map(|delay| delayed(0, &dispatcher, delay)).into();
    dispatcher.on(Event::Submit(jobs));
    let cancelled = resolve(0, None, 0, JobOutcome::Cancelled);
    assert_eq!(dispatcher.on(Event::Cancel(vec![JobId::new(0, 0)])), [cancelled]);
    assert_eq!(dispatcher.core.kept(), 1);
    assert_eq!(dispatcher.pass(SECOND), []);
    assert_eq!(dispatcher.pass(SECOND).len(), 1, "the other one runs");
}

#[test]
fn a_job_that_waits_for_its_time_is_not_reported_as_stalled() {
    let mut dispatcher = Dispatcher::new();
    let job = delayed(0, &dispatcher, SECOND * 60);
    dispatcher.on(Event::Submit(vec![job]));
    assert_eq!(dispatcher.pass(SECOND * 60), []);
    assert_eq!(dispatcher.pass(SECOND * 5), [Action::Report(Report::Stalled(1))]);
}

#[test]
fn a_charged_job_is_tried_again_at_once_whatever_its_first_delay_was() {
    let mut dispatcher = Dispatcher::new();
    dispatcher.connect(A, 1, 1);
    let job = delayed(0, &dispatcher, SECOND);
    dispatcher.on(Event::Submit(vec![job]));
    dispatcher.pass(SECOND);
    assert_eq!(dispatcher.outcomes(A, 0, vec![died(0, 1)])[1..], [run(A, &[(0, 2)])]);
}

#[test]
fn delayed_jobs_end_with_their_dispatcher() {
    let mut dispatcher = Dispatcher::new();
    let job = delayed(0, &dispatcher, SECOND);
    dispatcher.on(Event::Submit(vec![job]));
    assert_eq!(dispatcher.on(Event::Shutdown), [resolve(0, None, 0, JobOutcome::Cancelled)]);
    assert_eq!((dispatcher.core.kept(), dispatcher.core.next_deadline()), (0, None));
}

#[test]
fn delayed_jobs_that_no_node_will_ever_run_fail_without_waiting_for_their_time() {
    let config = DispatcherConfig { observer: true, ..DispatcherConfig::new(SessionId(1), 1) };
    let mut dispatcher = Dispatcher { core: Core::new(config), ..Dispatcher::new() };
    let jobs = (0..10_000).map(|number| delayed(number, &dispatcher, SECOND * 60)).collect();
    let mut failed = dispatcher.on(Event::Submit(jobs));
    assert!(failed.len() < 10_000, "nobody else waits for all of them");
    assert!(dispatcher.core.next_deadline() <= Some(dispatcher.now), "the rest is due at once");
    failed.extend(dispatcher.on(Event::Tick));
    let is_lost = |action: &Action<Number>| matches!(action, Action::Resolve(_, end) if matches!(end.outcome, JobOutcome::Lost(_)));
    assert!(failed.len() == 10_000 && failed.iter().all(is_lost));
    assert_eq!(dispatcher.core.next_deadline(), None);
}

#[test]
fn delayed_jobs_of_a_program_that_starts_nowhere_do_not_wait_for_their_time() {
    let mut dispatcher = Dispatcher::offering(&[FIRST, super::SECOND]);
    dispatcher.on(Event::NodeFound { node: A, name: "local".into(), kind: NodeKind::Local });
    dispatcher.on(Event::LinkUp(A, Box::new(welcome(A, 1, 1)), Version::V1));
    let of = |program, number| NewJob { program, ..delayed(number, &dispatcher, SECOND) };
    let jobs = vec![of(FIRST, 0), of(super::SECOND, 1), of(FIRST, 2)];
    assert_eq!(dispatcher.on(Event::Submit(jobs)), []);
    let refusal = ProgramRefusal::DoesNotStart { reason: "no init".into(), stderr: Vec::new() };
    let told = dispatcher.told(A, FIRST, ProgramStatus::Refused(refusal));
    let lost = told.iter().filter_map(|action| match action {
        Action::Resolve(ticket, _) => Some(*ticket),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [Number(0), Number(2)]);
    let until = dispatcher.now + SECOND;
    assert_eq!(dispatcher.core.job_status(JobId::new(1, 0)), Some(JobStatus::Delayed { until }));
}

#[test]
fn many_delayed_jobs_join_the_queue_some_at_a_time() {
    let mut dispatcher = Dispatcher::new();
    let jobs = (0..20_000).map(|number| delayed(number, &dispatcher, SECOND)).collect();
    dispatcher.on(Event::Submit(jobs));
    dispatcher.now = dispatcher.now + SECOND;
    let queued = |dispatcher: &Dispatcher| {
        let ids = (0..20_000).map(|place| JobId::new(place, 0));
        ids.filter(|id| dispatcher.core.job_status(*id) == Some(JobStatus::Queued)).count()
    };
    let mut turns = 0;
    while dispatcher.core.next_deadline() <= Some(dispatcher.now) {
        let before = queued(&dispatcher);
        dispatcher.on(Event::Tick);
        assert!(queued(&dispatcher) - before < 10_000, "nobody else waits for all of them");
        turns += 1;
    }
    assert_eq!((turns, queued(&dispatcher)), (3, 20_000));
}
