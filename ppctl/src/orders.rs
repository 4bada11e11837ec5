//! Orders to nodes: which of them they are for, given to all at once, and what became of each.

use std::process::ExitCode;
use std::thread;

use anyhow::bail;
use pp_dispatcher::NodeInfo;
use pp_protocol::Role;
use serde::Serialize;

use crate::find::{Meant, search};
use crate::{Arguments, print, warn};

/// Nodes that are given an order at once; the others have it as soon as these have taken it.
const AT_ONCE: usize = 32;

/// The nodes that an order is for: those of these words, or else the one at the only address that was named.
///
/// # Errors
/// When it is not clear which nodes are meant, or there is none for a word; with how the command is written then.
pub(crate) fn whom(
    arguments: &Arguments,
    named: &[String],
    words: &[String],
    usage: impl Fn(&str) -> String,
) -> anyhow::Result<Vec<Meant>> {
    match (words, named) {
        ([_, ..], _) => search(arguments, named, words, Role::Operator)?.all(),
        ([], [address]) => search(arguments, &[], std::slice::from_ref(address), Role::Operator)?.all(),
        ([], []) => {
            bail!("which node? Say its name, a pattern such as 'gpu*', or its address: {}", usage(""))
        }
        ([], _) => bail!(
            "which of the {} nodes named with --node? Say its name or its address as well: {}",
            named.len(),
            usage(&named.iter().map(|node| format!("--node {node} ")).collect::<String>())
        ),
    }
}

/// Gives each node its order, many at once, and yields what became of it, in their order.
pub(crate) fn give<T: Send>(
    nodes: &[Meant],
    order: impl Fn(&Meant) -> anyhow::Result<T> + Sync,
) -> Vec<anyhow::Result<T>> {
    let order = &order;
    let mut given = Vec::with_capacity(nodes.len());
    for some in nodes.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|node| scope.spawn(move || order(node))).collect();
            given.extend(threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
        });
    }
    given
}

/// What became of an order at a node, as `--json` shows it: what the order changed, or the error.
#[derive(Debug, Serialize)]
struct Line<'a, T> {
    node: &'a str,
    address: &'a str,
    #[serde(flatten)]
    done: Option<&'a T>,
    error: Option<String>,
}

/// Says what became of the order, for programs or for people, and yields the exit code: that of a failure if any node did not
/// take it.
pub(crate) fn tell<T: Serialize>(
    arguments: &Arguments,
    nodes: &[Meant],
    given: &[anyhow::Result<T>],
    words: impl Fn(&NodeInfo, &T) -> String,
) -> anyhow::Result<ExitCode> {
    let both = || nodes.iter().map(|meant| &meant.node).zip(given);
    if arguments.json {
        let lines: Vec<_> = both()
            .map(|(node, done)| Line {
                node: &node.name,
                address: &node.address,
                done: done.as_ref().ok(),
                error: done.as_ref().err().map(crate::told_once),
            })
            .collect();
        print(&format!("{}\n", serde_json::to_string(&lines)?))?;
    }
    for (node, done) in both() {
        match done {
            Ok(done) if !arguments.json => print(&format!("{}\n", words(node, done)))?,
            Ok(_) => {}
            Err(error) => warn(&crate::told_once(error)),
        }
    }
    Ok(if given.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
