//! `ppctl ping`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use pp_dispatcher::{Dispatcher, NodeState, built_in};
use pp_protocol::Role;
use serde_json::json;

use crate::find::find;
use crate::{Arguments, print};

/// Time that the node has to be connected to, and for each job.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that go there and come back.
const BYTES: usize = 56;

/// Sends the node one job after the other, each of which gives back what it is given.
pub(crate) fn run(
    arguments: &Arguments,
    nodes: &[String],
    name: &str,
    count: u32,
) -> anyhow::Result<ExitCode> {
    let (looking, node) = find(arguments, nodes, name, Role::Dispatcher)?;
    drop(looking);
    let label = node.label();
    if node.slots == 0 {
        bail!("{label} has no slots, so that it runs no job; `ppctl resize` gives it some");
    }
    let builder = Dispatcher::builder().local_workers(0).discover(false).only_built_in(true);
    let builder = match &arguments.secret_file {
        Some(path) => builder.secret_file(path),
        None => builder,
    };
    let dispatcher = builder.nodes([&node.address]).start()?;
    if dispatcher.wait_for_nodes(1, PATIENCE) == 0 {
        let node = dispatcher.nodes().pop().ok_or_else(|| anyhow!("{label} is gone"))?;
        bail!("{node}");
    }
    // The first one starts a worker.
    let mut times = Vec::new();
    let mut stopped = None;
    for number in 0..=count {
        let sent = Instant::now();
        let echo = dispatcher.submit(built_in::echo, (vec![number as u8; BYTES],));
        let Ok(echoed) = echo.wait_timeout(PATIENCE) else {
            stopped = Some(unanswered(&dispatcher, &label));
            break;
        };
        echoed?;
        times.push(sent.elapsed());
    }
    if times.len() < 2 {
        bail!("{}", stopped.unwrap_or_default());
    }
    let first = times.remove(0);
    let count = times.len();
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let [least, median, most] = [times[0], times[times.len() / 2], times[times.len() - 1]].map(milliseconds);
    if arguments.json {
        let measured = json!({
            "node": node.name, "address": node.address, "jobs": count, "first_ms": milliseconds(first),
            "least_ms": least, "median_ms": median, "most_ms": most,
        });
        print(&format!("{measured}\n"))?;
    } else {
        print(&format!(
            "{label}: {} there and back, one at a time: median {median:.3} ms, least {least:.3}, most \
             {most:.3}; the first one, with a worker to start: {:.1} ms\n",
            jobs(count),
            milliseconds(first)
        ))?;
    }
    match stopped {
        None => Ok(ExitCode::SUCCESS),
        Some(stopped) => bail!("{stopped}; what is said above is of the jobs before that"),
    }
}

/// Why a job has not come back, as far as this side knows.
fn unanswered(dispatcher: &Dispatcher, label: &str) -> String {
    let seconds = PATIENCE.as_secs();
    match dispatcher.nodes().pop() {
        Some(node) if node.state != NodeState::Connected => {
            format!("a job did not come back from {label} within {seconds} s, and the node is lost: {node}")
        }
        _ => format!(
            "{label} did not run a job within {seconds} s; all its slots may be in use: `ppctl nodes` shows how many jobs wait \
             there"
        ),
    }
}

fn jobs(count: usize) -> String {
    if count == 1 { "1 job".into() } else { format!("{count} jobs") }
}
