//! What a dispatcher does without knowing types: it takes calls in, keeps the thread that owns the core, and tells whoever
//! waits how jobs ended.

pub(crate) mod callbacks;
pub(crate) mod completions;
pub(crate) mod events;
pub(crate) mod printer;
pub(crate) mod shared;
pub(crate) mod stats;
pub(crate) mod thread;
