//! A job as a command that is submitted: its words, its directory and variables, and what is done with what it writes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use anyhow::Context;
use pp_dispatcher::{CommandDirectory, CommandFiles};
use pp_run::{Start, direct};

use super::{BEYOND_LIMIT, Engine, Event, Running};
use crate::run::output::Source;
use crate::run::task::Task;

impl Engine<'_> {
    pub(super) fn submit_with(&mut self, mut running: Running, files: CommandFiles) -> anyhow::Result<()> {
        let Running { task, slot, in_shell, .. } = &running;
        let line = task.command(self.start(*slot));
        if self.options.verbose && !*in_shell {
            self.printer.screen.error(|out| out.write_all(&[&line[..], b"\n"].concat()));
        }
        let mut words = words(line, *in_shell).into_iter().map(OsString::from_vec);
        let mut command = self
            .dispatcher
            .command(words.next().unwrap_or_default())
            .args(words)
            .env("PARALLEL_SEQ", task.sequence().to_string())
            .env_of_node("PARALLEL_SSHHOST")
            .stdin(task.stdin())
            .files(files);
        if self.uses_slots || self.each_node.is_some() {
            command = command.env("PARALLEL_JOBSLOT", slot.to_string());
        }
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        let directory = self.directory(task, self.start(*slot))?;
        command = match directory.clone() {
            CommandDirectory::At(directory) => command.current_dir(directory),
            CommandDirectory::Fresh => command.fresh_dir(),
            CommandDirectory::Usual => command,
        };
        if let Some(ahead) = self.printer.ahead() {
            let source = Arc::new(Source {
                position: running.position,
                sequence: task.sequence(),
                tag: self.tag(&running),
                tries: running.tries,
            });
            let (events, room) = (self.events.clone(), Arc::clone(&self.room));
            command = command.on_output(ahead, move |piece| {
                room.take(piece.bytes.len());
                // The loop is gone once the run has ended.
                let _ = events.send(Event::Output(Arc::clone(&source), piece));
            });
        }
        let limit = self.options.timeout.flatten().and_then(|timeout| self.runtimes.limit(timeout));
        let mut job = match limit {
            None => command.job(),
            // What it wrote is told if it is ended where it runs. Where that cannot be done, its worker is.
            Some(limit) => command.timeout(limit).job().timeout(limit.saturating_add(BEYOND_LIMIT)),
        };
        if let Some(attempts) = self.options.max_attempts {
            job = job.max_attempts(attempts);
        }
        if let Some((each_node, target)) = self.each_node.as_ref().zip(running.target)
            && let Ok(life) = each_node.life(target)
        {
            job = job.on_node(life);
        }
        let events = self.events.clone();
        job.callback(move |mut result| {
            if let (Some(files), Ok(output)) = (&mut running.files, &mut result) {
                files.take(output, &directory);
            }
            // The loop is gone once the run has ended.
            let _ = events.send(Event::Ended(running, result));
        })
        .submit();
        Ok(())
    }

    /// Where a job runs. A directory that is not absolute is meant from here on, wherever the job runs.
    fn directory(&self, task: &Task, start: Start) -> anyhow::Result<CommandDirectory> {
        let Some(directory) = &self.options.wd else { return Ok(CommandDirectory::Usual) };
        if directory == "..." {
            return Ok(CommandDirectory::Fresh);
        }
        let directory = OsString::from_vec(task.expand(directory.as_encoded_bytes(), start)?);
        let absolute = std::path::absolute(&directory);
        let absolute = absolute.with_context(|| format!("--wd {}", directory.display()))?;
        Ok(CommandDirectory::At(absolute.into()))
    }
}

/// The words of what is run for a command line: a shell, where one is needed.
fn words(line: Vec<u8>, in_shell: bool) -> Vec<Vec<u8>> {
    let is_function = |name: &[u8]| {
        let variable = [b"BASH_FUNC_", name, b"%%"].concat();
        std::env::var_os(OsString::from_vec(variable)).is_some()
    };
    match direct::words(&line).filter(|words| !in_shell && !is_function(&words[0])) {
        Some(words) => words,
        None => vec![b"/bin/sh".to_vec(), b"-c".to_vec(), line],
    }
}

/// The values of variables that jobs are to have.
pub(super) fn variables(names: &[String]) -> anyhow::Result<Vec<(String, OsString)>> {
    let names = names.iter().flat_map(|names| names.split(','));
    let value = |name: &str| {
        let value = std::env::var_os(name);
        value.map(|value| (name.to_owned(), value)).with_context(|| match name.split_once('=') {
            Some((only, _)) => {
                format!("--env {name}: it takes a name; write {name} ppctl run --env {only} for that value")
            }
            None => format!("--env {name}: there is no such variable"),
        })
    };
    names.map(value).collect()
}
