//! One source: its values as rows of columns.

use std::io;
use std::sync::Arc;

use crate::job::Row;
use crate::pattern::Pattern;
use crate::sources::Opened;

/// Where blanks are taken off columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// Nowhere (`n`).
    #[default]
    Nowhere,
    /// At the start (`l`).
    Left,
    /// At the end (`r`).
    Right,
    /// At both (`lr`, `rl`).
    Both,
}

impl Trim {
    /// Reads the argument of `--trim`; none where it is another than `n`, `l`, `r`, `lr`, `rl`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "n" => Self::Nowhere,
            "l" => Self::Left,
            "r" => Self::Right,
            "lr" | "rl" => Self::Both,
            _ => return None,
        })
    }

    fn apply(self, value: &[u8]) -> &[u8] {
        let is_kept = |byte: &u8| !is_blank(*byte);
        let start = value.iter().position(is_kept).unwrap_or(value.len());
        let end = value.iter().rposition(is_kept).map_or(0, |last| last + 1);
        match self {
            Self::Nowhere => value,
            Self::Left => &value[start..],
            Self::Right => &value[..end],
            Self::Both => &value[start.min(end)..end],
        }
    }
}

/// How values become rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) separator: Option<Pattern>,
    pub(crate) trim: Trim,
    /// The value that ends a source (`-E`).
    pub(crate) end: Option<Vec<u8>>,
    /// Whether values of blanks only are left out (`-r`).
    pub(crate) skips_blank: bool,
    /// Whether a value that ends in a blank goes on in the next (`-L`).
    pub(crate) joins_values: bool,
}

impl Reading {
    /// The columns of a value.
    pub(crate) fn columns(&self, value: &[u8]) -> Row {
        let parts = self.separator.as_ref().map_or_else(|| vec![value], |separator| separator.split(value));
        parts.into_iter().map(|part| self.trim.apply(part).to_vec()).collect()
    }
}

/// The rows of one source.
pub(crate) struct Rows<'a> {
    values: Opened<'a>,
    reading: Arc<Reading>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(values: Opened<'a>, reading: Arc<Reading>) -> Self {
        Self { values, reading, is_done: false }
    }

    /// Takes the names of the columns off the start.
    pub(crate) fn header(&mut self) -> io::Result<Row> {
        let names = self.values.next().transpose()?;
        Ok(names.map(|names| self.reading.columns(&names)).unwrap_or_default())
    }

    /// The next value, which may be written as several.
    fn value(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut joined = None;
        while !self.is_done {
            let value =
                self.values.next().transpose()?.filter(|value| self.reading.end.as_ref() != Some(value));
            let Some(value) = value else {
                self.is_done = true;
                break;
            };
            if value.contains(&0) {
                let why = "an argument has a zero byte in it, which no command line can hold: is -0 missing?";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            let goes_on = self.reading.joins_values && value.last().is_some_and(|last| b" \t".contains(last));
            joined.get_or_insert_with(Vec::new).extend(value);
            if !goes_on {
                break;
            }
        }
        Ok(joined)
    }
}

impl Iterator for Rows<'_> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.value().transpose()? {
                Ok(value) if self.reading.skips_blank && value.iter().copied().all(is_blank) => {}
                Ok(value) => return Some(Ok(self.reading.columns(&value))),
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(reading: Reading, values: &[&str]) -> Vec<Vec<String>> {
        let values: Vec<_> = values.iter().map(|value| Ok(value.as_bytes().to_vec())).collect();
        let rows = Rows::new(Box::new(values.into_iter()), Arc::new(reading));
        let text = |column: Vec<u8>| String::from_utf8(column).unwrap();
        rows.map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    #[test]
    fn blanks_are_taken_off_where_that_is_asked() {
        for (trim, expected) in [("n", " a\t"), ("l", "a\t"), ("r", " a"), ("lr", "a"), ("rl", "a")] {
            let reading = Reading { trim: Trim::parse(trim).unwrap(), ..Reading::default() };
            assert_eq!(rows(reading, &[" a\t", " "]).concat()[0], expected);
        }
        assert_eq!(Trim::parse("x"), None);
        assert_eq!(Trim::Both.apply(b" \n"), b"");
    }

    #[test]
    fn a_source_ends_at_the_value_that_says_so_and_at_errors() {
        let reading = || Reading { end: Some(b"E".to_vec()), joins_values: true, ..Reading::default() };
        assert_eq!(rows(reading(), &["a", "E", "b"]), [["a"]]);
        assert_eq!(rows(reading(), &["a ", "E", "b"]), [["a "]]);
        let values = [Err(io::ErrorKind::InvalidData.into()), Ok(b"x".to_vec())];
        let mut rows = Rows::new(Box::new(values.into_iter()), Arc::new(Reading::default()));
        assert!(rows.next().unwrap().is_err());
        assert!(rows.next().is_none());
    }

    #[test]
    fn a_value_with_a_zero_byte_is_an_error_that_names_the_option() {
        let values = [Ok(b"a\0b".to_vec()), Ok(b"c".to_vec())];
        let mut rows = Rows::new(Box::new(values.into_iter()), Arc::default());
        assert!(rows.next().unwrap().unwrap_err().to_string().contains("is -0 missing?"));
        assert!(rows.next().is_none());
    }

    #[test]
    fn values_of_blanks_are_left_out_and_those_that_go_on_are_joined() {
        let reading = Reading { skips_blank: true, ..Reading::default() };
        assert_eq!(rows(reading, &["", "a", " \t", "b"]), [["a"], ["b"]]);
        let reading = Reading { joins_values: true, ..Reading::default() };
        assert_eq!(rows(reading, &["a ", "b", "c  ", "d ", ""]), [["a b"], ["c  d "]]);
    }

    #[test]
    fn columns_are_split() {
        let reading = Reading {
            separator: Some(Pattern::parse(b",").unwrap()),
            trim: Trim::Both,
            ..Reading::default()
        };
        assert_eq!(rows(reading, &["a, b ,", ""]), [vec!["a", "b", ""], vec![""]]);
    }
}
