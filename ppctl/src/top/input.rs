//! What `ppctl top` is told: keys, signals, and what happens at nodes. Each is read by a thread of its own.

use std::sync::mpsc::SyncSender;
use std::thread;

use anyhow::Context;
use pp_dispatcher::{Watch, Watched};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::view::Key;

/// Something that `top` is told.
#[derive(Debug)]
pub(super) enum Input {
    Key(Key),
    /// The terminal has another size, or its content is not what it was.
    Redraw,
    /// Stop until told to go on.
    Stop,
    /// This process was stopped, and goes on.
    Resumed,
    /// End, because of this signal.
    End(i32),
    /// There is nothing to read keys from any more.
    TerminalGone,
    Frame(Box<Watched>),
    /// What came of an order.
    Told(String),
}

/// Reads keys until there is no terminal, or nobody who is told.
pub(super) fn read_keys(tell: SyncSender<Input>) -> anyhow::Result<()> {
    let read = move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) => match input_of(key) {
                    Some(input) => input,
                    None => continue,
                },
                Ok(Event::Resize(..)) => Input::Redraw,
                Ok(_) => continue,
                Err(_) => Input::TerminalGone,
            };
            let is_last = matches!(input, Input::TerminalGone);
            if tell.send(input).is_err() || is_last {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".into()).spawn(read).context("cannot read keys")?;
    Ok(())
}

fn input_of(key: KeyEvent) -> Option<Input> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if is_control => Input::End(Signal::INT.as_raw()),
        KeyCode::Char('z') if is_control => Input::Stop,
        KeyCode::Char('l') if is_control => Input::Redraw,
        KeyCode::Char(_) if is_control => return None,
        KeyCode::Char(character) => Input::Key(Key::Character(character)),
        KeyCode::Up => Input::Key(Key::Up),
        KeyCode::Down => Input::Key(Key::Down),
        KeyCode::Enter => Input::Key(Key::Enter),
        KeyCode::Esc => Input::Key(Key::Escape),
        KeyCode::Backspace => Input::Key(Key::Backspace),
        _ => return None,
    })
}

/// Passes on signals that end, stop and resume this process.
pub(super) fn hear_signals(tell: &SyncSender<Input>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    for kind in [Signal::TERM, Signal::HUP, Signal::INT, Signal::TSTP, Signal::CONT] {
        let number = kind.as_raw();
        let mut signals = runtime
            .block_on(async { signal(SignalKind::from_raw(number)) })
            .context("cannot hear signals")?;
        let tell = tell.clone();
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                let input = match Signal::from_named_raw(number) {
                    Some(Signal::TSTP) => Input::Stop,
                    Some(Signal::CONT) => Input::Resumed,
                    _ => Input::End(number),
                };
                // What waits already is dealt with in a moment; the loop looks at no more than one end.
                if tell.try_send(input).is_err() {
                    return;
                }
            }
        });
    }
    let wait = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new().name("signals".into()).spawn(wait).context("cannot hear signals")?;
    Ok(())
}

/// Passes on what nodes tell.
pub(super) fn follow(watch: Watch, tell: SyncSender<Input>) -> anyhow::Result<()> {
    let follow = move || {
        for frame in watch {
            if tell.send(Input::Frame(Box::new(frame))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("frames".into()).spawn(follow).context("cannot follow nodes")?;
    Ok(())
}
