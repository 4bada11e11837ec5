//! Deliberate mistakes of the world, each of which has to be caught: the proof that the claims are not hollow.

use std::collections::BTreeMap;

use pp_dispatcher::core::JobOptions;
use pp_protocol::{Ended, FromNode, Outcome, ToNode};

use super::World;
use super::ledger::JobName;
use super::network::ConnectionId;
use crate::random::Random;

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
    /// A part is lost on its way to its taker.
    LosePart,
    /// A part is taken twice.
    RepeatPart,
    /// A window is swallowed.
    SwallowWindow,
    /// An acknowledgement is swallowed, and all after it.
    SwallowAcknowledgements,
    /// An outcome is acknowledged that has not arrived.
    AcknowledgeTooMuch,
    /// Attempts are cancelled instead of recalled.
    CancelUnasked,
    /// A job that is not to be sent before a time is submitted as one that may be.
    ForgetDelay,
    /// A job that is for one node only is submitted as one for any.
    ForgetNode,
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
        Self::LosePart,
        Self::RepeatPart,
        Self::SwallowWindow,
        Self::SwallowAcknowledgements,
        Self::AcknowledgeTooMuch,
        Self::CancelUnasked,
        Self::ForgetDelay,
        Self::ForgetNode,
        Self::FreeSlotTwice,
    ];
}

/// Whether the mistake has been made, and what is remembered for it.
#[derive(Debug, Default)]
pub(super) struct Spoiler {
    mistake: Option<Mistake>,
    is_made: bool,
    /// The last attempt of each job that succeeded, and its outcome.
    old: BTreeMap<JobName, (u32, Ended)>,
}

impl Spoiler {
    pub(super) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    /// Whether this is the mistake to be made, and now is the one time to make it.
    fn strikes(&mut self, mistake: Mistake, random: &mut Random) -> bool {
        let now = self.mistake == Some(mistake) && !self.is_made && random.percent(20);
        self.is_made |= now;
        now
    }
}

impl World {
    /// Spoils a message that a node sends.
    pub(super) fn spoil_from_node(&mut self, id: ConnectionId, mut message: FromNode) -> Option<FromNode> {
        if self.spoiler.mistake.is_none() {
            return Some(message);
        }
        let dropped = match &mut message {
            FromNode::Outcomes(_, outcomes) => {
                self.mistake_old_outcomes(id, outcomes);
                self.spoiler.strikes(Mistake::DropOutcomes, &mut self.random)
            }
            FromNode::Window(_) => self.spoiler.strikes(Mistake::SwallowWindow, &mut self.random),
            _ => false,
        };
        (!dropped).then_some(message)
    }

    /// Spoils a message that a dispatcher sends.
    pub(super) fn spoil_to_node(&mut self, message: ToNode) -> ToNode {
        match message {
            ToNode::Ack(received) if self.spoiler.strikes(Mistake::AcknowledgeTooMuch, &mut self.random) => {
                ToNode::Ack(received + 1)
            }
            ToNode::Recall(attempts) if self.spoiler.strikes(Mistake::CancelUnasked, &mut self.random) => {
                ToNode::Cancel(attempts)
            }
            message => message,
        }
    }

    /// Number of times that a message of a dispatcher arrives.
    pub(super) fn times_to_send(&mut self, message: &ToNode) -> u32 {
        match message {
            ToNode::Run(_) if self.spoiler.strikes(Mistake::DropAttempts, &mut self.random) => 0,
            ToNode::Run(_) if self.spoiler.strikes(Mistake::RepeatAttempts, &mut self.random) => 2,
            ToNode::Ack(_) if self.spoiler.mistake == Some(Mistake::SwallowAcknowledgements) => 0,
            _ => 1,
        }
    }

    pub(super) fn spoil_options(&mut self, options: Option<Box<JobOptions>>) -> Option<Box<JobOptions>> {
        let mut options = options?;
        if options.not_before.is_some() && self.spoiler.strikes(Mistake::ForgetDelay, &mut self.random) {
            options.not_before = None;
        }
        if options.node.is_some() && self.spoiler.strikes(Mistake::ForgetNode, &mut self.random) {
            options.node = None;
        }
        Some(options)
    }

    pub(super) fn times_to_settle(&mut self) -> u32 {
        1 + u32::from(self.spoiler.strikes(Mistake::ResolveTwice, &mut self.random))
    }

    /// Number of times that a part is taken.
    pub(super) fn times_to_take(&mut self) -> u32 {
        if self.spoiler.strikes(Mistake::LosePart, &mut self.random) {
            return 0;
        }
        1 + u32::from(self.spoiler.strikes(Mistake::RepeatPart, &mut self.random))
    }

    /// Whether a worker that lives is said to be gone.
    pub(super) fn frees_slot_twice(&mut self) -> bool {
        self.spoiler.strikes(Mistake::FreeSlotTwice, &mut self.random)
    }

    /// Mistakes outcomes: where an older attempt of the same job succeeded, too late, its outcome is passed off as this
    /// one's.
    fn mistake_old_outcomes(&mut self, id: ConnectionId, outcomes: &mut [Outcome]) {
        if self.spoiler.mistake != Some(Mistake::OutcomeOfOldAttempt) {
            return;
        }
        let site = self.connections[id.0].site;
        for outcome in outcomes {
            let Some(job) = self.sites[site].name_of(outcome.id.job, site) else { continue };
            match self.spoiler.old.get(&job) {
                Some((number, old)) if *number < outcome.id.number => outcome.ended = old.clone(),
                _ if matches!(outcome.ended, Ended::Succeeded(_)) => {
                    self.spoiler.old.insert(job, (outcome.id.number, outcome.ended.clone()));
                }
                _ => {}
            }
        }
    }
}
