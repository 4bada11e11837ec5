//! What all targets hold a decoder to: it does not panic, and takes no more memory than its input makes reasonable.

use std::fs::{DirBuilder, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;

use pp_counting::{Counting, allowed, peak_of};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a connection may have besides: room to receive, which those of a thread have in turn.
const ROOM_BYTES: usize = 512 << 10;

/// Decodes `input`, counting.
pub fn bounded<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    within(allowed(input.len()), input, decode)
}

fn within<T>(most: usize, input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(decode);
    assert!(peak <= most, "{peak} bytes of memory for {} of input", input.len());
    result
}

/// Runs what decodes `input` and never waits for anything else, counting.
pub fn bounded_run<F: Future>(input: &[u8], decode: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    let mut decode: Pin<Box<F>> = Box::pin(decode);
    let most = allowed(input.len()) + ROOM_BYTES;
    RUNTIME.with(|runtime| {
        runtime
            .block_on(std::future::poll_fn(|context| within(most, input, || decode.as_mut().poll(context))))
    })
}

/// Directory for files of targets, in memory.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/pp-fuzz-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).expect("there is room in memory");
        path
    })
}

/// A file that only its owner can read, and that holds `bytes` and nothing else.
pub fn private_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory().join(name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(bytes)).expect("there is room in memory");
    path
}
