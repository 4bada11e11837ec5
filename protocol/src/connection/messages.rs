//! How messages are divided, and which of them may overtake which.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::BULK_BYTES;
use crate::{FromNode, ToNode};

/// What can be sent over a [`Transport`](super::Transport).
pub trait Message: Serialize + DeserializeOwned + Send + 'static {
    /// Hands the message to `each` in pieces that are small, as far as it can be divided.
    fn divide(self, each: &mut dyn FnMut(Self));

    /// Whether this message must not overtake a large one queued before it.
    fn follows_bulk(&self) -> bool;

    /// Whether this message is a greeting: nothing queued after it may overtake it, however large it is.
    fn is_greeting(&self) -> bool;
}

/// Cuts `items` into runs whose weights add up to at most `BULK_BYTES / 2`; an item heavier than that stands alone.
fn runs<T>(items: Vec<T>, weight: impl Fn(&T) -> usize, mut each: impl FnMut(Vec<T>)) {
    const RUN_BYTES: usize = BULK_BYTES / 2;
    if items.iter().map(&weight).sum::<usize>() <= RUN_BYTES {
        return each(items);
    }
    let mut run = Vec::new();
    let mut bytes = 0;
    for item in items {
        let item_bytes = weight(&item);
        if bytes + item_bytes > RUN_BYTES && !run.is_empty() {
            each(std::mem::take(&mut run));
            bytes = 0;
        }
        bytes += item_bytes;
        run.push(item);
    }
    each(run);
}

impl Message for ToNode {
    fn divide(self, each: &mut dyn FnMut(Self)) {
        match self {
            // Identifiers, numbers and lengths need at most 33 bytes.
            Self::Run(attempts) => {
                runs(attempts, |attempt| 33 + attempt.args.len(), |run| each(Self::Run(run)));
            }
            other => each(other),
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(
            self,
            Self::Cancel(_)
                | Self::Recall(_)
                | Self::ProgramChunk { .. }
                | Self::ProgramUnavailable(..)
                | Self::Goodbye
        )
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Hello(_))
    }
}

impl Message for FromNode {
    fn divide(self, each: &mut dyn FnMut(Self)) {
        match self {
            Self::Outcomes(mut first, outcomes) => runs(outcomes, crate::Outcome::weight, |run| {
                let count = run.len() as u64;
                each(Self::Outcomes(first, run));
                first += count;
            }),
            other => each(other),
        }
    }

    fn follows_bulk(&self) -> bool {
        matches!(self, Self::Goodbye(_))
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Welcome(_) | Self::Refused(_))
    }
}
