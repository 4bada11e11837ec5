//! The client beneath the dispatcher: calls by number, arguments and results that are bytes, tickets of whoever submits.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use pp_dispatcher::client::{Call, Client, Failed, Outcome, ProgramFiles, Settings, Settle, Wakes};
use pp_dispatcher::{JobId, job};
use pp_node::functions::{Registry, function_id};
use pp_protocol::values::{Source, encode_arguments};
use pp_protocol::{FunctionId, Payload, ProgramId};

#[job]
fn double(n: u64) -> u64 {
    2 * n
}

/// Sends what it is told, and takes a callback if asked to.
struct Ticket {
    sender: Mutex<mpsc::Sender<(&'static str, Outcome)>>,
    with_callback: bool,
}

impl Ticket {
    fn new(with_callback: bool) -> (Arc<Self>, mpsc::Receiver<(&'static str, Outcome)>) {
        let (sender, told) = mpsc::channel();
        (Arc::new(Self { sender: Mutex::new(sender), with_callback }), told)
    }

    fn record(&self, what: &'static str, outcome: Outcome) {
        let sender = self.sender.lock().expect("nobody panicked with it");
        sender.send((what, outcome)).expect("somebody listens");
    }
}

impl Settle for Ticket {
    fn accepted(&self, _: JobId) {}

    fn settle(&self, outcome: Outcome, _: &mut Wakes) -> Option<Outcome> {
        self.record("settled", outcome.clone());
        self.with_callback.then_some(outcome)
    }

    fn call_back(&self, outcome: Outcome) {
        self.record("called back", outcome);
    }
}

fn client() -> Client {
    let programs = vec![ProgramFiles { own: true, builds: Vec::new() }];
    let settings = Settings { in_process: true, ..Settings::new(1, programs) };
    Client::start(settings).expect("it starts")
}

fn call(function: FunctionId, n: u64) -> Call {
    let mut args = Vec::new();
    encode_arguments(&(n,), &mut args).expect("a number");
    Call { program: ProgramId::FIRST, function, args: Payload::from(bytes::Bytes::from(args)), options: None }
}

fn number_of<F: Any>(_: &F) -> FunctionId {
    let registry = Registry::of_this_program().expect("names differ");
    registry.item(TypeId::of::<F>()).expect("it is registered")
}

#[test]
fn a_call_by_number_is_settled_with_the_bytes_of_its_result() {
    let client = client();
    let (ticket, told) = Ticket::new(true);
    let group = client.group("a group");
    client.handle().submit(call(number_of(&double), 21), ticket, Some(&group));
    assert!(client.wait(Some(Duration::from_secs(60))), "its callback has returned");
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["settled", "called back"]);
    for (_, outcome) in told {
        assert_eq!(Source::new(&outcome.unwrap()).take::<u64>().unwrap(), 42);
    }
}

#[test]
fn what_does_not_come_to_a_result_is_settled_as_data() {
    let client = client();
    let fails = |function| {
        let (ticket, told) = Ticket::new(false);
        client.handle().submit(call(function, 21), ticket, None);
        *told.recv_timeout(Duration::from_secs(60)).unwrap().1.unwrap_err()
    };
    let nobodys = function_id("nobody's");
    assert_eq!(fails(nobodys), Failed::UnknownFunction(nobodys));
    client.shutdown();
    assert_eq!(fails(nobodys), Failed::ShutDown);
    let (ticket, told) = Ticket::new(false);
    client.handle().refuse(ticket, None);
    assert_eq!(told.try_recv().unwrap().1, Err(Box::new(Failed::ShutDown)));
}
