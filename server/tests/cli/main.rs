//! The daemon as its operators meet it: what it says, what it refuses, how it starts and ends.

mod arguments;
mod files;
mod hidden;
mod http;
mod life;
mod secret;
mod strangers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use pp_protocol::Role;
use pp_protocol::handshake::{self, Established, HandshakeError};
use pp_protocol::secret::Secret;
use pp_tests::process::{self, Process, SECRET};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// `ppserver` with these arguments and nothing of the environment but `home`.
fn ppserver(home: &Path, arguments: &[&str]) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_ppserver"), home);
    command.args(arguments);
    command
}

/// A `ppserver` that has ended by itself.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Runs one to its end.
    fn of(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let code = process.wait().code();
        Self { code, stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Runs one that is to fail, saying all of `parts`.
    fn failing(command: &mut Command, parts: &[&str]) {
        let ended = Self::of(command);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let last = ended.stderr.lines().find(|line| line.starts_with("ppserver: "));
        assert!(last.is_some(), "who speaks is not said: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{part:?} is not in:\n{}", ended.stderr);
        }
    }
}

/// A `ppserver` that listens on loopback.
struct Daemon {
    process: Process,
    address: SocketAddr,
    /// Log of the daemon up to listening.
    listens: String,
}

impl Daemon {
    /// Starts one, at any port of loopback unless `arguments` say otherwise, and waits until it listens.
    fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::start_as(ppserver(home, arguments).env("PP_SECRET", SECRET))
    }

    fn start_as(command: &mut Command) -> Self {
        for (name, value) in [("PP_PORT", "0"), ("PP_INTERFACE", "127.0.0.1")] {
            if command.get_envs().all(|(set, _)| set != name) {
                command.env(name, value);
            }
        }
        let process = Process::start(command);
        let listens = process.wait_for_stderr("listens on ");
        let (_, rest) = listens.split_once("listens on ").expect("it was looked for");
        let end = rest.find([' ', '"']).unwrap_or(rest.len());
        let address = rest[..end].parse().unwrap_or_else(|_| panic!("no address in {listens}"));
        Self { process, address, listens }
    }

    /// Proves to the daemon that `secret` is known, as a dispatcher would.
    fn authenticate(&self, secret: &str) -> Result<Established, HandshakeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut stream = TcpStream::connect(self.address).await?;
            let secret = Secret::parse(secret).expect("a secret");
            handshake::initiate(&mut stream, &secret, Role::Operator).await
        })
    }
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a home directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are text")
}
