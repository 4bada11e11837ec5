//! A worker that is started for one job and ends with it, confined as nodes confine those of others. Floor: the same node, whose
//! workers are started without a launcher.

use std::thread;
use std::time::Instant;

use anyhow::ensure;
use pp_dispatcher::Dispatcher;
use pp_node::confinement::Confinement;
use pp_protocol::secret::Secret;
use tokio::net::TcpListener;

use crate::jobs::nothing;
use crate::report::{Better, Report};
use crate::server;

/// Jobs of which the mean is taken.
const JOBS: u32 = 50;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let confined = node(Some(Confinement::default()))?;
    let bare = node(None)?;
    let mean = |dispatcher: &Dispatcher| {
        let started = Instant::now();
        for _ in 0..JOBS {
            dispatcher.submit(nothing, ()).wait()?;
        }
        Ok(started.elapsed().as_secs_f64() * 1e3 / f64::from(JOBS))
    };
    let bench = "a worker for each job, confined";
    report.measure(bench, "ms", Better::Less, || mean(&confined), || mean(&bare))?;
    Ok(())
}

/// A node of one slot in a thread of this process, which ends with it, and a dispatcher for it.
fn node(confinement: Option<Confinement>) -> anyhow::Result<Dispatcher> {
    let (tell, told) = std::sync::mpsc::channel();
    let home = tempfile::tempdir()?;
    thread::spawn(move || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?.to_string())?;
            let secret = Secret::parse(server::SECRET)?;
            let mut settings = ppserver::Settings::new(secret);
            settings.node.slots = 1;
            settings.node.fresh_worker_per_job = true;
            settings.node.confinement = confinement;
            settings.node.store =
                Some(pp_node::StoreConfig { directory: home.path().join("store"), limit_bytes: 1 << 30 });
            Ok(ppserver::serve(listener, settings, std::future::pending()).await?)
        })
    });
    let dispatcher = server::at(vec![told.recv()?])?;
    ensure!(dispatcher.submit(nothing, ()).wait().is_ok(), "the node runs no jobs: {:?}", dispatcher.nodes());
    Ok(dispatcher)
}
