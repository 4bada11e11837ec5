//! Several sources combined: each with each, or side by side.

use std::io;
use std::iter::Peekable;

use crate::columns::Rows;
use crate::job::Row;
use crate::jobs::ComposeError;

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

/// Fisher and Yates, with numbers of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn shuffle(rows: &mut [Row], seed: u64) {
    let mut state = seed;
    for last in (1..rows.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        rows.swap(last, ((u128::from(mixed) * (last as u128 + 1)) >> 64) as usize);
    }
}
