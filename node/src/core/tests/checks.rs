//! The invariants notice what does not hold: everything else here and in the simulation relies on them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn whatever_does_not_hold_between_events_is_noticed() {
    type Break = fn(&mut Core);
    let breaks: [(&str, Break); 3] = [
        ("a worker that could work is listed as idle", |core| core.idle.clear()),
        ("a session knows how much of its work is in workers", |core| {
            core.sessions.values_mut().for_each(|session| session.in_workers += 1);
        }),
        ("a worker's plan is the sum of its work's", |core| {
            core.workers.values_mut().for_each(|worker| worker.planned_ns += 1);
        }),
    ];
    for (claim, make_wrong) in breaks {
        let mut node = Node::ready(2);
        node.receive(1, ToNode::Run(vec![attempt(10)]));
        make_wrong(&mut node.core);
        let checked = catch_unwind(AssertUnwindSafe(|| node.core.check_invariants()));
        let told = checked.expect_err(claim);
        let text = told.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        assert!(text.contains(claim), "{claim}: {text}");
    }
}
