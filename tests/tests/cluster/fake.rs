//! A node that answers as it is told, to see what dispatchers make of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use pp_protocol::connection::{self, Transport};
use pp_protocol::handshake;
use pp_protocol::secret::Secret;
use pp_protocol::{
    FromNode, NodeId, NodeStatus, ProgramId, ProgramRefusal, ProgramStatus, Target, ToNode, VersionRange,
    Welcome,
};
use pp_tests::process::SECRET;

/// Manner of a fake node with whoever connects.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Speaks only these versions.
    Speaks(VersionRange),
    /// Welcomes the session and then has no use for its program.
    Refuses(ProgramRefusal),
    /// Says this to whoever connects, and closes the connection.
    Says(&'static [u8]),
    /// Sends back what it gets.
    Echoes,
}

/// Listens on loopback for as long as the tests run.
pub(crate) fn node(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // A peer that has gone away already is none of its concern.
            match manner {
                Manner::Says(answer) => {
                    let _ = stream.read(&mut [0; 64]);
                    let _ = stream.write_all(answer);
                    continue;
                }
                Manner::Echoes => {
                    let _ = std::io::copy(&mut &stream, &mut &stream);
                    continue;
                }
                Manner::Speaks(_) | Manner::Refuses(_) => {}
            }
            stream.set_nonblocking(true).expect("a socket");
            runtime.block_on(answer(stream, &manner));
        }
    });
    address
}

async fn answer(stream: std::net::TcpStream, manner: &Manner) {
    let mut stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
    let versions = if let Manner::Speaks(versions) = manner { *versions } else { VersionRange::SPOKEN };
    let secrets = [Secret::parse(SECRET).expect("it is a secret")];
    let Ok(established) = handshake::respond_speaking(&mut stream, &secrets, versions).await else { return };
    let (reader, writer) = stream.into_split();
    let Transport { sender, mut receiver, .. } =
        connection::over::<_, _, FromNode, ToNode>(reader, writer, established.keys);
    let Some(Ok(messages)) = receiver.recv().await else { return };
    let Some(ToNode::Hello(_)) = messages.first() else { return };
    let welcome = Welcome {
        node: NodeId::random(),
        name: "fake".into(),
        software: "fake".into(),
        libc: String::new(),
        confinement: "none".into(),
        target: Target::new("linux", "riscv64"),
        resumed: false,
        held: Vec::new(),
        window: 8,
        status: NodeStatus { slots: 2, cpus: 2, ..NodeStatus::default() },
    };
    let _ = sender.send(FromNode::Welcome(Box::new(welcome)));
    if let Manner::Refuses(refusal) = manner {
        let _ = sender.send(FromNode::Program(ProgramId::FIRST, ProgramStatus::Refused(refusal.clone())));
    }
    while receiver.recv().await.is_some_and(|received| received.is_ok()) {}
}
