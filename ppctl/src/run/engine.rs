//! The loop that runs jobs: it takes them as they are composed, submits them, and takes their ends.

mod composing;
mod ending;
mod nodes;
mod sending;
mod submitting;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use pp_dispatcher::{CommandFiles, CommandOutput, Dispatcher, Events, JobError, Output, OutputPiece};
use pp_protocol::NodeId;
use pp_run::halt::{Tally, When};
use pp_run::times::{Runtimes, Timeout};
use pp_run::{ComposeError, Plan, Start};

use self::composing::compose;
use self::submitting::variables;
use super::ahead::Ahead;
use super::each_node::{EachNode, Gathering};
use super::files::{Files, FilesUnderWay};
use super::finished::Printer;
use super::interrupts::{self, Word};
use super::loader::Held;
use super::output::{Room, Source};
use super::share::{Growth, Share};
use super::slots::Slots;
use super::task::{self, Task};
use super::{Options, WRONG};
use crate::Arguments;

/// Jobs that are submitted ahead of free slots: this many, and as many as there are slots.
const AHEAD: usize = 64;
/// Time between two looks at how many slots there are.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Time beyond its limit after which a command is taken not to have been ended where it runs.
const BEYOND_LIMIT: Duration = Duration::from_secs(3);

/// What the loop is told.
enum Event {
    /// How many jobs there are, where that has to be known before the first, or is shown.
    Counted(u64),
    Composed(Result<Task, ComposeError>),
    /// There are no more arguments.
    AllComposed,
    /// Its files were read, or cannot be sent.
    Loaded(Running, Result<CommandFiles, String>),
    /// One that runs has written something.
    Output(Arc<Source>, OutputPiece),
    /// A base file was read for a node of this name, or cannot be sent there.
    BaseRead(String, NodeId, Result<(Bytes, Held), String>),
    /// It has it, or not.
    BaseSent(String, Result<(), String>),
    Ended(Running, Result<CommandOutput, JobError>),
    Told(Word),
}

/// A job that was submitted.
#[derive(Debug)]
pub(super) struct Running {
    task: Task,
    position: u64,
    pub(super) slot: usize,
    /// The node that it is for, if every job is for each.
    target: Option<usize>,
    tries: u32,
    /// Whether a shell is started for it, although that may not be needed.
    in_shell: bool,
    submitted: SystemTime,
    files: Option<FilesUnderWay>,
    /// How often a node lacked base files of it.
    lacks: u32,
}

struct Engine<'a> {
    options: &'a Options,
    dispatcher: Dispatcher,
    /// What happens to nodes and jobs.
    happenings: Events,
    printer: Printer,
    events: Sender<Event>,
    /// Room for output on its way here.
    room: Arc<Room>,
    /// Tells the thread that composes jobs to go on with one more.
    wanted: Sender<()>,
    environment: Vec<(String, OsString)>,
    files: Option<Files<Running>>,
    slots: Slots,
    /// The nodes, if every job is for each.
    each_node: Option<EachNode>,
    /// This machine, if it is to run as many jobs as possible.
    growth: Option<Growth>,
    ahead: Ahead,
    submitted: u64,
    tally: Tally,
    runtimes: Runtimes,
    total: Option<u64>,
    /// Whether no more jobs are asked for, and whether that is because there are none.
    asks_no_more: bool,
    were_all_composed: bool,
    /// Whether the command has the slot in it, and whether jobs are to know it at all.
    depends_on_slot: bool,
    uses_slots: bool,
    /// Jobs that may be under way.
    most: usize,
    looks_at: Instant,
    /// Addresses of nodes that are not used, of which that was said.
    told_of: BTreeSet<String>,
    /// Whether it was said what helps a job that misses a file.
    has_hinted: bool,
    /// Jobs that wait for their time (`--delay`), and when that is.
    delayed: VecDeque<Task>,
    next_start: Instant,
    began: Instant,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &Options,
    plan: Plan,
    share: Share,
    guard: Option<PipeReader>,
) -> anyhow::Result<ExitCode> {
    let printer = Printer::new(options, &plan, arguments.json)?;
    let delimiter = options.delimiter()?;
    let environment = variables(&options.env)?;
    let files = options.files.files(&plan, options.retry_failed)?;
    let tally = Tally::new(options.halt());
    let builder = Dispatcher::builder()
        .local_workers(share.local_workers)
        .only_built_in(true)
        .discover_by_default(true)
        .output(Output::EventsOnly);
    let builder = options.select_nodes(builder);
    let builder = match share.per_node {
        Some(jobs) => builder.jobs_per_node(jobs),
        None => builder,
    };
    let builder = match &arguments.secret_file {
        Some(path) => builder.secret_file(path),
        None => builder,
    };
    let gathering = options.each_node.then(|| builder.discovers()).transpose()?.map(Gathering::new);
    let dispatcher = builder.start()?;
    let (events, told) = channel();
    let (wanted, asked) = channel();
    let depends_on_slot = plan.depends_on_slot();
    let uses_slots = depends_on_slot || options.names_slots();
    let needs_total = tally.needs_total();
    let logged = printer.log.as_ref().filter(|_| options.retry_failed).map(|log| log.failed());
    let given = logged.or_else(|| Some(vec![(1, options.only_command()?)]));
    let counts = options.progress().is_some();
    compose(
        move |count| match given {
            None if counts => task::counted(task::tasks(&plan, &delimiter, needs_total)?, count),
            None => task::tasks(&plan, &delimiter, needs_total),
            Some(commands) => Ok(task::given(commands)),
        },
        asked,
        events.clone(),
    )?;
    let words = events.clone();
    // The loop is gone once the run has ended.
    interrupts::tell(guard, move |word| drop(words.send(Event::Told(word))))?;
    let mut engine = Engine {
        options,
        happenings: dispatcher.events(),
        dispatcher,
        printer,
        events,
        room: Arc::default(),
        wanted,
        environment,
        files,
        slots: Slots::default(),
        each_node: None,
        growth: share.grows.then(|| Growth::new(share.local_workers)),
        ahead: Ahead::expecting(options.block_bytes()),
        submitted: 0,
        tally,
        runtimes: Runtimes::default(),
        total: None,
        asks_no_more: false,
        were_all_composed: false,
        depends_on_slot,
        uses_slots,
        most: 1,
        looks_at: Instant::now(),
        told_of: BTreeSet::new(),
        has_hinted: false,
        delayed: VecDeque::new(),
        next_start: Instant::now(),
        began: Instant::now(),
    };
    let ended = engine.serve(gathering, share.local_workers > 0, &told);
    engine.room.close();
    engine.printer.screen.close();
    engine.dispatcher.shutdown();
    match ended {
        // Whoever reads the output has seen enough: there is nobody to be told.
        Err(error) if is_unread(&error) => Ok(ExitCode::from(WRONG)),
        ended => {
            engine.sum_up();
            ended
        }
    }
}

fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl Engine<'_> {
    fn serve(
        &mut self,
        gathering: Option<Gathering>,
        uses_local: bool,
        told: &Receiver<Event>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(gathering) = gathering
            && !self.gather(&gathering, uses_local, told)?
        {
            return Ok(ExitCode::from(WRONG));
        }
        loop {
            if self.growth.as_mut().is_some_and(|growth| growth.grow(&self.dispatcher)) {
                self.looks_at = Instant::now();
            }
            self.ask_for_more();
            let patience = self.begin_delayed()?;
            self.tell_of_waits();
            self.printer.screen.tick();
            if self.asks_no_more && self.ahead.is_empty() {
                self.look_at_nodes();
                return Ok(ExitCode::from(self.tally.exit_code(self.runs_in_all())));
            }
            match told.recv_timeout(patience) {
                Ok(Event::Counted(total)) => self.counted(total),
                Ok(Event::Composed(task)) => self.composed(task?)?,
                Ok(Event::AllComposed) => {
                    (self.asks_no_more, self.were_all_composed) = (true, true);
                    self.ahead.none_left();
                }
                Ok(Event::Loaded(running, Ok(files))) => self.submit_with(running, files)?,
                Ok(Event::Loaded(running, Err(reason))) => {
                    let end = self.lost(&running, &reason);
                    if self.finish(running, end)? == Some(When::Now) {
                        return Ok(ExitCode::from(self.tally.exit_code(self.runs_in_all())));
                    }
                }
                Ok(Event::Output(source, piece)) => {
                    self.printer.output(&source, &piece)?;
                    self.room.give_back(piece.bytes.len());
                }
                Ok(Event::BaseRead(node, life, Ok((contents, held)))) => {
                    self.send_base(node, life, contents, held);
                }
                Ok(Event::BaseRead(node, _, Err(reason))) | Ok(Event::BaseSent(node, Err(reason))) => {
                    if self.base_sent(&node, Err(reason))? == Some(When::Now) {
                        return Ok(ExitCode::from(self.tally.exit_code(self.runs_in_all())));
                    }
                }
                Ok(Event::BaseSent(node, Ok(()))) => drop(self.base_sent(&node, Ok(()))?),
                Ok(Event::Ended(running, result)) => {
                    if self.ended(running, result)? == Some(When::Now) {
                        return Ok(ExitCode::from(self.tally.exit_code(self.runs_in_all())));
                    }
                }
                Ok(Event::Told(Word::Finish)) => self.finish_what_runs()?,
                Ok(Event::Told(Word::End)) => {
                    self.take_what_has_ended(told)?;
                    self.tell_how_to_go_on();
                    return Ok(ExitCode::from(WRONG));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the engine has a sender itself"),
            }
        }
    }

    /// There are so many jobs.
    fn counted(&mut self, total: u64) {
        self.total = Some(total);
        if let Some(runs) = self.runs_in_all() {
            self.printer.screen.progress.counted(runs);
        }
    }

    /// Number of runs, as far as it is known.
    fn runs_in_all(&self) -> Option<u64> {
        let nodes = self.each_node.as_ref().map_or(1, EachNode::len) as u64;
        self.total.map(|total| total * nodes)
    }

    /// Has as many jobs composed as can be under way.
    fn ask_for_more(&mut self) {
        if self.asks_no_more || self.printer.is_full() {
            return;
        }
        if self.looks_at <= Instant::now() {
            let slots = self.look_at_nodes();
            // A job that may have to be started no more, or that is told its slot or what others took, is not sent ahead.
            let depends_on_others = matches!(self.options.timeout.flatten(), Some(Timeout::Percent(_)));
            let is_exact = self.uses_slots || depends_on_others || self.options.halt().is_some();
            self.most = match &self.each_node {
                // What waits for others on its node is held back here.
                Some(_) => AHEAD,
                None if is_exact => slots.max(1),
                None => 2 * slots + AHEAD,
            };
            self.looks_at = Instant::now() + LOOK_EVERY;
        }
        while self.ahead.has_room(self.most) {
            if self.wanted.send(()).is_err() {
                return;
            }
            self.ahead.asked();
        }
    }

    fn composed(&mut self, task: Task) -> anyhow::Result<()> {
        self.ahead.composed(task.stdin().len());
        if self.asks_no_more || self.was_done(&task) {
            self.ahead.ended(task.stdin().len());
        } else if self.options.delay.is_some() {
            self.delayed.push_back(task);
        } else {
            self.begin(task)?;
        }
        Ok(())
    }

    /// Whether an earlier run has not left the job to this one.
    fn was_done(&mut self, task: &Task) -> bool {
        let sequence = task.sequence();
        let Some(log) = self.printer.log.as_ref().filter(|log| !log.wants(sequence)) else { return false };
        let command = (!self.depends_on_slot).then(|| task.command(self.start(1)));
        let other = command.and_then(|command| log.differs(sequence, &command));
        let other = other.map(|command| String::from_utf8_lossy(command).into_owned());
        if let Some(other) = other {
            self.printer.screen.warn(&format!(
                "job {sequence} is skipped, although it was another command in the job log: {other}"
            ));
        }
        self.printer.screen.progress.skipped();
        true
    }

    /// Begins a job whose time has come, and tells how long to wait for the next one at most.
    fn begin_delayed(&mut self) -> anyhow::Result<Duration> {
        let now = Instant::now();
        if self.next_start <= now
            && let Some(task) = self.delayed.pop_front()
        {
            self.next_start = now + self.options.delay.unwrap_or_default();
            self.begin(task)?;
        }
        Ok(if self.delayed.is_empty() {
            LOOK_EVERY
        } else {
            LOOK_EVERY.min(self.next_start.saturating_duration_since(now))
        })
    }

    fn begin(&mut self, task: Task) -> anyhow::Result<()> {
        let Some(nodes) = self.each_node.as_mut().map(|each_node| each_node.begin(task.sequence())) else {
            let slot = self.slots.take();
            let run = self.new_run(task, slot, None);
            return self.submit(run);
        };
        for target in 0..nodes {
            let run = self.new_run(task.clone(), 0, Some(target));
            if let Some(run) = self.each_node.as_mut().and_then(|each_node| each_node.take(run, target)) {
                self.submit(run)?;
            }
        }
        Ok(())
    }

    fn new_run(&mut self, task: Task, slot: usize, target: Option<usize>) -> Running {
        let position = self.submitted;
        self.submitted += 1;
        self.printer.started(position);
        let submitted = SystemTime::now();
        Running { task, position, slot, target, tries: 1, in_shell: false, submitted, files: None, lacks: 0 }
    }

    fn start(&self, slot: usize) -> Start {
        Start { slot, total: self.total.unwrap_or_default() }
    }
}
