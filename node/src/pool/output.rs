//! Standard output and standard error of a worker, cut into lines.
//!
//! Captured output is limited in three places: here, the length of a line (`OUTPUT_LINE_BYTES`) and the pace at which one
//! worker is read; in the node's core ([`core/output.rs`](crate::core)), what is under way to a dispatcher and what is kept
//! for it (`OUTPUT_BYTES_SENT`, `OUTPUT_BYTES_KEPT`); in the dispatcher's printer, what waits for the terminal (`WAITING_BYTES`
//! in `dispatcher/src/client/printer.rs`). The other numbers are in `pp_protocol::limits`.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pp_protocol::Stream;
use pp_protocol::limits::{OUTPUT_LINE_BYTES, cut};
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::page::Page;
use crate::worker::printing::{MARK_BYTES, marked};

/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;
/// After so much, a worker's output is left in its pipe for a while: what floods is slowed down, not the node.
const BURST_BYTES: usize = 64 * 1024;
/// Bytes a line counts for beyond its own.
const LINE_COST_BYTES: usize = 64;
/// Length of that while.
const PAUSE: Duration = Duration::from_millis(5);
/// Room for the words that say that a line was cut.
const CUT_BYTES: usize = 80;

/// Lines of a stream, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// Lines of the jobs that had ended by then: each time the last of these, and the lines.
    pub(super) of_ended: Vec<(u32, Vec<String>)>,
    /// Lines after those.
    pub(super) later: Vec<String>,
}

/// One stream of a worker, cut into lines. A line ends with a line feed, or with a carriage return: what shows how far
/// something is gets seen when it is written. And it ends where the worker has put a [mark](crate::worker::printing).
#[derive(Debug)]
pub(super) struct OutputReader<R> {
    stream: Stream,
    /// Page on which the worker is told that something has been read and not told.
    page: Arc<Page>,
    /// Missing once it has ended.
    pipe: Option<R>,
    buffer: Box<[u8]>,
    /// The line that has not ended yet.
    line: Line,
    /// Whether a line just ended with a carriage return, so that a line feed next is part of its end.
    after_return: bool,
    /// Bytes read since the last pause.
    burst: usize,
    paused_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Line {
    /// As much of it as will be forwarded.
    kept: Vec<u8>,
    /// Its length.
    length: usize,
    /// The last bytes of it, if there is more of it than is kept: a mark may be there.
    end: Vec<u8>,
}

impl<R> OutputReader<R> {
    pub(super) fn new(stream: Stream, pipe: Option<R>, page: Arc<Page>) -> Self {
        Self {
            stream,
            page,
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

    fn take(&mut self, count: usize, told: &mut Lines) {
        let mut lines = 0;
        for part in self.buffer[..count].split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let was_after_return = std::mem::take(&mut self.after_return);
            match part {
                [b'\n'] if was_after_return => {}
                [text @ .., b'\n'] => {
                    self.line.extend(text);
                    lines += 1;
                    match self.line.take_mark() {
                        None => told.later.push(self.line.end()),
                        Some(number) => {
                            told.later.extend(self.line.end_unless_empty());
                            told.of_ended.push((number, std::mem::take(&mut told.later)));
                        }
                    }
                }
                [text @ .., b'\r'] => {
                    self.line.extend(text);
                    let line = self.line.end_unless_empty();
                    self.after_return = line.is_some();
                    lines += usize::from(line.is_some());
                    told.later.extend(line);
                }
                text => self.line.extend(text),
            }
        }
        self.page.set_untold(self.stream, self.line.length > 0);
        self.burst += count + lines * LINE_COST_BYTES;
        if self.burst >= BURST_BYTES {
            self.burst = 0;
            self.paused_until = Some(Instant::now() + PAUSE);
        }
    }
}

impl<R: AsyncRead + Unpin> OutputReader<R> {
    /// Waits for output and yields the lines that ended with it. Never returns once the stream has ended. Nothing is
    /// lost if the future is dropped.
    pub(super) async fn read(&mut self) -> Lines {
        if let Some(time) = self.paused_until {
            tokio::time::sleep_until(time).await;
            self.paused_until = None;
        }
        match poll_fn(|context| self.poll_read(context)).await {
            Ok(count) if count > 0 => {
                let mut lines = Lines::default();
                self.take(count, &mut lines);
                lines
            }
            // A pipe that cannot be read any more has nothing more to say.
            _ => {
                self.pipe = None;
                Lines { later: self.rest().into_iter().collect(), ..Lines::default() }
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Pending };
        let mut buffer = ReadBuf::new(&mut self.buffer);
        self.page.set_untold(self.stream, true);
        let polled = Pin::new(pipe).poll_read(context, &mut buffer);
        if polled.is_pending() {
            self.page.set_untold(self.stream, self.line.length > 0);
        }
        polled.map_ok(|()| buffer.filled().len())
    }
}

impl<R: AsFd> OutputReader<R> {
    /// The lines of what is in the pipe now, pause or not, and no more than that, however fast it is filled again.
    pub(super) fn read_what_is_there(&mut self) -> Lines {
        let mut lines = Lines::default();
        let Some(pipe) = &self.pipe else { return lines };
        let mut left = usize::try_from(ioctl_fionread(pipe).unwrap_or(0)).unwrap_or(0);
        self.page.set_untold(self.stream, left > 0 || self.line.length > 0);
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
        let (kept, dropped) = text.split_at(text.len().min(room));
        self.kept.extend_from_slice(kept);
        self.length += text.len();
        if !dropped.is_empty() {
            if self.end.is_empty() {
                self.end.extend_from_slice(last(&self.kept));
            }
            self.end.extend_from_slice(last(dropped));
            self.end.drain(..self.end.len().saturating_sub(MARK_BYTES));
        }
    }

    /// Takes the mark off that the line ends with, if it does, and yields whose it is.
    fn take_mark(&mut self) -> Option<u32> {
        let number = marked(if self.end.is_empty() { last(&self.kept) } else { &self.end })?;
        self.length -= MARK_BYTES;
        self.kept.truncate(self.length);
        Some(number)
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
            let shown = cut(&text, OUTPUT_LINE_BYTES - CUT_BYTES);
            format!("{shown} ... (the line was cut here, of {length} bytes)")
        };
        self.kept.clear();
        self.end.clear();
        text
    }
}

/// As many bytes of it as a mark has, from its end.
fn last(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(MARK_BYTES)..]
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn reader<R>(pipe: Option<R>) -> OutputReader<R> {
        OutputReader::new(Stream::Stdout, pipe, Page::in_memory())
    }

    async fn lines_of(output: &[u8]) -> Vec<String> {
        let mut reader = reader(Some(output));
        let mut lines = Vec::new();
        while !reader.has_ended() {
            lines.extend(reader.read().await.later);
        }
        lines
    }

    #[tokio::test]
    async fn a_mark_ends_what_a_job_printed_wherever_it_is_torn() {
        let long = "x".repeat(2 * OUTPUT_LINE_BYTES);
        let just_too_long = &long[..OUTPUT_LINE_BYTES - 3];
        for text in ["", "a", "a\nb", "a\nb\n", &long, just_too_long] {
            let output = [text.as_bytes(), b"\0pp:00000007\nnext"].concat();
            let whole = lines_of(text.as_bytes()).await;
            for torn_at in output.len().saturating_sub(25)..output.len() {
                let mut reader = reader(None::<&[u8]>);
                let mut told = Lines::default();
                for part in [&output[..torn_at], &output[torn_at..]] {
                    for piece in part.chunks(READ_BYTES) {
                        reader.buffer[..piece.len()].copy_from_slice(piece);
                        reader.take(piece.len(), &mut told);
                    }
                }
                assert_eq!(told, Lines { of_ended: vec![(7, whole.clone())], later: Vec::new() });
                assert!(reader.rest().as_deref() == Some("next") && reader.page.is_untold(Stream::Stdout));
            }
        }
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
        let mut reader = reader(None::<&[u8]>);
        let mut lines = Lines::default();
        for byte in *b"a\r\nb\r\n\n" {
            reader.buffer[0] = byte;
            reader.take(1, &mut lines);
        }
        assert_eq!(lines.later, ["a", "b", ""]);
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
        let mut reader = super::tests::reader(Some(reader));
        for _ in 0..600 {
            writer.write_all(&[b'z'; 99]).unwrap();
            writer.write_all(b"\n").unwrap();
        }
        writer.write_all(b"no end").unwrap();
        assert_eq!(reader.read_what_is_there().later.len(), 600);
        assert_eq!(reader.rest().as_deref(), Some("no end"));
        assert_eq!(reader.read_what_is_there(), Lines::default(), "an empty pipe is not waited for");
    }
}
