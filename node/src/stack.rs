//! The stack of a program's first thread, which is as large as whoever started the program happened to allow.

use std::thread;

use rustix::process::{Resource, getrlimit};

/// As much as `std` gives to its threads. Builds for debugging need a tenth of it.
const STACK_BYTES: usize = 2 << 20;

/// Runs the body of a program on the first thread, or on one of its own if the limit (`ulimit -s`) leaves the first one too
/// little. Where no thread can be had for that, the first one has to do.
pub fn on_enough_stack<T: Send + 'static>(body: fn() -> T) -> T {
    let is_enough = getrlimit(Resource::Stack).current.is_none_or(|bytes| bytes >= STACK_BYTES as u64);
    if is_enough {
        return body();
    }
    match thread::Builder::new().name("main".into()).stack_size(STACK_BYTES).spawn(body) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => body(),
    }
}
