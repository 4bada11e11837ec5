//! Finding of functions: by themselves and through pointers; and what is said where they cannot be found.

use std::sync::OnceLock;

use pp_dispatcher::{Dispatcher, JobError, Output, job};

#[job]
fn double(n: u64) -> u64 {
    2 * n
}

#[job]
fn triple(n: u64) -> u64 {
    3 * n
}

#[job]
fn length(text: String) -> usize {
    text.len()
}

fn plain(n: u64) -> u64 {
    n + 17
}

/// Tries to start a dispatcher, and yields what it is told.
#[job]
fn start_a_dispatcher() -> String {
    match Dispatcher::builder().local_workers(1).start() {
        Ok(_) => "it starts".into(),
        Err(error) => error.to_string(),
    }
}

fn dispatcher() -> &'static Dispatcher {
    static DISPATCHER: OnceLock<Dispatcher> = OnceLock::new();
    DISPATCHER.get_or_init(|| {
        let builder = Dispatcher::builder().discover(false).local_workers(2).output(Output::EventsOnly);
        builder.start().expect("it starts")
    })
}

fn a_pointer_to_a_function_is_followed() {
    for tripled in [false, true, false] {
        let function = if tripled { triple } else { double };
        let expected = if tripled { 15 } else { 10 };
        assert_eq!(dispatcher().submit(function, (5,)).wait(), Ok(expected));
        let results: Vec<_> =
            dispatcher().map(function, [5, 5]).map(|result| result.expect("a number")).collect();
        assert_eq!(results, [expected; 2]);
    }
    let functions: [fn(u64) -> u64; 2] = [double, triple];
    assert_eq!(functions.map(|function| dispatcher().submit(function, (2,)).wait()), [Ok(4), Ok(6)]);
    assert_eq!(dispatcher().submit(length as fn(String) -> usize, ("four".into(),)).wait(), Ok(4));
}

fn what_cannot_be_found_says_what_to_do() {
    let said = |error: JobError| {
        assert!(matches!(error, JobError::NotRegistered(_)), "{error}");
        error.to_string()
    };
    let error = said(dispatcher().submit(plain, (1,)).wait().expect_err("it has no #[job]"));
    assert!(error.contains("functions::plain") && error.contains("write #[job]"), "{error}");
    let error =
        said(dispatcher().submit(plain as fn(u64) -> u64, (1,)).wait().expect_err("it has no #[job]"));
    assert!(error.contains("pass the function itself") && !error.contains("write #[job]"), "{error}");
    let error = said(dispatcher().submit(|n: u64| n, (1,)).wait().expect_err("nobody finds it"));
    assert!(error.contains("a closure cannot be a job"), "{error}");
    let error =
        said(dispatcher().submit(std::convert::identity::<u64>, (1,)).wait().expect_err("it is generic"));
    assert!(error.contains("generic"), "{error}");
}

fn a_dispatcher_inside_a_job_is_refused_with_what_to_do_instead() {
    let said = dispatcher().submit(start_a_dispatcher, ()).wait().expect("it says something");
    assert!(said.contains("a job cannot start a dispatcher") && said.contains("callback"), "{said}");
    assert!(!said.contains("init()"), "that was called: {said}");
}

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![
        a_pointer_to_a_function_is_followed,
        what_cannot_be_found_says_what_to_do,
        a_dispatcher_inside_a_job_is_refused_with_what_to_do_instead,
    ]);
}
