//! A daemon within this program, where a process of its own is not the point.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

use pp_node::confinement::Confinement;
use pp_node::{NodeConfig, StoreConfig, Workers};
use pp_protocol::Target;
use pp_protocol::secret::Secret;
use pp_tests::process::SECRET;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A daemon that ends when this is dropped.
pub(crate) struct Within {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    store: TempDir,
}

impl Within {
    /// Starts one with so many workers, which are threads, at any port of loopback.
    pub(crate) fn start(workers: u32) -> Self {
        Self::start_as(Target::here(), workers, Workers::Threads)
    }

    /// The same, as one that says that it is a machine of this kind.
    pub(crate) fn start_as(target: Target, slots: u32, workers: Workers) -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let mut node = NodeConfig::new("within", slots);
        (node.target, node.workers) = (target, workers);
        node.confinement = (workers == Workers::Processes).then(Confinement::default);
        node.store = Some(StoreConfig { directory: store.path().into(), limit_bytes: 1 << 30 });
        let secret = Secret::parse(SECRET).expect("it is a secret");
        let settings = ppserver::Settings { node, ..ppserver::Settings::new(secret) };
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("somebody waits");
                ppserver::serve(listener, settings, async { drop(stopped.await) }).await.expect("it starts");
            });
        });
        let address = told.recv().expect("it listens");
        Self { address, stop: Some(stop), thread: Some(thread), store }
    }

    /// The programs that it was sent.
    pub(crate) fn programs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.store.path()).expect("it can be read");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| path.is_file()).collect()
    }

    /// Address at which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong there has been told.
            let _ = thread.join();
        }
    }
}
