//! A daemon within this program, where a process of its own is not the point.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use pp_node::{NodeConfig, StoreConfig, Workers};
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
    _store: TempDir,
}

impl Within {
    /// Starts one with so many workers, which are threads, at any port of loopback.
    pub(crate) fn start(workers: u32) -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let mut node = NodeConfig::new("within", workers);
        node.workers = Workers::Threads;
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
        Self { address, stop: Some(stop), thread: Some(thread), _store: store }
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
