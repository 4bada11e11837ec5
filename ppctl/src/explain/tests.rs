//! The words for each verdict that no test makes real nodes give: those that take a network, luck, or another release. The
//! others are in `tests/operate/explain.rs`.

use std::time::Duration;

use pp_dispatcher::{
    DialStage, HandshakeError, NodeLoss, NodeRefusal, NodeTrouble, Refusal, SystemError, Unreachable,
    WorkerShortage,
};

use super::verdict::{Finding, Verdict};

fn said(finding: Finding) -> String {
    let (name, address) = ("gpu 1".to_owned(), "10.0.0.2:60000".to_owned());
    Verdict { name, address, finding, takes_no_orders: None }.to_string()
}

fn not_used(what: &str) -> String {
    format!("gpu 1 (10.0.0.2:60000) is not used: {what}")
}

fn at() -> String {
    "10.0.0.2:60000".into()
}

#[test]
fn of_a_node_that_takes_no_jobs_for_a_while_it_is_said_how_long_and_what_to_look_at() {
    for (finding, words) in [
        (
            Finding::Silent,
            "it is connected and silent, and gets no jobs before it is heard of again. If that lasts, look whether its machine \
             is frozen, overloaded or off the network.",
        ),
        (
            Finding::Reconnecting,
            "the connection to it broke, and is made anew. It is dialled again by itself; ask again in a few seconds.",
        ),
        (
            Finding::Resting,
            "it has come and gone again and again; it gets jobs once it has stayed for a while. Its log says why it ends: mend \
             that.",
        ),
        (
            Finding::Connecting { stage: DialStage::Name },
            "its name is being looked up. Ask again in a few seconds.",
        ),
        (
            Finding::SameNode { here: "alpha".into(), there: at() },
            "alpha is the same node as 10.0.0.2:60000, which is in use.",
        ),
    ] {
        assert_eq!(said(finding), not_used(words));
    }
    let shortage = WorkerShortage::new(2, 4, "descriptors are short: raise the limit");
    let troubled = Finding::Troubled { trouble: NodeTrouble::Workers(shortage) };
    let words = "gpu 1 (10.0.0.2:60000) is used: it has 2 of 4 slots: descriptors are short: raise the limit; trying again. It \
                 tries again by itself; `ppctl nodes -v` shows what it has.";
    assert_eq!(said(troubled), words);
    let full = Finding::Full { slots: 4, queued: 12, dispatchers: 3 };
    let words = "gpu 1 (10.0.0.2:60000) is used: all its 4 slots are taken by jobs of 3 dispatchers, and 12 jobs wait there. Jobs \
                 start as others end; `ppctl resize 'gpu 1' 5` gives it more slots.";
    assert_eq!(said(full), words);
}

#[test]
fn of_a_node_that_cannot_be_reached_it_is_said_whether_it_was_heard_of() {
    let refused = || SystemError::from(std::io::Error::from(std::io::ErrorKind::NetworkUnreachable));
    let no_answer = || Unreachable::NoAnswer { at: at(), within: Duration::from_secs(3) };
    for (cause, is_announced, words) in [
        (
            no_answer(),
            true,
            "it was heard of on the network, and cannot be reached: no answer within 3 s (10.0.0.2:60000). It announces itself, \
             so that it runs: something between drops connections; let in its TCP port at its firewall.",
        ),
        (
            no_answer(),
            false,
            "it cannot be reached: no answer within 3 s (10.0.0.2:60000). Is its machine on, and does its firewall let in that \
             TCP port? `ping` tells which.",
        ),
        (
            Unreachable::NotListening { at: at() },
            true,
            "it was heard of on the network, and cannot be reached: no ppserver listens there (10.0.0.2:60000). It has ended \
             without a farewell, or listens elsewhere: look at its log, and start it again.",
        ),
        (
            Unreachable::NotConnected { error: refused(), at: at() },
            false,
            "it cannot be reached: network unreachable (10.0.0.2:60000). Look whether this machine has a route there: `ping`.",
        ),
        (
            Unreachable::NoAddress,
            false,
            "it cannot be reached: its name has no address. Name it by its address: `--node 10.0.0.2`.",
        ),
        (
            Unreachable::NotAnswered,
            false,
            "it cannot be reached: it does not answer; is it frozen? Look at its machine; restart its ppserver if that does not \
             answer.",
        ),
        (
            Unreachable::Broken("the connection broke".into()),
            false,
            "it cannot be reached: the connection broke. Its log says what it saw of this.",
        ),
        (
            Unreachable::Handshake { error: HandshakeError::Closed, at: at() },
            false,
            "it cannot be reached: it closed the connection during the handshake; is it a ppserver? Its log says why, then \
             (10.0.0.2:60000). Its log says what it saw of this.",
        ),
    ] {
        assert_eq!(said(Finding::Unreachable { cause, is_announced }), not_used(words));
    }
}

#[test]
fn of_a_node_that_is_lost_it_is_said_how() {
    for (loss, words) in [
        (
            NodeLoss::Silent(Duration::from_secs(5)),
            "it is lost: it has been silent for 5 s. Look whether its machine is on, frozen, or off the network.",
        ),
        (
            NodeLoss::NotListening { at: at() },
            "it is lost: no ppserver listens there (10.0.0.2:60000). It has ended: its log says why; start it again to use it.",
        ),
        (
            NodeLoss::Restarted,
            "it is lost: it restarted. It is dialled again by itself; ask again in a few seconds.",
        ),
        (
            NodeLoss::Goodbye(pp_dispatcher::Farewell::Stopped),
            "it is lost: the node said goodbye: it was told to stop. Start it again to use it.",
        ),
        (
            NodeLoss::Refused(Box::new(NodeRefusal::InUseElsewhere)),
            "it is lost: it is in use under another address now. Nothing is to be done.",
        ),
    ] {
        assert_eq!(said(Finding::Lost { loss }), not_used(words));
    }
}

#[test]
fn of_a_node_that_refuses_it_is_said_why_and_what_to_do() {
    for (refusal, words) in [
        (
            NodeRefusal::Session(Refusal::TooManySessions(1_024)),
            "the node already serves 1024 dispatchers, its limit; try again when one of them has ended.",
        ),
        (
            NodeRefusal::Session(Refusal::TooManyConnections(256)),
            "the node keeps 256 connections without a dispatcher's session, its limit; another one took this one's place. Try \
             again; if that does not help, its log says who connects to it.",
        ),
        (
            NodeRefusal::Session(Refusal::Draining),
            "the node is draining: it finishes what runs and then exits; start it again to use it.",
        ),
        (
            NodeRefusal::GuessableSecret,
            "it has only announced itself, and whoever does that could guess the secret, which is a short passphrase: it is not \
             dialled; name it in PP_NODES, or have all machines use a secret made by `ppctl secret new`.",
        ),
        (
            NodeRefusal::NoWelcome,
            "it did not answer the greeting as a ppserver does. Install the same release on both machines.",
        ),
    ] {
        assert_eq!(said(Finding::Refused { refusal }), not_used(words));
    }
}

#[test]
fn of_a_name_that_is_not_known_it_is_said_whether_the_network_was_searched() {
    let of =
        |is_network_searched| Verdict::not_found("gpu9".into(), Vec::new(), is_network_searched).to_string();
    let none = "No node is called \"gpu9\", and none was found: start `ppserver -a` on a machine of this network, or name one with \
                --node or PP_NODES if the network does not carry multicast.";
    assert!(
        of(true).starts_with(none) && of(true).contains("whether `ppserver -a` runs; where the network"),
        "{}",
        of(true)
    );
    assert!(
        of(false).ends_with("(PP_DISCOVER=0): name it with `--node HOST`, or in PP_NODES."),
        "{}",
        of(false)
    );
}
