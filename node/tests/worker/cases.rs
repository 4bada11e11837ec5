//! Claims about workers, case by case.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use pp_node::built_in::{Ahead, CommandLine, CommandOutput};
use pp_node::pool::{WorkerEvent, WorkerProgram};
use pp_protocol::worker::{Finished, WorkResult};
use pp_protocol::{Death, Stream, WorkerDeath, room};

use crate::fixture::{
    Fixture, is_gone, kill, parent_of, processes_with, result_of, run, shared_memory, until,
};
use crate::jobs::{WITH_THREAD, only_byte};

/// Argument with which this program is a node until it is killed.
pub(crate) const BE_A_NODE: &str = "--be-a-node";
/// The same, with a child made by `fork()` that has the node's sockets and outlives it.
pub(crate) const BE_A_NODE_WITH_A_CHILD: &str = "--be-a-node-with-a-child";

macro_rules! cases {
    ($($name:ident,)*) => {
        /// Every case, by name.
        pub(crate) const ALL: &[(&str, fn())] = &[$((stringify!($name), || run($name()))),*];
    };
}

cases! {
    results_come_back_in_order,
    large_arguments_and_results_come_back_whole,
    more_large_results_than_can_be_lent_stay_what_they_are,
    what_a_job_keeps_of_its_arguments_stays_what_it_is,
    results_outlive_the_worker_that_lent_them,
    of_what_a_killed_worker_has_left_only_what_is_used_is_kept,
    a_large_result_that_cannot_be_sent_leaves_nothing_behind,
    arguments_that_are_dropped_after_the_job_are_taken_back,
    a_panic_is_reported_with_its_place_and_the_worker_lives_on,
    what_cannot_be_called_is_reported,
    a_worker_killed_mid_job_exits_and_its_page_tells_which_job,
    a_worker_that_aborts_has_reported_what_it_finished_before,
    work_not_started_can_be_taken_back_and_the_worker_goes_on,
    outcomes_do_not_wait_for_a_job_that_is_unusually_long,
    what_a_job_prints_is_told_line_by_line_before_its_outcome,
    what_code_in_c_prints_is_told_before_its_outcome,
    what_a_job_printed_without_a_line_end_is_told_before_its_outcome_as_its_own,
    much_that_a_job_prints_is_told_before_its_outcome,
    a_worker_whose_output_is_held_waits_and_nothing_of_it_is_lost,
    a_command_whose_output_goes_ahead_waits_where_it_is_not_read_on,
    last_words_can_do_nothing_to_a_terminal,
    a_retired_worker_ends_with_what_its_jobs_started,
    nothing_that_its_jobs_started_outlives_a_worker_however_it_ends,
    what_a_job_leaves_running_stays_while_its_worker_does,
    a_job_that_forks_without_end_is_ended_with_its_worker,
    a_program_with_threads_is_a_worker_like_any_other,
    a_worker_ends_when_its_node_is_killed_whoever_else_holds_its_socket,
    a_program_that_a_job_starts_is_no_worker,
    a_job_that_ends_its_thread_is_told_as_that,
    a_file_that_is_no_program_fails_to_start,
    a_program_without_its_interpreter_fails_to_start,
    a_program_that_ends_before_it_is_ready_fails_to_start_and_its_last_words_are_told,
    a_worker_of_another_version_is_refused,
    a_worker_that_writes_garbage_is_killed,
    a_thread_serves_like_a_process,
    a_thread_killed_is_given_up_and_starts_no_further_job,
}

async fn results_come_back_in_order() {
    let mut worker = Fixture::ready().await;
    let works: Vec<_> = (0..3_000_u64).map(|number| worker.work("double", (number,))).collect();
    worker.assign(works);
    let outcomes = worker.outcomes(3_000).await;
    let results: Vec<u64> = outcomes.iter().map(result_of).collect();
    assert!(results.into_iter().eq((0..3_000).map(|number| number * 2)));
    assert_eq!(outcomes[0].number, 0);
    let progress = worker.worker.progress();
    assert_eq!((progress.started, progress.finished), (3_000, 3_000));
}

async fn large_arguments_and_results_come_back_whole() {
    let mut worker = Fixture::ready().await;
    let sizes = [0, 10, 16 * 1024, 5 << 20, 1, 70_000, 64 * 1024];
    let blobs: Vec<Bytes> = sizes.iter().map(|size| vec![*size as u8 ^ 0x5a; *size].into()).collect();
    let works = blobs.iter().map(|blob| worker.work("echo", (blob,))).collect();
    worker.assign(works);
    let results: Vec<Bytes> = worker.outcomes(blobs.len()).await.iter().map(result_of).collect();
    assert!(results == blobs, "what came back is not what was sent");
}

/// Large enough to be lent.
const LARGE: usize = room::SMALLEST_BYTES + 1_000;
/// More of these than can be lent at once.
const MANY: u64 = 300;

async fn more_large_results_than_can_be_lent_stay_what_they_are() {
    let mut worker = Fixture::ready().await;
    let mut kept: Vec<(u8, Bytes)> = Vec::new();
    for _ in 0..3 {
        let works = (0..MANY).map(|number| worker.work("bytes", (number as u8, LARGE))).collect();
        worker.assign(works);
        let outcomes = worker.outcomes(MANY as usize).await;
        kept.extend((0..MANY).map(|number| number as u8).zip(outcomes.iter().map(result_of::<Bytes>)));
        assert!(kept.iter().all(|(byte, bytes)| only_byte(bytes) == Some(*byte)));
        // Room for some of the next, here and there.
        kept.retain(|(byte, _)| byte % 3 > 0);
    }
}

async fn what_a_job_keeps_of_its_arguments_stays_what_it_is() {
    let mut worker = Fixture::ready().await;
    for round in 0..3 {
        let works =
            (0..MANY).map(|number| worker.work("keep", (Bytes::from(vec![number as u8; LARGE]),))).collect();
        worker.assign(works);
        worker.outcomes(MANY as usize).await;
        let kept: Vec<Option<u8>> = worker.call("kept", ()).await;
        assert!(kept.into_iter().eq((0..MANY).map(|number| Some(number as u8))), "round {round}");
        worker.call::<()>("forget", ()).await;
    }
}

async fn results_outlive_the_worker_that_lent_them() {
    let mut worker = Fixture::ready().await;
    let result: Bytes = worker.call("bytes", (7_u8, LARGE)).await;
    let args = Bytes::from(vec![8_u8; LARGE]);
    let echoed: Bytes = worker.call("echo", (args.clone(),)).await;
    worker.worker.kill();
    worker.expect_exit(Death::Signal(9)).await;
    let mut other = Fixture::ready().await;
    assert_eq!(other.call::<Bytes>("bytes", (9_u8, LARGE)).await.len(), LARGE);
    assert_eq!(only_byte(&result), Some(7));
    assert!(echoed == args);
}

/// Larger than anything else that is in memory shared with workers.
const HUGE: usize = 64 << 20;

async fn of_what_a_killed_worker_has_left_only_what_is_used_is_kept() {
    let mut worker = Fixture::ready().await;
    let small: Bytes = worker.call("bytes", (5_u8, LARGE)).await;
    let huge: Bytes = worker.call("bytes", (6_u8, HUGE)).await;
    worker.worker.kill();
    worker.expect_exit(Death::Signal(9)).await;
    assert!(shared_memory() >= HUGE as u64);
    drop(huge);
    until(|| shared_memory() < HUGE as u64).await;
    assert_eq!(only_byte(&small), Some(5));
}

async fn a_large_result_that_cannot_be_sent_leaves_nothing_behind() {
    let mut worker = Fixture::ready().await;
    let work = worker.work("much_and_then_an_error", (HUGE,));
    worker.assign(vec![work]);
    let outcome = worker.outcomes(1).await.remove(0);
    assert!(
        matches!(&outcome.result, WorkResult::BadResult(reason) if reason.contains("no more")),
        "{outcome:?}"
    );
    until(|| shared_memory() < HUGE as u64).await;
}

async fn arguments_that_are_dropped_after_the_job_are_taken_back() {
    let mut worker = Fixture::ready().await;
    let work = worker.work("drop_later", (Bytes::from(vec![7; HUGE]),));
    worker.assign(vec![work]);
    worker.outcomes(1).await;
    until(|| shared_memory() < HUGE as u64).await;
}

async fn a_panic_is_reported_with_its_place_and_the_worker_lives_on() {
    let mut worker = Fixture::ready().await;
    let work = worker.work("panic", ("no cheese",));
    worker.assign(vec![work]);
    let mut outcome = None;
    let mut printed = Vec::new();
    while outcome.is_none() || printed.is_empty() {
        match worker.event().await {
            WorkerEvent::Finished(finished) => outcome = finished.into_iter().next(),
            WorkerEvent::Output { stream: Stream::Stderr, lines, .. } => printed.extend(lines),
            other => panic!("{other:?}"),
        }
    }
    let Some(Finished { result: WorkResult::Panicked(panic), .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(panic.message, "no cheese");
    assert!(panic.place.unwrap().contains("jobs.rs:"));
    assert!(printed.concat().contains("panicked at"), "{printed:?}");
    let work = worker.work("double", (4_u64,));
    worker.assign(vec![work]);
    loop {
        match worker.event().await {
            WorkerEvent::Output { .. } => {}
            WorkerEvent::Finished(finished) => break assert_eq!(result_of::<u64>(&finished[0]), 8),
            other => panic!("{other:?}"),
        }
    }
}

async fn what_cannot_be_called_is_reported() {
    let mut worker = Fixture::ready().await;
    let works = vec![worker.work("no such function", ()), worker.work("double", (1_u8, 2_u8, 3_u8))];
    worker.assign(works);
    let outcomes = worker.outcomes(2).await;
    assert_eq!(outcomes[0].result, WorkResult::UnknownFunction);
    assert!(matches!(&outcomes[1].result, WorkResult::BadArguments(reason) if reason.contains("left over")));
}

async fn a_worker_killed_mid_job_exits_and_its_page_tells_which_job() {
    let mut worker = Fixture::ready().await;
    let never = worker.file();
    let works = vec![
        worker.work("double", (1_u64,)),
        worker.work("wait_for", (Some(never),)),
        worker.work("double", (2_u64,)),
    ];
    worker.assign(works);
    worker.running(2).await;
    assert_eq!(worker.outcomes(1).await[0].number, 0);
    worker.worker.kill();
    worker.expect_exit(Death::Signal(9)).await;
    let progress = worker.worker.progress();
    assert_eq!((progress.started, progress.finished), (2, 1));
}

async fn a_worker_that_aborts_has_reported_what_it_finished_before() {
    let mut worker = Fixture::ready().await;
    let works =
        vec![worker.work("double", (1_u64,)), worker.work("double", (2_u64,)), worker.work("abort", ())];
    worker.assign(works);
    worker.outcomes(2).await;
    worker.expect_exit(Death::Signal(6)).await;
    let progress = worker.worker.progress();
    assert_eq!((progress.started, progress.finished), (3, 2));
}

async fn work_not_started_can_be_taken_back_and_the_worker_goes_on() {
    let mut worker = Fixture::ready().await;
    let go = worker.file();
    let mut works = vec![worker.work("wait_for", (Some(&go),))];
    works.extend((0..2_000_u64).map(|number| worker.work("double", (number,))));
    worker.assign(works);
    worker.running(1).await;
    let progress = worker.worker.revoke();
    assert_eq!((progress.started, progress.finished), (1, 0));
    File::create(&go).unwrap();
    assert_eq!(worker.outcomes(1).await[0].number, 0);
    loop {
        match worker.event().await {
            WorkerEvent::Skipped(2_001) => break,
            WorkerEvent::Skipped(earlier) => assert!(earlier < 2_001),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(worker.call::<u64>("double", (21_u64,)).await, 42);
}

async fn outcomes_do_not_wait_for_a_job_that_is_unusually_long() {
    let mut worker = Fixture::ready().await;
    for _ in 0..10 {
        worker.call::<()>("wait_for", (None::<String>,)).await;
    }
    let go = worker.file();
    let works = vec![
        worker.work("wait_for", (None::<String>,)),
        worker.work("wait_for", (None::<String>,)),
        worker.work("wait_for", (Some(&go),)),
    ];
    worker.assign(works);
    let outcomes = worker.outcomes(2).await;
    assert_eq!((outcomes[1].number, outcomes.len()), (11, 2));
    worker.running(13).await;
    File::create(&go).unwrap();
    assert_eq!(worker.outcomes(1).await[0].number, 12);
}

async fn what_a_job_prints_is_told_line_by_line_before_its_outcome() {
    let mut worker = Fixture::ready().await;
    let works = vec![worker.work("print", ("one\ntwo", "three\n")), worker.work("print", ("four", ""))];
    for work in works {
        worker.assign(vec![work]);
        let mut told: Vec<_> = worker.printed_before_outcome().await;
        told.sort_by_key(|(stream, ..)| *stream == Stream::Stderr);
        let number = worker.worker.progress().started;
        let line = |stream, text: &str| (stream, number, text.to_owned());
        match number {
            1 => assert_eq!(
                told,
                [line(Stream::Stdout, "one"), line(Stream::Stdout, "two"), line(Stream::Stderr, "three")]
            ),
            _ => assert_eq!(told, [line(Stream::Stdout, "four")]),
        }
    }
}

async fn what_code_in_c_prints_is_told_before_its_outcome() {
    let mut worker = Fixture::ready().await;
    for (number, text) in [(1, c"from C\n"), (2, c"without a line end")] {
        worker.begin("print_in_c", (text,));
        let line = text.to_str().unwrap().trim_end().to_owned();
        assert_eq!(worker.printed_before_outcome().await, [(Stream::Stdout, number, line)]);
    }
}

async fn what_a_job_printed_without_a_line_end_is_told_before_its_outcome_as_its_own() {
    let mut worker = Fixture::ready().await;
    let go = worker.file();
    for (round, long_is_known) in (0..20).map(|round| (round, round % 2 == 0)) {
        if !long_is_known {
            // What it printed before is told in time, too, if the next job turns out to take long.
            for _ in 0..100 {
                worker.call::<()>("show_and_wait", ("", None::<&str>)).await;
            }
        }
        let first = worker.worker.progress().started;
        let works = vec![
            worker.work("print", ("one", "")),
            worker.work("print", ("two", "three")),
            worker.work("show_and_wait", ("four", Some(&go))),
        ];
        worker.assign(works);
        let (mut told, mut finished) = (Vec::new(), 0);
        while finished < 2 {
            match worker.event().await {
                WorkerEvent::Output { stream, started, lines } => {
                    told.extend(lines.into_iter().map(|line| (stream, started - first, line)));
                }
                WorkerEvent::Finished(more) => finished += more.len(),
                other => panic!("{other:?}"),
            }
        }
        told.sort_by_key(|(stream, ..)| *stream == Stream::Stderr);
        let line = |stream, number, line: &str| (stream, number, line.to_owned());
        let [out, err] = [Stream::Stdout, Stream::Stderr];
        assert_eq!(told, [line(out, 1, "one"), line(out, 2, "two"), line(err, 2, "three")], "round {round}");
        File::create(&go).unwrap();
        assert_eq!(worker.printed_before_outcome().await, [(out, first + 3, "four".to_owned())]);
        std::fs::remove_file(&go).unwrap();
    }
}

async fn much_that_a_job_prints_is_told_before_its_outcome() {
    let mut worker = Fixture::ready().await;
    let text = format!("{}\n", "z".repeat(99)).repeat(5_000);
    let work = worker.work("print", (&text, &text));
    worker.assign(vec![work]);
    let told = worker.printed_before_outcome().await;
    for stream in [Stream::Stdout, Stream::Stderr] {
        assert_eq!(told.iter().filter(|(told, ..)| *told == stream).count(), 5_000, "{stream:?}");
    }
}

async fn a_worker_whose_output_is_held_waits_and_nothing_of_it_is_lost() {
    let mut worker = Fixture::ready().await;
    worker.worker.hold_output(true);
    let text = format!("{}\n", "z".repeat(99)).repeat(2_000);
    let work = worker.work("print", (&text, ""));
    worker.assign(vec![work]);
    worker.running(1).await;
    // The pipe takes 64 KiB, the job prints three times as much.
    assert!(tokio::time::timeout(Duration::from_millis(300), worker.event()).await.is_err());
    assert_eq!(worker.worker.progress().finished, 0);
    worker.worker.hold_output(false);
    assert_eq!(worker.printed_before_outcome().await.len(), 2_000);
}

async fn a_command_whose_output_goes_ahead_waits_where_it_is_not_read_on() {
    const BYTES: usize = 3_000_000;
    let mut worker = Fixture::ready().await;
    let line = CommandLine {
        program: "/bin/sh".into(),
        arguments: ["-c".into(), format!("head -c {BYTES} /dev/zero; echo >&2").into()].to_vec(),
        ahead: Some(Ahead::AtOnce),
        ..CommandLine::default()
    };
    let work = worker.work("ppserver::command 1", (line,));
    worker.assign(vec![work]);
    let mut taken = [0, 0];
    let mut take = |event| match event {
        WorkerEvent::Part(0, Stream::Stdout, bytes) => taken[0] += bytes.len(),
        WorkerEvent::Part(0, Stream::Stderr, bytes) => taken[1] += bytes.len(),
        other => panic!("{other:?}"),
    };
    take(worker.event().await);
    // Its pipe and the socket take less than there is.
    assert!(tokio::time::timeout(Duration::from_millis(300), worker.event()).await.is_err());
    assert_eq!(worker.worker.progress().finished, 0);
    let finished = loop {
        worker.worker.read_on();
        match worker.event().await {
            WorkerEvent::Finished(finished) => break finished,
            part => take(part),
        }
    };
    let output: CommandOutput = result_of(&finished[0]);
    assert!(output.status.is_success() && output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(taken, [BYTES, 1]);
}

async fn last_words_can_do_nothing_to_a_terminal() {
    let mut worker = Fixture::ready().await;
    let work = worker.work("die_with", ("\x1b[2Jlast words",));
    worker.assign(vec![work]);
    loop {
        match worker.event().await {
            WorkerEvent::Output { .. } => {}
            WorkerEvent::Exited(WorkerDeath { stderr, .. }) => {
                break assert_eq!(stderr, ["\\x1b[2Jlast words"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_retired_worker_ends_with_what_its_jobs_started() {
    let mut worker = Fixture::ready().await;
    let own: u32 = worker.call("process_id", ()).await;
    let sleeper: u32 = worker.call("start_sleeper", ()).await;
    assert!(!is_gone(sleeper));
    worker.worker.retire();
    assert!(matches!(worker.event().await, WorkerEvent::Exited(_)));
    assert!(is_gone(own));
    until(|| is_gone(sleeper)).await;
}

/// Ways in which a worker ends; told its process.
const ENDS: &[fn(&mut Fixture, u32)] = &[
    |worker, _| worker.worker.retire(),
    |worker, _| worker.worker.kill(),
    |worker, _| worker.begin("exit", (0,)),
    |worker, _| worker.begin("abort", ()),
    |_, process| kill(process),
    // Its warden, which takes it along.
    |_, process| kill(parent_of(process)),
];

async fn nothing_that_its_jobs_started_outlives_a_worker_however_it_ends() {
    let mut all = Vec::new();
    for end in ENDS {
        let mut worker = Fixture::ready().await;
        let process: u32 = worker.call("process_id", ()).await;
        let mut started: Vec<u32> = worker.call("start_stray", ()).await;
        started.push(worker.call("start_sleeper", ()).await);
        started.push(worker.call("start_nameless", ()).await);
        assert!(started.len() == 5 && !started.iter().any(|process| is_gone(*process)), "{started:?}");
        end(&mut worker, process);
        started.push(process);
        all.push((worker, started));
    }
    for (way, (mut worker, processes)) in all.into_iter().enumerate() {
        let exited = worker.event().await;
        assert!(matches!(exited, WorkerEvent::Exited(_)), "{way}: {exited:?}");
        until(|| processes.iter().all(|process| is_gone(*process))).await;
    }
}

async fn what_a_job_leaves_running_stays_while_its_worker_does() {
    let mut worker = Fixture::ready().await;
    let stray: Vec<u32> = worker.call("start_stray", ()).await;
    assert_eq!(worker.call::<u64>("double", (4_u64,)).await, 8);
    assert!(!stray.iter().any(|process| is_gone(*process)));
    let own: u32 = worker.call("process_id", ()).await;
    assert!(stray.iter().all(|process| parent_of(*process) != own), "a worker adopts nothing");
}

async fn a_job_that_forks_without_end_is_ended_with_its_worker() {
    let mut worker = Fixture::ready().await;
    let mark: String = worker.call("fork_without_end", ()).await;
    until(|| processes_with(&mark) > 0).await;
    worker.worker.kill();
    worker.expect_exit(Death::Signal(9)).await;
    assert_eq!(processes_with(&mark), 0);
}

async fn a_program_with_threads_is_a_worker_like_any_other() {
    // By this variable, the program under test has a thread before it becomes a worker.
    let script =
        format!("#!/bin/sh\nexport {WITH_THREAD}=1\nexec {}\n", env::current_exe().unwrap().display());
    let mut worker = Fixture::script(&script);
    assert!(matches!(worker.event().await, WorkerEvent::Ready { functions: 10.., .. }));
    assert_eq!(worker.call::<u64>("double", (4_u64,)).await, 8);
    let stray: Vec<u32> = worker.call("start_stray", ()).await;
    worker.begin("exit", (7,));
    worker.expect_exit(Death::Exit(7)).await;
    assert!(stray.iter().all(|process| is_gone(*process)));
}

async fn a_worker_ends_when_its_node_is_killed_whoever_else_holds_its_socket() {
    for part in [BE_A_NODE, BE_A_NODE_WITH_A_CHILD] {
        let this = std::env::current_exe().unwrap();
        let mut node = Command::new(this).arg(part).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (child, processes) = line.split_once(':').unwrap();
        let processes: Vec<u32> = processes.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert!(processes.len() == 5 && !processes.iter().any(|process| is_gone(*process)));
        node.kill().unwrap();
        node.wait().unwrap();
        until(|| processes.iter().all(|process| is_gone(*process))).await;
        if part == BE_A_NODE_WITH_A_CHILD {
            let child = child.parse().unwrap();
            assert!(!is_gone(child));
            kill(child);
        }
    }
}

/// Makes a child that has all that this process has, and does nothing.
#[expect(unsafe_code, reason = "this is what is tested")]
fn fork_a_child() -> i32 {
    // SAFETY: the child does nothing but wait for its end, which comes after a while.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(60);
            libc::pause();
        }
        child
    }
}

/// A node whose worker runs a job, and has started a process, for ever.
pub(crate) fn be_a_node(with_child: bool) {
    run(async {
        let mut worker = Fixture::ready().await;
        let own: u32 = worker.call("process_id", ()).await;
        let sleeper: u32 = worker.call("start_sleeper", ()).await;
        let strays: Vec<u32> = worker.call("start_stray", ()).await;
        let never = worker.file();
        worker.begin("wait_for", (Some(never),));
        worker.running(4).await;
        let child = if with_child { fork_a_child() } else { 0 };
        println!("{child}:{own} {sleeper} {} {} {}", strays[0], strays[1], strays[2]);
        worker.event().await;
    });
}

async fn a_program_that_a_job_starts_is_no_worker() {
    let mut worker = Fixture::ready().await;
    assert_eq!(worker.call::<String>("is_child_a_worker", ()).await, "false");
}

async fn a_job_that_ends_its_thread_is_told_as_that() {
    for raw in [true, false] {
        let mut worker = Fixture::ready().await;
        worker.begin("end_thread", (raw,));
        loop {
            match worker.event().await {
                WorkerEvent::Output { lines, .. } => eprintln!("{lines:?}"),
                WorkerEvent::Exited(exit) => break assert_eq!(exit.death, Death::ThreadEnded, "raw: {raw}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn a_file_that_is_no_program_fails_to_start() {
    let mut worker = Fixture::script("this is not a program");
    worker.expect_failure("built for another processor").await;
    let mut worker = Fixture::start(WorkerProgram::File(PathBuf::from("/no/such/file")));
    worker.expect_failure("the file is gone").await;
}

async fn a_program_without_its_interpreter_fails_to_start() {
    let mut worker = Fixture::script("#!/no/such/loader\n");
    worker.expect_failure("loader or interpreter").await;
}

async fn a_program_that_ends_before_it_is_ready_fails_to_start_and_its_last_words_are_told() {
    let mut worker = Fixture::script("#!/bin/sh\necho no licence >&2\nexit 3\n");
    assert_eq!(worker.expect_failure("exited with code 3").await, ["no licence"]);
    let mut worker = Fixture::script("#!/bin/sh\nkill -SEGV $$\n");
    worker.expect_failure("SIGSEGV").await;
}

async fn a_worker_of_another_version_is_refused() {
    // Length 3, `Ready`, version 99, no functions.
    let mut worker =
        Fixture::script("#!/bin/sh\nprintf '\\003\\000\\000\\000\\000\\143\\000' >&0\nsleep 1000\n");
    worker.expect_failure("version 99").await;
}

async fn a_worker_that_writes_garbage_is_killed() {
    let ready = "printf '\\005\\000\\000\\000\\000\\001\\000\\000\\000' >&0";
    let mut worker = Fixture::script(&format!("#!/bin/sh\n{ready}\nprintf 'garbage' >&0\nsleep 1000\n"));
    assert_eq!(worker.event().await, WorkerEvent::Ready { functions: 0, names: Vec::new() });
    worker.expect_exit(Death::Garbage).await;
}

async fn a_thread_serves_like_a_process() {
    let mut worker = Fixture::ready_as(WorkerProgram::ThisProgramInThreads).await;
    assert_eq!(worker.call::<u64>("double", (4_u64,)).await, 8);
    assert_eq!(worker.call::<u32>("process_id", ()).await, std::process::id());
    worker.worker.retire();
    worker.expect_exit(Death::Exit(0)).await;
}

async fn a_thread_killed_is_given_up_and_starts_no_further_job() {
    let mut worker = Fixture::ready_as(WorkerProgram::ThisProgramInThreads).await;
    let go = worker.file();
    let works = vec![worker.work("wait_for", (Some(&go),)), worker.work("double", (1_u64,))];
    worker.assign(works);
    worker.running(1).await;
    worker.worker.kill();
    worker.expect_exit(Death::Signal(9)).await;
    File::create(&go).unwrap();
    until(|| worker.worker.progress().finished >= 1).await;
    assert_eq!(worker.worker.progress().started, 1);
}
