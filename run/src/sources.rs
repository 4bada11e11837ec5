//! Several sources combined: each with each, or side by side.

use std::io;
use std::iter::Peekable;

use crate::columns::Rows;
use crate::job::Row;
use crate::jobs::ComposeError;
use crate::random::Random;

/// Values of a source that the shell has opened.
pub type Opened<'a> = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send + 'a>;

/// Arguments that are kept because they are needed again, or all before the first. Those of the first source are not,
/// unless they are shuffled, or linked by `--link`.
pub const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// How a value is counted beside its bytes: what keeping it costs.
const VALUE_BYTES: usize = size_of::<Vec<u8>>();

/// Rows of all sources, combined.
pub(crate) type Combined<'a> = Box<dyn Iterator<Item = Result<Row, ComposeError>> + Send + 'a>;

/// How sources go together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Combining {
    /// Side by side, those that end early from their start again (`--link`).
    pub(crate) is_linked: bool,
    /// The seed of the order, where that is one of chance.
    pub(crate) shuffle: Option<u64>,
}

/// Combines sources; each says whether it goes along with the one before.
pub(crate) fn combine<'a>(
    sources: Vec<(bool, Rows<'a>)>,
    combining: Combining,
) -> Result<Combined<'a>, ComposeError> {
    let mut kept = Kept::default();
    let mut sources: Vec<(bool, Peekable<Rows<'a>>)> =
        sources.into_iter().map(|(linked, rows)| (linked, rows.peekable())).collect();
    let are_empty: Vec<bool> = sources.iter_mut().map(|(_, rows)| rows.peek().is_none()).collect();
    if are_empty.iter().all(|is_empty| *is_empty) {
        return Ok(Box::new(std::iter::empty()));
    }
    // An empty source beside others has one empty value.
    let sources = sources
        .into_iter()
        .zip(are_empty)
        .map(|((linked, rows), is_empty)| (linked, rows.chain(is_empty.then(|| Ok(vec![Vec::new()])))));
    let combined: Combined<'a> = if combining.is_linked {
        let sources =
            sources.map(|(_, rows)| Recycled { rows: Box::new(rows), seen: Vec::new(), is_over: false });
        Box::new(Linked { sources: sources.collect(), kept, count: 0 })
    } else {
        let mut groups: Vec<Vec<_>> = Vec::new();
        for (linked, rows) in sources {
            match groups.last_mut() {
                Some(group) if linked => group.push(rows),
                _ => groups.push(vec![rows]),
            }
        }
        let mut groups = groups.into_iter().map(side_by_side);
        let first = groups.next().unwrap_or_else(|| Box::new(std::iter::empty()));
        let repeated =
            groups.map(|group| group.map(|row| kept.keep(row?)).collect()).collect::<Result<_, _>>()?;
        Box::new(Crossed { first, current: None, repeated, indices: Vec::new() })
    };
    let Some(seed) = combining.shuffle else { return Ok(combined) };
    let mut kept = Kept::default();
    let mut rows = combined.map(|row| kept.keep(row?)).collect::<Result<Vec<Row>, _>>()?;
    shuffle(&mut rows, seed);
    Ok(Box::new(rows.into_iter().map(Ok)))
}

/// Sources of which each goes along with the one before: as many rows as the shortest has.
fn side_by_side<'a>(mut group: Vec<impl Iterator<Item = io::Result<Row>> + Send + 'a>) -> Combined<'a> {
    Box::new(std::iter::from_fn(move || {
        let rows: Option<io::Result<Vec<Row>>> = group.iter_mut().map(Iterator::next).collect();
        rows.map(|rows| Ok(rows?.concat()))
    }))
}

/// What is kept, counted.
#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, row: Row) -> Result<Row, ComposeError> {
        self.bytes += row.iter().map(|value| value.len() + VALUE_BYTES).sum::<usize>();
        if self.bytes > KEPT_BYTES {
            return Err(ComposeError::TooMuchToKeep);
        }
        Ok(row)
    }
}

/// Each row of the first with each of the others, of which the last changes fastest.
struct Crossed<'a> {
    first: Combined<'a>,
    current: Option<Row>,
    repeated: Vec<Vec<Row>>,
    /// Where each of the others is.
    indices: Vec<usize>,
}

impl Iterator for Crossed<'_> {
    type Item = Result<Row, ComposeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.current.is_none() {
            self.current = match self.first.next()? {
                Ok(row) => Some(row),
                Err(error) => return Some(Err(error)),
            };
            self.indices = vec![0; self.repeated.len()];
        }
        let mut row = self.current.clone()?;
        for (rows, index) in self.repeated.iter().zip(&self.indices) {
            row.extend_from_slice(&rows[*index]);
        }
        let mut places = self.indices.iter_mut().zip(&self.repeated).rev();
        let has_more = places.any(|(index, rows)| {
            *index = (*index + 1) % rows.len();
            *index != 0
        });
        if !has_more {
            self.current = None;
        }
        Some(Ok(row))
    }
}

/// Sources side by side until the longest ends.
struct Linked<'a> {
    sources: Vec<Recycled<'a>>,
    kept: Kept,
    count: usize,
}

/// A source that starts again when it is over.
struct Recycled<'a> {
    rows: Box<dyn Iterator<Item = io::Result<Row>> + Send + 'a>,
    seen: Vec<Row>,
    is_over: bool,
}

impl Iterator for Linked<'_> {
    type Item = Result<Row, ComposeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let has_others = self.sources.len() > 1;
        let mut combined = Row::new();
        for source in &mut self.sources {
            let next = if source.is_over { None } else { source.rows.next() };
            match next {
                None => {
                    source.is_over = true;
                    let index = self.count % source.seen.len().max(1);
                    combined.extend(source.seen.get(index).into_iter().flatten().cloned());
                }
                Some(Err(error)) => return Some(Err(error.into())),
                Some(Ok(row)) => {
                    combined.extend_from_slice(&row);
                    match has_others.then(|| self.kept.keep(row)) {
                        None => {}
                        Some(Ok(row)) => source.seen.push(row),
                        Some(Err(error)) => return Some(Err(error)),
                    }
                }
            }
        }
        self.count += 1;
        (!self.sources.iter().all(|source| source.is_over)).then_some(Ok(combined))
    }
}

/// Fisher and Yates.
fn shuffle(rows: &mut [Row], seed: u64) {
    let mut random = Random::new(seed);
    for last in (1..rows.len()).rev() {
        rows.swap(last, random.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::columns::Reading;

    /// Sources of which each is a text, a letter a value; a plus before one says that it is linked.
    fn combined(sources: &[&'static str], combining: Combining) -> Result<Vec<String>, ComposeError> {
        let sources = sources.iter().map(|text| {
            let values = text.trim_start_matches('+').bytes().map(|byte| Ok(vec![byte]));
            (text.starts_with('+'), Rows::new(Box::new(values), Arc::new(Reading::default())))
        });
        let rows = combine(sources.collect(), combining)?;
        rows.map(|row| Ok(String::from_utf8(row?.concat()).expect("text"))).collect()
    }

    fn crossed(sources: &[&'static str]) -> Vec<String> {
        combined(sources, Combining { is_linked: false, shuffle: None }).unwrap()
    }

    fn linked(sources: &[&'static str]) -> Vec<String> {
        combined(sources, Combining { is_linked: true, shuffle: None }).unwrap()
    }

    #[test]
    fn sources_are_combined_each_with_each_the_last_changes_fastest() {
        assert_eq!(crossed(&["ab", "12", "xy"]).join(" "), "a1x a1y a2x a2y b1x b1y b2x b2y");
        assert_eq!(crossed(&["abc", "+12", "xy"]).join(" "), "a1x a1y b2x b2y");
        assert_eq!(crossed(&["ab", "12", "+xy"]).join(" "), "a1x a2y b1x b2y");
        assert_eq!(crossed(&["ab", "", "1"]).join(" "), "a1 b1");
        assert_eq!(crossed(&["", ""]), [""; 0]);
    }

    #[test]
    fn linked_sources_start_again_until_the_longest_ends() {
        assert_eq!(linked(&["ab", "12345", "xyz"]).join(" "), "a1x b2y a3z b4x a5y");
        assert_eq!(linked(&["ab"]).join(" "), "a b");
        assert_eq!(linked(&["ab", ""]).join(" "), "a b");
        assert_eq!(linked(&[""]), [""; 0]);
    }

    #[test]
    fn the_order_of_a_shuffle_follows_from_its_seed() {
        let shuffled =
            |seed| combined(&["abcdefghij"], Combining { is_linked: false, shuffle: Some(seed) }).unwrap();
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort();
        assert_eq!(sorted.concat(), "abcdefghij");
    }

    #[test]
    fn the_first_source_is_read_as_it_is_needed() {
        let endless = Rows::new(Box::new(std::iter::repeat_with(|| Ok(b"a".to_vec()))), Arc::default());
        let other =
            Rows::new(Box::new([b"1", b"2"].into_iter().map(|value| Ok(value.to_vec()))), Arc::default());
        let combining = Combining { is_linked: false, shuffle: None };
        let rows = combine(vec![(false, endless), (false, other)], combining).unwrap();
        assert_eq!(rows.take(1_000).filter(Result::is_ok).count(), 1_000);
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut kept = Kept { bytes: KEPT_BYTES - VALUE_BYTES - 1 };
        assert!(kept.keep(vec![b"a".to_vec()]).is_ok());
        assert!(matches!(kept.keep(vec![Vec::new()]), Err(ComposeError::TooMuchToKeep)));
    }
}
