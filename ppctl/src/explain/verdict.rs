//! What is to be said of a node: whether jobs of this machine are run there, why not, and what to do next. A pure function of what
//! was seen of it, and the words for each verdict, which are nowhere else.

use std::fmt;

use pp_dispatcher::{
    DialStage, HandshakeError, NodeInfo, NodeKind, NodeLoss, NodeReason, NodeRefusal, NodeState, NodeTrouble,
    Refusal, Unreachable,
};

use crate::find::not_there;

/// How a node was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// By an operator.
    pub(super) operator: NodeInfo,
    /// By a dispatcher, which runs jobs there; if one looked.
    pub(super) dispatcher: Option<NodeInfo>,
}

/// A node, and what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Its name; of one that was not found, what was asked for.
    pub(super) name: String,
    /// Its address; empty for one that was not found.
    pub(super) address: String,
    pub(super) finding: Finding,
    /// Whether orders are refused to this machine although it may run jobs there.
    pub(super) takes_no_orders: Option<NodeRefusal>,
}

/// Whether a node is used, and why not.
#[derive(Clone, Debug)]
pub(super) enum Finding {
    /// It runs jobs, and has free slots.
    Used {
        slots: usize,
        busy: usize,
    },
    /// Its slots are taken.
    Full {
        slots: usize,
        queued: usize,
        dispatchers: usize,
    },
    /// It runs jobs, in fewer slots than it has, or not those of every program.
    Troubled {
        trouble: NodeTrouble,
    },
    NoSlots,
    Draining {
        running: usize,
    },
    Silent,
    Reconnecting,
    Resting,
    /// It is not known yet how it stands.
    Connecting {
        stage: DialStage,
    },
    /// It cannot be reached. If it announces itself, it is there and something is in between.
    Unreachable {
        cause: Unreachable,
        is_announced: bool,
    },
    Lost {
        loss: NodeLoss,
    },
    Refused {
        refusal: NodeRefusal,
    },
    SameNode {
        here: String,
        there: String,
    },
    NeverHeardOf {
        name: String,
        seen: Vec<NodeInfo>,
        is_network_searched: bool,
    },
}

impl Verdict {
    /// Judges a node.
    pub(super) fn of(seen: &Seen) -> Self {
        let Seen { operator, dispatcher } = seen;
        let refusal_of = |node: &NodeInfo| match &node.reason {
            Some(NodeReason::Refused(refusal)) if node.state == NodeState::Refused => Some(refusal.clone()),
            _ => None,
        };
        let role = |refusal: &NodeRefusal| {
            matches!(refusal, NodeRefusal::Handshake { error: HandshakeError::RoleNotListed { .. }, .. })
        };
        let (node, takes_no_orders) = match (refusal_of(operator).filter(role), dispatcher) {
            // Of this machine, it takes jobs.
            (Some(refusal), Some(dispatcher)) if refusal_of(dispatcher).is_none() => {
                (dispatcher, Some(refusal))
            }
            _ => (operator, None),
        };
        // Whoever runs jobs there may be refused where an operator is not.
        let finding = match dispatcher.as_ref().and_then(refusal_of) {
            // How far a node that drains has come, an operator knows.
            Some(NodeRefusal::Session(Refusal::Draining)) if operator.state == NodeState::Draining => {
                Finding::of(operator)
            }
            Some(refusal) if refusal_of(operator).is_none() => Finding::Refused { refusal },
            _ => Finding::of(node),
        };
        Self { name: node.name.clone(), address: node.address.clone(), finding, takes_no_orders }
    }

    /// What is said of a name that no node has.
    pub(super) fn not_found(name: String, seen: Vec<NodeInfo>, is_network_searched: bool) -> Self {
        let finding = Finding::NeverHeardOf { name: name.clone(), seen, is_network_searched };
        Self { name, address: String::new(), finding, takes_no_orders: None }
    }

    /// What to do, where what is said of the node does not say so.
    pub(super) fn next(&self) -> Option<String> {
        self.finding.next(&self.name)
    }

    /// Whether jobs of this machine are run there, now or soon.
    pub(super) fn is_used(&self) -> bool {
        matches!(self.finding, Finding::Used { .. } | Finding::Full { .. } | Finding::Troubled { .. })
    }
}

impl Finding {
    fn of(node: &NodeInfo) -> Self {
        let Some(reason) = node.reason.clone() else { return Self::without_reason(node) };
        match (reason, node.state) {
            (NodeReason::Dialling(stage), _) => Self::Connecting { stage },
            (NodeReason::Unreachable(cause), _) => {
                Self::Unreachable { cause, is_announced: node.kind == NodeKind::Discovered }
            }
            (NodeReason::Lost(loss), _) => Self::Lost { loss },
            (NodeReason::SameNode { here, there }, _) => Self::SameNode { here, there },
            (NodeReason::Refused(refusal), NodeState::Refused) => Self::Refused { refusal },
            (_, NodeState::Suspect | NodeState::Reconnecting | NodeState::Draining) => {
                Self::without_reason(node)
            }
            (NodeReason::Resting, _) => Self::Resting,
            (NodeReason::Troubled(trouble), _) => Self::Troubled { trouble },
            _ => Self::without_reason(node),
        }
    }

    fn without_reason(node: &NodeInfo) -> Self {
        let NodeInfo { slots, busy, queued, dispatchers, .. } = *node;
        match node.state {
            NodeState::Draining => Self::Draining { running: busy },
            NodeState::Suspect => Self::Silent,
            NodeState::Reconnecting => Self::Reconnecting,
            NodeState::Connecting | NodeState::Unreachable => {
                Self::Connecting { stage: DialStage::Connection }
            }
            _ if slots == 0 => Self::NoSlots,
            _ if busy >= slots => Self::Full { slots, queued, dispatchers },
            _ => Self::Used { slots, busy },
        }
    }

    /// The verdict in a word, for programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Used { .. } => "used",
            Self::Full { .. } => "full",
            Self::Troubled { .. } => "troubled",
            Self::NoSlots => "no_slots",
            Self::Draining { .. } => "draining",
            Self::Silent => "silent",
            Self::Reconnecting => "reconnecting",
            Self::Resting => "resting",
            Self::Connecting { .. } => "connecting",
            Self::Unreachable { .. } => "unreachable",
            Self::Lost { .. } => "lost",
            Self::Refused { .. } => "refused",
            Self::SameNode { .. } => "same_node",
            Self::NeverHeardOf { .. } => "not_found",
        }
    }

    fn next(&self, name: &str) -> Option<String> {
        // As it is written on a command line.
        let mut word = Vec::new();
        pp_run::quote::quote_into(name.as_bytes(), &mut word);
        let word = String::from_utf8_lossy(&word).into_owned();
        let next = match self {
            Self::Used { .. } | Self::SameNode { .. } => return None,
            Self::Full { slots, .. } => {
                format!("Jobs start as others end; `ppctl resize {word} {}` gives it more slots", slots + 1)
            }
            Self::NoSlots => format!("Give it some: `ppctl resize {word} 4`"),
            Self::Draining { .. } => "Start it again, once it has ended, to use it".into(),
            Self::Silent => "If that lasts, look whether its machine is frozen, overloaded or off the network".into(),
            Self::Reconnecting => "It is dialled again by itself; ask again in a few seconds".into(),
            Self::Resting => "Its log says why it ends: mend that".into(),
            Self::Troubled { .. } => "It tries again by itself; `ppctl nodes -v` shows what it has".into(),
            Self::Connecting { .. } => "Ask again in a few seconds".into(),
            Self::Unreachable { cause, is_announced } => return next_of_unreachable(cause, *is_announced),
            Self::Lost { loss } => return next_of_loss(loss),
            Self::Refused { refusal } => return next_of_refusal(refusal),
            Self::NeverHeardOf { is_network_searched: true, .. } => {
                "Look on its machine whether `ppserver -a` runs; where the network carries no multicast (another network, a VPN, a \
                 container), name it: `--node HOST`, or PP_NODES"
                    .into()
            }
            Self::NeverHeardOf { is_network_searched: false, .. } => {
                "The network was not searched (PP_DISCOVER=0): name it with `--node HOST`, or in PP_NODES".into()
            }
        };
        Some(next)
    }
}

fn next_of_unreachable(cause: &Unreachable, is_announced: bool) -> Option<String> {
    let next = match cause {
        Unreachable::Name(_) => return None,
        Unreachable::NoAddress => "Name it by its address: `--node 10.0.0.2`",
        Unreachable::NotListening { .. } if is_announced => {
            "It has ended without a farewell, or listens elsewhere: look at its log, and start it again"
        }
        Unreachable::NotListening { .. } => "Start `ppserver -a` there, or say its port: HOST:PORT",
        Unreachable::NoAnswer { .. } | Unreachable::NotConnected { .. } if is_announced => {
            "It announces itself, so that it runs: something between drops connections; let in its TCP port at its firewall"
        }
        Unreachable::NoAnswer { .. } => {
            "Is its machine on, and does its firewall let in that TCP port? `ping` tells which"
        }
        Unreachable::NotConnected { .. } => "Look whether this machine has a route there: `ping`",
        Unreachable::Handshake { .. } | Unreachable::Broken(_) => "Its log says what it saw of this",
        Unreachable::NotAnswered => "Look at its machine; restart its ppserver if that does not answer",
        _ => return None,
    };
    Some(next.into())
}

fn next_of_loss(loss: &NodeLoss) -> Option<String> {
    let next = match loss {
        NodeLoss::Silent(_) => "Look whether its machine is on, frozen, or off the network",
        NodeLoss::Goodbye(_) => "Start it again to use it",
        NodeLoss::NotListening { .. } => "It has ended: its log says why; start it again to use it",
        NodeLoss::Refused(refusal) => return next_of_refusal(refusal),
        _ => "It is dialled again by itself; ask again in a few seconds",
    };
    Some(next.into())
}

/// Most refusals say themselves what to do.
fn next_of_refusal(refusal: &NodeRefusal) -> Option<String> {
    let next = match refusal {
        NodeRefusal::NoWelcome => "Install the same release on both machines",
        NodeRefusal::Session(Refusal::TooManyConnections(_)) => {
            "Try again; if that does not help, its log says who connects to it"
        }
        NodeRefusal::Handshake {
            error: HandshakeError::TooLong(_) | HandshakeError::OtherNodeKey { .. },
            ..
        } => "Look what listens there",
        NodeRefusal::InUseElsewhere => "Nothing is to be done",
        _ => return None,
    };
    Some(next.into())
}

impl fmt::Display for Verdict {
    /// A paragraph.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, finding, takes_no_orders } = self;
        let node =
            if address.is_empty() || address == name { name.clone() } else { format!("{name} ({address})") };
        match finding {
            Finding::NeverHeardOf { .. } => write!(f, "{}", capitalised(&sentence(finding)))?,
            _ if self.is_used() => write!(f, "{node} is used: {}", sentence(finding))?,
            _ => write!(f, "{node} is not used: {}", sentence(finding))?,
        }
        if let Some(next) = self.next() {
            write!(f, " {next}.")?;
        }
        match takes_no_orders {
            Some(refusal) => write!(f, " It takes no orders from this machine: {}", sentence(refusal)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used { slots, busy } => match slots - busy {
                free if *busy == 0 => write!(f, "all its {} free", counted(free, "slot is", "slots are")),
                1 => write!(f, "1 of its {slots} slots is free"),
                free => write!(f, "{free} of its {slots} slots are free"),
            },
            Self::Full { slots, queued, dispatchers } => {
                match slots {
                    1 => f.write_str("its slot is taken")?,
                    slots => write!(f, "all its {slots} slots are taken")?,
                }
                write!(f, " by jobs of {}", counted(*dispatchers, "dispatcher", "dispatchers"))?;
                match queued {
                    0 => Ok(()),
                    queued => write!(f, ", and {} there", counted(*queued, "job waits", "jobs wait")),
                }
            }
            Self::Troubled { trouble } => trouble.fmt(f),
            Self::NoSlots => f.write_str("it has no slots, and so runs no job"),
            Self::Draining { running } => {
                f.write_str("it is draining: it finishes what runs, takes no more, and then ends; ")?;
                write!(f, "{}", counted(*running, "job runs", "jobs run"))
            }
            Self::Silent => {
                f.write_str("it is connected and silent, and gets no jobs before it is heard of again")
            }
            Self::Reconnecting => f.write_str("the connection to it broke, and is made anew"),
            Self::Resting => NodeReason::Resting.fmt(f),
            Self::Connecting { stage } => stage.fmt(f),
            Self::Unreachable { cause, is_announced: true } => {
                write!(f, "it was heard of on the network, and cannot be reached: {cause}")
            }
            Self::Unreachable { cause, is_announced: false } => write!(f, "it cannot be reached: {cause}"),
            Self::Lost { loss } => write!(f, "it is lost: {loss}"),
            Self::Refused { refusal } => write!(f, "{refusal}"),
            Self::SameNode { here, there } => {
                write!(f, "{here} is the same node as {there}, which is in use")
            }
            Self::NeverHeardOf { name, seen, .. } => f.write_str(&not_there(name, seen)),
        }
    }
}

/// With a full stop, unless it ends in a question.
fn sentence(text: impl fmt::Display) -> String {
    let text = text.to_string();
    if text.ends_with(['?', '.']) { text } else { text + "." }
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect()
}

/// So many of something.
fn counted(number: usize, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}
