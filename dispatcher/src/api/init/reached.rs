//! Whether workers, which are this program started again, get to `init()` before they do anything else.

use std::backtrace::Backtrace;
use std::sync::OnceLock;

/// The first call of `init()` in this process: where from, unless no test can be running there.
static CALL: OnceLock<Option<Backtrace>> = OnceLock::new();

/// A function of the standard test harness that calls tests.
const CALLS_TESTS: &str = "test::__rust_begin_short_backtrace";

/// `init()` has been called here, and has returned.
pub(super) fn note() {
    CALL.get_or_init(|| {
        let is_main = std::thread::current().name() == Some("main");
        // What the frames are called, which takes longer, is looked up when it is needed.
        (!is_main || tests_run_on_the_main_thread()).then(Backtrace::force_capture)
    });
}

/// Where tests run one after the other, the harness starts no thread for them.
fn tests_run_on_the_main_thread() -> bool {
    std::env::var_os("RUST_TEST_THREADS").is_some()
        || std::env::args_os().any(|argument| argument.to_string_lossy().starts_with("--test-threads"))
        || std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)
}

/// Whether workers get there, as far as this process has shown. A test that calls `init()` itself does not help: its workers
/// would run all tests until they get to that one.
pub(crate) fn is_reached() -> bool {
    match CALL.get() {
        None => false,
        Some(None) => true,
        Some(Some(from)) => !from.to_string().contains(CALLS_TESTS),
    }
}
