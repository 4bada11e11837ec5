//! Deliberate mistakes of the world, each of which has to be caught: the proof that the claims are not hollow.

use pp_dispatcher::core::Resolution;
use pp_protocol::{AttemptId, Ended, FromNode, Outcome, ToNode};

use super::World;
use super::ledger::JobName;
use super::network::ConnectionId;
use super::site::SimTicket;

/// A mistake the world makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A message with outcomes is lost although its connection lives on.
    DropOutcomes,
    /// A message with attempts is lost although its connection lives on.
    DropAttempts,
    /// A message with attempts arrives twice.
    RepeatAttempts,
    /// An outcome of an older attempt is taken for that of the current one.
    OutcomeOfOldAttempt,
    /// A ticket is resolved twice.
    ResolveTwice,
    /// A window is swallowed.
    SwallowWindow,
    /// An acknowledgement is swallowed, and all after it.
    SwallowAcknowledgements,
    /// A worker is said to be gone while it lives: its slot is used twice.
    FreeSlotTwice,
}

impl Mistake {
    /// All there are.
    pub const ALL: &[Self] = &[
        Self::DropOutcomes,
        Self::DropAttempts,
        Self::RepeatAttempts,
        Self::OutcomeOfOldAttempt,
        Self::ResolveTwice,
        Self::SwallowWindow,
        Self::SwallowAcknowledgements,
        Self::FreeSlotTwice,
    ];
}

/// Whether the mistake has been made, and what is remembered for it.
#[derive(Debug, Default)]
pub(super) struct Spoiler {
    pub(super) mistake: Option<Mistake>,
    is_made: bool,
    /// An outcome of an attempt that was given up.
    old: Option<Outcome>,
}

impl World {
    pub(super) fn spoil_from_node(&mut self, _id: ConnectionId, message: FromNode) -> Option<FromNode> {
        Some(message)
    }

    pub(super) fn spoil_to_node(&mut self, message: ToNode) -> Option<ToNode> {
        Some(message)
    }
}

impl Spoiler {
    pub(super) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, is_made: false, old: None }
    }
}

impl World {
    pub(super) fn times_to_settle(&mut self) -> u32 {
        1
    }
}
