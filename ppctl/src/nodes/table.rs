//! The nodes as a table: a line for each, and below it why it is not used.

use std::borrow::Cow;
use std::fmt::{Error, Write as _};

use super::Line;

/// Characters of a name that are shown. JSON has all of it.
const NAME_CHARACTERS: usize = 32;

/// The beginning of a name, marked where it goes on.
fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_CHARACTERS) {
        None => name.into(),
        Some(_) => name.chars().take(NAME_CHARACTERS - 1).chain(['…']).collect::<String>().into(),
    }
}

pub(super) fn table(nodes: &[Line]) -> Result<String, Error> {
    let mut out = String::new();
    let width = |characters: fn(&Line) -> usize, least: usize| {
        nodes.iter().map(characters).max().unwrap_or(0).max(least)
    };
    let name = width(|node| node.name.chars().count().min(NAME_CHARACTERS), 4);
    let address = width(|node| node.address.chars().count(), 7);
    writeln!(
        out,
        "{:name$}  {:address$}  {:12} {:>5} {:>5} {:>6} {:>11} {:>6}  {:18}  CONFINED",
        "NODE", "ADDRESS", "STATE", "SLOTS", "BUSY", "QUEUED", "DISPATCHERS", "LOAD", "MEMORY"
    )?;
    for node in nodes {
        writeln!(
            out,
            "{:name$}  {:address$}  {:12} {:>5} {:>5} {:>6} {:>11} {:>6.2}  {:18}  {}",
            shortened(&node.name),
            node.address,
            node.state,
            node.slots,
            node.busy,
            node.queued,
            node.dispatchers,
            node.load,
            node.memory(),
            if node.confinement.is_empty() { "-" } else { &node.confinement }
        )?;
        if let Some(reason) = &node.reason {
            writeln!(out, "    {reason}")?;
        }
    }
    Ok(out)
}
