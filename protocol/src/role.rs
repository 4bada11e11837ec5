//! Capacity in which somebody connects to a node.

use std::fmt;

/// Role that the initiator of a connection proved in the handshake. What it may send follows from that, and from nothing
/// it says later: [`ToNode::rule`](crate::ToNode::rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// It sends jobs.
    Dispatcher = 1,
    /// It looks and gives orders.
    Operator = 2,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 2] = [Self::Dispatcher, Self::Operator];

    /// The role that a byte of a greeting stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == byte)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dispatcher => "dispatcher",
            Self::Operator => "operator",
        })
    }
}
