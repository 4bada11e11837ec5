//! Requests over HTTP, byte by byte as they are said here.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::wait::PATIENCE;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status; 0 if there was no answer.
    pub status: u16,
    /// Its fields, in lower case.
    pub head: String,
    /// Its body, without the marks of pieces if it came in such.
    pub body: String,
}

/// Asks for `path` at `address`.
///
/// # Panics
/// When nothing listens there.
pub fn get(address: &str, path: &str) -> Answered {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// Sends a request as it is, and reads all that is answered.
///
/// # Panics
/// When nothing listens there.
pub fn ask(address: &str, request: &str) -> Answered {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be");
    // One that is refused may be closed before it is read.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
