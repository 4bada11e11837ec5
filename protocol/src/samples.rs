//! One of everything that crosses a wire, for tests: a variant without a sample here does not compile, or fails them.

use bytes::Bytes;

use crate::worker::{Finished, WorkResult};
use crate::{
    Activity, Attempt, AttemptId, Death, Digest, Doing, Ended, EndedAttempt, Farewell, FromNode, FunctionId,
    FunctionLabel, FunctionPlace, Hello, JobAnswer, JobId, LeftOut, NodeId, NodeStatus, Outcome, OutcomeKind,
    OutputLine, Panic, Part, Payload, ProgramActivity, ProgramBuild, ProgramId, ProgramOffer, ProgramRefusal,
    ProgramStanding, ProgramStatus, Refusal, Resume, SessionActivity, SessionId, Stream, Tally, Target,
    ToNode, Totals, Welcome, WorkerActivity, WorkerDeath, WorkerShortage,
};

/// Names the variants of an enum, all of which have to be listed, and makes sure that there is a sample of each.
macro_rules! variants {
    ($samples:expr, $enum:ident: $($variant:ident),+ $(,)?) => {{
        let name = |value: &$enum| match value {
            $($enum::$variant { .. } => stringify!($variant),)+
        };
        let samples: Vec<$enum> = $samples;
        for variant in [$(stringify!($variant)),+] {
            assert!(samples.iter().any(|sample| name(sample) == variant), "{variant} has no sample here");
        }
        samples
    }};
}

pub(crate) fn to_node() -> Vec<ToNode> {
    let samples = vec![
        ToNode::Hello(Box::new(hello(None))),
        ToNode::Hello(Box::new(hello(Some(Resume {
            node: NodeId(7),
            outcomes_received: 300,
            parts_taken: 70_000,
            held: vec![id(1, 0, 1), id(70_000, 3, 2)],
        })))),
        ToNode::Run(attempts()),
        ToNode::Cancel(vec![id(1, 0, 1)]),
        ToNode::Recall(vec![id(1, 0, 1), id(2, 0, 1)]),
        ToNode::Ack(1 << 33),
        ToNode::ProgramChunk {
            digest: digest(),
            number: 300,
            last: true,
            bytes: Payload::from(vec![1, 2, 3]),
        },
        ToNode::ProgramUnavailable(digest(), "it is gone".into()),
        ToNode::Ping(1),
        ToNode::Pong(250),
        ToNode::Resize(65_536),
        ToNode::Drain,
        ToNode::Goodbye,
        ToNode::OutputReceived(65_535),
        ToNode::Offer(ProgramOffer { program: ProgramId::FIRST, builds: Vec::new() }),
        ToNode::Offer(ProgramOffer { program: ProgramId(2), builds: vec![build(), build()] }),
        ToNode::PartsTaken(1 << 33),
        ToNode::ExplainJob(JobId::new(17, 2)),
        ToNode::JobExplained(300, "it waits".into()),
        ToNode::Watch(250_000_000),
        ToNode::Waiting(70_000),
    ];
    variants!(
        samples,
        ToNode: Hello, Run, Cancel, Recall, Ack, ProgramChunk, ProgramUnavailable, Ping, Pong, Resize, Drain, Goodbye,
        OutputReceived, Offer, PartsTaken, ExplainJob, JobExplained, Watch, Waiting,
    )
}

pub(crate) fn from_node() -> Vec<FromNode> {
    let mut samples = vec![FromNode::Welcome(Box::new(welcome()))];
    samples.extend(refusals().into_iter().map(FromNode::Refused));
    samples.push(FromNode::Window(300));
    samples.push(FromNode::Outcomes(1 << 20, outcomes()));
    samples.push(FromNode::Output(output()));
    samples.push(FromNode::ProgramNeeded(digest()));
    let refused = program_refusals().into_iter().map(ProgramStatus::Refused);
    let troubled = |retried| ProgramStatus::Troubled { reason: "no memory".into(), retried };
    let others = [ProgramStatus::Preparing, ProgramStatus::Ready, troubled(false), troubled(true)];
    samples
        .extend(others.into_iter().chain(refused).map(|status| FromNode::Program(ProgramId::FIRST, status)));
    samples.extend([
        FromNode::Status(status()),
        FromNode::Ping(1),
        FromNode::Pong(250),
        FromNode::Goodbye(Farewell::Stopped),
        FromNode::Trouble(Some(WorkerShortage::new(1, 4, "no memory"))),
        FromNode::Trouble(None),
        FromNode::ProgramWritten(digest(), 300),
        FromNode::Part(1 << 20, part()),
        FromNode::ExplainJob(300, JobId::new(17, 2)),
        FromNode::JobExplained(Box::new(JobAnswer {
            job: JobId::new(17, 2),
            session: SessionId(0x0102_0304),
            dispatcher: "you@here program 1".into(),
            text: "it waits".into(),
        })),
        FromNode::Activity(Box::default()),
        FromNode::Activity(Box::new(activity())),
    ]);
    variants!(
        samples,
        FromNode: Welcome, Refused, Window, Outcomes, Output, ProgramNeeded, Program, Status, Ping, Pong, Goodbye,
        Trouble, ProgramWritten, Part, ExplainJob, JobExplained, Activity,
    )
}

/// A sample of each form of the packed list: first in a list, next in place, after a gap, another program, another
/// function, a limit.
pub(crate) fn attempts() -> Vec<Attempt> {
    let attempt = |id, program, function, time_limit_ns, args: &[u8]| Attempt {
        id,
        program: ProgramId(program),
        function: FunctionId(function),
        time_limit_ns,
        args: Payload::from(args.to_vec()),
    };
    vec![
        attempt(id(5, 0, 1), 1, 0x0102_0304_0506_0708, 0, b""),
        attempt(id(6, 0, 1), 1, 0x0102_0304_0506_0708, 0, b"ab"),
        attempt(id(3, 2, 1), 0, 0x0102_0304_0506_0708, 1_000_000_000, b"c"),
        attempt(id(4, 2, 3), 300, 9, 0, &[7; 30]),
    ]
}

pub(crate) fn outcomes() -> Vec<Outcome> {
    let death = |death| Ended::WorkerDied(Box::new(WorkerDeath { death, stderr: vec!["last words".into()] }));
    let samples = vec![
        Ended::Succeeded(Payload::from(b"result".to_vec())),
        Ended::Panicked(Box::new(Panic {
            message: "oh".into(),
            place: Some("main.rs:1:2".into()),
            backtrace: None,
        })),
        Ended::TimedOut,
        Ended::Cancelled,
        Ended::Returned,
        death(Death::Signal(9)),
        Ended::TooLarge(1 << 31, 1 << 30),
        Ended::UnknownFunction,
        Ended::BadArguments("a".into()),
        Ended::BadResult("b".into()),
    ];
    let mut ends = variants!(
        samples,
        Ended: Succeeded, Panicked, TimedOut, Cancelled, Returned, WorkerDied, TooLarge, UnknownFunction, BadArguments,
        BadResult,
    );
    ends.extend(deaths().into_iter().skip(1).map(death));
    let mut place = 0;
    let outcome = |ended| {
        place += 1;
        Outcome { id: id(place, 0, 1), run_time_ns: 1_000 * u64::from(place), ended }
    };
    ends.into_iter().map(outcome).collect()
}

fn deaths() -> Vec<Death> {
    let samples = vec![
        Death::Signal(9),
        Death::Exit(-1),
        Death::Garbage,
        Death::OutOfMemory,
        Death::CutOff,
        Death::HeldUp,
        Death::Silent,
        Death::ThreadEnded,
    ];
    variants!(samples, Death: Signal, Exit, Garbage, OutOfMemory, CutOff, HeldUp, Silent, ThreadEnded)
}

pub(crate) fn finished() -> Vec<Finished> {
    let samples = vec![
        WorkResult::Succeeded(Payload::from(b"result".to_vec())),
        WorkResult::Panicked(Panic { message: "oh".into(), place: None, backtrace: Some("trace".into()) }),
        WorkResult::TooLarge(1 << 31, 1 << 30),
        WorkResult::UnknownFunction,
        WorkResult::BadArguments("a".into()),
        WorkResult::BadResult("b".into()),
    ];
    let results = variants!(
        samples,
        WorkResult: Succeeded, Panicked, TooLarge, UnknownFunction, BadArguments, BadResult,
    );
    (1..).zip(results).map(|(number, result)| Finished { number, run_time_ns: 500, result }).collect()
}

fn output() -> Vec<OutputLine> {
    let line = |stream, attempt| OutputLine { attempt, stream, text: "hello".into() };
    let streams = vec![Stream::Stdout, Stream::Stderr];
    let mut streams = variants!(streams, Stream: Stdout, Stderr).into_iter();
    let first = streams.next().map(|stream| line(stream, Some(id(1, 0, 1))));
    first.into_iter().chain(streams.map(|stream| line(stream, None))).collect()
}

fn part() -> Part {
    Part { attempt: id(1, 0, 2), stream: Stream::Stderr, bytes: Payload::from(vec![0, 255, 10]) }
}

/// A frame with one of everything.
pub(crate) fn activity() -> Activity {
    let function = FunctionPlace(0);
    let running = Doing::Running { function, attempt: id(1, 0, 1), for_ns: 1 << 33 };
    let doing = vec![running, Doing::Busy, Doing::Idle, Doing::Starting, Doing::Ending];
    let doing = variants!(doing, Doing: Running, Busy, Idle, Starting, Ending);
    let standing = vec![
        ProgramStanding::Preparing,
        ProgramStanding::Ready,
        ProgramStanding::Troubled("no memory".into()),
        ProgramStanding::Refused("another target".into()),
    ];
    let standing = variants!(standing, ProgramStanding: Preparing, Ready, Troubled, Refused);
    let ended = |ended: OutcomeKind| EndedAttempt {
        attempt: id(70_000, 3, 1),
        session: 7,
        worker: 300,
        function,
        ended_ago_ns: 5_000_000,
        run_time_ns: 1 << 34,
        ended,
        reason: if ended.is_failure() { "why".into() } else { String::new() },
    };
    Activity {
        number: 300,
        uptime_ns: 1 << 40,
        status: status(),
        totals: Totals {
            ended: Tally { outcomes: [1; _], run_times: [300; _], run_time_ns: 1 << 40 },
            retries: 1,
            recalled: 2,
            late_outcomes: 3,
            dropped_lines: 4,
            workers_started: 5,
            workers_failed: 6,
            workers_killed: 7,
            workers_lost: 8,
            connections_lost: 9,
            refusals: 10,
            sessions_begun: 11,
            sessions_resumed: 12,
            sessions_lost: 13,
            programs_received: 14,
            programs_failed: 15,
        },
        functions: vec![FunctionLabel { name: "fib::fib".into() }],
        sessions: vec![SessionActivity {
            session: 7,
            name: "you@here program 1".into(),
            connected: true,
            running: 3,
            queued: 251,
            share: 4,
            window: 300,
            waiting: 1 << 33,
            ended: 70_000,
            run_time_ns: 1 << 40,
        }],
        programs: (1..)
            .zip(standing)
            .map(|(program, standing)| ProgramActivity {
                session: 7,
                program: ProgramId(program),
                name: "fib".into(),
                digest: (program == 2).then(digest),
                standing,
            })
            .collect(),
        workers: (300..)
            .zip(doing)
            .map(|(worker, doing)| WorkerActivity { worker, session: 7, doing })
            .collect(),
        attempts: OutcomeKind::ALL.into_iter().map(ended).collect(),
        left_out: LeftOut { sessions: 1, programs: 2, workers: 300, attempts: 1 << 33 },
    }
}

fn refusals() -> Vec<Refusal> {
    let samples = vec![
        Refusal::Draining,
        Refusal::TooManySessions(1_024),
        Refusal::AlreadyConnected(NodeId(7)),
        Refusal::BadHello("no".into()),
        Refusal::NotPermitted("no".into()),
        Refusal::TooManyConnections(256),
        Refusal::TooManyWatchers(32),
    ];
    variants!(
        samples,
        Refusal: Draining, TooManySessions, AlreadyConnected, BadHello, NotPermitted, TooManyConnections,
        TooManyWatchers,
    )
}

fn program_refusals() -> Vec<ProgramRefusal> {
    let samples = vec![
        ProgramRefusal::WrongTarget { node: target(), offered: vec![target()] },
        ProgramRefusal::TooLarge { bytes: 1 << 40, limit: 1 << 31 },
        ProgramRefusal::WrongDigest { found: digest() },
        ProgramRefusal::Unavailable("gone".into()),
        ProgramRefusal::NotStored("full".into()),
        ProgramRefusal::DoesNotStart { reason: "why".into(), stderr: vec!["line".into()] },
    ];
    variants!(
        samples,
        ProgramRefusal: WrongTarget, TooLarge, WrongDigest, Unavailable, NotStored, DoesNotStart,
    )
}

fn hello(resume: Option<Resume>) -> Hello {
    Hello { session: SessionId(0x0102_0304), name: "you@here program 1".into(), resume, fresh_workers: true }
}

fn build() -> ProgramBuild {
    ProgramBuild { digest: digest(), target: target(), bytes: 5_000_000, name: "fib".into() }
}

fn welcome() -> Welcome {
    Welcome {
        node: NodeId(u128::MAX),
        name: "node".into(),
        software: "ppserver 0.1.0".into(),
        confinement: "secrets".into(),
        libc: "glibc 2.36".into(),
        target: target(),
        resumed: true,
        held: vec![id(1, 0, 1)],
        window: 250,
        status: status(),
    }
}

fn status() -> NodeStatus {
    NodeStatus {
        slots: 4,
        busy: 3,
        queued: 251,
        sessions: 2,
        cpus: 8,
        load: 1.5,
        memory_used: 1 << 33,
        memory_total: 1 << 34,
        draining: true,
    }
}

fn target() -> Target {
    Target { os: "linux".into(), arch: "x86_64".into() }
}

fn digest() -> Digest {
    Digest(std::array::from_fn(|index| index as u8))
}

fn id(place: u32, generation: u32, number: u32) -> AttemptId {
    AttemptId { job: JobId::new(place, generation), number }
}

/// Everything a message is made into, in its pieces, with what is left out of the last one put where it belongs.
pub(crate) fn encoded(message: &impl crate::connection::Message) -> Vec<u8> {
    let (mut out, mut all) = (Vec::new(), Vec::new());
    let mut end_piece = |piece: &mut Vec<u8>, payload: Option<Bytes>| {
        all.append(piece);
        all.extend_from_slice(&payload.unwrap_or_default());
        Ok(())
    };
    message.encode(&mut out, &mut end_piece).expect("a sample can be sent");
    all
}
