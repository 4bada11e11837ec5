//! What is sent before a job can run: its files, and base files that its node lacks.

use std::time::SystemTime;

use bytes::Bytes;
use pp_dispatcher::{CommandFiles, built_in};
use pp_protocol::{Digest, NodeId};
use pp_run::halt::When;

use super::{Engine, Event, Running};
use crate::run::loader::Held;

/// How often a job is submitted again because its node lacks base files, before that is given up.
const LACKS: u32 = 8;

impl Engine<'_> {
    /// Submits a job, once its files have been read.
    pub(super) fn submit(&mut self, mut running: Running) -> anyhow::Result<()> {
        // Those of an earlier try make room for these.
        running.files = None;
        running.submitted = SystemTime::now();
        if let Some((each_node, target)) = self.each_node.as_ref().zip(running.target)
            && let Err(reason) = each_node.life(target)
        {
            // It is told as all others are, so that one that ends never begins the next one here.
            running.tries = u32::MAX;
            drop(self.events.send(Event::Loaded(running, Err(format!("not used: {reason}")))));
            return Ok(());
        }
        let Some(files) = &self.files else {
            return self.submit_with(running, CommandFiles::default());
        };
        let (task, start) = (running.task.clone(), self.start(running.slot));
        let events = self.events.clone();
        files.load(&task, start, move |loaded| {
            let loaded = loaded.map(|(files, under_way)| {
                running.files = Some(under_way);
                files
            });
            let _ = events.send(Event::Loaded(running, loaded));
        })
    }

    /// A node lacks base files that a job needs: it is sent them, and the job waits for that.
    pub(super) fn lacks(
        &mut self,
        mut running: Running,
        node: &str,
        digests: &[Digest],
    ) -> anyhow::Result<Option<When>> {
        running.files = None;
        running.lacks += 1;
        // Of several that have the same name, all are sent them.
        let alike = self.dispatcher.nodes().into_iter().filter(|it| it.name == node);
        let lives: Vec<_> = alike.filter_map(|it| it.id).collect();
        let Some(files) = self.files.as_mut().filter(|files| files.base.has_one_of(digests)) else {
            let end = self.lost(&running, &format!("{node} asks for base files that there are not"));
            return self.finish(running, end);
        };
        if running.lacks > LACKS {
            let end = self.lost(&running, &format!("{node} was sent base files and has not kept them"));
            return self.finish(running, end);
        }
        if lives.is_empty() {
            // It is gone: another one runs the job.
            return self.submit(running).map(|()| None);
        }
        for source in files.base.lack(node, digests, lives.len(), running) {
            for life in &lives {
                let (source, events, node, life) =
                    (source.clone(), self.events.clone(), node.to_owned(), *life);
                files.loader.load(
                    move || source.read(),
                    move |read| {
                        let _ = events.send(Event::BaseRead(node, life, read));
                    },
                );
            }
        }
        Ok(None)
    }

    pub(super) fn send_base(&self, node: String, life: NodeId, contents: Bytes, held: Held) {
        let events = self.events.clone();
        let job = self.dispatcher.job(built_in::keep_file, (contents,)).on_node(life).priority(1);
        job.callback(move |result| {
            drop(held);
            // Where the node is gone, its jobs run elsewhere.
            let _ = events.send(Event::BaseSent(node, result.unwrap_or(Ok(()))));
        })
        .submit();
    }

    /// Jobs that waited for a node's base files go on, or end, if it cannot keep them.
    pub(super) fn base_sent(
        &mut self,
        node: &str,
        result: Result<(), String>,
    ) -> anyhow::Result<Option<When>> {
        let sent = self.files.as_mut().and_then(|files| files.base.sent(node, result));
        let Some((waiting, failure)) = sent else { return Ok(None) };
        for running in waiting {
            match &failure {
                None => self.submit(running)?,
                Some(reason) => {
                    let end = self.lost(&running, &format!("{node} has not got its base files: {reason}"));
                    if self.finish(running, end)? == Some(When::Now) {
                        return Ok(Some(When::Now));
                    }
                }
            }
        }
        Ok(None)
    }
}
