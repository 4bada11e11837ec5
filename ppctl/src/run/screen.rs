//! What a run writes to standard output and standard error, and how far it has come, below that.
//!
//! On a terminal, a line at the bottom tells how far the run has come. It is taken away before anything else is written there
//! and drawn again behind it, never as wide as the terminal. Where output stops within a line, the line is ended a moment later,
//! on the terminal, so that nothing is drawn over it. Nothing of the terminal is changed that would have to be restored.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use pp_dispatcher::progress::{Form, Means, Progress};
use rustix::termios::tcgetwinsize;

/// Time between two changes of the line on a terminal.
const CHANGE_EVERY: Duration = Duration::from_millis(100);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How wide a terminal is that does not say.
const USUAL_COLUMNS: usize = 80;

/// Erases what is behind and below the cursor.
const ERASE: &str = "\x1b[J";
/// Standard output and standard error of a run.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) progress: Progress,
    means: Means,
    began: Instant,
    shows: Shows,
    /// Whether standard output, standard error are a terminal.
    is_terminal: [bool; 2],
    /// Whether the cursor of the terminal is at the start of a line.
    is_at_start: bool,
}

#[derive(Debug)]
enum Shows {
    Nothing,
    /// A line from time to time.
    Lines {
        next: Instant,
    },
    /// The line at the bottom.
    Bottom {
        form: Form,
        /// What it says, and is drawn anew after output.
        text: String,
        is_drawn: bool,
        next: Instant,
    },
}

impl Screen {
    /// Shows how far the run has come, in this form, if there is one.
    pub(super) fn new(form: Option<Form>) -> Self {
        let now = Instant::now();
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let is_terminal = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        let shows = match form {
            None => Shows::Nothing,
            Some(form) if is_terminal[1] && !is_dumb => {
                Shows::Bottom { form, text: String::new(), is_drawn: false, next: now }
            }
            Some(_) => Shows::Lines { next: now + LINE_EVERY },
        };
        Self {
            progress: Progress::default(),
            means: Means::default(),
            began: now,
            shows,
            is_terminal,
            is_at_start: true,
        }
    }

    /// Writes to standard output. An error says that it was that which could not be written.
    pub(super) fn out<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        self.write(io::stdout().lock(), self.is_terminal[0], write).map_err(not_written)
    }

    /// Writes to standard error. There is nobody to tell if that is closed.
    pub(super) fn error(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = self.write(io::stderr().lock(), self.is_terminal[1], write);
    }

    /// Tells people what they should know.
    pub(super) fn warn(&mut self, text: &str) {
        let start = if self.is_at_start || !self.is_terminal[1] { "" } else { "\n" };
        self.error(|out| writeln!(out, "{start}ppctl: {text}"));
    }

    /// A job has ended that ran for so long.
    pub(super) fn job_ended(&mut self, run_time: Duration, is_success: bool) {
        self.progress.ended(self.began.elapsed(), run_time, is_success);
    }

    /// Jobs run on these.
    pub(super) fn runs_on(&mut self, means: Means) {
        self.means = means;
    }

    /// Shows how far the run has come, if it is time to.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let line = |form, columns| self.progress.line(now - self.began, self.means, form, columns);
        match &mut self.shows {
            Shows::Lines { next } if *next <= now => {
                *next = now + LINE_EVERY;
                let line = line(Form::Text, usize::MAX);
                self.warn(&line);
            }
            Shows::Bottom { form, text, next, .. } if *next <= now => {
                *text = line(*form, columns().saturating_sub(1));
                *next = now + CHANGE_EVERY;
                self.draw();
            }
            _ => {}
        }
    }

    /// Takes the line away for good: the run has ended. Without a terminal, a last line says how far it has come.
    pub(super) fn close(&mut self) {
        self.erase();
        if let Shows::Lines { .. } = std::mem::replace(&mut self.shows, Shows::Nothing) {
            let line = self.progress.line(self.began.elapsed(), self.means, Form::Text, usize::MAX);
            self.warn(&line);
        }
    }

    fn write<T>(
        &mut self,
        mut stream: impl Write,
        is_terminal: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> io::Result<T> {
        if !is_terminal {
            let written = write(&mut stream)?;
            stream.flush()?;
            return Ok(written);
        }
        self.erase();
        let mut watched = Watched { stream, last: None };
        let written = write(&mut watched)?;
        watched.stream.flush()?;
        if let Some(last) = watched.last {
            self.is_at_start = last == b'\n';
        }
        drop(watched);
        // More of a line that is not ended may come at once.
        if self.is_at_start {
            self.draw();
        }
        Ok(written)
    }

    /// Draws the line as it is.
    fn draw(&mut self) {
        if let Shows::Bottom { text, is_drawn, .. } = &mut self.shows {
            let start = if self.is_at_start { "\r" } else { "\r\n" };
            (*is_drawn, self.is_at_start) = (true, true);
            control(&format!("{start}{text}{ERASE}\r"));
        }
    }

    fn erase(&mut self) {
        if let Shows::Bottom { is_drawn, .. } = &mut self.shows
            && std::mem::take(is_drawn)
        {
            control(&format!("\r{ERASE}"));
        }
    }
}

/// An error of standard output, which says so.
pub(super) fn not_written(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Tells the terminal to do something.
fn control(text: &str) {
    let mut terminal = io::stderr().lock();
    // There is nobody to tell if it is closed.
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// How wide the terminal is now.
fn columns() -> usize {
    tcgetwinsize(io::stderr()).ok().map_or(USUAL_COLUMNS, |size| match size.ws_col {
        0 => USUAL_COLUMNS,
        columns => columns.into(),
    })
}

/// A stream, and the last byte that went there.
struct Watched<W> {
    stream: W,
    last: Option<u8>,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.last = bytes[..written].last().copied().or(self.last);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
