//! Peers that know the secret and take more than they were given: they are told so, the node's memory and disk stay what they
//! were, and honest work beside them loses nothing.

use std::time::Duration;

use pp_dispatcher::Dispatcher;
use pp_protocol::connection::{self, Transport};
use pp_protocol::secret::Secret;
use pp_protocol::{
    Attempt, AttemptId, Digest, FromNode, FunctionId, Hello, JobId, Payload, ProgramBuild, ProgramId,
    ProgramOffer, Role, SessionId, Target, ToNode, handshake,
};
use pp_tests::process::{SECRET, Server, resident};
use pp_tests::wait::{wait_until, wait_within};
use tokio::runtime::Runtime;

use crate::jobs::{dispatcher, square};

const PROGRAM: ProgramId = ProgramId::FIRST;

/// A peer that says whatever it likes.
struct Peer {
    runtime: Runtime,
    transport: Transport<ToNode, FromNode>,
    /// What it was told, and how its connection ended.
    told: Vec<FromNode>,
    end: Option<String>,
}

impl Peer {
    fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let transport = runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
            let secret = Secret::parse(SECRET).expect("it is a secret");
            let keys = handshake::initiate(&mut stream, &secret, Role::Dispatcher).await.expect("known").keys;
            let (reader, writer) = stream.into_split();
            connection::over(reader, writer, keys)
        });
        Self { runtime, transport, told: Vec::new(), end: None }
    }

    /// One that has greeted.
    fn dispatcher(server: &Server) -> Self {
        let mut peer = Self::connect(&server.address());
        peer.say(ToNode::Hello(Box::new(Hello {
            session: SessionId::random(),
            name: "greedy".into(),
            resume: None,
            fresh_workers: false,
        })));
        peer.hear("to be welcomed", |message| matches!(message, FromNode::Welcome(_)));
        peer
    }

    fn say(&self, message: ToNode) {
        // It is no news if it is cut off meanwhile.
        let _ = self.transport.sender.send(message);
    }

    /// Takes what has arrived, and waits for a moment if that is nothing.
    fn listen(&mut self) {
        let received = self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(20), self.transport.receiver.recv()).await
        });
        match received {
            Ok(Some(Ok(messages))) => {
                for message in messages {
                    if let FromNode::Ping(number) = message {
                        self.say(ToNode::Pong(number));
                    }
                    self.told.push(message);
                }
            }
            Ok(Some(Err(reason))) => self.end = Some(reason.to_string()),
            Ok(None) => drop(self.end.get_or_insert("it has ended".into())),
            Err(_) => {}
        }
    }

    fn hear(&mut self, what: &str, is_it: impl Fn(&FromNode) -> bool) {
        wait_until(what, || {
            self.listen();
            self.told.iter().any(&is_it)
        });
    }

    /// Offers a program that the node does not have and asks for.
    fn offer(&mut self, id: u16, digest: Digest, bytes: u64) {
        let build = ProgramBuild { digest, target: Target::here(), bytes, name: "anything".into() };
        self.say(ToNode::Offer(ProgramOffer { program: ProgramId(id), builds: vec![build] }));
    }
}

fn pid(server: &mut Server) -> u32 {
    server.process().id().as_raw_nonzero().get() as u32
}

fn attempt(job: u32, args: Payload) -> Attempt {
    let id = AttemptId { job: JobId::new(job, 0), number: 1 };
    Attempt { id, program: PROGRAM, function: FunctionId(1), time_limit_ns: 0, args }
}

/// Jobs of somebody honest, all the time until this is dropped.
struct HonestWork {
    dispatcher: Dispatcher,
    done: u64,
}

impl HonestWork {
    fn begin(server: &Server) -> Self {
        let mut work = Self { dispatcher: dispatcher([server]), done: 0 };
        work.goes_on();
        work
    }

    fn goes_on(&mut self) {
        for _ in 0..20 {
            assert_eq!(self.dispatcher.submit(square, (self.done,)).wait(), Ok(self.done * self.done));
            self.done += 1;
        }
    }

    /// Nothing was lost on the way.
    fn ends(mut self) {
        self.goes_on();
        let nodes = self.dispatcher.nodes();
        assert!(nodes.iter().all(|node| node.reason.is_none()), "{nodes:?}");
    }
}

pub(crate) fn three_hundred_arguments_of_a_mebibyte_at_a_window_of_two_are_refused_and_cost_no_memory() {
    let mut server = Server::start(2);
    let pid = pid(&mut server);
    let mut work = HonestWork::begin(&server);
    let before = resident(pid);
    let mut peer = Peer::dispatcher(&server);
    peer.offer(PROGRAM.0, Digest([9; 32]), 1 << 20);
    peer.hear("to be asked for the program", |message| matches!(message, FromNode::ProgramNeeded(_)));
    // They wait for it.
    for job in 0..300 {
        peer.say(ToNode::Run(vec![attempt(job, vec![7; 1 << 20].into())]));
    }
    let mut most = 0;
    let refusal = wait_within(Duration::from_secs(20), "to be refused", || {
        peer.listen();
        most = most.max(resident(pid).saturating_sub(before));
        let refused = peer.told.iter().find_map(|message| match message {
            FromNode::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        });
        refused.or_else(|| most.checked_sub(200 << 20).map(|_| format!("not at all, {most} bytes of memory")))
    });
    assert!(refusal.contains("more attempts than it may have here, which are 2 at most"), "{refusal}");
    assert!(most < 48 << 20, "{most} bytes of memory");
    work.goes_on();
    work.ends();
}
