//! Connections of somebody who does not know the secret.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pp_protocol::handshake::HandshakeError;
use pp_protocol::limits::HANDSHAKE_TIME;
use pp_tests::process::SECRET;
use pp_tests::wait::PATIENCE;

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
    assert!(matches!(daemon.authenticate("wrong"), Err(HandshakeError::SecretMismatch)));
    let log = daemon.process.wait_for_stderr("secrets differ");
    assert!(log.contains("127.0.0.1") && log.contains("WARN"), "{log}");
    daemon.process.kill();
    assert!(!daemon.process.stderr().contains("panicked"), "{}", daemon.process.stderr());
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
