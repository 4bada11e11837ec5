//! Jobs as lines of JSON (`--json`), for programs.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::finished::{End, Finished};

/// A job that has ended.
///
/// What it wrote is text, or base64 in the field of the other name where it is not UTF-8, so that nothing is lost.
#[derive(Debug, Serialize)]
struct Line<'a> {
    seq: u64,
    /// None for this machine.
    node: Option<&'a str>,
    /// Seconds since 1970, in UTC.
    started: f64,
    /// Seconds.
    runtime: f64,
    /// The exit code; -1 where it ran too long.
    exit: i32,
    /// The signal that ended it, or 0.
    signal: i32,
    command: String,
    #[serde(flatten)]
    stdout: Stdout<'a>,
    #[serde(flatten)]
    stderr: Stderr<'a>,
}

#[derive(Debug, Serialize)]
enum Stdout<'a> {
    #[serde(rename = "stdout")]
    Text(&'a str),
    #[serde(rename = "stdout_base64")]
    Base64(String),
}

#[derive(Debug, Serialize)]
enum Stderr<'a> {
    #[serde(rename = "stderr")]
    Text(&'a str),
    #[serde(rename = "stderr_base64")]
    Base64(String),
}

/// The line of a job, with its end.
pub(super) fn line(finished: &Finished) -> Vec<u8> {
    let Finished { sequence, command, end, .. } = finished;
    let End { node, started, run_time, exit, stdout, stderr, .. } = end;
    let line = Line {
        seq: *sequence,
        node: node.as_deref(),
        started: millis(started.duration_since(UNIX_EPOCH).unwrap_or_default()),
        runtime: millis(*run_time),
        exit: exit.code,
        signal: exit.signal,
        command: String::from_utf8_lossy(command).into_owned(),
        stdout: std::str::from_utf8(stdout).map_or_else(|_| Stdout::Base64(base64(stdout)), Stdout::Text),
        stderr: std::str::from_utf8(stderr).map_or_else(|_| Stderr::Base64(base64(stderr)), Stderr::Text),
    };
    // Texts and numbers are all there is in it: nothing can go wrong.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Seconds, to the thousandth.
fn millis(time: Duration) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

/// Base64 (RFC 4648), with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |number: usize| u32::from(three.get(number).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_padding = digit > three.len();
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if is_padding { '=' } else { char::from(DIGITS[value]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_has_them() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
