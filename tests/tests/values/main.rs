//! Values that `serde` serialises arrive as they were sent, or is refused in words that help; never as anything else.
//!
//! Each value goes there and back through a worker process and through a worker in this process.

mod refused;
mod shapes;

use pp_dispatcher::{Dispatcher, JobFunction, Output};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The ways to a job.
struct Ways {
    process: Dispatcher,
    thread: Dispatcher,
}

impl Ways {
    fn start() -> Self {
        let start = |in_process| {
            let builder = Dispatcher::builder().discover(false).local_workers(1).in_process(in_process);
            builder.output(Output::EventsOnly).start().expect("it starts")
        };
        Self { process: start(false), thread: start(true) }
    }

    fn each(&self) -> [&Dispatcher; 2] {
        [&self.process, &self.thread]
    }
}

/// Claim that a value sent to `echo` comes back as it was.
fn same<T, F>(ways: &Ways, echo: F, value: T)
where
    T: Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
    F: JobFunction<(T,), Output = T>,
{
    for dispatcher in ways.each() {
        match dispatcher.submit(echo, (value.clone(),)).wait() {
            Ok(back) => assert_eq!(back, value),
            Err(error) => panic!("{value:?}: {error}"),
        }
    }
}

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(pp_tests::tests![
        shapes::every_shape_arrives_as_it_was_sent,
        refused::what_cannot_be_sent_is_refused_with_type_field_and_remedy,
        refused::a_recursion_without_end_is_an_error_on_both_sides,
        refused::lists_of_nothing_without_end_are_refused_at_once,
    ]);
}
