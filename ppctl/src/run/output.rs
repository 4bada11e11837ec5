//! Output of a job that comes while it runs: shown at once, or kept until its turn.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Context;
use pp_dispatcher::{Ahead, OutputPiece, OutputStream};
use pp_run::lines::{LineBuffer, Tagging};

use super::screen::Screen;
use super::spool::Spool;

/// Output that has come and has not been dealt with. What is more waits on its way here.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// How output of several jobs goes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// That of each job whole, when it has ended.
    Whole,
    /// As it comes, line by line.
    Lines,
    /// As it comes.
    None,
}

impl Grouping {
    /// What of its output a job is to send ahead.
    pub(super) fn ahead(self) -> Ahead {
        match self {
            Self::Whole => Ahead::Large,
            Self::Lines => Ahead::Lines,
            Self::None => Ahead::AtOnce,
        }
    }
}

/// Whose output something is.
#[derive(Debug)]
pub(super) struct Source {
    /// Position in which the job was submitted.
    pub(super) position: u64,
    pub(super) sequence: u64,
    pub(super) tag: Option<Vec<u8>>,
    /// How often it has been tried.
    pub(super) tries: u32,
}

/// What a job has put out so far.
#[derive(Debug)]
pub(super) struct JobOutput {
    /// The try that this is of, and in it the attempt.
    run: (u32, u32),
    stdout: StreamOutput,
    stderr: StreamOutput,
    misses_a_file: bool,
}

/// What programs say where a file is not there.
const NO_SUCH_FILE: &[u8] = b"No such file or directory";

/// Whether this is said to miss a file, as far as can be seen.
pub(super) fn misses_a_file(errors: &[u8]) -> bool {
    errors.windows(NO_SUCH_FILE.len()).any(|part| part == NO_SUCH_FILE)
}

#[derive(Debug)]
struct StreamOutput {
    kept: Spool,
    /// Bytes that came.
    received: u64,
    /// The end of what was shown, if only whole lines are.
    lines: Option<LineBuffer>,
    tagging: Option<Tagging>,
    has_shown: bool,
}

impl JobOutput {
    pub(super) fn new(tag: Option<&Vec<u8>>, grouping: Grouping) -> Self {
        let stream = || StreamOutput {
            kept: Spool::default(),
            received: 0,
            lines: (grouping == Grouping::Lines).then(LineBuffer::default),
            tagging: tag.map(|tag| Tagging::new(tag.clone())),
            has_shown: false,
        };
        Self { run: (0, 0), stdout: stream(), stderr: stream(), misses_a_file: false }
    }

    /// Output of this attempt of this try comes. What came of an earlier one is forgotten; tells whether some was shown.
    pub(super) fn begin(&mut self, tries: u32, attempt: u32) -> bool {
        if (tries, attempt) <= self.run {
            return false;
        }
        self.run = (tries, attempt);
        let had_shown = self.stdout.has_shown || self.stderr.has_shown;
        self.stdout.forget();
        self.stderr.forget();
        had_shown
    }

    /// The job has ended, and sent so many bytes ahead of its result in the attempt that ended it. Tells whether what was shown
    /// is of another one.
    pub(super) fn end(&mut self, ahead_bytes: Option<u64>) -> bool {
        let is_of_another =
            ahead_bytes.is_some_and(|bytes| bytes != self.stdout.received + self.stderr.received);
        is_of_another && self.begin(u32::MAX, u32::MAX)
    }

    /// Whether it said that a file is not there.
    pub(super) fn misses_a_file(&self) -> bool {
        self.misses_a_file
    }

    /// Bytes of standard output that came.
    pub(super) fn received(&self) -> u64 {
        self.stdout.received
    }

    /// Bytes of standard error that came.
    pub(super) fn received_errors(&self) -> u64 {
        self.stderr.received
    }

    /// What is kept takes this, as far as that is limited.
    pub(super) fn weight(&self) -> usize {
        self.stdout.kept.weight() + self.stderr.kept.weight()
    }

    /// Keeps a piece until it can be shown.
    pub(super) fn keep(&mut self, piece: &OutputPiece) -> anyhow::Result<()> {
        self.look_at(piece);
        self.of(piece.stream).kept.push(&piece.bytes).context(NO_ROOM)
    }

    /// Shows a piece. Nothing is kept then: that was shown when the job had its turn.
    pub(super) fn show(&mut self, piece: &OutputPiece, screen: &mut Screen) -> anyhow::Result<()> {
        self.look_at(piece);
        self.of(piece.stream).show(&piece.bytes, piece.stream, screen)?;
        Ok(())
    }

    fn look_at(&mut self, piece: &OutputPiece) {
        self.of(piece.stream).received += piece.bytes.len() as u64;
        self.misses_a_file |= piece.stream == OutputStream::Stderr && misses_a_file(&piece.bytes);
    }

    /// Shows what is kept: its turn has come.
    pub(super) fn show_kept(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        for stream in BOTH {
            self.of(stream).show_kept(stream, screen)?;
        }
        Ok(())
    }

    /// Shows what there is still, and the rest, which came with the job's result.
    pub(super) fn finish(&mut self, rest: [&[u8]; 2], screen: &mut Screen) -> anyhow::Result<()> {
        for (stream, rest) in BOTH.into_iter().zip(rest) {
            let output = self.of(stream);
            output.show_kept(stream, screen)?;
            output.show(rest, stream, screen)?;
            output.finish(stream, screen)?;
        }
        Ok(())
    }

    /// Writes what is kept of a stream, and the rest of it.
    pub(super) fn write(
        &mut self,
        stream: OutputStream,
        rest: &[u8],
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        self.of(stream).kept.take(|piece| out.write_all(piece))??;
        out.write_all(rest)
    }

    fn of(&mut self, stream: OutputStream) -> &mut StreamOutput {
        match stream {
            OutputStream::Stderr => &mut self.stderr,
            _ => &mut self.stdout,
        }
    }
}

const BOTH: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// What to say where output cannot be kept.
const NO_ROOM: &str = "cannot keep the output of a job in a temporary file; make room, or set TMPDIR to a directory that has some";

impl StreamOutput {
    fn forget(&mut self) {
        self.kept = Spool::default();
        self.received = 0;
        self.has_shown = false;
        if let Some(lines) = &mut self.lines {
            *lines = LineBuffer::default();
        }
    }

    fn show_kept(&mut self, stream: OutputStream, screen: &mut Screen) -> anyhow::Result<()> {
        let mut kept = std::mem::take(&mut self.kept);
        Ok(kept.take(|piece| self.show(piece, stream, screen)).context(NO_ROOM)??)
    }

    fn show(&mut self, bytes: &[u8], stream: OutputStream, screen: &mut Screen) -> io::Result<()> {
        match &mut self.lines {
            None => self.print(bytes, stream, screen),
            Some(lines) => {
                let mut whole = Vec::new();
                lines.push(bytes, &mut whole);
                self.print(&whole, stream, screen)
            }
        }
    }

    /// Shows a last line that is not whole.
    fn finish(&mut self, stream: OutputStream, screen: &mut Screen) -> io::Result<()> {
        let mut rest = Vec::new();
        if let Some(lines) = &mut self.lines {
            lines.finish(&mut rest);
        }
        self.print(&rest, stream, screen)
    }

    fn print(&mut self, bytes: &[u8], stream: OutputStream, screen: &mut Screen) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.has_shown = true;
        let mut tagged = Vec::new();
        let bytes = match &mut self.tagging {
            None => bytes,
            Some(tagging) => {
                tagging.push(bytes, &mut tagged);
                &tagged
            }
        };
        match stream {
            OutputStream::Stderr => {
                screen.error(|out| out.write_all(bytes));
                Ok(())
            }
            _ => screen.out(|out| out.write_all(bytes)),
        }
    }
}

/// Room for output on its way to the loop that shows it: whoever brings more waits, and in the end the job that writes it.
#[derive(Debug, Default)]
pub(super) struct Room {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    is_closed: bool,
}

impl Room {
    /// Waits until there is some, and takes it.
    pub(super) fn take(&self, bytes: usize) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |waiting: &mut Waiting| waiting.bytes > WAITING_BYTES && !waiting.is_closed;
        let waiting = self.changed.wait_while(waiting, is_full);
        waiting.unwrap_or_else(PoisonError::into_inner).bytes += bytes;
    }

    /// So much of it is free again.
    pub(super) fn give_back(&self, bytes: usize) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).bytes -= bytes;
        self.changed.notify_all();
    }

    /// The run has ended: nobody waits any more.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of standard output.
    fn kept(output: &mut JobOutput) -> Vec<u8> {
        let mut written = Vec::new();
        output.write(OutputStream::Stdout, b"rest", &mut written).expect("it can be read");
        written
    }

    #[test]
    fn what_came_of_an_attempt_that_is_not_the_last_is_forgotten() {
        let keep = |output: &mut JobOutput, bytes: &[u8]| {
            let stream = &mut output.stdout;
            stream.received += bytes.len() as u64;
            stream.kept.push(bytes).expect("there is room");
        };
        let mut output = JobOutput::new(None, Grouping::Whole);
        assert!(!output.begin(1, 1));
        keep(&mut output, b"one ");
        assert!(!output.begin(1, 1), "more of the same");
        keep(&mut output, b"more ");
        assert!(!output.begin(1, 2), "nothing was shown");
        keep(&mut output, b"two ");
        assert!(!output.begin(1, 1), "it is older");
        assert_eq!((output.received(), output.end(Some(4))), (4, false));
        assert_eq!(kept(&mut output), b"two rest");
        // The attempt that ended it sent nothing ahead.
        keep(&mut output, b"three ");
        output.stdout.has_shown = true;
        assert!(output.end(Some(0)));
        assert_eq!((output.received(), kept(&mut output)), (0, b"rest".to_vec()));
        // Of a job that was lost, the last is what there is.
        keep(&mut output, b"four ");
        assert!(!output.end(None));
        assert_eq!(kept(&mut output), b"four rest");
    }

    #[test]
    fn whoever_waits_for_room_goes_on_when_there_is_some_and_when_the_run_ends() {
        for give_back in [true, false] {
            let room = Room::default();
            room.take(WAITING_BYTES + 1);
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| room.take(1));
                if give_back {
                    room.give_back(WAITING_BYTES)
                } else {
                    room.close()
                }
                waits.join().expect("it goes on");
            });
        }
    }
}
