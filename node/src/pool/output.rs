//! What a worker prints, line by line.

use std::time::Duration;

use pp_protocol::limits::{OUTPUT_LINE_BYTES, cut};
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

/// One stream of a worker, cut into lines.
#[derive(Debug)]
pub(super) struct OutputReader<R> {
    /// Missing once it has ended.
    pipe: Option<R>,
    buffer: Box<[u8]>,
    /// The line that has not ended yet, as far as it will be forwarded.
    line: Vec<u8>,
    /// Whether that line has begun, which an empty one may have too.
    is_within_line: bool,
    /// What was read since the last pause.
    burst: usize,
    paused_until: Option<Instant>,
}

impl<R: AsyncRead + Unpin> OutputReader<R> {
    pub(super) fn new(pipe: Option<R>) -> Self {
        Self {
            pipe,
            buffer: vec![0; READ_BYTES].into(),
            line: Vec::new(),
            is_within_line: false,
            burst: 0,
            paused_until: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// Waits for output and yields the lines that ended with it. Never returns once the stream has ended. Nothing is
    /// lost if the future is dropped.
    pub(super) async fn read(&mut self) -> Vec<String> {
        if let Some(time) = self.paused_until {
            tokio::time::sleep_until(time).await;
            self.paused_until = None;
        }
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        match pipe.read(&mut self.buffer).await {
            Ok(count) if count > 0 => self.take(count),
            // A pipe that cannot be read any more has nothing more to say.
            _ => {
                self.pipe = None;
                self.rest().into_iter().collect()
            }
        }
    }

    /// The last line, if it has no end.
    pub(super) fn rest(&mut self) -> Option<String> {
        std::mem::take(&mut self.is_within_line).then(|| text_of(&std::mem::take(&mut self.line)))
    }

    fn take(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for part in self.buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            // One byte more than is forwarded may be part of a line end.
            let room = (OUTPUT_LINE_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.is_within_line = !ends;
            if ends {
                lines.push(text_of(&self.line));
                self.line.clear();
            }
        }
        self.burst += count + lines.len() * LINE_COST_BYTES;
        if self.burst >= BURST_BYTES {
            self.burst = 0;
            self.paused_until = Some(Instant::now() + PAUSE);
        }
        lines
    }
}

fn text_of(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    // Replacing what is not valid makes text longer, so it is cut after that.
    cut(&text, OUTPUT_LINE_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
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
        assert_eq!(lines_of(b"one\n\ntwo\r\nthree").await, ["one", "", "two", "three"]);
        assert!(lines_of(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_too_long_is_cut_and_the_next_one_is_whole() {
        let lines = lines_of(&[&vec![b'x'; 3 * OUTPUT_LINE_BYTES][..], b"\nnext\n"].concat()).await;
        assert_eq!((lines[0].len(), lines[1].as_str()), (OUTPUT_LINE_BYTES, "next"));
    }

    #[tokio::test]
    async fn what_is_not_text_is_replaced() {
        assert_eq!(lines_of(b"a\xffb\n").await, ["a\u{fffd}b"]);
        let cut = lines_of(&[&[0xff; OUTPUT_LINE_BYTES][..], b"\n"].concat()).await;
        assert!(cut[0].len() <= OUTPUT_LINE_BYTES);
    }
}
