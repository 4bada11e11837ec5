//! Facts about the job that is followed: where its dispatcher, its nodes and their workers have it.

use std::fmt::Debug;

use pp_dispatcher::core::{Event, JobOwner, JobStatus, JobView};
use pp_protocol::FromNode;

use super::World;
use super::ledger::JobName;
use super::story::Facts;

impl World {
    /// An event happened: what it changed in the job that is followed is told.
    pub(super) fn follow(&mut self) {
        if let Some(job) = self.story.follows()
            && (job.site as usize) < self.sites.len()
        {
            let facts = self.facts(job);
            self.story.end(facts);
        }
    }

    fn facts(&self, job: JobName) -> Facts {
        let mut facts = Facts::new();
        let mut insert = |who: String, what: String| facts.insert(who, what);
        let site = &self.sites[job.site as usize];
        let its_own = site.id_of(job.number);
        for id in self.ledger.ids_of(job).into_iter().chain(its_own) {
            let Some(view) = site.core.job(id) else { continue };
            let who = if Some(id) == its_own { "dispatcher" } else { "its copy" };
            insert(who.into(), format!("job {id}, {}", job_in_words(&view)));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let parts = node.workers.iter().filter_map(|(key, worker)| {
                worker.part_in(job).map(|part| format!("worker {} {part}", key.0))
            });
            let parts: Vec<_> = parts.collect();
            if !parts.is_empty() {
                insert(format!("node {number}"), parts.join(", "));
            }
        }
        if let Some(told) = self.ledger.told(job) {
            insert("submitter".into(), told);
        }
        facts
    }
}

fn job_in_words(view: &JobView<'_>) -> String {
    let place = match view.status {
        JobStatus::Delayed { until } => format!("delayed until {:.6} s", until.0 as f64 / 1e9),
        JobStatus::Queued => "queued".into(),
        JobStatus::AtNode(key) => format!("at node {}", key.0),
    };
    let charged = match view.failures.len() {
        0 => String::new(),
        charges => format!(", charged {charges}"),
    };
    let owner = match view.owner {
        JobOwner::Submitter => String::new(),
        JobOwner::Original(original) => format!(", a copy of job {original}"),
        JobOwner::Nobody => ", nobody waits for it".into(),
    };
    format!("{place}, attempt {}{charged}{owner}", view.attempt)
}

/// An event of a dispatcher's core, in few words.
pub(super) fn event_in_words<T: Debug>(event: &Event<T>) -> String {
    match event {
        Event::Submit(jobs) => format!("{} jobs", jobs.len()),
        Event::Received(key, messages) => format!("{} of node {}", messages_in_words(messages), key.0),
        Event::LinkUp(key, welcome, _) => {
            let resumed = if welcome.resumed { "the session goes on" } else { "a new session" };
            format!("the welcome of node {}: {resumed}", key.0)
        }
        other => format!("{other:?}"),
    }
}

fn messages_in_words(messages: &[FromNode]) -> String {
    let words = messages.iter().map(|message| match message {
        FromNode::Outcomes(first, outcomes) => {
            let ended =
                outcomes.iter().map(|outcome| format!("job {} {}", outcome.id.job, outcome.ended.word()));
            format!("outcomes from {first} on ({})", ended.collect::<Vec<_>>().join(", "))
        }
        other => {
            let name = format!("{other:?}");
            name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
        }
    });
    words.collect::<Vec<_>>().join(", ")
}
