//! The systems that are compared, and how each is told to measure.

use std::path::PathBuf;
use std::process::Command;

use super::benches::Bench;
use super::home;

/// Folder where `benches/peers/setup` installs, seen from this one.
const ENVIRONMENTS: &str = "../target/peers";

/// Something that runs jobs, in one of the ways it can.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// This system; the way its jobs go.
    Ours(&'static str),
    Peer(Peer),
}

#[derive(Debug)]
pub(crate) struct Peer {
    /// As `benches/peers/systems` calls it.
    system: &'static str,
    /// The environment that it is installed in.
    environment: &'static str,
    has_chunks: bool,
    /// A second way of a system, whose memory is measured in the first.
    second_way: bool,
    /// Made to set TCP_NODELAY, from outside.
    nodelay: bool,
}

const fn peer(name: &'static str, system: &'static str, environment: &'static str) -> System {
    let peer = Peer { system, environment, has_chunks: false, second_way: false, nodelay: false };
    System { name, kind: Kind::Peer(peer) }
}

const fn pool(name: &'static str, system: &'static str) -> System {
    let peer = Peer { system, environment: "python", has_chunks: true, second_way: false, nodelay: false };
    System { name, kind: Kind::Peer(peer) }
}

const fn over_tcp(
    name: &'static str,
    system: &'static str,
    environment: &'static str,
    nodelay: bool,
) -> System {
    let peer = Peer { system, environment, has_chunks: false, second_way: true, nodelay };
    System { name, kind: Kind::Peer(peer) }
}

/// Ours first.
pub(crate) const SYSTEMS: &[System] = &[
    System { name: "ours, local", kind: Kind::Ours("local") },
    System { name: "ours, ppserver", kind: Kind::Ours("ppserver") },
    pool("multiprocessing.Pool", "multiprocessing"),
    pool("concurrent.futures", "concurrent-futures"),
    peer("pp, local", "pp-local", "pp"),
    over_tcp("pp, TCP", "pp-tcp", "pp", false),
    over_tcp("pp, TCP, no delay", "pp-tcp", "pp", true),
    peer("ppft, local", "ppft-local", "ppft"),
    over_tcp("ppft, TCP", "ppft-tcp", "ppft", false),
    over_tcp("ppft, TCP, no delay", "ppft-tcp", "ppft", true),
    peer("Ray", "ray", "ray"),
    peer("Dask", "dask", "dask"),
    peer("Celery + Redis", "celery", "celery"),
];

/// This program, told to measure and to say so in JSON.
pub(crate) fn ourselves(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).arg("--json");
    Ok(command)
}

impl System {
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(_))
    }

    /// The environment that it is installed in, if it is one's own.
    pub(crate) fn environment(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Ours(_) => None,
            Kind::Peer(peer) => Some(peer.environment),
        }
    }

    /// The versions that are installed, or why none is.
    pub(crate) fn installed(&self) -> Result<String, String> {
        let Some(environment) = self.environment() else { return Ok(env!("CARGO_PKG_VERSION").into()) };
        let read = |extension| {
            let path = home().join(ENVIRONMENTS).join(format!("{environment}.{extension}"));
            std::fs::read_to_string(path).map(|text| text.trim().to_owned())
        };
        read("installed").map_err(|_| {
            read("missing")
                .unwrap_or_else(|_| "not installed: run benches/peers/setup, then this again".into())
        })
    }

    /// Whether the bench means anything for this system.
    pub(crate) fn takes_part(&self, bench: &Bench) -> bool {
        match &self.kind {
            Kind::Ours(way) => !bench.once || *way == "local",
            Kind::Peer(peer) => (peer.has_chunks || !bench.in_chunks) && (!peer.second_way || !bench.once),
        }
    }

    /// Commands that measure it.
    pub(crate) fn commands(&self, bench: &Bench) -> anyhow::Result<Vec<Command>> {
        match &self.kind {
            Kind::Ours(way) => {
                bench.ours.iter().map(|name| ourselves(&[name, "--runs", "1", "--way", way])).collect()
            }
            Kind::Peer(peer) => Ok(vec![peer.command(bench)]),
        }
    }
}

impl Peer {
    fn command(&self, bench: &Bench) -> Command {
        let environment: PathBuf = home().join(ENVIRONMENTS).join(self.environment);
        let peers = home().join("peers");
        let mut command = Command::new(environment.join("bin/python"));
        command.arg(peers.join("driver.py")).args([self.system, bench.name, &bench.jobs.to_string()]);
        command.env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
        if self.nodelay {
            command.env("PYTHONPATH", peers.join("nodelay"));
        }
        command
    }
}
