//! Why a job of any program has not ended: nodes ask the programs that are connected to them, which alone know.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::bail;
use pp_dispatcher::{ClusterEvent, Dispatcher, JobId, NodeState, SessionId};
use pp_protocol::Role;

use crate::find::{EVERY, not_there};
use crate::nodes::ANSWER_TIME;
use crate::{Arguments, DISCOVERY, is_settled, look, remote, wait_for};

/// Time that programs have to answer. They do so at once, unless they are held up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is said of a job.
#[derive(Debug)]
pub(super) struct JobVerdict {
    pub(super) job: JobId,
    /// The programs that have such a job, and what they say of it: each numbers its own jobs.
    pub(super) answers: Vec<Said>,
    /// Nodes whose programs were asked.
    pub(super) nodes: usize,
}

/// What a program says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) dispatcher: String,
    pub(super) text: String,
}

/// Has every node ask for these jobs.
///
/// # Errors
/// When there is no node to ask.
pub(super) fn ask(
    arguments: &Arguments,
    named: &[String],
    jobs: &[JobId],
) -> anyhow::Result<Vec<JobVerdict>> {
    let builder = look(arguments, named, Role::Operator);
    let look_for = if builder.discovers()? { DISCOVERY } else { Duration::ZERO };
    let dispatcher = builder.start()?;
    let started = Instant::now();
    wait_for(ANSWER_TIME, || {
        let is_time = started.elapsed() >= look_for;
        (is_time && remote(&dispatcher).iter().all(is_settled)).then_some(())
    });
    let answers =
        |state| !matches!(state, NodeState::Connecting | NodeState::Unreachable | NodeState::Refused);
    if !remote(&dispatcher).iter().any(|node| answers(node.state)) {
        let nodes = remote(&dispatcher);
        let why = match &nodes[..] {
            [] => not_there(EVERY, &[]),
            nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        bail!(
            "no node can be asked who has {}: {why}",
            if jobs.len() == 1 { "this job" } else { "these jobs" }
        );
    }
    Ok(jobs.iter().map(|job| ask_for(&dispatcher, *job)).collect())
}

fn ask_for(dispatcher: &Dispatcher, job: JobId) -> JobVerdict {
    let events = dispatcher.events();
    let nodes = dispatcher.explain_elsewhere(job);
    // A program is asked by each node that it is connected to.
    let mut said = BTreeMap::<SessionId, Said>::new();
    let until = Instant::now() + PATIENCE;
    while let Some(event) = events.next_timeout(until.saturating_duration_since(Instant::now())) {
        match event {
            ClusterEvent::JobExplained { job: of, session, dispatcher, text } if of == job => {
                said.entry(session).or_insert(Said { dispatcher, text });
            }
            _ => {}
        }
    }
    JobVerdict { job, answers: said.into_values().collect(), nodes }
}

impl fmt::Display for JobVerdict {
    /// A paragraph for each program that has such a job; one that says so if there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, answers, nodes } = self;
        if answers.is_empty() {
            return write!(
                f,
                "No program that is connected to {} has a job {job} that has not ended. It has ended, or its program is connected \
                 to none of them: then what it prints after a few seconds says why, and so does Job::explain() in it.",
                match nodes {
                    1 => "the one node that was asked".to_owned(),
                    nodes => format!("the {nodes} nodes that were asked"),
                }
            );
        }
        for (number, Said { dispatcher, text }) in answers.iter().enumerate() {
            let between = if number == 0 { "" } else { "\n\n" };
            write!(f, "{between}Job {job} of {dispatcher}: {text}.")?;
        }
        Ok(())
    }
}
