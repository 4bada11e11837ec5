//! The part of regular expressions that `--colsep` and `{%…}`, `{/…/…}` and the like understand: characters, `.`, `[…]`,
//! `\s \d \w` and their opposites, each with `*`, `+` or `?` after it. Matching takes time linear in the text from each start.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::records::escaped;

/// A pattern over bytes. It never matches nothing.
#[derive(Clone, Debug)]
pub struct Pattern {
    atoms: Vec<Atom>,
}

/// A set of bytes, and how many of them follow each other.
#[derive(Clone, Debug)]
struct Atom {
    bytes: Box<[bool; 256]>,
    is_optional: bool,
    is_repeated: bool,
}

/// A pattern that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It uses what is not offered.
    #[error(
        "the pattern {pattern:?} uses {what:?}: patterns here know characters, '.', [sets], \\s \\d \\w, and * + ? after \
         them; put a backslash before {what:?} if the character itself is meant"
    )]
    Unknown {
        /// The pattern.
        pattern: String,
        /// What is not offered.
        what: String,
    },
    /// It matches the empty text, which is everywhere.
    #[error("the pattern {pattern:?} matches nothing as well as something; use + instead of *")]
    MatchesNothing {
        /// The pattern.
        pattern: String,
    },
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        let pattern = || String::from_utf8_lossy(text).into_owned();
        let unknown = |what: &[u8]| PatternError::Unknown {
            pattern: pattern(),
            what: String::from_utf8_lossy(what).into_owned(),
        };
        let mut atoms: Vec<Atom> = Vec::new();
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            let (bytes, length) = match byte {
                b'\\' => set_escaped(&text[at + 1..]).map(|(set, length)| (set, length + 1)),
                b'.' => Some((Box::new(std::array::from_fn(|byte| byte != usize::from(b'\n'))), 1)),
                b'[' => set_in_brackets(&text[at..]),
                b'(' | b')' | b'|' | b'{' | b'}' | b'^' | b'$' | b'*' | b'+' | b'?' => None,
                byte => Some((only(*byte), 1)),
            }
            .ok_or_else(|| unknown(&text[at..(at + 1 + usize::from(*byte == b'\\')).min(text.len())]))?;
            at += length;
            let (is_optional, is_repeated) = match text.get(at) {
                Some(b'*') => (true, true),
                Some(b'+') => (false, true),
                Some(b'?') => (true, false),
                _ => (false, false),
            };
            at += usize::from(is_optional || is_repeated);
            atoms.push(Atom { bytes, is_optional, is_repeated });
        }
        if atoms.iter().all(|atom| atom.is_optional) {
            return Err(PatternError::MatchesNothing { pattern: pattern() });
        }
        Ok(Self { atoms })
    }

    /// The first match at or after `from`, as long as it can be.
    pub(crate) fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        (from..text.len()).find_map(|start| Some(start..*self.ends(text, start).last()?))
    }

    /// How long a match at the start of `text` is, at least or at most.
    pub(crate) fn prefix(&self, text: &[u8], is_longest: bool) -> Option<usize> {
        let ends = self.ends(text, 0);
        if is_longest { ends.last().copied() } else { ends.first().copied() }
    }

    /// Where a match begins that ends with `text`: as early or as late as possible.
    pub(crate) fn suffix(&self, text: &[u8], is_longest: bool) -> Option<usize> {
        let mut starts = 0..text.len();
        let matches = |start: &usize| self.ends(text, *start).contains(&text.len());
        if is_longest { starts.find(matches) } else { starts.rfind(matches) }
    }

    /// What lies between the matches.
    pub(crate) fn split<'a>(&self, text: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        let mut from = 0;
        while let Some(found) = self.find(text, from) {
            parts.push(&text[from..found.start]);
            from = found.end;
        }
        parts.push(&text[from..]);
        parts
    }

    /// Where matches that begin at `start` end.
    fn ends(&self, text: &[u8], start: usize) -> BTreeSet<usize> {
        let mut ends = BTreeSet::from([start]);
        for atom in &self.atoms {
            let mut next = BTreeSet::new();
            let mut run_end = 0;
            for end in ends {
                if atom.is_optional {
                    next.insert(end);
                }
                // An earlier run that went over this place has been where one from here would go.
                if end < run_end {
                    continue;
                }
                run_end = end;
                while text.get(run_end).is_some_and(|byte| atom.bytes[usize::from(*byte)]) {
                    run_end += 1;
                    next.insert(run_end);
                    if !atom.is_repeated {
                        break;
                    }
                }
                if !atom.is_repeated {
                    run_end = 0;
                }
            }
            ends = next;
            if ends.is_empty() {
                break;
            }
        }
        ends
    }
}

fn only(byte: u8) -> Box<[bool; 256]> {
    Box::new(std::array::from_fn(|other| other == usize::from(byte)))
}

/// The set that is written after a backslash, and how long that is written.
fn set_escaped(text: &[u8]) -> Option<(Box<[bool; 256]>, usize)> {
    let class: fn(u8) -> bool = match text.first()?.to_ascii_lowercase() {
        b's' => |byte| byte.is_ascii_whitespace() || byte == 0x0b,
        b'd' => |byte| byte.is_ascii_digit(),
        b'w' => |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        _ => {
            let is_escape = b"xtnrfae0".contains(&text[0]) || !text[0].is_ascii_alphanumeric();
            let (byte, length) = escaped(text).filter(|_| is_escape)?;
            return Some((only(byte), length));
        }
    };
    let is_opposite = text[0].is_ascii_uppercase();
    Some((Box::new(std::array::from_fn(|byte| class(byte as u8) != is_opposite)), 1))
}

/// The set that begins `text`, which begins with a bracket, and how long that is written.
fn set_in_brackets(text: &[u8]) -> Option<(Box<[bool; 256]>, usize)> {
    let is_opposite = text.get(1) == Some(&b'^');
    let first = 1 + usize::from(is_opposite);
    let mut set = Box::new([false; 256]);
    let mut at = first;
    loop {
        let byte = *text.get(at)?;
        if byte == b']' && at > first {
            break;
        }
        if byte == b'[' && text.get(at + 1) == Some(&b':') {
            return None;
        }
        if byte == b'\\' {
            let (escaped, length) = set_escaped(&text[at + 1..])?;
            set.iter_mut().zip(*escaped).for_each(|(set, escaped)| *set |= escaped);
            at += 1 + length;
            continue;
        }
        let last = match text.get(at + 1..at + 3) {
            Some([b'-', last]) if *last != b']' && *last != b'\\' => *last,
            _ => byte,
        };
        (byte..=last).for_each(|byte| set[usize::from(byte)] = true);
        at += if last == byte { 1 } else { 3 };
    }
    set.iter_mut().for_each(|byte| *byte ^= is_opposite);
    Some((set, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pattern: &str, text: &str) -> Vec<String> {
        let pattern = Pattern::parse(pattern.as_bytes()).unwrap();
        pattern
            .split(text.as_bytes())
            .into_iter()
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect()
    }

    #[test]
    fn texts_are_split_where_a_pattern_matches() {
        assert_eq!(split(",", "a,b,,c,"), ["a", "b", "", "c", ""]);
        assert_eq!(split(r"\t", "a\tb"), ["a", "b"]);
        assert_eq!(split(r"\s+", "a \t b"), ["a", "b"]);
        assert_eq!(split("[,;]", "a,b;c"), ["a", "b", "c"]);
        assert_eq!(split("[^a-c]", "a1b-c"), ["a", "b", "c"]);
        assert_eq!(split(r"\|", "a|b"), ["a", "b"]);
        assert_eq!(split(", *", "a,b,   c"), ["a", "b", "c"]);
        assert_eq!(split("ab?c", "1ac2abc3abbc"), ["1", "2", "3abbc"]);
        assert_eq!(split(r"[\s,]+", "a , b"), ["a", "b"]);
        assert_eq!(split("[]x]", "a]bxc"), ["a", "b", "c"]);
        assert_eq!(split("a*ab", "aaab-ab"), ["", "-", ""]);
    }

    #[test]
    fn ends_are_matched_short_and_long() {
        let pattern = Pattern::parse(b"a.*").unwrap();
        assert_eq!(pattern.suffix(b"bababx", false), Some(3));
        assert_eq!(pattern.suffix(b"bababx", true), Some(1));
        assert_eq!(pattern.prefix(b"abc", false), Some(1));
        assert_eq!(pattern.prefix(b"abc", true), Some(3));
        assert_eq!(pattern.prefix(b"b", true), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in ["(a)", "a|b", "a{2}", "^a", "a$", "*", "a+?", r"\b", r"(", "[a", r"a\", "[[:alpha:]]"]
        {
            let error = Pattern::parse(pattern.as_bytes()).unwrap_err();
            assert!(matches!(error, PatternError::Unknown { .. }), "{pattern}: {error}");
        }
        for pattern in ["", "a*", "a?b*"] {
            let error = Pattern::parse(pattern.as_bytes()).unwrap_err();
            assert!(matches!(error, PatternError::MatchesNothing { .. }), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_time() {
        let pattern = Pattern::parse(
            "a*".repeat(50).as_bytes().iter().chain(b"b").copied().collect::<Vec<_>>().as_slice(),
        );
        assert!(pattern.unwrap().prefix(&[b'a'; 5_000], true).is_none());
    }
}
