//! What all targets hold a decoder to: it does not panic, and takes no more memory than its input makes reasonable.

use std::future::Future;
use std::pin::Pin;

use pp_counting::{Counting, allowed, peak_of};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes `input`, counting.
pub fn bounded<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(decode);
    assert!(peak <= allowed(input.len()), "{peak} bytes of memory for {} of input", input.len());
    result
}

/// Runs what decodes `input` and never waits for anything else, counting.
pub fn bounded_run<F: Future>(input: &[u8], decode: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    let mut decode: Pin<Box<F>> = Box::pin(decode);
    RUNTIME.with(|runtime| {
        runtime.block_on(std::future::poll_fn(|context| bounded(input, || decode.as_mut().poll(context))))
    })
}
