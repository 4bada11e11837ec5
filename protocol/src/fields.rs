//! Reading of those fields of messages that are not read as [the codec](crate::codec) reads all others: names, text of
//! several lines, what jobs print, long lists. Here and there, what a peer says is made plain where it enters.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::limits::{LAST_STDERR_LINES, OUTPUT_LINE_BYTES, TEXT_BYTES, cut};
use crate::{AttemptId, shown_lines, shown_name};

/// Name under which the codec is asked for a list that may be as long as all that a session has at a node.
pub(crate) const LONG_LIST: &str = "a list of all attempts";

/// Reads what a peer calls itself or something of its own: a name.
pub(crate) fn read_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_bytes(Text(shown_name))
}

/// Reads text of several lines.
pub(crate) fn read_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer
        .deserialize_bytes(Text(|text| cut(&shown_lines(cut(text, TEXT_BYTES)), TEXT_BYTES).to_owned()))
}

/// The same of text that may be missing.
pub(crate) fn read_lines_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    struct IfAny;
    impl<'de> Visitor<'de> for IfAny {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text, or none")
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            read_lines(deserializer).map(Some)
        }
    }
    deserializer.deserialize_option(IfAny)
}

/// Reads a line that a job printed, as it printed it: whoever shows it makes it [fit for that](shown).
pub(crate) fn read_output<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_bytes(Text(|text| cut(text, OUTPUT_LINE_BYTES).to_owned()))
}

/// Reads the last lines that a process wrote before it ended.
pub(crate) fn read_last_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct LastLines;
    impl<'de> Visitor<'de> for LastLines {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {LAST_STDERR_LINES} lines")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut lines = Vec::new();
            while let Some(line) = items.next_element()? {
                if lines.len() == LAST_STDERR_LINES {
                    return Err(A::Error::invalid_length(LAST_STDERR_LINES + 1, &self));
                }
                lines.push(line);
            }
            Ok(lines)
        }
    }
    deserializer.deserialize_seq(LastLines)
}

/// Reads the attempts that a session has at a node: more than other lists may have.
pub(crate) fn read_all_attempts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<AttemptId>, D::Error> {
    struct All;
    impl<'de> Visitor<'de> for All {
        type Value = Vec<AttemptId>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of attempts")
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            Vec::deserialize(deserializer)
        }
    }
    deserializer.deserialize_newtype_struct(LONG_LIST, All)
}

/// Text as it was sent, which this is made of.
struct Text(fn(&str) -> String);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
        std::str::from_utf8(bytes).map(self.0).map_err(E::custom)
    }
}
