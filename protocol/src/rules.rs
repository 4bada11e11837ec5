//! Messages that a connection carries: the role each is for, its place, and its first version. A table for each
//! direction; a new message does not compile without its row.
//!
//! The role is what the initiator proved to be in the handshake. Both cores check what arrives against these tables.

use crate::{FromNode, Role, ToNode, Version};

/// A row: what holds for one kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name of the message.
    pub message: &'static str,
    /// The roles of initiators that send it, or that it is sent to.
    pub roles: &'static [Role],
    /// Its place.
    pub place: Place,
    /// The first protocol version that has it.
    pub since: Version,
}

/// Place of a message among those of its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the first one, and no other.
    First,
    /// After the first one.
    Later,
    /// Anywhere.
    Anywhere,
}

/// A message that may not be where it is. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It is for another role.
    #[error("{message} is not for a connection of {}", article(.role))]
    Role {
        /// The message.
        message: &'static str,
        /// The role of this connection.
        role: Role,
    },
    /// It came before the greeting.
    #[error("{0} came before a greeting")]
    NotGreeted(&'static str),
    /// It came after the greeting, and is one.
    #[error("{0} came a second time")]
    Again(&'static str),
    /// It is of a later version than the two sides agreed on.
    #[error("{message} is of protocol version {since}, and this connection speaks {spoken}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version it came with.
        since: Version,
        /// The version agreed on.
        spoken: Version,
    },
    /// It is numbered, and the one before it has not come.
    #[error("{0} came out of its order")]
    OutOfOrder(&'static str),
    /// It is larger than one may be, or more of its kind was sent than may be without an answer.
    #[error("more of {0} came than may be sent without an answer")]
    TooMuch(&'static str),
}

pub(crate) fn article(role: &Role) -> &'static str {
    match role {
        Role::Dispatcher => "a dispatcher",
        Role::Operator => "an operator",
    }
}

impl Rule {
    /// Checks a message of a connection whose initiator has this role, that has or has not carried the greeting of this
    /// direction, and that speaks this version.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, role: Role, greeted: bool, spoken: Version) -> Result<(), Violation> {
        let Self { message, roles, place, since } = *self;
        if since > spoken {
            return Err(Violation::Version { message, since, spoken });
        }
        if !roles.contains(&role) {
            return Err(Violation::Role { message, role });
        }
        match place {
            Place::First if greeted => Err(Violation::Again(message)),
            Place::Later if !greeted => Err(Violation::NotGreeted(message)),
            _ => Ok(()),
        }
    }
}

const BOTH: &[Role] = &Role::ALL;
const DISPATCHER: &[Role] = &[Role::Dispatcher];
const OPERATOR: &[Role] = &[Role::Operator];

const fn first(message: &'static str, roles: &'static [Role]) -> Rule {
    Rule { message, roles, place: Place::First, since: Version::V1 }
}

const fn later(message: &'static str, roles: &'static [Role]) -> Rule {
    Rule { message, roles, place: Place::Later, since: Version::V1 }
}

const fn anywhere(message: &'static str, roles: &'static [Role]) -> Rule {
    Rule { message, roles, place: Place::Anywhere, since: Version::V1 }
}

impl ToNode {
    /// Rule for its sender and its place.
    #[inline]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Hello(_) => first("Hello", BOTH),
            Self::Run(_) => later("Run", DISPATCHER),
            Self::Cancel(_) => later("Cancel", DISPATCHER),
            Self::Recall(_) => later("Recall", DISPATCHER),
            Self::Ack(_) => later("Ack", DISPATCHER),
            Self::ProgramChunk { .. } => later("ProgramChunk", DISPATCHER),
            Self::ProgramUnavailable(..) => later("ProgramUnavailable", DISPATCHER),
            Self::Ping(_) => later("Ping", BOTH),
            Self::Pong(_) => later("Pong", BOTH),
            Self::Resize(_) => later("Resize", OPERATOR),
            Self::Drain => later("Drain", OPERATOR),
            Self::Goodbye => later("Goodbye", BOTH),
            Self::OutputReceived(_) => later("OutputReceived", DISPATCHER),
            Self::Offer(_) => later("Offer", DISPATCHER),
            Self::PartsTaken(_) => later("PartsTaken", DISPATCHER),
            Self::ExplainJob(_) => later("ExplainJob", OPERATOR),
            Self::JobExplained(..) => later("JobExplained", DISPATCHER),
            Self::Watch(_) => later("Watch", OPERATOR),
            Self::Waiting(_) => later("Waiting", DISPATCHER),
        }
    }
}

impl FromNode {
    /// To whom it may be sent, and when.
    #[inline]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Welcome(_) => first("Welcome", BOTH),
            Self::Refused(_) => anywhere("Refused", BOTH),
            Self::Window(_) => later("Window", DISPATCHER),
            Self::Outcomes(..) => later("Outcomes", DISPATCHER),
            Self::Output(_) => later("Output", DISPATCHER),
            Self::ProgramNeeded(_) => later("ProgramNeeded", DISPATCHER),
            Self::Program(..) => later("Program", DISPATCHER),
            Self::Status(_) => later("Status", BOTH),
            Self::Ping(_) => later("Ping", BOTH),
            Self::Pong(_) => later("Pong", BOTH),
            Self::Goodbye(_) => anywhere("Goodbye", BOTH),
            Self::Trouble(_) => later("Trouble", BOTH),
            Self::ProgramWritten(..) => later("ProgramWritten", DISPATCHER),
            Self::Part(..) => later("Part", DISPATCHER),
            Self::ExplainJob(..) => later("ExplainJob", DISPATCHER),
            Self::JobExplained(_) => later("JobExplained", OPERATOR),
            Self::Activity(_) => later("Activity", OPERATOR),
        }
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use super::*;
    use crate::samples;

    /// One line for each message: the combinations of role and state in which it is let through.
    fn table(rules: impl IntoIterator<Item = Rule>) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for rule in rules {
            let allowed = |role, greeted| rule.check(role, greeted, Version::V1).is_ok();
            let cell = |role| match (allowed(role, false), allowed(role, true)) {
                (true, true) => "always",
                (true, false) => "first",
                (false, true) => "later",
                (false, false) => "never",
            };
            let line = format!("{:<18} {:<6} {}", rule.message, cell(Role::Dispatcher), cell(Role::Operator));
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn who_may_send_what_to_a_node_and_when() {
        let expected = [
            "Hello              first  first",
            "Run                later  never",
            "Cancel             later  never",
            "Recall             later  never",
            "Ack                later  never",
            "ProgramChunk       later  never",
            "ProgramUnavailable later  never",
            "Ping               later  later",
            "Pong               later  later",
            "Resize             never  later",
            "Drain              never  later",
            "Goodbye            later  later",
            "OutputReceived     later  never",
            "Offer              later  never",
            "PartsTaken         later  never",
            "ExplainJob         never  later",
            "JobExplained       later  never",
            "Watch              never  later",
            "Waiting            later  never",
        ];
        assert_eq!(table(samples::to_node().iter().map(ToNode::rule)), expected);
    }

    #[test]
    fn what_a_node_may_send_to_whom_and_when() {
        let expected = [
            "Welcome            first  first",
            "Refused            always always",
            "Window             later  never",
            "Outcomes           later  never",
            "Output             later  never",
            "ProgramNeeded      later  never",
            "Program            later  never",
            "Status             later  later",
            "Ping               later  later",
            "Pong               later  later",
            "Goodbye            always always",
            "Trouble            later  later",
            "ProgramWritten     later  never",
            "Part               later  never",
            "ExplainJob         later  never",
            "JobExplained       never  later",
            "Activity           never  later",
        ];
        assert_eq!(table(samples::from_node().iter().map(FromNode::rule)), expected);
    }

    #[test]
    fn a_message_of_a_later_version_is_not_for_an_older_connection() {
        let rule = Rule { since: Version(2), ..ToNode::Ping(1).rule() };
        let error = rule.check(Role::Dispatcher, true, Version::V1).expect_err("it is too new");
        assert_eq!(error.to_string(), "Ping is of protocol version 2, and this connection speaks 1");
        assert_eq!(rule.check(Role::Dispatcher, true, Version(2)), Ok(()));
    }
}
