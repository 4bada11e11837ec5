//! Several programs in one session: each node runs those it can.

use std::any::{Any, TypeId};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pp_dispatcher::client::{Address, Call, Client, Outcome, ProgramFiles, Settings, Settle, Wakes};
use pp_dispatcher::{Dispatcher, JobId, NodeState, built_in};
use pp_node::Workers;
use pp_node::functions::{Registry, function_id};
use pp_protocol::secret::Secret;
use pp_protocol::values::{Source, encode_arguments};
use pp_protocol::{FunctionId, Payload, ProgramId, Target};
use pp_tests::process::{self, Process, SECRET, Server, example};
use pp_tests::wait::{PATIENCE, wait_within};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::jobs;
use crate::within::Within;

/// Place where an ELF file says for which processor it is, and its value for a RISC-V.
const MACHINE: usize = 18;
const RISC_V: [u8; 2] = [243, 0];

const SECOND: ProgramId = ProgramId(2);
const THIRD: ProgramId = ProgramId(3);

pub(crate) fn a_node_that_refuses_one_of_several_programs_runs_the_others() {
    let server = Server::start(2);
    let directory = tempfile::tempdir().expect("a directory");
    let fib = example("fib");
    let elsewhere = built_for_another_machine(&fib, directory.path());
    let program = |own, build: &Path| ProgramFiles { own, builds: vec![build.to_owned()] };
    let own = ProgramFiles { own: true, builds: Vec::new() };
    let client = client(&server, vec![own, program(false, &fib), program(false, &elsewhere)]);

    let refused = submit(&client, THIRD, fib_of_the_example(), &(10_u64,));
    let echo = submit(&client, ProgramId::BUILT_IN, number_of(&built_in::echo), &(vec![7_u8; 3],));
    let squared = submit(&client, ProgramId::FIRST, number_of(&jobs::square), &(12_u64,));
    let tenth = submit(&client, SECOND, fib_of_the_example(), &(10_u64,));
    assert_eq!(result::<Vec<u8>>(&echo), [7; 3]);
    assert_eq!(result::<u64>(&squared), 144);
    assert_eq!(result::<u64>(&tenth), 55);

    let node =
        client.stats().nodes.into_iter().find(|node| node.address == server.address()).expect("it is known");
    assert_eq!(node.state, NodeState::Connected, "{node:?}");
    assert!(
        node.reason.as_ref().is_some_and(|reason| reason.to_string().contains("linux/riscv64")),
        "{node:?}"
    );
    assert!(refused.try_recv().is_err(), "it waits for a node that can run it");
}

pub(crate) fn a_node_has_functions_of_its_own_and_is_sent_no_program_for_them() {
    let server = Server::start(1);
    let builder = jobs::builder([&server]).only_built_in(true);
    let dispatcher: Dispatcher = builder.start().expect("it starts");
    let echoed = dispatcher.submit(built_in::echo, (vec![1, 2, 3],)).wait();
    assert_eq!(echoed.expect("every node has it"), [1, 2, 3]);
    dispatcher.submit(built_in::sleep, (Duration::from_millis(1),)).wait().expect("every node has it");
    let refused =
        dispatcher.submit(jobs::square, (12,)).wait().expect_err("no node was offered this program");
    assert!(refused.to_string().contains("only_built_in"), "{refused}");
    assert!(!server.log().contains("asking for its program"), "nor asked for it: {}", server.log());
}

/// Commands need nothing of the dispatcher's there, so that it does not matter for which machine it was built.
pub(crate) fn a_node_of_another_architecture_runs_commands_with_an_empty_store() {
    let node = Within::start_as(Target::new("linux", "riscv64"), 2, Workers::Processes);
    let address = node.address().to_string();
    let home = tempfile::tempdir().expect("a directory");
    let mut ppctl = process::command(process::binary("ppctl"), home.path());
    ppctl.args([
        "run",
        "--not-node",
        ":",
        "--node",
        &address,
        "-k",
        "echo $PARALLEL_SSHHOST",
        ":::",
        "a",
        "b",
    ]);
    let mut run = Process::start(ppctl.env("PP_SECRET", SECRET).env("PP_DISCOVER", "0"));
    assert_eq!((run.wait().code(), run.stdout()), (Some(0), "within a\nwithin b".into()), "{}", run.stderr());
    assert!(node.programs().is_empty());
    let builder = Dispatcher::builder().discover(false).node(address).secret(SECRET).local_workers(0);
    let dispatcher = builder.start().expect("it starts");
    let why = wait_within(PATIENCE, "the node to refuse this program", || {
        let nodes = dispatcher.nodes();
        let refusing = nodes.iter().find(|node| node.state == NodeState::Refused);
        refusing.map(ToString::to_string)
    });
    assert!(why.contains("linux/riscv64"), "{why}");
    let output = dispatcher.command("echo").arg("here").submit().wait().expect("it runs all the same");
    assert_eq!((&output.stdout[..], node.programs()), (&b"here\n"[..], vec![]));
}

/// A copy of an executable that says it was built for another kind of machine.
fn built_for_another_machine(program: &Path, directory: &Path) -> PathBuf {
    let mut bytes = std::fs::read(program).expect("it can be read");
    bytes[MACHINE..MACHINE + 2].copy_from_slice(&RISC_V);
    let path = directory.join("fib");
    std::fs::write(&path, bytes).expect("it can be written");
    path
}

pub(crate) fn client(server: &Server, programs: Vec<ProgramFiles>) -> Client {
    let settings = Settings {
        nodes: vec![Address::parse(&server.address()).expect("it is an address")],
        secret: Some(Secret::parse(SECRET).expect("it is a secret").into()),
        ..Settings::new(0, programs)
    };
    Client::start(settings).expect("it starts")
}

/// Sends what it is told.
struct Ticket(mpsc::SyncSender<Outcome>);

impl Settle for Ticket {
    fn accepted(&self, _: JobId) {}

    fn settle(&self, outcome: Outcome, _: &mut Wakes) -> Option<Outcome> {
        let _ = self.0.try_send(outcome);
        None
    }

    fn call_back(&self, _: Outcome) {}
}

pub(crate) fn submit<A: Serialize>(
    client: &Client,
    program: ProgramId,
    function: FunctionId,
    args: &A,
) -> mpsc::Receiver<Outcome> {
    let mut bytes = Vec::new();
    encode_arguments(args, &mut bytes).expect("they can be encoded");
    let (tell, told) = mpsc::sync_channel(1);
    let call = Call { program, function, args: Payload::from(bytes), options: None };
    client.handle().submit(call, Arc::new(Ticket(tell)), None);
    told
}

fn result<R: DeserializeOwned + 'static>(told: &mpsc::Receiver<Outcome>) -> R {
    let outcome = wait_within(PATIENCE, "an outcome", || told.try_recv().ok());
    Source::new(&outcome.expect("it succeeds")).take().expect("it is what the function yields")
}

pub(crate) fn number_of<F: Any>(_: &F) -> FunctionId {
    let registry = Registry::of_this_program().expect("names differ");
    registry.item(TypeId::of::<F>()).expect("it is registered")
}

/// The function of the example `fib`, which is not part of this program.
fn fib_of_the_example() -> FunctionId {
    function_id(concat!("fib::fib ", env!("CARGO_PKG_VERSION")))
}
