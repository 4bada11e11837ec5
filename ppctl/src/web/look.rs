//! Looking at the nodes, for all pages at once and only while one is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_dispatcher::{Dispatcher, NodeId, Watch, WatchError};
use tokio::sync::{broadcast, mpsc};

use super::frame::{Frame, Told};
use crate::remote;

/// Time between two lines of the stream, and between two frames of a node.
const EVERY: Duration = Duration::from_millis(250);
/// Lines that wait for a page that is slow. What it misses beyond that it is told as a number.
const LINES: usize = 16;
/// Frames of a node that are taken into a line. It sends no more than one in that time; after a silence some come together.
const FRAMES: usize = 4;

/// What looks at the nodes.
#[derive(Clone, Debug)]
pub(super) struct Looking(Arc<broadcast::Sender<Bytes>>);

impl Looking {
    /// Starts to look as soon as somebody wants to see, and ends with the last of these. Nodes are watched only then: they do
    /// nothing for nobody.
    pub(super) fn start(dispatcher: Dispatcher) -> Self {
        let (lines, _) = broadcast::channel(LINES);
        let lines = Arc::new(lines);
        let pages = Arc::downgrade(&lines);
        thread::spawn(move || {
            let began = Instant::now();
            while let Some(lines) = pages.upgrade() {
                if lines.receiver_count() > 0
                    && let Err(error) = show(&dispatcher, began, &lines)
                {
                    return crate::warn(&error.to_string());
                }
                drop(lines);
                thread::park_timeout(EVERY);
            }
        });
        Self(lines)
    }

    /// All that is seen from now on, a line each time.
    pub(super) fn lines(&self) -> mpsc::Receiver<Bytes> {
        let mut lines = self.0.subscribe();
        let (pieces, taken) = mpsc::channel(pp_http::limits::STREAM_PIECES);
        tokio::spawn(async move {
            loop {
                let line = tokio::select! {
                    line = lines.recv() => line,
                    () = pieces.closed() => return,
                };
                let line = match line {
                    Ok(line) => line,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        format!("{{\"missed\":{missed}}}\n").into()
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if pieces.send(line).await.is_err() {
                    return;
                }
            }
        });
        taken
    }
}

/// Watches the nodes until no page is open.
fn show(dispatcher: &Dispatcher, began: Instant, lines: &broadcast::Sender<Bytes>) -> Result<(), WatchError> {
    let watch = dispatcher.watch(EVERY)?;
    while lines.receiver_count() > 0 {
        let told = gather(&watch, began);
        let frame = Frame::new(began.elapsed(), remote(dispatcher), told);
        // Whoever wanted it may have left meanwhile.
        let _ = lines.send(frame.line());
    }
    Ok(())
}

/// What nodes tell until the next line is due.
fn gather(watch: &Watch, began: Instant) -> BTreeMap<NodeId, Vec<Told>> {
    let until = Instant::now() + EVERY;
    let left = || until.saturating_duration_since(Instant::now());
    let mut told = BTreeMap::<NodeId, Vec<Told>>::new();
    while !left().is_zero() {
        let Some(watched) = watch.next_timeout(left()) else {
            // It is time, or the dispatcher has ended.
            thread::park_timeout(left());
            continue;
        };
        let of_node = told.entry(watched.node).or_default();
        if of_node.len() < FRAMES {
            of_node.push(Told::new(began.elapsed(), &watched.activity));
        }
    }
    told
}
