//! What a peer with the secret may have of a node: attempts, arguments, outcomes, connections, programs on their way.

use pp_protocol::limits::{
    CONNECTIONS_WITHOUT_SESSION, OUTCOMES_KEPT, PROGRAM_CHUNKS_AHEAD, QUEUED_BYTES, UPLOADS_BEGUN,
};

use super::*;
use crate::core::SystemLoad;

/// A dispatcher that keeps to what it was told, or does not.
fn strict(slots: u32) -> Node {
    let mut node = Node { lifts_windows: false, ..Node::with_slots(slots) };
    node.connect(1);
    node
}

fn is_cut_off(actions: &[Action], words: &str) -> bool {
    let [Action::Send(_, FromNode::Refused(refusal @ Refusal::NotPermitted(_))), Action::Close(_)] =
        &actions[actions.len().saturating_sub(2)..]
    else {
        return false;
    };
    refusal.to_string().contains(words)
}

#[test]
fn a_dispatcher_that_sends_more_than_it_was_granted_is_told_and_cut_off() {
    let mut node = strict(2);
    node.receive(1, ToNode::Run(vec![attempt(0), attempt(1)]));
    let told = node.receive(1, ToNode::Run(vec![attempt(2)]));
    assert!(is_cut_off(&told, "more attempts than it may have here, which are 2 at most"), "{told:?}");
    assert_eq!(node.core.status().queued, 0, "nothing of it is left");
    node.connect(2);
}

#[test]
fn what_was_sent_before_there_was_word_of_a_smaller_window_is_taken() {
    let mut node = strict(4);
    node.on(Event::Resize(1));
    assert_eq!(node.core.sessions[&SessionKey(0)].window(), 1);
    let spawned = node.receive(1, ToNode::Run((0..4).map(attempt).collect()));
    assert_eq!(spawned, [Action::Spawn(WorkerKey(0), Program::Own)]);
}

/// Small outcomes overtake a large one, and are not acknowledged before that has arrived, which may take minutes.
#[test]
fn outcomes_that_are_not_acknowledged_yet_are_borne_with_and_not_without_end() {
    let never_offered = |job| Attempt { program: ProgramId(9), ..attempt(job) };
    let mut node = strict(2);
    for round in 0..OUTCOMES_KEPT as u32 / 2 {
        let returned =
            node.receive(1, ToNode::Run(vec![never_offered(2 * round), never_offered(2 * round + 1)]));
        assert!(matches!(returned[..], [Action::Send(_, FromNode::Outcomes(..))]), "{returned:?}");
    }
    node.receive(1, ToNode::Ack(2));
    node.receive(1, ToNode::Run(vec![never_offered(0), never_offered(1)]));
    node.receive(1, ToNode::Run(vec![never_offered(0), never_offered(1)]));
    let told = node.receive(1, ToNode::Run(vec![never_offered(2)]));
    assert!(is_cut_off(&told, "more attempts than it may have"), "{told:?}");
}

/// Attempts that share so much memory for their arguments.
fn with_args(args: &bytes::Bytes, jobs: std::ops::Range<u32>) -> Vec<Attempt> {
    jobs.map(|job| Attempt { args: args.clone().into(), ..attempt(job) }).collect()
}

#[test]
fn arguments_are_limited_by_the_memory_that_the_node_says_it_has() {
    let args = bytes::Bytes::from(vec![0; 64 << 20]);
    let mut node = strict(1_000);
    node.on(Event::Load(SystemLoad { memory_total: 20 << 30, ..SystemLoad::default() }));
    // A quarter of it, and what was sent before that was known.
    node.receive(1, ToNode::Run(with_args(&args, 0..80)));
    let told = node.receive(1, ToNode::Run(with_args(&args, 80..81)));
    assert!(is_cut_off(&told, "and 5368709120 is the limit for a dispatcher here"), "{told:?}");
    // What has ended does not count.
    node.connect(2);
    for round in 0..3 {
        node.receive(2, ToNode::Run(with_args(&args, 0..80)));
        let ids = (0..80).map(|job| attempt(job).id).collect();
        assert!(matches!(
            node.receive(2, ToNode::Cancel(ids))[..],
            [Action::Send(_, FromNode::Outcomes(..))]
        ));
        node.receive(2, ToNode::Ack(80 * (round + 1)));
    }
}

#[test]
fn a_node_that_has_enough_large_arguments_asks_for_no_more_and_returns_what_comes_in_spite_of_that() {
    let args = bytes::Bytes::from(vec![0; 64 << 20]);
    let mut node = strict(1_000);
    for connection in 2..=4 {
        node.connect(connection);
    }
    let window = |node: &Node, session| node.core.sessions[&SessionKey(session)].window();
    // 4 GiB each, as long as the node does not know how much memory there is.
    node.receive(1, ToNode::Run(with_args(&args, 0..64)));
    node.receive(2, ToNode::Run(with_args(&args, 0..64)));
    assert!(window(&node, 0) > 64 && window(&node, 2) > 0);
    node.receive(3, ToNode::Run(with_args(&args, 0..64)));
    assert_eq!((window(&node, 0), window(&node, 3)), (64, 0), "nobody is asked for more");
    let returned = node.receive(4, ToNode::Run(with_args(&args, 0..1)));
    let [Action::Send(_, FromNode::Outcomes(0, outcomes))] = &returned[..] else { panic!("{returned:?}") };
    assert_eq!(outcomes.iter().map(|outcome| &outcome.ended).collect::<Vec<_>>(), [&Ended::Returned]);
    assert_eq!(
        node.receive(4, ToNode::Run(vec![attempt(1)])).len(),
        1,
        "what has small ones is taken: a worker starts"
    );
    node.receive(3, ToNode::Goodbye);
    assert!(window(&node, 3) > 0, "there is room again");
}

#[test]
fn the_oldest_connection_without_a_session_gives_way_to_one_too_many() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    let mut most = CONNECTIONS_WITHOUT_SESSION as u32;
    for connection in 2..2 + most {
        assert_eq!(node.on(connected(ConnectionKey(connection))), []);
    }
    most += 2;
    let told = node.on(connected(ConnectionKey(most)));
    let oldest = ConnectionKey(2);
    let refusal = Refusal::TooManyConnections(CONNECTIONS_WITHOUT_SESSION as u32);
    assert_eq!(told, [Action::Send(oldest, FromNode::Refused(refusal)), Action::Close(oldest)]);
    assert_eq!(node.receive(most, ToNode::Hello(Box::new(hello(2)))), [], "whoever came last may greet");
}

#[test]
fn sessions_share_the_room_for_outcomes_that_are_not_acknowledged() {
    let mut node = Node::ready(1);
    for connection in 2..=8 {
        node.connect(connection);
    }
    // 2 GiB for eight: 256 MiB each.
    let large = bytes::Bytes::from(vec![0; 100 << 20]);
    for job in 1..=3 {
        let given = node.receive(1, ToNode::Run(vec![attempt(job)]));
        assert!(matches!(given[..], [Action::Assign(..)]), "{job}: {given:?}");
        let result = WorkResult::Succeeded(large.clone().into());
        let finished = Finished { number: job, run_time_ns: MILLISECOND, result };
        node.on(Event::WorkerFinished(WorkerKey(0), vec![finished]));
    }
    assert_eq!(node.receive(1, ToNode::Run(vec![attempt(4)])), [], "too much of it has not arrived");
    assert!(matches!(node.receive(1, ToNode::Ack(2))[..], [Action::Assign(..)]));
}

/// Digests of the programs that are asked for, and of whom.
fn asked_for(actions: &[Action]) -> Vec<(u32, u8)> {
    let asked = actions.iter().filter_map(|action| match action {
        Action::Send(key, FromNode::ProgramNeeded(digest)) => Some((key.0, digest.0[0])),
        _ => None,
    });
    asked.collect()
}

/// A session offers a program that is not in the store.
fn offer_missing(node: &mut Node, connection: u32, id: u16, digest: u8) -> Vec<(u32, u8)> {
    let build =
        ProgramBuild { digest: Digest([digest; 32]), target: target(), bytes: 100, name: "fib".into() };
    node.receive(connection, offer(ProgramId(id), vec![build]));
    asked_for(&node.on(Event::ProgramMissing(Digest([digest; 32]))))
}

fn piece(digest: u8, number: u32, last: bool) -> ToNode {
    ToNode::ProgramChunk { digest: Digest([digest; 32]), number, last, bytes: Payload::default() }
}

#[test]
fn pieces_of_a_program_are_sent_as_they_are_written_and_so_many_ahead() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    assert_eq!(offer_missing(&mut node, 1, 2, 1), [(1, 1)]);
    for number in 0..PROGRAM_CHUNKS_AHEAD {
        assert!(matches!(node.receive(1, piece(1, number, false))[..], [Action::StoreProgram { .. }]));
    }
    let digest = Digest([1; 32]);
    let told = Action::Send(ConnectionKey(1), FromNode::ProgramWritten(digest, 2));
    assert_eq!(node.on(Event::ProgramWritten(digest, 2)), [told]);
    let ahead = PROGRAM_CHUNKS_AHEAD;
    assert_eq!(node.receive(1, piece(1, ahead - 1, false)), [], "this one has come before");
    for number in ahead..ahead + 2 {
        assert!(matches!(node.receive(1, piece(1, number, false))[..], [Action::StoreProgram { .. }]));
    }
    let told = node.receive(1, piece(1, ahead + 2, false));
    assert!(told.contains(&Action::AbandonProgram(digest)), "{told:?}");
    assert!(is_cut_off(&told, "more of a program than it may send ahead"), "{told:?}");
}

/// Sessions of connections from `first` on that are asked for programs, and send nothing.
fn stalling(node: &mut Node, first: u32, sessions: u32) {
    for connection in first..first + sessions {
        node.connect(connection);
        offer_missing(node, connection, 2, connection as u8);
    }
}

#[test]
fn whoever_comes_to_a_node_where_many_do_not_go_on_is_asked_for_its_program_within_a_second() {
    let mut node = Node::with_slots(1);
    stalling(&mut node, 1, 100);
    node.connect(101);
    assert_eq!(offer_missing(&mut node, 101, 2, 101), [], "eight are under way");
    let began = node.now;
    let asked = loop {
        let asked = asked_for(&node.wait_for_deadline());
        if !asked.is_empty() {
            break asked;
        }
    };
    assert_eq!(asked[0], (101, 101));
    assert!(node.now.since(began) <= Duration::from_secs(1), "{:?}", node.now.since(began));
    for number in 0..2 {
        node.receive(101, piece(101, number, number == 1));
    }
    assert!(!asked_for(&node.on(Event::ProgramStored(Digest([101; 32])))).is_empty(), "then the next one");
}

#[test]
fn of_many_who_do_not_go_on_the_idlest_is_given_up_and_asked_again_after_a_while() {
    let mut node = Node::with_slots(1);
    let sessions = UPLOADS_BEGUN as u32 + 8;
    stalling(&mut node, 1, sessions);
    let (mut given_up, mut located) = (Vec::new(), Vec::new());
    for second in 1..=20 {
        node.now = node.now + Duration::from_secs(1);
        (1..=sessions).for_each(|connection| drop(node.receive(connection, ToNode::Ping(1))));
        for action in node.on(Event::Tick) {
            match action {
                Action::AbandonProgram(digest) => given_up.push((second, digest.0[0])),
                Action::LocateProgram(digest) => located.push((second, digest.0[0])),
                _ => {}
            }
        }
    }
    given_up.sort_unstable();
    // All but the last eight have been asked by the seventh second.
    assert_eq!(given_up, (1..=8).map(|digest| (8, digest)).collect::<Vec<_>>());
    located.sort_unstable();
    assert_eq!(located, (1..=8).map(|digest| (18, digest)).collect::<Vec<_>>());
}

#[test]
fn a_program_that_does_not_go_on_makes_way_for_one_that_could_not_be_stored() {
    let mut node = Node::with_slots(1);
    stalling(&mut node, 1, 1);
    node.receive(1, piece(1, 0, false));
    node.connect(2);
    node.now = node.now + Duration::from_secs(2);
    assert_eq!(offer_missing(&mut node, 2, 2, 2), [(2, 2)]);
    let told = node.on(Event::ProgramFailed(Digest([2; 32]), ProgramRefusal::NotStored("full".into())));
    assert_eq!(told.last(), Some(&Action::AbandonProgram(Digest([1; 32]))), "{told:?}");
}

#[test]
fn for_whom_more_waits_than_it_has_not_acknowledged_is_cut_off() {
    let mut node = Node::ready(1);
    let key = ConnectionKey(1);
    node.receive(1, ToNode::Run(vec![attempt(1)]));
    let result = WorkResult::Succeeded(vec![0; 1 << 20].into());
    node.on(Event::WorkerFinished(
        WorkerKey(0),
        vec![Finished { number: 1, run_time_ns: MILLISECOND, result }],
    ));
    let kept = node.core.sessions[&SessionKey(0)].unacknowledged_bytes();
    assert!(kept > 1 << 20);
    assert_eq!(node.on(Event::Behind(key, QUEUED_BYTES + kept)), [], "that is on its way");
    node.receive(1, ToNode::Ack(u64::MAX));
    let told = node.on(Event::Behind(key, QUEUED_BYTES + kept));
    assert!(is_cut_off(&told, "it does not read what it is sent"), "{told:?}");
}

#[test]
fn few_programs_are_sent_at_once_and_fewer_by_one_session() {
    let mut node = Node::with_slots(1);
    for connection in 1..=6 {
        node.connect(connection);
    }
    assert_eq!(offer_missing(&mut node, 1, 2, 1), [(1, 1)]);
    assert_eq!(offer_missing(&mut node, 1, 3, 2), [(1, 2)]);
    assert_eq!(offer_missing(&mut node, 1, 4, 3), [], "it sends two");
    for (connection, digest) in (2..=4).zip([10, 20, 30]) {
        assert_eq!(offer_missing(&mut node, connection, 2, digest), [(connection, digest)]);
        assert_eq!(offer_missing(&mut node, connection, 3, digest + 1), [(connection, digest + 1)]);
    }
    assert_eq!(offer_missing(&mut node, 5, 2, 40), [], "eight are under way");
    let last = piece(1, 0, true);
    let stored = node.receive(1, last);
    assert_eq!(asked_for(&stored), [], "it takes room until it is verified");
    let next = node.on(Event::ProgramStored(Digest([1; 32])));
    assert_eq!(asked_for(&next), [(5, 40)], "whoever came last is next");
    let next = node.on(Event::ProgramFailed(Digest([2; 32]), ProgramRefusal::NotStored("full".into())));
    assert_eq!(asked_for(&next), [(1, 3)]);
}

#[test]
fn one_that_does_not_go_on_with_its_program_keeps_nobody_waiting() {
    let mut node = Node::with_slots(1);
    for connection in 1..=6 {
        node.connect(connection);
    }
    for digest in 1..=8 {
        let connection = u32::from(digest).div_ceil(2);
        assert_eq!(
            offer_missing(&mut node, connection, u16::from(digest) + 1, digest),
            [(connection, digest)]
        );
    }
    assert_eq!(offer_missing(&mut node, 5, 2, 9), []);
    // All but one go on.
    let mut asked = Vec::new();
    for number in 0..14 {
        node.now = node.now + Duration::from_secs(1);
        for digest in 2..=8 {
            node.receive(u32::from(digest).div_ceil(2), piece(digest, number, false));
        }
        for connection in 1..=6 {
            node.receive(connection, ToNode::Ping(1));
        }
        let told = node.on(Event::Tick);
        asked.extend(asked_for(&told));
        assert!(
            !told.contains(&Action::AbandonProgram(Digest([1; 32]))),
            "there is room for what it has sent"
        );
        (2..=8).for_each(|digest| drop(node.on(Event::ProgramWritten(Digest([digest; 32]), number + 1))));
    }
    assert_eq!(asked, [(5, 9)]);
}

#[test]
fn whoever_runs_a_program_too_is_asked_for_it_if_the_first_does_not_go_on() {
    let mut node = Node::with_slots(1);
    node.connect(1);
    node.connect(2);
    assert_eq!(offer_missing(&mut node, 1, 2, 1), [(1, 1)]);
    let build = ProgramBuild { digest: Digest([1; 32]), target: target(), bytes: 100, name: "fib".into() };
    assert_eq!(asked_for(&node.receive(2, offer(ProgramId(2), vec![build]))), [], "it is on its way");
    let mut told = Vec::new();
    for _ in 0..11 {
        node.now = node.now + Duration::from_secs(1);
        [1, 2].into_iter().for_each(|connection| drop(node.receive(connection, ToNode::Ping(1))));
        told.extend(node.on(Event::Tick));
    }
    assert_eq!(asked_for(&told), [(2, 1)]);
    // What still comes of the first is not taken for a part of it.
    assert_eq!(node.receive(1, piece(1, 0, true)), []);
    assert!(matches!(node.receive(2, piece(1, 0, true))[..], [Action::StoreProgram { .. }]));
}
