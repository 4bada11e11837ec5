//! Peers that know the secret and take more than they were given: they are told so, the node's memory and disk stay what they
//! were, and honest work beside them loses nothing.

use std::time::Duration;

use pp_protocol::{Digest, FromNode, ToNode};
use pp_tests::process::{Server, resident};
use pp_tests::wait::wait_within;

use crate::peer::{HonestWork, PROGRAM, Peer, attempt, pid};

pub(crate) fn three_hundred_arguments_of_a_mebibyte_at_a_window_of_two_are_refused_and_cost_no_memory() {
    let mut server = Server::start(2);
    let pid = pid(&mut server);
    let mut work = HonestWork::begin(&server);
    let before = resident(pid);
    let mut peer = Peer::dispatcher(&server);
    peer.offer(PROGRAM.0, Digest([9; 32]), 1 << 20);
    peer.hear("to be asked for the program", |message| matches!(message, FromNode::ProgramNeeded(_)));
    // They wait for it.
    for job in 0..300 {
        peer.say(ToNode::Run(vec![attempt(job, vec![7; 1 << 20].into())]));
    }
    let mut most = 0;
    let refusal = wait_within(Duration::from_secs(20), "to be refused", || {
        peer.listen();
        most = most.max(resident(pid).saturating_sub(before));
        let refused = peer.told.iter().find_map(|message| match message {
            FromNode::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        });
        refused.or_else(|| most.checked_sub(200 << 20).map(|_| format!("not at all, {most} bytes of memory")))
    });
    assert!(refusal.contains("more attempts than it may have here, which are 2 at most"), "{refusal}");
    assert!(most < 48 << 20, "{most} bytes of memory");
    work.goes_on();
    work.ends();
}
