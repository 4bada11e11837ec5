//! `ppctl` as those use it who look after nodes: what is wrong with one, and how it is steered.

mod explain;
mod listing;
mod steer;

use std::path::Path;
use std::process::Command;

use pp_tests::process::{Process, SECRET, Server, ServerOptions, command};
use serde_json::Value;
use tempfile::TempDir;

/// A `ppctl` that has ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let code = process.wait().code();
        Self { code, stdout: process.stdout(), stderr: process.stderr() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr))
    }

    /// Asserts its exit code, and that it said all of `parts`.
    fn said(&self, code: i32, parts: &[&str]) {
        let said = format!("{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
    }
}

/// `ppctl` with the secret of servers here and without a network.
fn ppctl_at(home: &Path, arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home);
    command.args(arguments).env("PP_DISCOVER", "0").env("PP_SECRET", SECRET).current_dir(home);
    command
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a home directory")
}

/// Runs `ppctl` with these nodes in `PP_NODES`.
fn ppctl(nodes: &[&Server], arguments: &[&str]) -> Ended {
    Ended::of(ppctl_at(home().path(), arguments).env("PP_NODES", addresses(nodes)))
}

fn addresses(nodes: &[&Server]) -> String {
    nodes.iter().map(|node| node.address()).collect::<Vec<_>>().join(",")
}

fn server(name: &str, workers: usize) -> Server {
    let arguments = ["-i", "127.0.0.1", "--name", name].map(Into::into).into();
    Server::start_with(ServerOptions { arguments, workers, ..ServerOptions::default() })
}
