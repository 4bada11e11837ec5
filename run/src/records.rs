//! A stream of bytes as arguments: lines, or whatever `-d` says.

use std::io::{self, BufRead};

/// Largest argument that is read.
pub const RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Arguments of a reader. The delimiter ends each, and may be missing after the last.
///
/// An argument over [`RECORD_BYTES`] is an error of the kind `InvalidData`, and ends the iteration, as any error does.
#[derive(Debug)]
pub struct Records<R> {
    reader: R,
    delimiter: Vec<u8>,
    is_done: bool,
}

impl<R: BufRead> Records<R> {
    /// Arguments of `reader`. With an empty delimiter all of it is one.
    pub fn new(reader: R, delimiter: &[u8]) -> Self {
        Self { reader, delimiter: delimiter.to_vec(), is_done: false }
    }

    /// Reads up to a delimiter, or the end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut record = Vec::new();
        loop {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                self.is_done = true;
                return Ok((!record.is_empty()).then_some(record));
            }
            let last = self.delimiter.last();
            let end = last.and_then(|last| bytes.iter().position(|byte| byte == last));
            let taken = end.map_or(bytes.len(), |end| end + 1);
            record.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            if end.is_some() && record.ends_with(&self.delimiter) {
                record.truncate(record.len() - self.delimiter.len());
                return Ok(Some(record));
            }
            if record.len() > RECORD_BYTES {
                let mebibytes = RECORD_BYTES / (1024 * 1024);
                let why =
                    format!("an argument is longer than {mebibytes} MiB: is the delimiter (-d, -0) right?");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let record = self.read();
        self.is_done |= record.is_err();
        record.transpose()
    }
}

/// A delimiter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the delimiter {given:?} ends in an unfinished escape; write \\n, \\t, \\0, \\x2c, \\054 or plain characters"
)]
pub struct DelimiterError {
    given: String,
}

/// Reads the argument of `-d`: characters, with `\n`, `\t`, `\\` and the like, `\x2c` and `\054`.
pub fn parse_delimiter(text: &[u8]) -> Result<Vec<u8>, DelimiterError> {
    let mut delimiter = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            delimiter.push(*first);
            continue;
        }
        let (byte, length) =
            escaped(rest).ok_or_else(|| DelimiterError { given: String::from_utf8_lossy(text).into() })?;
        delimiter.push(byte);
        rest = &rest[length..];
    }
    Ok(delimiter)
}

/// The byte that is written after a backslash, and how long that is written.
pub(crate) fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let digits = |from: usize, most: usize, radix: u32| {
        let digits =
            text[from..].iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let value = std::str::from_utf8(&text[from..from + digits]).ok()?;
        Some((u32::from_str_radix(value, radix).ok()? as u8, from + digits))
    };
    let byte = match *text.first()? {
        b'x' => return digits(1, 2, 16),
        b'0' => return digits(0, 4, 8),
        b'1'..=b'7' => return digits(0, 3, 8),
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'f' => 0x0c,
        b'v' => 0x0b,
        b'a' => 0x07,
        b'b' => 0x08,
        b'e' => 0x1b,
        other => other,
    };
    Some((byte, 1))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn records(text: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        // A small buffer, so that delimiters are cut in two.
        Records::new(BufReader::with_capacity(2, text), delimiter).map(|record| record.unwrap()).collect()
    }

    #[test]
    fn a_delimiter_ends_each_and_may_be_missing_after_the_last() {
        assert_eq!(records(b"a\nb", b"\n"), [b"a", b"b"]);
        assert_eq!(records(b"a\n\nb\n", b"\n"), [&b"a"[..], b"", b"b"]);
        assert_eq!(records(b"a\0b c\0", b"\0"), [&b"a"[..], b"b c"]);
        assert_eq!(records(b"aXXYbXYc", b"XY"), [&b"aX"[..], b"b", b"c"]);
        assert_eq!(records(b"a\nb\n", b""), [b"a\nb\n"]);
        assert_eq!(records(b"", b"\n"), [b""; 0]);
        assert_eq!(records(b"\n", b"\n"), [b""]);
    }

    #[test]
    fn an_argument_without_end_is_an_error() {
        let endless = BufReader::new(std::io::repeat(b'x'));
        let mut records = Records::new(endless, b"\n");
        assert_eq!(records.next().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(records.next().is_none());
    }

    #[test]
    fn delimiters_are_written_with_escapes() {
        for (text, expected) in [
            (&b";"[..], &b";"[..]),
            (br"\n", b"\n"),
            (br"\0", b"\0"),
            (br"\x41b", b"Ab"),
            (br"\101", b"A"),
            (br"\0101", b"A"),
            (br"a\\", br"a\"),
            (b"", b""),
        ] {
            assert_eq!(parse_delimiter(text).unwrap(), expected);
        }
        assert!(parse_delimiter(b"a\\").is_err());
        assert!(parse_delimiter(br"\xz").is_err());
    }
}
