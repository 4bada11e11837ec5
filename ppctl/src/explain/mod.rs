//! `ppctl explain`: why a node is not used, or a job has not ended, in a paragraph with the next step to take.
//!
//! Each node is looked at twice, as those see it who look after nodes, and as those who run jobs there: either may be refused where
//! the other is not.

mod jobs;
#[cfg(test)]
mod tests;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use pp_dispatcher::{JobId, NodeState};
use pp_protocol::Role;
use serde::Serialize;

use self::jobs::JobVerdict;
use self::verdict::{Finding, Seen, Verdict};
use crate::find::{EVERY, look_at, search};
use crate::{Arguments, is_settled, look, print, remote, wait_for};

/// Time that nodes have to answer a dispatcher.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    nodes: Vec<Line>,
    jobs: Vec<JobLine>,
}

/// A job there, as a program has it: those of several programs may have the same number.
#[derive(Debug, Serialize)]
struct JobLine {
    job: String,
    /// User, host, program and process; none if no program has such a job that has not ended.
    dispatcher: Option<String>,
    text: String,
}

/// A node there.
#[derive(Debug, Serialize)]
struct Line {
    node: String,
    address: String,
    used: bool,
    /// A word for the reason.
    reason: &'static str,
    /// The reason.
    text: String,
    /// What to do, where the reason does not say so.
    next: Option<String>,
    /// Why it takes no orders from this machine, although it may run its jobs.
    takes_no_orders: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, named: &[String], words: &[String]) -> anyhow::Result<ExitCode> {
    let (jobs, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.parse::<JobId>().is_ok());
    let jobs: Vec<JobId> = jobs.into_iter().filter_map(|word| word.parse().ok()).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let is_every = words.is_empty();
    let verdicts = match (is_every, &names[..]) {
        (true, _) => judge(arguments, named, &[EVERY.to_owned()])?,
        (false, []) => Vec::new(),
        (false, names) => judge(arguments, named, names)?,
    };
    let jobs = if jobs.is_empty() { Vec::new() } else { jobs::ask(arguments, named, &jobs)? };
    let is_well = match is_every {
        true => verdicts.iter().any(Verdict::is_used),
        false => verdicts.iter().all(Verdict::is_used) && jobs.iter().all(|job| !job.answers.is_empty()),
    };
    if arguments.json {
        let document = Document {
            nodes: verdicts.iter().map(Line::from).collect(),
            jobs: jobs.iter().flat_map(JobLine::of).collect(),
        };
        print(&format!("{}\n", serde_json::to_string(&document)?))?;
    } else {
        let nodes = verdicts.iter().map(|verdict| format!("{verdict}\n"));
        let mut paragraphs: Vec<_> = nodes.chain(jobs.iter().map(|job| format!("{job}\n"))).collect();
        if is_every && !matches!(verdicts[..], [Verdict { finding: Finding::NeverHeardOf { .. }, .. }]) {
            paragraphs.push(summary(&verdicts));
        }
        print(&paragraphs.join("\n"))?;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl JobLine {
    fn of(verdict: &JobVerdict) -> Vec<Self> {
        let job = verdict.job.to_string();
        match &verdict.answers[..] {
            [] => vec![Self { job, dispatcher: None, text: verdict.to_string() }],
            answers => answers
                .iter()
                .map(|said| Self {
                    job: job.clone(),
                    dispatcher: Some(said.dispatcher.clone()),
                    text: said.text.clone(),
                })
                .collect(),
        }
    }
}

impl From<&Verdict> for Line {
    fn from(verdict: &Verdict) -> Self {
        Self {
            node: verdict.name.clone(),
            address: verdict.address.clone(),
            used: verdict.is_used(),
            reason: verdict.finding.word(),
            text: verdict.finding.to_string(),
            next: verdict.next(),
            takes_no_orders: verdict.takes_no_orders.as_ref().map(ToString::to_string),
        }
    }
}

/// Looks at the nodes that are meant, and judges each.
fn judge(arguments: &Arguments, named: &[String], words: &[String]) -> anyhow::Result<Vec<Verdict>> {
    let found = search(arguments, named, words, Role::Operator)?;
    let mut nodes: Vec<_> = found.meant.into_iter().map(|meant| meant.node).collect();
    nodes.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
    let answers = |state| !matches!(state, NodeState::Connecting | NodeState::Unreachable);
    let addresses: Vec<_> =
        nodes.iter().filter(|node| answers(node.state)).map(|node| &node.address).collect();
    let runs_jobs = if addresses.is_empty() {
        Vec::new()
    } else {
        let dispatcher = look_at(arguments, &addresses, Role::Dispatcher)?;
        wait_for(PATIENCE, || remote(&dispatcher).iter().all(is_settled).then_some(()));
        remote(&dispatcher)
    };
    let seen = nodes.into_iter().map(|operator| {
        let dispatcher = runs_jobs.iter().find(|node| node.address == operator.address).cloned();
        Seen { operator, dispatcher }
    });
    let mut verdicts: Vec<_> = seen.map(|seen| Verdict::of(&seen)).collect();
    let is_network_searched = look(arguments, named, Role::Operator).discovers()?;
    let missing = found.missing.into_iter();
    verdicts.extend(missing.map(|name| Verdict::not_found(name, found.seen.clone(), is_network_searched)));
    Ok(verdicts)
}

/// A line for all.
fn summary(verdicts: &[Verdict]) -> String {
    let used = verdicts.iter().filter(|verdict| verdict.is_used()).count();
    let (mut all, mut free) = (0, 0);
    for verdict in verdicts {
        match verdict.finding {
            Finding::Used { slots, busy } => (all, free) = (all + slots, free + slots - busy),
            Finding::Full { slots, .. } => all += slots,
            _ => {}
        }
    }
    let nodes = if verdicts.len() == 1 { "1 node" } else { &format!("{} nodes", verdicts.len()) };
    let not_used = verdicts.len() - used;
    format!("{nodes}: {used} used, {free} of {all} slots free; {not_used} not used\n")
}
