//! The terminal: taken, drawn on, given back, however this process ends.

use std::io::{self, Stdout, stdout};
use std::panic;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};

use super::draw::{Colours, draw};
use super::view::View;

/// The terminal, which is given back when this is dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    colours: Colours,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take(colours: Colours) -> io::Result<Self> {
        // What a panic says would be lost with the screen that it is written on.
        let say = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            leave();
            say(about);
        }));
        enter()?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| leave())?;
        Ok(Self { terminal, colours })
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, view: &View) -> io::Result<()> {
        let colours = self.colours;
        self.terminal.draw(|frame| draw(view, colours, frame.area(), frame.buffer_mut())).map(drop)
    }

    /// Whatever is on the terminal is drawn anew next time.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        // Not `clear`, which asks the terminal for its cursor: the answer would be read by whoever reads keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back and stops this process, until it is told to go on.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        leave();
        kill_process(getpid(), Signal::STOP)?;
        self.resume()
    }

    /// Takes the terminal again, which others had meanwhile.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        enter()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide).inspect_err(|_| leave())
}

/// Nothing can be done where it fails: the terminal is gone.
fn leave() {
    let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}
