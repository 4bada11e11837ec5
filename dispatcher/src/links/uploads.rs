//! Programs on their way to a node: in pieces, no more of them ahead than the node allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use pp_protocol::connection::{Closed, Sender};
use pp_protocol::limits::{PROGRAM_CHUNKS_AHEAD, PROGRAMS};
use pp_protocol::{Digest, Payload, ToNode};
use tokio::sync::watch;

use super::programs::{Chunks, OfferedPrograms};

/// The programs that one node was asked for and has not been sent whole. Each is sent by a task, which ends with this.
#[derive(Debug, Default)]
pub(super) struct Uploads(BTreeMap<Digest, watch::Sender<Wanted>>);

/// What the node wants of a program.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    /// Number of times that it has asked again, from the first piece on.
    again: u64,
    /// Pieces that are on its disk.
    written: u32,
}

impl Uploads {
    /// The node asks for a program, perhaps again.
    pub(super) fn begin(&mut self, digest: Digest, programs: &Arc<OfferedPrograms>, node: &Sender<ToNode>) {
        self.0.retain(|_, wanted| !wanted.is_closed());
        if let Some(wanted) = self.0.get(&digest) {
            return wanted.send_modify(|it| *it = Wanted { again: it.again + 1, written: 0 });
        }
        if self.0.len() == PROGRAMS {
            return tracing::warn!("a node asks for more programs than it was offered");
        }
        let (wanted, seen) = watch::channel(Wanted::default());
        self.0.insert(digest, wanted);
        let (programs, node) = (Arc::clone(programs), node.clone());
        tokio::spawn(async move {
            let chunks = tokio::task::spawn_blocking(move || programs.chunks(digest)).await;
            // Where the node is gone there is nobody to be told.
            let _ = match chunks {
                Ok(Ok(chunks)) => send_pieces(digest, &chunks, &node, seen).await,
                Ok(Err(reason)) => node.send(ToNode::ProgramUnavailable(digest, reason)),
                Err(error) => node.send(ToNode::ProgramUnavailable(digest, error.to_string())),
            };
        });
    }

    /// The node has so many pieces of a program on disk.
    pub(super) fn written(&self, digest: Digest, pieces: u32) {
        if let Some(wanted) = self.0.get(&digest) {
            wanted.send_modify(|it| it.written = it.written.max(pieces));
        }
    }
}

async fn send_pieces(
    digest: Digest,
    chunks: &Chunks,
    node: &Sender<ToNode>,
    mut wanted: watch::Receiver<Wanted>,
) -> Result<(), Closed> {
    let (mut again, mut next) = (0, 0);
    loop {
        let seen = *wanted.borrow_and_update();
        if seen.again != again {
            (again, next) = (seen.again, 0);
        }
        let ahead = seen.written.saturating_add(PROGRAM_CHUNKS_AHEAD) as usize;
        for (number, bytes) in chunks.iter().enumerate().take(ahead).skip(next) {
            let last = number + 1 == chunks.len();
            let bytes = Payload::from(bytes.clone());
            node.send(ToNode::ProgramChunk { digest, number: number as u32, last, bytes })?;
            next = number + 1;
        }
        if next == chunks.len() || wanted.changed().await.is_err() {
            return Ok(());
        }
    }
}
