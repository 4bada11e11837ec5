//! A server on a real socket: what it answers, and what it lets anybody take.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_http::{Access, Allowed, Answer, Asked, Route, Site, Token, kind, limits, serve};
use tokio::sync::mpsc;

/// Time within which what is to happen does.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum What {
    Page,
    Live,
    Flood,
    Resize,
}

const ROUTES: &[Route<What>] = &[
    Route { path: "/", method: Allowed::Get, access: Access::Anybody, what: What::Page },
    Route { path: "/live", method: Allowed::Get, access: Access::Token, what: What::Live },
    Route { path: "/flood", method: Allowed::Get, access: Access::Token, what: What::Flood },
    Route { path: "/resize", method: Allowed::Post, access: Access::Token, what: What::Resize },
];

struct Server {
    address: SocketAddr,
    token: String,
}

impl Server {
    fn start() -> Self {
        let token = Token::random().expect("random numbers");
        let site = Site { routes: ROUTES, token: Some(token.clone()), names: Vec::new() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("it can be");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                serve(listener, site, respond).await;
            });
        });
        Self { address, token: token.text().to_owned() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be");
        stream
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        // One that it has had enough of is closed.
        let _ = stream.write_all(request.as_bytes());
        stream
    }

    /// Status and text of an answer.
    fn ask(&self, request: &str) -> (u16, String) {
        read(self.send(request))
    }

    fn get(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.address, self.token
        )
    }
}

async fn respond(asked: Asked<What>) -> Answer {
    match asked.what {
        What::Page => Answer::new(kind::HTML, "<!doctype html>"),
        What::Resize => Answer::new(kind::JSON, asked.body),
        What::Live => {
            let (pieces, taken) = mpsc::channel(limits::STREAM_PIECES);
            tokio::spawn(async move {
                while pieces.send(Bytes::from_static(b"{}\n")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            Answer::pieces(kind::LINES, taken)
        }
        What::Flood => {
            let (pieces, taken) = mpsc::channel(limits::STREAM_PIECES);
            tokio::spawn(async move { while pieces.send(Bytes::from(vec![b' '; 1 << 16])).await.is_ok() {} });
            Answer::pieces(kind::LINES, taken)
        }
    }
}

fn read(mut stream: TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut room) {
        answer.extend_from_slice(&room[..length]);
    }
    let answer = String::from_utf8(answer).expect("answers are text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[test]
fn what_the_guard_decides_is_what_a_socket_answers() {
    let server = Server::start();
    let (own, token) = (server.address.to_string(), format!("Bearer {}", server.token));
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut answered = 0;
    for method in methods {
        for path in ["/", "/resize", "/nothing"] {
            for token in [None, Some("Bearer 0"), Some(token.as_str())] {
                for host in [own.as_str(), "evil.example"] {
                    for origin in [None, Some(format!("http://{own}")), Some("https://evil.example".into())] {
                        let mut request = format!(
                            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                        );
                        for (name, value) in [("Origin", origin.as_deref()), ("Authorization", token)] {
                            let line = value.map(|value| format!("{name}: {value}\r\n"));
                            request.push_str(&line.unwrap_or_default());
                        }
                        let (status, answer) = server.ask(&format!("{request}Content-Length: 2\r\n\r\n{{}}"));
                        let is_ours =
                            host == own && origin.as_deref().is_none_or(|origin| origin.ends_with(&own));
                        let knows = token.is_some_and(|said| said.ends_with(&server.token));
                        let expected = is_ours
                            && matches!((method, path, knows), ("GET", "/", _) | ("POST", "/resize", true));
                        assert_eq!(status == 200, expected, "{request}\n{answer}");
                        assert!(status == 200 || (400..500).contains(&status), "{request}\n{answer}");
                        answered += u32::from(expected);
                    }
                }
            }
        }
    }
    assert_eq!(answered, 2 * (3 + 1));
}

#[test]
fn every_answer_says_what_it_is_and_what_a_page_may_do() {
    let server = Server::start();
    for (path, status) in [("/", 200), ("/nothing", 404)] {
        let (said, answer) = server.ask(&server.get(path));
        assert_eq!(said, status, "{answer}");
        let answer = answer.to_ascii_lowercase();
        for field in [
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cross-origin-resource-policy: same-origin\r\n",
            "connection: close\r\n",
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
        ] {
            assert!(answer.contains(field), "{field} is not in\n{answer}");
        }
        let kind = if status == 200 { kind::HTML } else { kind::TEXT };
        assert!(answer.contains(&format!("content-type: {kind}\r\n")), "{answer}");
    }
    let (status, answer) =
        server.ask(&format!("DELETE /resize HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
    assert!(status == 405 && answer.to_ascii_lowercase().contains("allow: post\r\n"), "{answer}");
}

#[test]
fn what_is_too_long_is_refused_and_keeps_nobody_waiting() {
    let server = Server::start();
    let long = "x".repeat(2 * limits::HEAD_BYTES);
    let (status, _) = server.ask(&format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {long}\r\n\r\n", server.address));
    assert!(matches!(status, 0 | 431), "{status}");
    let post = |length: usize, body: &str| {
        format!(
            "POST /resize HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            server.address, server.token
        )
    };
    let body = "x".repeat(limits::BODY_BYTES + 1);
    assert_eq!(server.ask(&post(body.len(), &body)).0, 413);
    assert_eq!(server.ask(&post(limits::BODY_BYTES, &body[1..])).0, 200);
    let began = Instant::now();
    assert_eq!(server.ask(&post(3, "no")).0, 408, "what does not arrive");
    assert!(began.elapsed() < limits::BODY_TIME + PATIENCE / 2);
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_and_are_closed_in_time() {
    let server = Server::start();
    let began = Instant::now();
    let mut silent: Vec<_> = (0..3 * limits::CONNECTIONS).map(|_| server.send("GET / HT")).collect();
    assert_eq!(server.ask(&server.get("/")).0, 200, "the oldest that asked for nothing gives way");
    let mut last = silent.pop().expect("there are some");
    assert_eq!(last.read(&mut [0]).ok(), Some(0), "it is closed");
    assert!(began.elapsed() >= limits::HEAD_TIME / 2, "not before its time");
}

#[test]
fn answers_without_end_leave_room_for_others_and_one_that_is_not_read_ends() {
    let server = Server::start();
    let mut live: Vec<_> = (0..limits::STREAMS).map(|_| server.send(&server.get("/live"))).collect();
    for stream in &mut live {
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("it is answered");
        assert_eq!(&begin, b"HTTP/1.1 200");
    }
    assert_eq!(server.ask(&server.get("/live")).0, 503);
    assert_eq!(server.ask(&server.get("/")).0, 200);
    // A place is free once whoever had it has left.
    drop(live);
    let until = Instant::now() + PATIENCE;
    let mut flood = loop {
        let mut stream = server.send(&server.get("/flood"));
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("it is answered");
        if &begin == b"HTTP/1.1 200" {
            break stream;
        }
        assert!(Instant::now() < until, "no place was given back");
    };
    // Nothing of it is taken for longer than that may be: what is left then is what was on its way.
    thread::sleep(limits::STALL_TIME + limits::STALL_TIME / 4);
    let mut room = vec![0; 1 << 20];
    let ended = loop {
        match flood.read(&mut room) {
            Ok(1..) => assert!(Instant::now() < until + PATIENCE, "it goes on for ever"),
            Ok(0) => break true,
            Err(error) => break error.kind() == ErrorKind::ConnectionReset,
        }
    };
    assert!(ended);
}
