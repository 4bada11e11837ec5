//! `ppctl top`: the cluster at work, drawn anew as it goes on.
//!
//! What is shown is a [`View`], which neither knows a terminal nor a clock; [`draw`] says where it goes. The loop here
//! takes in keys, signals and what nodes tell, and draws at most ten times a second.

mod draw;
mod input;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use pp_dispatcher::{Dispatcher, Watch};
use pp_protocol::{Role, environment};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use self::draw::Colours;
use self::input::Input;
use self::screen::Screen;
use self::view::{View, Wish};
use crate::{Arguments, is_settled, look, print, remote, wait_for, warn};

/// Time between two frames of a node.
const FRAMES_EVERY: Duration = Duration::from_millis(500);
/// Least time between two drawings.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// Time after which all is drawn again although nothing was told: times go on.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// Inputs that wait; whoever tells more waits, and of frames the newest is kept.
const INPUTS: usize = 256;
/// Time to look for nodes, and for each to tell what happens there, where one frame is printed.
const ONCE_TIME: Duration = Duration::from_secs(4);
const ONCE_LEAST: Duration = Duration::from_millis(1_500);
/// Exit code where there is no terminal.
const NO_TERMINAL: u8 = 2;
/// Size of what is printed once, unless the environment says another.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Options of `ppctl top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Also look at this node: HOST, HOST:PORT or dns:NAME:PORT; may be repeated
    #[arg(long = "node", value_name = "ADDRESS")]
    nodes: Vec<String>,
    /// Print one frame as plain text (80 columns, or as many as COLUMNS says), and end
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments, options: &Options) -> anyhow::Result<ExitCode> {
    let has_terminal = stdout().is_terminal() && stdin().is_terminal();
    if !options.once && !has_terminal {
        warn("top needs a terminal; `ppctl top --once` prints one frame as text, `ppctl nodes --json` data");
        return Ok(ExitCode::from(NO_TERMINAL));
    }
    let dispatcher = look(arguments, &options.nodes, Role::Operator).start()?;
    let watch = dispatcher.watch(FRAMES_EVERY)?;
    if options.once {
        return once(&dispatcher, &watch);
    }
    Top::new(dispatcher).run(watch)
}

/// Prints one frame.
fn once(dispatcher: &Dispatcher, watch: &Watch) -> anyhow::Result<ExitCode> {
    let (started, mut view) = (Instant::now(), View::default());
    wait_for(ONCE_TIME, || {
        let nodes = remote(dispatcher);
        let are_settled = nodes.iter().all(is_settled);
        view.stand(started.elapsed(), nodes.into_iter().map(Into::into).collect());
        while let Some(frame) = watch.try_next() {
            view.take(started.elapsed(), frame);
        }
        // A rate takes two frames.
        (are_settled && view.is_complete() && started.elapsed() > ONCE_LEAST).then_some(())
    });
    let side = |name, usual| {
        environment::text(name).ok().flatten().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (width, height) = (side("COLUMNS", USUAL_SIZE.0), side("LINES", USUAL_SIZE.1));
    print(&text_of(&view, width.clamp(1, 1_000), height.clamp(1, 1_000)))?;
    Ok(ExitCode::SUCCESS)
}

/// What is drawn, as text.
fn text_of(view: &View, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw::draw(view, Colours(false), area, &mut buffer);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| format!("{}\n", line(y).trim_end())).collect()
}

struct Top {
    dispatcher: Dispatcher,
    view: View,
    started: Instant,
    inputs: Receiver<Input>,
    tell: SyncSender<Input>,
}

/// What the loop is to do.
enum Next {
    GoOn,
    End(ExitCode),
}

impl Top {
    fn new(dispatcher: Dispatcher) -> Self {
        let (tell, inputs) = sync_channel(INPUTS);
        Self { dispatcher, view: View::default(), started: Instant::now(), inputs, tell }
    }

    fn run(mut self, watch: Watch) -> anyhow::Result<ExitCode> {
        input::hear_signals(&self.tell)?;
        input::follow(watch, self.tell.clone())?;
        let colours = Colours(environment::text("NO_COLOR").ok().flatten().is_none());
        let mut screen = Screen::take(colours)?;
        input::read_keys(self.tell.clone())?;
        let (mut drawn, mut looked) = (None::<Instant>, None::<Instant>);
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOKED_EVERY) {
                self.look();
                looked = Some(Instant::now());
            }
            if drawn.is_none_or(|at| at.elapsed() >= DRAWN_EVERY) {
                screen.draw(&self.view)?;
                drawn = Some(Instant::now());
            }
            let input = match self.inputs.recv_timeout(DRAWN_EVERY) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
            };
            let is_key = matches!(input, Input::Key(_));
            match self.take(input, &mut screen)? {
                Next::End(code) => return Ok(code),
                Next::GoOn if is_key => drawn = None,
                Next::GoOn => {}
            }
        }
    }

    /// Looks how this machine stands with nodes.
    fn look(&mut self) {
        let nodes = remote(&self.dispatcher).into_iter().map(Into::into).collect();
        self.view.stand(self.started.elapsed(), nodes);
    }

    fn take(&mut self, input: Input, screen: &mut Screen) -> anyhow::Result<Next> {
        match input {
            Input::Frame(frame) => self.view.take(self.started.elapsed(), *frame),
            Input::Told(text) => self.view.message = text,
            Input::Redraw => screen.forget()?,
            Input::Stop => screen.stop()?,
            Input::Resumed => screen.resume()?,
            Input::End(signal) => {
                return Ok(Next::End(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))));
            }
            Input::TerminalGone => return Ok(Next::End(ExitCode::FAILURE)),
            Input::Key(key) => match self.view.key(key) {
                None => {}
                Some(Wish::Quit) => return Ok(Next::End(ExitCode::SUCCESS)),
                Some(Wish::Resize(node, slots)) => {
                    self.order(move |dispatcher| match dispatcher.resize(&node, slots) {
                        Ok(()) => format!("{node} has {slots} slots now"),
                        Err(error) => error.to_string(),
                    })
                }
                Some(Wish::Drain(node)) => self.order(move |dispatcher| match dispatcher.drain(&node) {
                    Ok(()) => format!("{node} finishes what runs, and ends"),
                    Err(error) => error.to_string(),
                }),
            },
        }
        Ok(Next::GoOn)
    }

    /// Gives an order, which may take its time, and tells what came of it.
    fn order(&mut self, give: impl FnOnce(&Dispatcher) -> String + Send + 'static) {
        let (dispatcher, tell) = (self.dispatcher.clone(), self.tell.clone());
        self.view.message = "the order is on its way".into();
        let given = thread::Builder::new().name("order".into()).spawn(move || {
            // Nobody is told who has gone.
            let _ = tell.send(Input::Told(give(&dispatcher)));
        });
        if let Err(error) = given {
            self.view.message = format!("cannot give the order: {error}");
        }
    }
}
