//! Nodes that cannot be used: each says why, and what to do; nothing hangs.

use pp_dispatcher::{ClusterEvent, Dispatcher, NodeInfo, NodeState};
use pp_protocol::connection::{self, Transport};
use pp_protocol::handshake::{self, HandshakeError};
use pp_protocol::secret::Secret;
use pp_protocol::{
    Digest, FromNode, Hello, ProgramBuild, ProgramId, ProgramOffer, ProgramRefusal, ProgramStatus, Role,
    SessionId, Target, ToNode, Version, VersionRange,
};
use pp_tests::process::{OTHER_SECRET, Process, SECRET, Server, command, example};
use pp_tests::wait::{PATIENCE, wait_within};

use crate::fake::{self, Manner};
use crate::jobs::{builder, only_node, square};
use crate::within::Within;

/// Makes this program one that does not call `init()`.
pub(crate) const FORGETFUL: &str = "CLUSTER_TEST_FORGETFUL";
/// Argument with which the program that forgets does call it.
const REMEMBERED: &str = "--remembered";

/// Waits until the only node is refused or unreachable.
fn unused(dispatcher: &Dispatcher) -> NodeInfo {
    wait_within(PATIENCE, "the node not to be used", || {
        let node = only_node(dispatcher);
        matches!(node.state, NodeState::Refused | NodeState::Unreachable).then_some(node)
    })
}

fn reason(node: &NodeInfo) -> String {
    node.reason.as_ref().expect("there is a reason").to_string()
}

pub(crate) fn another_secret_is_refused_and_says_what_to_do() {
    let mut server = Server::start(1);
    let dispatcher = builder([&server]).secret(OTHER_SECRET).start().expect("it starts");
    let events = dispatcher.events();
    let job = dispatcher.submit(square, (2,));
    let node = unused(&dispatcher);
    assert_eq!(node.state, NodeState::Refused);
    assert!(reason(&node).contains("secrets differ") && reason(&node).contains("PP_SECRET"), "{node}");
    server.process().wait_for_stderr("secrets differ");
    let stalled = wait_within(PATIENCE, "word that jobs wait", || {
        events.try_next().filter(|event| matches!(event, ClusterEvent::Stalled { .. }))
    });
    assert!(stalled.to_string().contains("secrets differ"), "{stalled}");
    assert!(!job.has_ended(), "a node may still come");
    job.cancel();
    assert!(job.wait().is_err());
}

pub(crate) fn another_protocol_version_is_refused_by_either_side() {
    let ninth = VersionRange { oldest: Version(9), newest: Version(9) };
    let address = fake::node(Manner::Speaks(ninth));
    let dispatcher = builder([]).node(address.to_string()).start().expect("it starts");
    let node = unused(&dispatcher);
    assert_eq!(node.state, NodeState::Refused);
    assert!(reason(&node).contains("protocol version 9") && reason(&node).contains("same release"), "{node}");

    let mut server = Server::start(1);
    let refused = with_runtime(async {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.expect("it listens");
        let secret = Secret::parse(SECRET).expect("it is a secret");
        handshake::initiate_speaking(&mut stream, &secret, Role::Dispatcher, ninth).await
    });
    assert!(matches!(refused, Err(HandshakeError::VersionMismatch { .. })), "{refused:?}");
    server.process().wait_for_stderr("it speaks protocol version 9");
}

fn with_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

pub(crate) fn a_program_for_another_architecture_is_refused_by_a_node() {
    let daemon = Within::start(1);
    let elsewhere = Target::new("linux", "riscv64");
    let build =
        ProgramBuild { digest: Digest([7; 32]), target: elsewhere.clone(), bytes: 1, name: "program".into() };
    let offer = ProgramOffer { program: ProgramId::FIRST, builds: vec![build] };
    let hello =
        Hello { session: SessionId::random(), name: "a test".into(), resume: None, fresh_workers: false };
    let refusal = with_runtime(async {
        let mut stream = tokio::net::TcpStream::connect(daemon.address()).await.expect("it listens");
        let secret = Secret::parse(SECRET).expect("it is a secret");
        let established =
            handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("it is known");
        let (reader, writer) = stream.into_split();
        let Transport { sender, mut receiver, .. } =
            connection::over::<_, _, ToNode, FromNode>(reader, writer, established.keys);
        sender.send(ToNode::Hello(Box::new(hello))).expect("it is connected");
        sender.send(ToNode::Offer(offer)).expect("it is connected");
        while let Some(Ok(messages)) = receiver.recv().await {
            for message in messages {
                if let FromNode::Program(ProgramId::FIRST, ProgramStatus::Refused(refusal)) = message {
                    return Some(refusal);
                }
            }
        }
        None
    });
    let expected = ProgramRefusal::WrongTarget { node: Target::here(), offered: vec![elsewhere] };
    assert_eq!(refusal, Some(expected));
}

pub(crate) fn a_dispatcher_says_why_a_node_does_not_run_its_program() {
    let node = Target::new("linux", "riscv64");
    let refusal = ProgramRefusal::WrongTarget { node, offered: vec![Target::here()] };
    let address = fake::node(Manner::Refuses(refusal));
    let dispatcher = builder([]).node(address.to_string()).local_workers(1).start().expect("it starts");
    let node = unused(&dispatcher);
    assert_eq!(node.state, NodeState::Refused);
    assert!(reason(&node).contains("riscv64") && reason(&node).contains("Builder::program"), "{node}");
    assert_eq!(dispatcher.submit(square, (6,)).wait(), Ok(36), "the other cores do the work");
}

pub(crate) fn what_is_not_a_ppserver_is_told_apart_from_nothing() {
    let web_server = Manner::Says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let with_tls = Manner::Says(b"\x15\x03\x01\x00\x02\x02\x46");
    for other in [web_server, with_tls, Manner::Echoes] {
        let dispatcher = builder([]).node(fake::node(other).to_string()).start().expect("it starts");
        let node = unused(&dispatcher);
        assert_eq!(node.state, NodeState::Refused);
        assert!(reason(&node).contains("not a ppserver"), "{node}");
    }
    let says_nothing = fake::node(Manner::Says(b""));
    let dispatcher = builder([]).node(says_nothing.to_string()).start().expect("it starts");
    let node = unused(&dispatcher);
    assert_eq!(node.state, NodeState::Unreachable);
    assert!(reason(&node).contains("is it a ppserver?"), "{node}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = nobody.expect("a port that was free just now");
    let dispatcher = builder([]).node(nobody.to_string()).start().expect("it starts");
    let node = unused(&dispatcher);
    assert_eq!(node.state, NodeState::Unreachable);
    assert!(reason(&node).contains("no ppserver listens there"), "{node}");
}

/// Work of the program instead of calling `init()`, or before it.
pub(crate) fn forget_init() {
    if std::env::args().nth(1).is_some_and(|argument| argument == REMEMBERED) {
        // Its workers are started without arguments.
        pp_dispatcher::init();
    }
    let dispatcher = match Dispatcher::builder().local_workers(1).start() {
        Ok(dispatcher) => dispatcher,
        Err(error) => {
            eprintln!("cannot start: {error}");
            std::process::exit(3);
        }
    };
    match dispatcher.submit(square, (2,)).wait_timeout(PATIENCE) {
        Ok(result) => println!("{result:?}"),
        Err(_) => println!("it hangs"),
    }
}

pub(crate) fn a_program_that_forgets_init_is_told_so_before_it_starts_a_worker() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = command(std::env::current_exe().expect("a path"), home.path());
    let mut forgetful = Process::start(command.env(FORGETFUL, "1"));
    forgetful.wait();
    let said = forgetful.stderr();
    assert!(said.contains("cannot start") && said.contains("pp_dispatcher::init()"), "{said}");
    assert!(said.contains("in_process(true)"), "{said}");
}

pub(crate) fn a_program_that_calls_init_only_at_times_is_told_by_its_workers() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = command(std::env::current_exe().expect("a path"), home.path());
    let mut forgetful = Process::start(command.arg(REMEMBERED).env(FORGETFUL, "1"));
    forgetful.wait();
    let said = forgetful.stdout();
    assert!(said.contains("Lost") && said.contains("pp_dispatcher::init()"), "{said}{}", forgetful.stderr());
}

pub(crate) fn a_dispatcher_without_a_secret_says_where_to_get_one() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = command(example("fib"), home.path());
    command
        .args(["3..4"])
        .env("PP_DISCOVER", "0")
        .env("PP_LOCAL_WORKERS", "0")
        .env("PP_NODES", "127.0.0.1:9");
    let fib = Process::start(&mut command);
    let line = fib.wait_for_stderr("a job waits and no node can run it");
    assert!(line.contains("no secret here") && line.contains(".config/ppserver/secret"), "{line}");
    assert!(!fib.stdout().contains("fib 3"), "nothing ran");
}
