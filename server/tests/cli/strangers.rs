//! Connections of somebody who does not know the secret.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pp_protocol::connection;
use pp_protocol::handshake::{self, HandshakeError};
use pp_protocol::limits::HANDSHAKE_TIME;
use pp_protocol::secret::Secret;
use pp_protocol::{FromNode, Hello, Role, SessionId, ToNode};
use pp_tests::process::{self, OTHER_SECRET, SECRET};
use pp_tests::wait::PATIENCE;
use tokio::net::TcpSocket;

use crate::{Daemon, home};

/// Sends `bytes`, and yields how long the daemon took to close the connection and how much it answered.
fn closed_after(daemon: &Daemon, bytes: &[u8]) -> (Duration, usize) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(daemon.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
    // It may have closed the connection before everything was written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it was not closed"),
    }
    (started.elapsed(), answer.len())
}

#[test]
fn garbage_is_answered_by_closing_the_connection_and_the_daemon_lives_on() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &["-d"]);
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let samples: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n",
        &noise,
        &[0xff; 70_000],
        b"ppsv\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for sample in samples {
        let (time, answered) = closed_after(&daemon, sample);
        assert!(time < HANDSHAKE_TIME / 2, "{time:?} after {:?}", &sample[..12]);
        assert!(answered < 64, "{answered} bytes were told to somebody unknown");
    }
    assert!(daemon.authenticate(SECRET).is_ok(), "it lives on: {}", daemon.process.stderr());
    assert!(matches!(daemon.authenticate(OTHER_SECRET), Err(HandshakeError::SecretMismatch)));
    let log = daemon.process.wait_for_stderr("secrets differ");
    assert!(log.contains("127.0.0.1") && log.contains("WARN"), "{log}");
    daemon.process.kill();
    assert!(!daemon.process.stderr().contains("panicked"), "{}", daemon.process.stderr());
}

#[test]
fn of_strangers_who_talk_nonsense_one_line_is_logged_and_of_those_who_only_look_none() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &[]);
    for _ in 0..20 {
        closed_after(&daemon, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // As the probes of container platforms do.
        drop(TcpStream::connect(daemon.address).expect("it listens"));
    }
    assert!(daemon.authenticate(SECRET).is_ok());
    let line = daemon.process.wait_for_stderr("no greeting of a dispatcher");
    assert!(line.contains("INFO") && line.contains("127.0.0.1"), "{line}");
    daemon.process.kill();
    let log = daemon.process.stderr();
    assert_eq!(log.matches("refused").count(), 1, "{log}");
    assert!(!log.contains("check host and port"), "that is for whoever dials: {log}");
}

#[test]
fn somebody_who_says_nothing_is_not_waited_for_and_keeps_nobody_out() {
    let home = home();
    let daemon = Daemon::start(home.path(), &[]);
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(daemon.address).expect("it listens")).collect();
    assert!(daemon.authenticate(SECRET).is_ok(), "others are served meanwhile");
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
        assert_eq!(stream.read(&mut [0; 1]).expect("it is closed, not left"), 0);
    }
    assert!(daemon.authenticate(SECRET).is_ok());
}

#[test]
fn strangers_that_hold_every_descriptor_keep_nobody_out_and_the_log_short() {
    let home = home();
    let mut command = process::command("prlimit", home.path());
    command.args(["--nofile=64", env!("CARGO_BIN_EXE_ppserver")]).env("PP_SECRET", SECRET);
    let mut daemon = Daemon::start_as(&mut command);
    let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(daemon.address).expect("it listens")).collect();
    let started = Instant::now();
    for _ in 0..3 {
        assert!(daemon.authenticate(SECRET).is_ok());
    }
    assert!(started.elapsed() < Duration::from_secs(2), "others waited {:?}", started.elapsed());
    drop(silent);
    daemon.process.kill();
    let lines = daemon.process.stderr();
    assert!(lines.contains("more than 8 connections of its network have not proved"), "{lines}");
    assert!(lines.lines().count() < 10, "{lines}");
}

#[test]
fn however_many_places_strangers_come_from_the_log_is_short() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let secret = Secret::parse("another secret, which is wrong").expect("a secret");
    for host in 1..=250_u8 {
        let refused = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(([127, 0, 7, host], 0).into())?;
            handshake::initiate(&mut socket.connect(daemon.address).await?, &secret, Role::Dispatcher).await
        });
        assert!(matches!(refused, Err(HandshakeError::SecretMismatch)), "{refused:?}");
    }
    let counted = daemon.process.wait_for_stderr("more connections came to nothing");
    assert!(daemon.authenticate(SECRET).is_ok(), "others are served");
    daemon.process.kill();
    let log = daemon.process.stderr();
    let lines = log.lines().filter(|line| line.contains("refused: the secrets differ")).count();
    assert!((20..30).contains(&lines), "{lines} lines:\n{log}");
    assert!(counted.contains("WARN"), "{counted}");
}

#[test]
fn lines_that_repeat_are_counted_instead_of_written() {
    let home = home();
    let mut daemon = Daemon::start(home.path(), &[]);
    for _ in 0..50 {
        assert!(matches!(daemon.authenticate(OTHER_SECRET), Err(HandshakeError::SecretMismatch)));
    }
    let counted = daemon.process.wait_for_stderr("and 49 more like this");
    assert!(counted.contains("secrets differ") && counted.contains("127.0.0.1"), "{counted}");
    daemon.process.kill();
    assert_eq!(daemon.process.stderr().matches("secrets differ").count(), 2, "{}", daemon.process.stderr());
}

#[test]
fn without_any_descriptor_left_whoever_comes_is_told_so_at_once_and_it_goes_on_when_there_are() {
    let home = home();
    let mut command = process::command("prlimit", home.path());
    command.args(["--nofile=40", env!("CARGO_BIN_EXE_ppserver"), "-k", "60"]).env("PP_SECRET", SECRET);
    let mut daemon = Daemon::start_as(&mut command);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connect = async || {
        let mut stream = tokio::net::TcpStream::connect(daemon.address).await?;
        let secret = Secret::parse(SECRET).expect("a secret");
        let keys = handshake::initiate(&mut stream, &secret, Role::Operator).await?.keys;
        let (reader, writer) = stream.into_split();
        let mut transport = connection::over::<_, _, ToNode, FromNode>(reader, writer, keys);
        let hello = Hello {
            session: SessionId::random(),
            name: "operator".into(),
            resume: None,
            fresh_workers: false,
        };
        // Only whoever has said something sealed is no stranger.
        let _ = transport.sender.send(ToNode::Hello(Box::new(hello)));
        transport.receiver.recv().await.and_then(Result::ok).ok_or(HandshakeError::Closed)?;
        Ok::<_, HandshakeError>(transport)
    };
    runtime.block_on(async {
        // These are no strangers: they know the secret, and nobody makes them give way.
        let mut held = Vec::new();
        while held.len() < 64
            && let Ok(transport) = connect().await
        {
            held.push(transport);
        }
        assert!((8..40).contains(&held.len()), "{}", held.len());
        for _ in 0..20 {
            let started = Instant::now();
            assert!(connect().await.is_err());
            assert!(started.elapsed() < Duration::from_secs(2), "waited {:?}", started.elapsed());
        }
        drop(held);
        let open = format!("/proc/{}/fd", daemon.process.id().as_raw_nonzero());
        let room = async {
            while std::fs::read_dir(&open).is_ok_and(|open| open.count() >= 30) {
                // The connections are closed by tasks of this thread.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, room).await.expect("there is room again");
        assert!(connect().await.is_ok(), "{}", daemon.process.stderr());
    });
    daemon.process.kill();
    let log = daemon.process.stderr();
    assert!(log.contains("no room for another connection") && log.contains("ulimit -n"), "{log}");
    assert!(log.lines().count() < 8, "{log}");
}
