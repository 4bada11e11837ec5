//! The loop that runs jobs.

use std::io::{self, Write};
use std::ops::ControlFlow;

use pp_protocol::limits::{PAYLOAD_BYTES, TEXT_BYTES, cut};
use pp_protocol::packed::{self, Args, Input};
use pp_protocol::room;
use pp_protocol::values::Source;
use pp_protocol::worker::{Finished, FunctionName, WORKER_VERSION, WorkResult};
use pp_protocol::{FunctionId, shown};

use super::frames::{self, FrameError, FrameReader, LARGE_BYTES};
use super::lending::Lending;
use super::outbox::Outbox;
use super::printing::Pipes;
use super::{NodeGone, WorkerError, panics};
use crate::functions::{Call, CallError, FunctionMap, Registry};
use crate::page::{Page, monotonic_ns};
use crate::processes::flush_stdout_of_c;

/// Outcomes do not wait for a function that usually takes longer than this.
const LONG_NS: u64 = 100_000;
/// A call adds this fraction of its time to the average of its function.
const AVERAGE_DIVISOR: u64 = 8;

pub(super) struct Runner<'a> {
    outbox: &'a Outbox,
    page: &'a Page,
    lending: &'a Lending,
    functions: FunctionMap<Function>,
    /// The result of the job that runs.
    result: room::Writer,
    /// End of the last job, which is the start of the next one: the clock is read once per job.
    now: u64,
    /// Whether outcomes wait in the outbox, as far as this thread knows.
    has_pending: bool,
    /// The job that ended last.
    last: u32,
    /// Pipes, where the standard streams are the jobs' own. Threads share them with the program, which may hold them for
    /// long.
    pipes: Option<Pipes>,
}

struct Function {
    call: Call,
    /// Moving average of its run time.
    average_ns: Option<u64>,
    /// Whether it printed something when that was looked for. If so, it is looked for after each call, otherwise before
    /// outcomes are written only.
    prints: Option<bool>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        outbox: &'a Outbox,
        page: &'a Page,
        lending: &'a Lending,
        registry: &Registry,
        node_gone: NodeGone,
    ) -> Self {
        let functions = registry
            .iter()
            .map(|(id, call)| (id, Function { call, average_ns: None, prints: None }))
            .collect();
        let result = room::Writer::default();
        let pipes = (node_gone == NodeGone::EndProcess).then(Pipes::of_this_process);
        Self { outbox, page, lending, functions, result, now: 0, has_pending: false, last: 0, pipes }
    }

    /// Runs whatever the node sends until the node closes the socket.
    pub(super) fn run(mut self, names: &[FunctionName]) -> Result<(), WorkerError> {
        let functions = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
        let ready = frames::encode_ready(WORKER_VERSION, functions, self.lending.is_possible(), names);
        self.outbox.send(&ready)?;
        let mut reader = FrameReader::new(self.outbox.socket());
        while let Some((frame, more_follows)) = reader.next()? {
            match self.run_all(frame.bytes(), more_follows) {
                Ok(()) => {}
                // Writing fails when the node is gone, which reading would find out next.
                Err(WorkerError::Io(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs one frame of work. `more_follows` tells whether the next frame is at hand.
    fn run_all(&mut self, frame: &[u8], more_follows: bool) -> Result<(), WorkerError> {
        let mut thrown_away = None;
        let mut works = Input::new(frame);
        self.outbox.begin_frame();
        self.now = monotonic_ns();
        while !works.is_empty() {
            let (number, function, args) = packed::work(&mut works).map_err(FrameError::from)?;
            match self.run_one(number, function, args, more_follows || !works.is_empty())? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Revoked) => thrown_away = Some(number.wrapping_add(1)),
            }
        }
        if thrown_away.is_some() || !more_follows {
            self.flush()?;
        }
        if let Some(next) = thrown_away {
            self.page.skip_to(next);
            self.outbox.send(&frames::encode_skipped(next))?;
        }
        Ok(())
    }

    fn run_one(
        &mut self,
        number: u32,
        id: FunctionId,
        args: Args<'_>,
        more_follows: bool,
    ) -> Result<ControlFlow<Revoked>, WorkerError> {
        // Whether it is run or not: what is borrowed is returned.
        let borrowed = match &args {
            Args::Here(_) => None,
            Args::Lent(lent) => self.lending.borrow(lent.clone()),
        };
        let mut function = self.functions.get_mut(&id);
        let is_long = |function: &Function| function.average_ns.is_none_or(|average| average > LONG_NS);
        if self.has_pending && function.as_deref().is_some_and(is_long) {
            self.flush()?;
            function = self.functions.get_mut(&id);
        }
        let started = self.now;
        if !self.page.claim(number, started) {
            return Ok(ControlFlow::Break(Revoked));
        }
        self.result.clear();
        let result = &mut self.result;
        let failure = match &function {
            Some(function) => {
                let args = match (&args, &borrowed) {
                    (_, Some(borrowed)) => Source::shared(borrowed),
                    (Args::Here(args), None) => Source::new(args),
                    (Args::Lent(_), None) => return Err(FrameError::NotLent.into()),
                };
                call(function.call, args, result).err()
            }
            None => Some(WorkResult::UnknownFunction),
        };
        drop(borrowed);
        self.page.finish(number);
        self.now = monotonic_ns();
        let run_time_ns = self.now - started;
        let mut may_print = false;
        if let Some(function) = function {
            function.learn(run_time_ns);
            may_print = function.prints != Some(false);
        }
        self.last = number;
        self.report(number, run_time_ns, failure, more_follows)?;
        if may_print && more_follows {
            let has_printed = self.end_output();
            self.functions.entry(id).and_modify(|function| _ = function.prints.get_or_insert(has_printed));
            self.now = monotonic_ns();
        }
        Ok(ControlFlow::Continue(()))
    }

    fn report(
        &mut self,
        number: u32,
        run_time_ns: u64,
        failure: Option<WorkResult>,
        more_follows: bool,
    ) -> io::Result<()> {
        let is_due = match failure {
            Some(result) => {
                // What there is of a result may be large.
                self.result.clear();
                self.see_to_memory();
                let finished = Finished { number, run_time_ns, result };
                self.outbox.add_finished(&finished, self.now, more_follows)
            }
            None => match self.result.few() {
                Some(result) if result.len() < LARGE_BYTES => {
                    self.outbox.add_succeeded(number, run_time_ns, result, self.now, more_follows)
                }
                _ => return self.report_large(number, run_time_ns),
            },
        };
        self.has_pending = true;
        if is_due && more_follows { self.flush() } else { Ok(()) }
    }

    /// A large result is lent to the node, or sent from where it is.
    fn report_large(&mut self, number: u32, run_time_ns: u64) -> io::Result<()> {
        let many = self.result.take_many();
        match many.as_ref().and_then(|result| self.lending.lend(result)) {
            Some(lent) => {
                self.outbox.add_lent(number, run_time_ns, &lent, self.now);
                let is_quiet = !self.end_output();
                self.outbox.flush(is_quiet)?;
            }
            None => {
                self.end_output();
                let result = many.as_deref().or(self.result.few()).unwrap_or_default();
                self.outbox.send_large(number, run_time_ns, result)?;
            }
        }
        self.see_to_memory();
        self.has_pending = false;
        self.now = monotonic_ns();
        Ok(())
    }

    /// The watcher gives memory back that nobody uses for a while, and looks for what the node returns.
    fn see_to_memory(&self) {
        if !self.lending.is_watched() && (room::due().is_some() || self.lending.has_lent()) {
            self.outbox.wake();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.has_pending {
            let is_quiet = !self.end_output();
            self.outbox.flush(is_quiet)?;
            self.has_pending = false;
            self.now = monotonic_ns();
        }
        Ok(())
    }

    /// Has all that jobs have printed so far leave this process, so that it is told as theirs. A job's `print!` without a
    /// line end would otherwise stay here. A thread that a job left behind may hold the lock for ever: then the watcher
    /// writes the outcomes, and ends the process. Tells whether there may be something to be told.
    fn end_output(&self) -> bool {
        let Some(pipes) = &self.pipes else { return false };
        self.outbox.begin_printing(self.now);
        // A standard output that cannot be written to is the job's affair.
        let _ = io::stdout().flush();
        flush_stdout_of_c();
        self.outbox.end_printing();
        pipes.mark(self.last, self.page)
    }
}

/// The node took this piece of work back before it was claimed.
struct Revoked;

impl Function {
    fn learn(&mut self, run_time_ns: u64) {
        self.average_ns = Some(match self.average_ns {
            None => run_time_ns,
            Some(average) => average - average / AVERAGE_DIVISOR + run_time_ns / AVERAGE_DIVISOR,
        });
    }
}

/// Leaves the serialised result in `result`; whatever else comes of the call is the error.
fn call(function: Call, args: Source<'_>, result: &mut room::Writer) -> Result<(), WorkResult> {
    let called = panics::catch(|| function(args, result)).map_err(WorkResult::Panicked)?;
    called.map_err(|error| match error {
        CallError::BadArguments(reason) => WorkResult::BadArguments(cut(&shown(&reason), TEXT_BYTES).into()),
        CallError::BadResult(reason) => WorkResult::BadResult(cut(&shown(&reason), TEXT_BYTES).into()),
        CallError::TooLarge(size) => WorkResult::TooLarge(size, PAYLOAD_BYTES as u64),
    })?;
    if result.len() > PAYLOAD_BYTES {
        let size = result.len() as u64;
        result.clear();
        return Err(WorkResult::TooLarge(size, PAYLOAD_BYTES as u64));
    }
    Ok(())
}
