//! `ppctl key`: the key of this machine, for nodes that let in only machines that they list.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use pp_protocol::machine::{self, KeyError, MachineKey, PublicKey};
use pp_protocol::{environment, shown};
use serde_json::json;

use crate::{Arguments, print};

/// Actions on the key.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key for this machine, and print the line by which nodes list it
    New,
    /// Print the line by which nodes list this machine
    Show,
    /// Print where the key is
    Path,
}

pub(crate) fn run(arguments: &Arguments, command: &Command) -> anyhow::Result<ExitCode> {
    let path = machine::default_path().map_err(KeyError::from)?;
    match command {
        Command::New => {
            let Some(key) = MachineKey::create(&path)? else {
                // What is no key is said how to put in order.
                MachineKey::read(&path)?;
                bail!(
                    "this machine has a key already, in {}; `ppctl key show` prints its line. To have another one, remove \
                     that file: nodes that list the old key let this machine in no more",
                    path.display()
                );
            };
            // There is nobody to tell if standard error is closed.
            let _ = writeln!(
                std::io::stderr(),
                "A new key was written to {}. Add this line to the file of authorized keys of each node that is to let this \
                 machine in, and have it read (SIGHUP):",
                path.display()
            );
            print_line(arguments, &path, key.public())?;
        }
        Command::Show => print_line(arguments, &path, MachineKey::read(&path)?.public())?,
        Command::Path if arguments.json => print(&format!("{}\n", json!({ "path": path })))?,
        Command::Path => print(&format!("{}\n", path.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_line(arguments: &Arguments, path: &Path, key: PublicKey) -> std::io::Result<()> {
    let line = format!("{key} {}", whose());
    if arguments.json {
        return print(&format!("{}\n", json!({ "path": path, "public_key": key.to_string(), "line": line })));
    }
    print(&format!("{line}\n"))
}

/// Whose key it is, for people.
fn whose() -> String {
    let user = environment::text("USER").ok().flatten().unwrap_or_else(|| "somebody".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "somewhere".into());
    shown(&format!("{user}@{}", host.trim())).into_owned()
}
