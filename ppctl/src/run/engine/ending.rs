//! Ends of jobs, which are tried again, or handed on to be printed; and the end of a run.

use std::sync::mpsc::Receiver;

use pp_dispatcher::{CommandOutput, CommandStatus, JobError};
use pp_run::halt::When;

use super::{Engine, Event, Running};
use crate::run::each_node::EachNode;
use crate::run::files::Files;
use crate::run::finished::{End, Finished, Printer};
use crate::run::task::Task;

impl Engine<'_> {
    /// Takes the end of a job, and tells whether the run is to stop.
    pub(super) fn ended(
        &mut self,
        running: Running,
        result: Result<CommandOutput, JobError>,
    ) -> anyhow::Result<Option<When>> {
        if matches!(result, Err(JobError::Cancelled)) {
            return self.never_began(running).map(|()| None);
        }
        if let Ok(CommandOutput { status: CommandStatus::NotStarted(_), .. }) = result
            && !running.in_shell
        {
            // A shell says why not in its own words, and runs scripts that do not say what they are for.
            self.submit(Running { in_shell: true, ..running })?;
            return Ok(None);
        }
        if let Ok(CommandOutput { status: CommandStatus::Lacks(digests), node: Some(node), .. }) = &result {
            return self.lacks(running, node, digests);
        }
        let mut end = End::of(result, running.submitted, || self.name(&running));
        if let Some(files) = &running.files {
            end.count_files(files.sent_bytes());
        }
        self.hint(&end, running.position);
        self.finish(running, end)
    }

    /// What a job is called where something is said of it.
    fn name(&self, running: &Running) -> String {
        running.task.name(self.start(running.slot))
    }

    /// The end of a job that went wrong in another way than its command.
    pub(super) fn lost(&self, running: &Running, reason: &str) -> End {
        End::lost(&format!("{}: {reason}", self.name(running)), running.submitted)
    }

    /// Says once what may help where a job on another machine misses a file.
    fn hint(&mut self, end: &End, position: u64) {
        // Whoever names a directory knows that it is that one.
        if self.options.wd.is_some() {
            return;
        }
        let said_before = self.printer.misses_a_file(position);
        if let Some(node) = end.misses_a_file(said_before)
            && !std::mem::replace(&mut self.has_hinted, true)
        {
            let what_helps = if self.files.as_ref().is_some_and(Files::are_sent) {
                "there it has only the files that --transferfile and --basefile name"
            } else {
                "there it runs in an empty directory; --transferfile FILE sends it one, \
                 --wd DIR names a directory that all machines share"
            };
            self.printer.screen.warn(&format!("a job found no such file on {node}: {what_helps}"));
        }
    }

    pub(super) fn finish(&mut self, mut running: Running, end: End) -> anyhow::Result<Option<When>> {
        let exit = end.exit;
        if !exit.is_success() && running.tries < self.options.retries {
            running.tries += 1;
            self.submit(running)?;
            return Ok(None);
        }
        if exit.is_success() {
            self.runtimes.ended(end.run_time);
        }
        self.over(&running.task);
        let (position, slot, target) = (running.position, running.slot, running.target);
        let finished = self.finished(running, end)?;
        self.printer.take(position, finished)?;
        let halt = self.tally.ended(exit, self.runs_in_all());
        if halt.is_some() {
            self.start_no_more()?;
        }
        match (&mut self.each_node, target) {
            (Some(each_node), Some(target)) => {
                if let Some(next) = each_node.ended(target, slot) {
                    self.submit(next)?;
                }
            }
            _ => self.slots.give_back(slot),
        }
        Ok(halt)
    }

    fn finished(&mut self, running: Running, end: End) -> anyhow::Result<Finished> {
        let tag = self.tag(&running);
        let output = self.printer.take_output(running.position, tag.as_ref());
        let Running { task, slot, target, .. } = running;
        let start = self.start(slot);
        let results = self.printer.results.as_ref();
        let results = results.map(|results| task.result_files(results.name(), start)).transpose()?;
        let node = self.each_node.as_ref().zip(target).map(|(each_node, target)| each_node.name(target));
        Ok(Finished {
            sequence: task.sequence(),
            command: task.command(start),
            output,
            results: match node {
                Some(node) => results.map(|files| files.of_node(node)),
                None => results,
            },
            sent: task.stdin().len() as u64,
            end: match node {
                Some(node) => end.of_node(node),
                None => end,
            },
        })
    }

    /// What stands before each line of its output.
    pub(super) fn tag(&self, running: &Running) -> Option<Vec<u8>> {
        let node = self.each_node.as_ref().zip(running.target).filter(|_| self.options.tags_nodes());
        match node.map(|(each_node, target)| each_node.name(target)) {
            Some(node) => Some([node.as_bytes(), b"\t"].concat()),
            None => running.task.tag(self.start(running.slot)),
        }
    }

    /// A run of a job is over, or will not begin.
    fn over(&mut self, task: &Task) {
        if self.each_node.as_mut().is_none_or(|each_node| each_node.is_last(task.sequence())) {
            self.ahead.ended(task.stdin().len());
        }
    }

    /// Begins nothing more. What runs is logged as it ends.
    pub(super) fn finish_what_runs(&mut self) -> anyhow::Result<()> {
        self.dispatcher.finish();
        self.start_no_more()
    }

    /// A job was given up before it began, or before it was begun once more: the log says nothing of it.
    fn never_began(&mut self, running: Running) -> anyhow::Result<()> {
        self.over(&running.task);
        self.printer.left_out(running.position)?;
        match (&mut self.each_node, running.target) {
            (Some(each_node), Some(target)) => drop(each_node.ended(target, running.slot)),
            _ => self.slots.give_back(running.slot),
        }
        Ok(())
    }

    /// Takes the ends that are known of already, before the run is ended.
    pub(super) fn take_what_has_ended(&mut self, told: &Receiver<Event>) -> anyhow::Result<()> {
        self.start_no_more()?;
        while let Ok(event) = told.try_recv() {
            if let Event::Ended(running, result @ Ok(_)) = event {
                self.ended(running, result)?;
            }
        }
        Ok(())
    }

    /// Gives up what has not started.
    fn start_no_more(&mut self) -> anyhow::Result<()> {
        self.asks_no_more = true;
        self.delayed.drain(..).for_each(|task| self.ahead.ended(task.stdin().len()));
        let waiting = self.each_node.as_mut().map(EachNode::give_up_waiting).unwrap_or_default();
        for run in waiting {
            self.printer.left_out(run.position)?;
            self.over(&run.task);
        }
        Ok(())
    }

    /// Says what became of the run, if that is wanted.
    pub(super) fn sum_up(&mut self) {
        let Printer { summary, screen, .. } = &mut self.printer;
        if self.options.wants_summary(summary.jobs()) {
            let is_whole = self.were_all_composed && self.ahead.is_empty();
            screen.warn(&summary.text(self.began.elapsed(), is_whole));
        }
    }

    /// Says of a run that is ended before its time what is done, if another one can go on with it.
    pub(super) fn tell_how_to_go_on(&mut self) {
        if self.options.joblog.is_none() || self.options.each_node || self.options.retry_failed {
            return;
        }
        let Printer { screen, .. } = &mut self.printer;
        let done = screen.progress.done();
        let total = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let jobs = if self.total.unwrap_or(done) == 1 { "job" } else { "jobs" };
        screen.warn(&format!("stopped after {done}{total} {jobs}; the same with --resume goes on"));
    }
}
