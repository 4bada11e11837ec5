//! The last line of a terminal, where a program shows how far it has come, below what is printed.
//!
//! There is one such line in a process. What the library prints goes above it, through [`above`]. What the program itself prints to
//! the same terminal goes where the cursor is, at the start of that line, and takes its place until it is drawn anew.

use std::io::{self, IsTerminal, StderrLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::termios::tcgetwinsize;

/// How wide a terminal is that does not say.
const USUAL_COLUMNS: usize = 80;
/// Erases what is behind and below the cursor.
const ERASE: &str = "\x1b[J";

/// What is drawn, if anything is.
static DRAWN: Mutex<Option<String>> = Mutex::new(None);

/// Whether somebody has the line.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The line, which one has at a time.
#[derive(Debug)]
pub(crate) struct Bottom(());

impl Bottom {
    /// Takes it, if nobody else has it.
    pub(crate) fn take() -> Option<Self> {
        let taken = IS_TAKEN.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        taken.ok().map(|_| Self(()))
    }

    /// Draws it.
    pub(crate) fn draw(&self, text: String) {
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut io::stderr().lock(), &text);
        *drawn = Some(text);
    }
}

impl Drop for Bottom {
    /// Whoever has it next draws over it.
    fn drop(&mut self) {
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Whether standard error is a terminal on which a line can be drawn over.
pub(crate) fn is_there() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// How wide the line may be now.
pub(crate) fn columns() -> usize {
    let told = tcgetwinsize(io::stderr()).ok().map(|size| size.ws_col.into()).filter(|columns| *columns > 0);
    // A full line would wrap on some terminals.
    told.unwrap_or(USUAL_COLUMNS).saturating_sub(1)
}

/// Writes whole lines to standard error, above the line at the bottom.
///
/// # Errors
/// Those of writing.
pub(crate) fn above<T>(write: impl FnOnce(&mut StderrLock<'_>) -> io::Result<T>) -> io::Result<T> {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stderr = io::stderr().lock();
    let Some(text) = &*drawn else { return write(&mut stderr) };
    write!(stderr, "\r{ERASE}")?;
    let written = write(&mut stderr)?;
    put(&mut stderr, text);
    Ok(written)
}

/// Writes the line, and puts the cursor at its start.
fn put(stderr: &mut StderrLock<'_>, text: &str) {
    // There is nobody to tell if it is closed.
    let _ = write!(stderr, "\r{text}{ERASE}\r").and_then(|()| stderr.flush());
}
