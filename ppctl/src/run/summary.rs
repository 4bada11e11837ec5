//! What is said of a run at its end: how many jobs there were, which failed, which took longest, and where they ran.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pp_dispatcher::progress::time_text;
use pp_run::halt::Exit;

/// Jobs that failed, and jobs that took longest, of which the numbers are told.
const JOBS_SHOWN: usize = 5;
/// Nodes that are told of: those that ran most.
const NODES_SHOWN: usize = 10;

/// Jobs that have ended, as far as there is something to say of them.
#[derive(Debug, Default)]
pub(super) struct Summary {
    jobs: u64,
    failed: u64,
    /// The first jobs that failed.
    failures: Vec<(u64, Exit)>,
    /// The jobs that took longest, the longest first.
    slowest: Vec<Slow>,
    /// Jobs by their node, which is none for this machine.
    nodes: BTreeMap<Option<String>, Share>,
}

#[derive(Debug)]
struct Slow {
    sequence: u64,
    run_time: Duration,
    node: Option<String>,
}

#[derive(Debug, Default)]
struct Share {
    jobs: u64,
    run_time: Duration,
}

impl Summary {
    /// A job has ended.
    pub(super) fn ended(&mut self, sequence: u64, exit: Exit, run_time: Duration, node: Option<&str>) {
        self.jobs += 1;
        if !exit.is_success() {
            self.failed += 1;
            if self.failures.len() < JOBS_SHOWN {
                self.failures.push((sequence, exit));
            }
        }
        let node = node.map(str::to_owned);
        let place = self.slowest.partition_point(|slow| slow.run_time >= run_time);
        if place < JOBS_SHOWN {
            self.slowest.insert(place, Slow { sequence, run_time, node: node.clone() });
            self.slowest.truncate(JOBS_SHOWN);
        }
        let share = self.nodes.entry(node).or_default();
        share.jobs += 1;
        share.run_time += run_time;
    }

    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// The lines that say it, of a run that took so long, to its end or not.
    pub(super) fn text(&self, time: Duration, is_whole: bool) -> String {
        let stopped = if is_whole { "" } else { "stopped after " };
        let mut lines = vec![format!("{stopped}{}", self.total(time))];
        if self.failed > 0 {
            lines.push(format!("  failed:   {}", self.failures()));
        }
        let slowest: Vec<String> = self.slowest.iter().map(Slow::to_string).collect();
        if !slowest.is_empty() {
            lines.push(format!("  slowest:  {}", slowest.join(", ")));
        }
        lines.extend(self.by_node());
        lines.join("\n")
    }

    fn total(&self, time: Duration) -> String {
        let jobs = counted(self.jobs, "job");
        let failed = if self.failed == 0 { String::new() } else { format!(", {} failed", self.failed) };
        format!("{jobs} in {}{failed}", short(time))
    }

    fn failures(&self) -> String {
        let mut told: Vec<String> = self
            .failures
            .iter()
            .map(|(sequence, exit)| format!("{sequence} ({})", exit_text(*exit)))
            .collect();
        let more = self.failed - self.failures.len() as u64;
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told.join(", ")
    }

    /// A line for each node, those first that ran most.
    fn by_node(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(_, share)| std::cmp::Reverse(share.jobs));
        let width = nodes.iter().take(NODES_SHOWN).map(|(node, _)| name(node).chars().count()).max();
        let width = width.unwrap_or_default();
        let mut lines: Vec<String> = nodes
            .iter()
            .take(NODES_SHOWN)
            .enumerate()
            .map(|(number, (node, Share { jobs, run_time }))| {
                let head = if number == 0 { "by node:" } else { "" };
                let (name, jobs) = (name(node), counted(*jobs, "job"));
                format!("  {head:8}  {name:width$}  {jobs} that ran {} in all", short(*run_time))
            })
            .collect();
        if nodes.len() > NODES_SHOWN {
            lines.push(format!("            and {} more nodes", nodes.len() - NODES_SHOWN));
        }
        lines
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, run_time, node } = self;
        match node {
            Some(node) => write!(f, "{sequence} ({} on {node})", short(*run_time)),
            None => write!(f, "{sequence} ({})", short(*run_time)),
        }
    }
}

fn name(node: &Option<String>) -> &str {
    node.as_deref().unwrap_or("this machine")
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn exit_text(Exit { code, signal }: Exit) -> String {
    match (code, signal) {
        (-1, _) => "ran too long".into(),
        (code, 0) => format!("exit code {code}"),
        (_, signal) => format!("signal {signal}"),
    }
}

/// A time for people, with hundredths where it is a short one.
fn short(time: Duration) -> String {
    if time < Duration::from_secs(60) { format!("{:.2}s", time.as_secs_f64()) } else { time_text(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_there_is_to_know() {
        let mut summary = Summary::default();
        for sequence in 1..=20 {
            let exit = match sequence {
                3 => Exit { code: 2, signal: 0 },
                4 => Exit { code: 0, signal: 9 },
                5 => Exit { code: -1, signal: 15 },
                12.. => Exit { code: 1, signal: 0 },
                _ => Exit::default(),
            };
            let node = (sequence % 2 == 0).then_some("render1");
            let run_time = Duration::from_millis(if sequence == 7 { 90_000 } else { 100 * sequence });
            summary.ended(sequence, exit, run_time, node);
        }
        let text = "20 jobs in 1m35s, 12 failed\n  \
            failed:   3 (exit code 2), 4 (signal 9), 5 (ran too long), 12 (exit code 1), 13 (exit code 1), and 7 more\n  \
            slowest:  7 (1m30s), 20 (2.00s on render1), 19 (1.90s), 18 (1.80s on render1), 17 (1.70s)\n  \
            by node:  this machine  10 jobs that ran 1m40s in all\n            \
            render1       10 jobs that ran 11.00s in all";
        assert_eq!(summary.text(Duration::from_secs(95), true), text);
        assert_eq!(
            Summary::default().text(Duration::from_millis(1_500), false),
            "stopped after 0 jobs in 1.50s"
        );
    }

    #[test]
    fn of_many_nodes_those_are_told_that_ran_most() {
        let mut summary = Summary::default();
        for number in 0..12 {
            let node = format!("node{number:02}");
            (0..=number).for_each(|_| summary.ended(1, Exit::default(), Duration::ZERO, Some(&node)));
        }
        let text = summary.text(Duration::ZERO, true);
        assert!(
            text.contains("by node:  node11  12 jobs") && !text.contains("\n            node01"),
            "{text}"
        );
        assert!(text.ends_with("            and 2 more nodes"), "{text}");
    }
}
