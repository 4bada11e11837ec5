//! Peers that know the secret and say whatever they like, and somebody honest beside them.

use std::time::Duration;

use pp_dispatcher::Dispatcher;
use pp_protocol::connection::{self, Transport};
use pp_protocol::secret::Secret;
use pp_protocol::{
    Attempt, AttemptId, Digest, FromNode, FunctionId, Hello, JobId, Payload, ProgramBuild, ProgramId,
    ProgramOffer, Role, SessionId, Target, ToNode, handshake,
};
use pp_tests::process::{SECRET, Server};
use pp_tests::wait::wait_until;
use tokio::runtime::Runtime;

use crate::jobs::{dispatcher, square};

pub(crate) const PROGRAM: ProgramId = ProgramId::FIRST;

/// A peer that says whatever it likes.
pub(crate) struct Peer {
    runtime: Runtime,
    transport: Transport<ToNode, FromNode>,
    /// What it was told, and how its connection ended.
    pub(crate) told: Vec<FromNode>,
    end: Option<String>,
}

impl Peer {
    pub(crate) fn connect(address: &str) -> Self {
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
    pub(crate) fn dispatcher(server: &Server) -> Self {
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

    pub(crate) fn say(&self, message: ToNode) {
        // It is no news if it is cut off meanwhile.
        let _ = self.transport.sender.send(message);
    }

    /// Takes what has arrived, and waits for a moment if that is nothing.
    pub(crate) fn listen(&mut self) {
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

    pub(crate) fn hear(&mut self, what: &str, is_it: impl Fn(&FromNode) -> bool) {
        wait_until(what, || {
            self.listen();
            self.told.iter().any(&is_it)
        });
    }

    /// Offers a program that the node does not have and asks for.
    pub(crate) fn offer(&mut self, id: u16, digest: Digest, bytes: u64) {
        let build = ProgramBuild { digest, target: Target::here(), bytes, name: "anything".into() };
        self.say(ToNode::Offer(ProgramOffer { program: ProgramId(id), builds: vec![build] }));
    }
}

pub(crate) fn pid(server: &mut Server) -> u32 {
    server.process().id().as_raw_nonzero().get() as u32
}

pub(crate) fn attempt(job: u32, args: Payload) -> Attempt {
    let id = AttemptId { job: JobId::new(job, 0), number: 1 };
    Attempt { id, program: PROGRAM, function: FunctionId(1), time_limit_ns: 0, args }
}

/// Jobs of somebody honest, all the time until this is dropped.
pub(crate) struct HonestWork {
    dispatcher: Dispatcher,
    done: u64,
}

impl HonestWork {
    pub(crate) fn begin(server: &Server) -> Self {
        let mut work = Self { dispatcher: dispatcher([server]), done: 0 };
        work.goes_on();
        work
    }

    pub(crate) fn goes_on(&mut self) {
        for _ in 0..20 {
            assert_eq!(self.dispatcher.submit(square, (self.done,)).wait(), Ok(self.done * self.done));
            self.done += 1;
        }
    }

    /// Nothing was lost on the way.
    pub(crate) fn ends(mut self) {
        self.goes_on();
        let nodes = self.dispatcher.nodes();
        assert!(nodes.iter().all(|node| node.reason.is_none()), "{nodes:?}");
    }
}
