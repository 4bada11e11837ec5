//! Orders to nodes, and what may become of them.

use pp_protocol::ToNode;

use crate::core::{NodeRefusal, Unreachable};

/// What a node is told to do. It gets an order on an operator's connection, made for it: a dispatcher's carries only jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run so many jobs at once from now on.
    Resize(u32),
    /// Finish what runs, take no more, then end.
    Drain,
}

impl Order {
    pub(super) fn message(self) -> ToNode {
        match self {
            Self::Resize(slots) => ToNode::Resize(slots),
            Self::Drain => ToNode::Drain,
        }
    }
}

/// A node did not take an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// No node of that name or address.
    #[error("there is no node {name:?}; the nodes are: {known}")]
    NoSuchNode {
        /// Value that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Several nodes have that name.
    #[error("there is more than one node {name:?}; name one of them by its address: {known}")]
    Ambiguous {
        /// Value that was asked for.
        name: String,
        /// Nodes that have it.
        known: String,
    },
    /// The node is not connected.
    #[error("the node {0:?} is not connected; see Dispatcher::nodes() for the reason")]
    NotConnected(String),
    /// The node is the dispatcher's own cores, which end with it.
    #[error(
        "the local cores are not drained, since they are this dispatcher's own; set_local_workers(0) has them finish what runs \
         and take no more"
    )]
    Local,
    /// The node could not be reached by an operator's connection, or did not answer there.
    #[error("the node {name:?} did not take the order: {cause}")]
    Unreachable {
        /// Value that was asked for.
        name: String,
        /// Cause.
        cause: Unreachable,
    },
    /// The node refused the order, or who gave it.
    #[error("the node {name:?} did not take the order: {cause}")]
    Refused {
        /// Value that was asked for.
        name: String,
        /// Cause.
        cause: NodeRefusal,
    },
    /// The dispatcher has been shut down, or could not be asked.
    #[error(
        "the node {0:?} was given no order: the dispatcher has been shut down, or its thread is held up, or it is the one \
         that asks; give orders on a thread of your own that holds no lock a tracing subscriber needs"
    )]
    NoAnswer(String),
    /// More slots than a node can have.
    #[error("{0} slots are too many; a node has at most {limit}", limit = pp_protocol::limits::SLOTS)]
    TooMany(usize),
}
