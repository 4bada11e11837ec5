//! What a worker prints, line by line.

use std::os::fd::AsFd;
use std::time::Duration;

use pp_protocol::limits::{OUTPUT_LINE_BYTES, cut};
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// What is read at once.
const READ_BYTES: usize = 8 * 1024;
/// After so much, a worker's output is left in its pipe for a while: what floods is slowed down, not the node.
const BURST_BYTES: usize = 64 * 1024;
/// What a line costs beyond its bytes.
const LINE_COST_BYTES: usize = 64;
/// How long that while is.
const PAUSE: Duration = Duration::from_millis(5);
/// Room for the words that say that a line was cut.
const MARK_BYTES: usize = 80;

/// One stream of a worker, cut into lines. A line ends with a line feed, or with a carriage return: what shows how far
/// something is gets seen when it is written.
#[derive(Debug)]
pub(super) struct OutputReader<R> {
    /// Missing once it has ended.
    pipe: Option<R>,
    buffer: Box<[u8]>,
    /// The line that has not ended yet.
    line: Line,
    /// Whether a line just ended with a carriage return, so that a line feed next is part of its end.
    after_return: bool,
    /// What was read since the last pause.
    burst: usize,
    paused_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Line {
    /// As much of it as will be forwarded.
    kept: Vec<u8>,
    /// How long it is.
    length: usize,
}

impl<R> OutputReader<R> {
    pub(super) fn new(pipe: Option<R>) -> Self {
        Self {
            pipe,
            buffer: vec![0; READ_BYTES].into(),
            line: Line::default(),
            after_return: false,
            burst: 0,
            paused_until: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// The last line, if it has no end.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.line.end_unless_empty()
    }

    fn take(&mut self, count: usize, lines: &mut Vec<String>) {
        let lines_before = lines.len();
        for part in self.buffer[..count].split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let was_after_return = std::mem::take(&mut self.after_return);
            match part {
                [b'\n'] if was_after_return => {}
                [text @ .., b'\n'] => {
                    self.line.extend(text);
                    lines.push(self.line.end());
                }
                [text @ .., b'\r'] => {
                    self.line.extend(text);
                    let line = self.line.end_unless_empty();
                    self.after_return = line.is_some();
                    lines.extend(line);
                }
                text => self.line.extend(text),
            }
        }
        self.burst += count + (lines.len() - lines_before) * LINE_COST_BYTES;
        if self.burst >= BURST_BYTES {
            self.burst = 0;
            self.paused_until = Some(Instant::now() + PAUSE);
        }
    }
}

impl<R: AsyncRead + Unpin> OutputReader<R> {
    /// Waits for output and yields the lines that ended with it. Never returns once the stream has ended. Nothing is
    /// lost if the future is dropped.
    pub(super) async fn read(&mut self) -> Vec<String> {
        if let Some(time) = self.paused_until {
            tokio::time::sleep_until(time).await;
            self.paused_until = None;
        }
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        match pipe.read(&mut self.buffer).await {
            Ok(count) if count > 0 => {
                let mut lines = Vec::new();
                self.take(count, &mut lines);
                lines
            }
            // A pipe that cannot be read any more has nothing more to say.
            _ => {
                self.pipe = None;
                self.rest().into_iter().collect()
            }
        }
    }
}

impl<R: AsFd> OutputReader<R> {
    /// The lines of what is in the pipe now, pause or not, and no more than that, however fast it is filled again.
    pub(super) fn read_what_is_there(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(pipe) = &self.pipe else { return lines };
        let mut left = usize::try_from(ioctl_fionread(pipe).unwrap_or(0)).unwrap_or(0);
        while let Some(pipe) = self.pipe.as_ref().filter(|_| left > 0) {
            let most = left.min(self.buffer.len());
            match rustix::io::read(pipe, &mut self.buffer[..most]) {
                Ok(count @ 1..) => {
                    left -= count;
                    self.take(count, &mut lines);
                }
                // Somebody else has read it. That it has ended is found out elsewhere.
                Ok(0) | Err(_) => break,
            }
        }
        lines
    }
}

impl Line {
    fn extend(&mut self, text: &[u8]) {
        // One byte more than is forwarded tells that it is too long.
        let room = (OUTPUT_LINE_BYTES + 1).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&text[..text.len().min(room)]);
        self.length += text.len();
    }

    fn end_unless_empty(&mut self) -> Option<String> {
        (self.length > 0).then(|| self.end())
    }

    /// The text of the line, of which nothing is left here.
    fn end(&mut self) -> String {
        let length = std::mem::take(&mut self.length);
        let text = String::from_utf8_lossy(&self.kept);
        // Replacing what is not valid makes text longer.
        let text = if text.len() <= OUTPUT_LINE_BYTES {
            text.into_owned()
        } else {
            let shown = cut(&text, OUTPUT_LINE_BYTES - MARK_BYTES);
            format!("{shown} ... (the line was cut here, of {length} bytes)")
        };
        self.kept.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn lines_of(output: &[u8]) -> Vec<String> {
        let mut reader = OutputReader::new(Some(output));
        let mut lines = Vec::new();
        while !reader.has_ended() {
            lines.extend(reader.read().await);
        }
        lines
    }

    #[tokio::test]
    async fn output_is_cut_into_lines_and_the_last_one_needs_no_end() {
        assert_eq!(lines_of(b"one\n\ntwo\r\n\r\nthree").await, ["one", "", "two", "", "three"]);
        assert!(lines_of(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_carriage_return_ends_a_line_too_wherever_it_is_torn() {
        assert_eq!(lines_of(b"1%\r2%\r\r3%\r\nend\n").await, ["1%", "2%", "3%", "end"]);
        assert_eq!(lines_of(b"\r1%\r2%").await, ["1%", "2%"]);
        let mut reader = OutputReader::new(None::<&[u8]>);
        let mut lines = Vec::new();
        for byte in *b"a\r\nb\r\n\n" {
            reader.buffer[0] = byte;
            reader.take(1, &mut lines);
        }
        assert_eq!(lines, ["a", "b", ""]);
    }

    #[tokio::test]
    async fn a_line_too_long_is_cut_and_says_so_and_the_next_one_is_whole() {
        let lines = lines_of(&[&vec![b'x'; 3 * OUTPUT_LINE_BYTES][..], b"\nnext\n"].concat()).await;
        assert!(lines[0].len() <= OUTPUT_LINE_BYTES && lines[0].ends_with("of 24576 bytes)"), "{}", lines[0]);
        assert_eq!(lines[1..], ["next"]);
        let just_fits = "y".repeat(OUTPUT_LINE_BYTES);
        assert_eq!(lines_of(just_fits.as_bytes()).await, [just_fits]);
    }

    #[tokio::test]
    async fn what_is_not_text_is_replaced() {
        assert_eq!(lines_of(b"a\xffb\n").await, ["a\u{fffd}b"]);
        let cut = lines_of(&[&[0xff; OUTPUT_LINE_BYTES][..], b"\n"].concat()).await;
        assert!(cut[0].len() <= OUTPUT_LINE_BYTES);
    }

    #[tokio::test]
    async fn what_is_there_is_read_at_once_although_it_is_more_than_is_read_in_a_row() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut reader = OutputReader::new(Some(reader));
        for _ in 0..600 {
            writer.write_all(&[b'z'; 99]).unwrap();
            writer.write_all(b"\n").unwrap();
        }
        writer.write_all(b"no end").unwrap();
        assert_eq!(reader.read_what_is_there().len(), 600);
        assert_eq!(reader.rest().as_deref(), Some("no end"));
        assert!(reader.read_what_is_there().is_empty(), "an empty pipe is not waited for");
    }
}
