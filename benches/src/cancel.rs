//! A million pending jobs are cancelled one after the other, as many of them at the node as its window holds: how long that
//! takes, and for how long nobody else gets an answer from the node. Floor: as many no-op jobs through the same node, and
//! the longest answer while nothing is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pp_protocol::connection::{self, Transport};
use pp_protocol::handshake;
use pp_protocol::secret::Secret;
use pp_protocol::{FromNode, Hello, Role, SessionId, ToNode};
use tokio::net::TcpStream;

use crate::jobs::nap;
use crate::report::{Better, Report, median};
use crate::server::{self, SECRET, Server};

const JOBS: u32 = 1_000_000;
/// Time that each would take.
const JOB_MS: u64 = 30_000;
/// Time between two questions to the node.
const EACH: Duration = Duration::from_millis(1);

/// Result of one round, in milliseconds.
struct Round {
    ended: f64,
    stall: f64,
    run_through: f64,
    idle_stall: f64,
    /// Jobs that were at the node.
    sent: usize,
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let jobs = report.jobs(JOBS);
    let rounds = (0..report.runs).map(|_| round(jobs)).collect::<anyhow::Result<Vec<_>>>()?;
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let floor = |figure| Some((middle(figure), Better::Less));
    let sent = median(rounds.iter().map(|round| round.sent as f64).collect());
    let name = format!("cancel {jobs}, {sent} at the node");
    report.show(
        &name,
        middle(|round| round.ended),
        "ms until all have ended",
        floor(|round| round.run_through),
    );
    let worst = rounds.iter().map(|round| round.stall).fold(0.0, f64::max);
    report.show("cancel, longest stall of the node", worst, "ms", floor(|round| round.idle_stall));
    Ok(())
}

fn round(jobs: u32) -> anyhow::Result<Round> {
    let servers = [Server::start(2, 1)?];
    let dispatcher = server::remote(&servers)?;
    // The window is measured with the shortest jobs there are, of the same function.
    let started = Instant::now();
    let tiny: Vec<_> = (0..jobs).map(|_| dispatcher.submit(nap, (0,))).collect();
    for job in tiny {
        job.wait()?;
    }
    let run_through = started.elapsed().as_secs_f64() * 1e3;
    let pending: Vec<_> = (0..jobs).map(|_| dispatcher.submit(nap, (JOB_MS,))).collect();
    let at_node = || dispatcher.nodes().iter().map(|node| node.jobs_at_node).sum::<usize>();
    // How many are sent ahead depends on how long the shortest ones took on this machine.
    let mut sent = 0;
    while std::mem::replace(&mut sent, at_node()) < at_node().max(1) {
        thread::park_timeout(Duration::from_millis(300));
    }
    let idle_stall = longest_answer(servers[0].address(), || {
        thread::park_timeout(Duration::from_millis(500));
        Ok(())
    })?;
    let mut ended = 0.0;
    let stall = longest_answer(servers[0].address(), || {
        let started = Instant::now();
        pending.iter().for_each(|job| job.cancel());
        for job in pending {
            ensure!(job.wait().is_err(), "a job that was cancelled has no result");
        }
        while at_node() > 0 {
            thread::park_timeout(EACH);
        }
        ended = started.elapsed().as_secs_f64() * 1e3;
        Ok(())
    })?;
    Ok(Round { ended, stall, run_through, idle_stall, sent })
}

/// Longest answer of the node to anybody else while `work` was done, in milliseconds.
fn longest_answer(address: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let done = Arc::new(AtomicBool::new(false));
    let (address, is_done) = (address.to_owned(), Arc::clone(&done));
    let asking = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask_until(&address, &is_done))
    });
    let worked = work();
    done.store(true, Ordering::Relaxed);
    let longest = asking.join().ok().context("the one that asks has failed")??;
    worked?;
    Ok(longest.as_secs_f64() * 1e3)
}

async fn ask_until(address: &str, done: &AtomicBool) -> anyhow::Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let established = handshake::initiate(&mut stream, &Secret::parse(SECRET)?, Role::Operator).await?;
    let (reader, writer) = stream.into_split();
    let mut peer: Transport<ToNode, FromNode> = connection::over(reader, writer, established.keys);
    let hello =
        Hello { session: SessionId::random(), name: "the bench".into(), resume: None, fresh_workers: false };
    peer.sender.send(ToNode::Hello(Box::new(hello)))?;
    let mut longest = Duration::ZERO;
    for number in 1.. {
        let asked = Instant::now();
        peer.sender.send(ToNode::Ping(number))?;
        loop {
            let Some(batch) = peer.receiver.recv().await else { bail!("the node ended the connection") };
            if batch?.contains(&FromNode::Pong(number)) {
                break;
            }
        }
        longest = longest.max(asked.elapsed());
        if done.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(EACH).await;
    }
    Ok(longest)
}
