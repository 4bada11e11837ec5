//! The daemon as a library: within a program, at any free port, without a process of its own.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use pp_node::{NodeConfig, Workers};
use pp_protocol::Role;
use pp_protocol::handshake::{self, Established, HandshakeError};
use pp_protocol::secret::Secret;
use pp_tests::wait::PATIENCE;
use ppserver::{Daemon, Settings, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn settings(secret: &Secret) -> Settings {
    let mut node = NodeConfig::new("within", 1);
    node.workers = Workers::Threads;
    Settings { node, ..Settings::new(secret.clone()) }
}

async fn authenticate(address: SocketAddr, secret: &Secret) -> Result<Established, HandshakeError> {
    let mut stream = TcpStream::connect(address).await?;
    handshake::initiate(&mut stream, secret, Role::Operator).await
}

/// Waits until nothing listens there.
async fn is_closed(address: SocketAddr) {
    let closed = async {
        while !TcpStream::connect(address).await.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it lets go of its port");
}

#[tokio::test]
async fn several_daemons_are_served_within_a_program_until_they_are_told_to_stop() {
    let secrets = [Secret::random(), Secret::random()];
    let mut daemons = Vec::new();
    for secret in &secrets {
        let (listener, address) = listener().await;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, settings(secret), async { drop(stopped.await) }));
        daemons.push((address, stop, served));
    }
    for (n, (address, stop, served)) in daemons.into_iter().enumerate() {
        assert!(authenticate(address, &secrets[n]).await.is_ok());
        let other = authenticate(address, &secrets[1 - n]).await;
        assert!(matches!(other, Err(HandshakeError::SecretMismatch)), "each has a secret of its own");
        stop.send(()).expect("it runs");
        let ended = timeout(PATIENCE, served).await.expect("it ends").expect("it does not panic");
        assert!(ended.is_ok(), "{ended:?}");
        is_closed(address).await;
    }
}

#[tokio::test]
async fn a_daemon_that_is_dropped_ends_and_lets_go_of_its_port() {
    let secret = Secret::random();
    let (listener, address) = listener().await;
    let daemon = Daemon::start(listener, settings(&secret)).expect("it starts");
    assert_eq!(daemon.address(), address);
    assert!(authenticate(address, &secret).await.is_ok());
    let node = daemon.node().clone();
    drop(daemon);
    timeout(PATIENCE, node.ended()).await.expect("its node ends");
    is_closed(address).await;
}

#[tokio::test]
async fn a_daemon_that_was_idle_for_long_enough_ends_by_itself() {
    let settings = Settings { idle: Some(Duration::from_millis(20)), ..settings(&Secret::random()) };
    let (listener, _) = listener().await;
    let ended = timeout(PATIENCE, serve(listener, settings, std::future::pending())).await;
    assert!(ended.expect("it ends").is_ok());
}
