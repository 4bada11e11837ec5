//! A stream of bytes cut into blocks at the ends of records, one for the standard input of each job (`--pipe`).
//!
//! Cut where GNU parallel cuts: as many whole records as are in a block that is read, or so many records or lines. What is
//! read and not handed out is never more than a block, which grows where a record is longer than that.

use std::io::{self, BufRead};
use std::num::NonZeroUsize;

use crate::records::parse_delimiter;

/// Bytes that are read for a block unless the command line says otherwise (`--block`).
pub const USUAL_BLOCK_BYTES: usize = 1024 * 1024;

/// Largest block, and so the longest record.
pub const BLOCK_BYTES: usize = 256 * 1024 * 1024;

/// How much larger a block becomes in which no record ends, as in GNU parallel.
const GROWTH: f64 = 1.3;

/// Where a stream is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// Bytes that are read for a block: 1 to [`BLOCK_BYTES`].
    pub block_bytes: usize,
    /// What is between two records.
    pub separator: Separator,
    /// How much of the records that were read is a block.
    pub portion: Portion,
    /// Whether each block begins with the first line of the stream (`--header :`).
    pub repeats_header: bool,
    /// Whether separators are left out (`--remove-rec-sep`).
    pub removes_separators: bool,
}

/// What is between two records: the end of the first, and then the start of the second. Where both are empty, every byte is
/// a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separator {
    /// Belongs to the record before it.
    pub end: Vec<u8>,
    /// Belongs to the record behind it.
    pub start: Vec<u8>,
}

/// How much is a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// All records that end in what was read.
    Fitting,
    /// So many records (`-N`).
    Records(NonZeroUsize),
    /// As many lines as end in what was read, but a multiple of so many (`-L`).
    Lines(NonZeroUsize),
}

/// Why there are no more blocks.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The stream cannot be read.
    #[error("cannot read standard input, which is to be cut into blocks")]
    Read(#[from] io::Error),
    /// A record does not end.
    #[error(
        "a record is longer than {} MiB, which is the largest block: are --recend and --recstart right?",
        BLOCK_BYTES / (1024 * 1024)
    )]
    TooLong,
}

impl Separator {
    /// Reads the arguments of `--recend` and `--recstart`: a line end, unless one of them is given.
    pub fn parse(end: Option<&[u8]>, start: Option<&[u8]>) -> Result<Self, crate::DelimiterError> {
        let usual: &[u8] = if start.is_none() { b"\n" } else { b"" };
        Ok(Self {
            end: parse_delimiter(end.unwrap_or(usual))?,
            start: parse_delimiter(start.unwrap_or_default())?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.end[..], &self.start].concat()
    }
}

/// Blocks of a stream. After an error there are no more.
#[derive(Debug)]
pub struct Blocks<R> {
    reader: R,
    cutting: Cutting,
    /// The end of a record and the start of the next.
    between: Vec<u8>,
    header: Vec<u8>,
    /// Bytes that were read, of which those before `taken` were handed out.
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes that are read for a block by now, and at most.
    block_bytes: usize,
    most_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was read.
    Begins,
    /// More may come.
    Reads,
    /// All was read.
    Ended,
    /// All was handed out, or there was an error.
    Done,
}

impl<R: BufRead> Blocks<R> {
    /// Blocks of what `reader` gives.
    pub fn new(reader: R, cutting: Cutting) -> Self {
        Self {
            reader,
            between: cutting.separator.bytes(),
            header: Vec::new(),
            buffer: Vec::new(),
            taken: 0,
            block_bytes: cutting.block_bytes.clamp(1, BLOCK_BYTES),
            most_bytes: BLOCK_BYTES,
            cutting,
            state: State::Begins,
        }
    }

    fn cut(&mut self) -> Result<Option<Vec<u8>>, BlockError> {
        if self.state == State::Begins {
            self.state = State::Reads;
            self.read_header()?;
        }
        let mut length = self.whole_records();
        while length.is_none() && self.state == State::Reads {
            self.fill()?;
            length = match self.cutting.portion {
                Portion::Fitting => self.last_record(),
                Portion::Records(_) => self.whole_records(),
                Portion::Lines(lines) => self.last_line(lines),
            };
            if length.is_none() && self.state == State::Reads {
                self.grow()?;
            }
        }
        Ok(length.or_else(|| self.rest()).map(|length| self.take(length)))
    }

    /// Reads the first line, if each block is to begin with it.
    fn read_header(&mut self) -> Result<(), BlockError> {
        while self.cutting.repeats_header && self.state == State::Reads {
            self.fill()?;
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                self.header = self.buffer.drain(..=end).collect();
                break;
            }
            if self.buffer.len() > self.most_bytes {
                return Err(BlockError::TooLong);
            }
        }
        Ok(())
    }

    /// Reads until what waits is a whole number of blocks.
    fn fill(&mut self) -> Result<(), BlockError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut missing = self.block_bytes - self.buffer.len() % self.block_bytes;
        while missing > 0 {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                self.state = State::Ended;
                return Ok(());
            }
            let taken = bytes.len().min(missing);
            self.buffer.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            missing -= taken;
        }
        Ok(())
    }

    /// Reads larger blocks: a record is longer than one, or so many records are.
    fn grow(&mut self) -> Result<(), BlockError> {
        if self.block_bytes >= self.most_bytes {
            return Err(BlockError::TooLong);
        }
        self.block_bytes = ((self.block_bytes as f64 * GROWTH + 1.0).ceil() as usize).min(self.most_bytes);
        Ok(())
    }

    /// How long the first records are that are a block, where their number says so.
    fn whole_records(&self) -> Option<usize> {
        let Portion::Records(count) = self.cutting.portion else { return None };
        let waiting = &self.buffer[self.taken..];
        (0..count.get()).try_fold(0, |from, _| self.record(waiting, from))
    }

    /// Where the record ends that begins `from` there; none if it may go on.
    fn record(&self, waiting: &[u8], from: usize) -> Option<usize> {
        // A record begins with its start, which is not that of the next one.
        let mut at = from + usize::from(self.cutting.separator.end.is_empty());
        let Some(first) = self.between.first() else { return (at <= waiting.len()).then_some(at) };
        loop {
            at += waiting.get(at..)?.iter().position(|byte| byte == first)?;
            if waiting[at..].starts_with(&self.between) {
                return Some(at + self.cutting.separator.end.len());
            }
            at += 1;
        }
    }

    /// Where the last record ends that was read to its end.
    fn last_record(&self) -> Option<usize> {
        if self.state == State::Ended {
            return None;
        }
        let Some(last) = self.between.last() else { return Some(self.buffer.len()) };
        let mut end = self.buffer.len();
        loop {
            end = self.buffer[..end].iter().rposition(|byte| byte == last)?;
            if self.buffer[..=end].ends_with(&self.between) {
                return Some(end + 1 - self.cutting.separator.start.len()).filter(|length| *length > 0);
            }
        }
    }

    /// Where a line ends that so many lines end with, or a multiple of so many.
    fn last_line(&self, lines: NonZeroUsize) -> Option<usize> {
        let ends = || self.buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let count = ends().count() / lines * lines.get();
        ends().nth(count.checked_sub(1)?).map(|(at, _)| at + 1)
    }

    /// How much is left, if anything is.
    fn rest(&mut self) -> Option<usize> {
        self.state = State::Done;
        Some(self.buffer.len() - self.taken).filter(|length| *length > 0)
    }

    /// Hands out so many bytes.
    fn take(&mut self, length: usize) -> Vec<u8> {
        let records = &self.buffer[self.taken..self.taken + length];
        let mut block = self.header.clone();
        if self.cutting.removes_separators {
            let Separator { end, start } = &self.cutting.separator;
            let kept = without(records, &self.between);
            let kept = kept.strip_prefix(&start[..]).unwrap_or(&kept);
            block.extend_from_slice(kept.strip_suffix(&end[..]).unwrap_or(kept));
        } else {
            block.extend_from_slice(records);
        }
        self.taken += length;
        block
    }
}

/// `bytes` without what is `left_out` wherever it is.
fn without(bytes: &[u8], left_out: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(left_out).filter(|_| !left_out.is_empty()) {
            Some(after) => rest = after,
            None => {
                kept.push(*first);
                rest = after;
            }
        }
    }
    kept
}

impl<R: BufRead> Iterator for Blocks<R> {
    type Item = Result<Vec<u8>, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done && self.taken == self.buffer.len() {
            return None;
        }
        let block = self.cut();
        if block.is_err() {
            self.state = State::Done;
            self.taken = self.buffer.len();
        }
        block.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::random::Random;

    fn cutting(block_bytes: usize, end: &[u8], start: &[u8], portion: Portion) -> Cutting {
        let separator = Separator { end: end.to_vec(), start: start.to_vec() };
        Cutting { block_bytes, separator, portion, repeats_header: false, removes_separators: false }
    }

    fn blocks(input: &[u8], cutting: &Cutting) -> Vec<String> {
        // A small buffer, so that reads end anywhere.
        let blocks = Blocks::new(BufReader::with_capacity(3, input), cutting.clone());
        blocks.map(|block| String::from_utf8(block.unwrap()).unwrap()).collect()
    }

    fn records(count: usize) -> Portion {
        Portion::Records(NonZeroUsize::new(count).unwrap())
    }

    fn lines(count: usize) -> Portion {
        Portion::Lines(NonZeroUsize::new(count).unwrap())
    }

    #[test]
    fn a_block_is_whole_records() {
        let input = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
        let of = |cutting: &Cutting| blocks(input, cutting);
        assert_eq!(
            of(&cutting(8, b"\n", b"", Portion::Fitting)),
            ["1\n2\n3\n4\n", "5\n6\n7\n8\n", "9\n10\n"]
        );
        assert_eq!(of(&cutting(99, b"\n", b"", records(4))), ["1\n2\n3\n4\n", "5\n6\n7\n8\n", "9\n10\n"]);
        assert_eq!(of(&cutting(10, b"\n", b"", lines(3))), ["1\n2\n3\n", "4\n5\n6\n", "7\n8\n9\n", "10\n"]);
        assert_eq!(of(&cutting(99, b"\n", b"", lines(3))), ["1\n2\n3\n4\n5\n6\n7\n8\n9\n", "10\n"]);
    }

    #[test]
    fn records_have_an_end_a_start_both_or_neither() {
        let fitting = |size, end: &[u8], start: &[u8], input: &[u8]| {
            blocks(input, &cutting(size, end, start, Portion::Fitting))
        };
        assert_eq!(fitting(7, b"\n\n", b"", b"a\nb\n\nc\n\nd"), ["a\nb\n\n", "c\n\nd"]);
        assert_eq!(fitting(6, b"", b">", b">a\n>b\n>c\n"), [">a\n", ">b\n", ">c\n"]);
        assert_eq!(fitting(5, b"\n", b">", b"a>\n>b\n>c"), ["a>\n", ">b\n", ">c"]);
        assert_eq!(fitting(2, b"", b"", b"abcde"), ["ab", "cd", "e"]);
        assert_eq!(blocks(b">a>>b", &cutting(9, b"", b">", records(1))), [">a", ">", ">b"]);
        assert_eq!(blocks(b"\n\na\n", &cutting(9, b"\n", b"", records(2))), ["\n\n", "a\n"]);
        assert_eq!(blocks(b"abc", &cutting(9, b"", b"", records(2))), ["ab", "c"]);
        assert!(blocks(b"", &cutting(9, b"\n", b"", Portion::Fitting)).is_empty());
    }

    #[test]
    fn a_block_grows_until_a_record_ends_in_it() {
        let long = "a".repeat(100) + "\n";
        let input = format!("1\n{long}2\n3\n");
        assert_eq!(
            blocks(input.as_bytes(), &cutting(3, b"\n", b"", records(1))),
            ["1\n", &long, "2\n", "3\n"]
        );
        assert_eq!(blocks(input.as_bytes(), &cutting(1, b"\n", b"", Portion::Fitting)).concat(), input);
    }

    #[test]
    fn a_record_without_end_is_an_error() {
        let endless = BufReader::new(std::io::repeat(b'x'));
        let mut blocks = Blocks::new(endless, cutting(10, b"\n", b"", Portion::Fitting));
        blocks.most_bytes = 10_000;
        assert!(matches!(blocks.next(), Some(Err(BlockError::TooLong))));
        assert!(blocks.next().is_none());
    }

    #[test]
    fn the_first_line_is_given_to_every_job_and_separators_need_not_be() {
        let with_header = Cutting { repeats_header: true, ..cutting(9, b"\n", b"", records(2)) };
        assert_eq!(blocks(b"h\n1\n2\n3\n", &with_header), ["h\n1\n2\n", "h\n3\n"]);
        assert!(blocks(b"h\n", &with_header).is_empty());
        assert_eq!(blocks(b"a", &with_header), ["a"]);
        let without = |end: &[u8], start: &[u8], input: &[u8]| {
            let cutting = Cutting { removes_separators: true, ..cutting(99, end, start, records(2)) };
            blocks(input, &cutting)
        };
        assert_eq!(without(b"\n", b"", b"1\n2\n3\n"), ["12", "3"]);
        assert_eq!(without(b"", b">", b">a\n>b\n>c\n"), ["a\nb\n", "c\n"]);
    }

    #[test]
    fn nothing_is_lost_and_only_records_are_cut_however_it_is_read() {
        let mut random = Random::of_this_run();
        for _ in 0..5_000 {
            let signs = b"ab;\n";
            let input = random.bytes(60, signs);
            let portion = [Portion::Fitting, records(1 + random.below(3)), lines(1 + random.below(3))];
            let portion = portion[random.below(3)];
            let cutting =
                cutting(1 + random.below(20), &random.bytes(2, signs), &random.bytes(2, signs), portion);
            let read = |capacity| -> Vec<Vec<u8>> {
                let blocks = Blocks::new(BufReader::with_capacity(capacity, &input[..]), cutting.clone());
                blocks.map(Result::unwrap).collect()
            };
            let blocks = read(1 + random.below(70));
            assert_eq!(blocks, read(1), "{cutting:?}");
            assert_eq!(blocks.concat(), input, "{cutting:?}");
            let between = cutting.separator.bytes();
            let start = cutting.separator.start.len();
            for (number, block) in blocks.iter().enumerate().skip(1) {
                let end = blocks[..number].concat().len();
                let is_cut = input.get(..end + start).is_some_and(|before| before.ends_with(&between));
                let is_line = block.is_empty() || input[..end].ends_with(b"\n");
                assert!(if matches!(portion, Portion::Lines(_)) { is_line } else { is_cut }, "{cutting:?}");
            }
        }
    }
}
