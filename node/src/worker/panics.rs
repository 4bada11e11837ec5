//! Panics of jobs: message, place and backtrace, recorded by the panic hook.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use pp_protocol::Panic;
use pp_protocol::limits::{TEXT_BYTES, cut};

thread_local! {
    /// Whether this thread runs jobs.
    static RECORDS: Cell<bool> = const { Cell::new(false) };
    /// The last panic on this thread.
    static RECORD: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Makes [`catch`] on this thread tell where a panic happened. The hook that was set before is still called, so the
/// usual message is written to standard error too.
pub(super) fn record_on_this_thread() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if RECORDS.get() {
                let panic = describe(info);
                RECORD.set(Some(panic));
            }
            before(info);
        }));
    });
    RECORDS.set(true);
}

/// Calls `job`; a panic becomes an error that describes it.
pub(super) fn catch<T>(job: impl FnOnce() -> T) -> Result<T, Panic> {
    // The job may leave its own data in a broken state, but it shares none with the worker: what it was given is
    // thrown away, and its result is only read if it returned.
    panic::catch_unwind(AssertUnwindSafe(job)).map_err(|payload| {
        let message = text_of(&*payload).unwrap_or(UNKNOWN_MESSAGE);
        let recorded = RECORD.take();
        // A panic that a job caught itself leaves a record too, which is not that of a panic resumed later on.
        let panic = recorded.filter(|panic| panic.message == cut(message, TEXT_BYTES));
        let panic = panic.unwrap_or_else(|| Panic::new(cut(message, TEXT_BYTES)));
        // Dropping what the job panicked with runs its code once more. What that panics with is never dropped: it could
        // panic again.
        if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(another);
        }
        panic
    })
}

const UNKNOWN_MESSAGE: &str = "a panic with a value that is not text";

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let backtrace = Backtrace::capture();
    let mut panic = Panic::new(cut(info.payload_as_str().unwrap_or(UNKNOWN_MESSAGE), TEXT_BYTES));
    panic.place = info.location().map(ToString::to_string);
    if backtrace.status() == BacktraceStatus::Captured {
        panic.backtrace = Some(cut(&backtrace.to_string(), TEXT_BYTES).into());
    }
    panic
}

fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_described_with_its_place() {
        record_on_this_thread();
        let panic = catch(|| panic!("seven is {}", 7)).unwrap_err();
        assert_eq!(panic.message, "seven is 7");
        let place = panic.place.unwrap();
        assert!(place.contains("panics.rs:"), "{place}");
        assert_eq!(catch(|| 5), Ok(5));
    }

    #[test]
    fn a_panic_resumed_is_not_described_by_an_earlier_one() {
        record_on_this_thread();
        let panic: Result<(), Panic> = catch(|| {
            let _ = panic::catch_unwind(|| panic!("caught by the job itself"));
            panic::resume_unwind(Box::new("resumed"))
        });
        let panic = panic.err().unwrap();
        assert_eq!((panic.message.as_str(), panic.place), ("resumed", None));
    }

    #[test]
    fn a_long_message_is_cut_and_a_value_that_is_not_text_is_named() {
        record_on_this_thread();
        assert_eq!(catch(|| panic!("{}", "x".repeat(2 * TEXT_BYTES))).unwrap_err().message.len(), TEXT_BYTES);
        assert_eq!(catch(|| panic::panic_any(5)).unwrap_err().message, UNKNOWN_MESSAGE);
    }

    #[test]
    fn a_value_that_panics_with_itself_when_dropped_is_one_panic() {
        struct Again;
        impl Drop for Again {
            fn drop(&mut self) {
                panic::panic_any(Again);
            }
        }
        record_on_this_thread();
        assert_eq!(catch(|| panic::panic_any(Again)).unwrap_err().message, UNKNOWN_MESSAGE);
        assert_eq!(catch(|| 5), Ok(5));
    }
}
