//! Reason why a value cannot be sent or received, and the place in it.

use std::fmt;

use crate::limits::PAYLOAD_BYTES;

/// A value cannot be turned into bytes, or bytes not into the value. Tells where in it, and what to do.
pub struct ValueError(Box<Failure>);

struct Failure {
    reason: Reason,
    /// From the innermost on.
    place: Vec<Step>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    /// In the words of the type itself, or of `serde`.
    #[error("{0}")]
    Said(String),
    #[error(
        "it is nested more than {levels} levels deep; send it flat, such as a Vec whose elements refer to each other by \
         index"
    )]
    TooDeep { levels: usize },
    #[error("it has {size} bytes or more, the limit is {limit}", limit = PAYLOAD_BYTES)]
    TooLarge { size: u64 },
    #[error("its Serialize goes on after an error; return the error, so that nothing is left half written")]
    WentOn,
    #[error("its Deserialize goes on after an error within a list, map or struct; return the error")]
    Swallowed,
    #[error("its Deserialize does not read it; read it, if only as serde::de::IgnoredAny")]
    Unread,
    #[error("these are not the bytes of a value: {0}")]
    Malformed(&'static str),
}

pub(super) enum Step {
    /// Counted from 1.
    Argument(usize),
    /// Counted from 0.
    Index(usize),
    /// Of a map, counted from 1.
    Entry(usize),
    /// A type as a whole.
    Type(&'static str),
    /// Of the struct of that name.
    Field(&'static str, String),
    /// Of the enum of that name.
    Variant(&'static str, String),
}

/// Steps shown from the outside, and from the inside, of a place that has many.
const OUTER_STEPS: usize = 8;
const INNER_STEPS: usize = 4;

impl ValueError {
    /// Least size of the value, if that is what is wrong.
    pub fn too_large(&self) -> Option<u64> {
        match self.0.reason {
            Reason::TooLarge { size } => Some(size),
            _ => None,
        }
    }

    /// The same within something larger.
    #[cold]
    pub(super) fn within(mut self, step: Step) -> Self {
        self.0.place.push(step);
        self
    }

    /// Whether it is known where in the value it is.
    pub(super) fn has_place(&self) -> bool {
        !self.0.place.is_empty()
    }

    /// Somebody kept an error to himself, and what follows is out of step.
    #[cold]
    pub(super) fn swallowed() -> Self {
        Reason::Swallowed.into()
    }

    #[cold]
    pub(super) fn unread() -> Self {
        Reason::Unread.into()
    }

    #[cold]
    pub(super) fn malformed(what: &'static str) -> Self {
        Reason::Malformed(what).into()
    }

    #[cold]
    fn said(words: fmt::Arguments<'_>) -> Self {
        Reason::Said(words.to_string()).into()
    }

    /// The place as one would write it in Rust, and the innermost type that is known.
    fn write_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = &self.0.place;
        let mut owner = None;
        let mut is_first = true;
        for (number, step) in steps.iter().rev().enumerate() {
            let from_inside = steps.len() - number;
            if number >= OUTER_STEPS && from_inside > INNER_STEPS {
                if number == OUTER_STEPS {
                    f.write_str("...")?;
                }
                continue;
            }
            match step {
                Step::Argument(position) => {
                    write!(f, "argument {position}")?;
                    f.write_str(if from_inside > 1 { ", " } else { "" })?;
                    continue;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Entry(entry) => write!(f, "[entry {entry}]")?,
                Step::Type(name) if is_first => f.write_str(name)?,
                Step::Type(name) => owner = Some(name),
                Step::Field(name, field) | Step::Variant(name, field) => {
                    let separator = if matches!(step, Step::Variant(..)) { "::" } else { "." };
                    if is_first {
                        f.write_str(name)?;
                    } else if !name.is_empty() {
                        owner = Some(name);
                    }
                    write!(f, "{separator}{field}")?;
                }
            }
            is_first = false;
        }
        if let Some(owner) = owner {
            write!(f, " ({owner})")?;
        }
        Ok(())
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.place.is_empty() {
            self.write_place(f)?;
            f.write_str(": ")?;
        }
        self.0.reason.fmt(f)
    }
}

impl fmt::Debug for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueError({self})")
    }
}

impl std::error::Error for ValueError {}

impl From<Reason> for ValueError {
    #[cold]
    fn from(reason: Reason) -> Self {
        Self(Box::new(Failure { reason, place: Vec::new() }))
    }
}

impl serde::ser::Error for ValueError {
    #[cold]
    fn custom<T: fmt::Display>(words: T) -> Self {
        Self::said(format_args!("{words}; send that part in another form"))
    }
}

impl serde::de::Error for ValueError {
    #[cold]
    fn custom<T: fmt::Display>(words: T) -> Self {
        let words = words.to_string();
        // What serde says of the forms in which it keeps what is flattened, untagged or tagged.
        if ["u128", "i128"].iter().any(|wide| {
            words.contains(&format!("{wide} is not supported")) || words.contains(&format!("as {wide}"))
        }) {
            return Self::said(format_args!(
                "{words} by serde within #[serde(flatten)], #[serde(untagged)] and #[serde(tag)]; \
                 use 64 bits there, or text"
            ));
        }
        Reason::Said(words).into()
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Self::said(format_args!(
            "there is no field `{field}`; serialise it too, or read it with #[serde(default)]"
        ))
    }

    #[cold]
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::said(format_args!(
            "there is a field `{field}`, expected {}; read and write it by the same name, or drop \
             #[serde(deny_unknown_fields)]",
            OneOf(expected)
        ))
    }

    #[cold]
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::said(format_args!(
            "there is a variant `{variant}`, expected {}; read and write it by the same name",
            OneOf(expected)
        ))
    }
}

struct OneOf(&'static [&'static str]);

impl fmt::Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if number == 0 { "" } else { " or " })?;
        }
        if self.0.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}
