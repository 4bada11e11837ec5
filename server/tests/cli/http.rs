//! `--http`: where it is served, to whom, and what is answered.

use std::net::{Ipv4Addr, TcpListener};

use pp_tests::http::{ask, get};
use pp_tests::process::SECRET;

use crate::{Daemon, Ended, home, ppserver, text};

fn address_in(line: &str) -> String {
    let (_, rest) = line.split_once("http://").expect("it says where");
    rest.split('/').next().expect("there is more").to_owned()
}

fn http_of(daemon: &Daemon) -> String {
    address_in(&daemon.process.wait_for_stderr("serves /metrics"))
}

#[test]
fn a_port_alone_is_served_on_loopback_and_a_variable_or_the_file_say_it_as_well() {
    let home = home();
    let config = home.path().join("ppserver.toml");
    std::fs::write(&config, "http = \"0\"\n").expect("it can be written");
    for (arguments, variable) in
        [(&["--http", "0"][..], None), (&[], Some("127.0.0.1:0")), (&["-c", text(&config)], None)]
    {
        let mut command = ppserver(home.path(), arguments);
        command.env("PP_SECRET", SECRET).envs(variable.map(|value| ("PP_HTTP", value)));
        let daemon = Daemon::start_as(&mut command);
        let http = http_of(&daemon);
        assert!(http.starts_with("127.0.0.1:"), "{http}");
        for (path, begin) in
            [("/healthz", "ok\n"), ("/readyz", "ok\n"), ("/metrics", "# HELP ppserver_build_info ")]
        {
            let answered = get(&http, path);
            assert!(answered.status == 200 && answered.body.starts_with(begin), "{answered:?}");
        }
    }
}

#[test]
fn nothing_listens_unless_it_is_asked_for() {
    let home = home();
    let daemon = Daemon::start(home.path(), &[]);
    assert!(!daemon.process.stderr().contains("http://"), "{}", daemon.process.stderr());
}

#[test]
fn it_is_answered_by_its_own_names_and_methods_only() {
    let home = home();
    let daemon = Daemon::start(home.path(), &["--http", "0.0.0.0:0"]);
    let port = http_of(&daemon).rsplit(':').next().expect("a port").to_owned();
    let http = format!("127.0.0.1:{port}");
    let status = |method: &str, path: &str, host: &str, rest: &str| {
        ask(&http, &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n")).status
    };
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for host in [http.as_str(), "localhost", &own] {
        assert_eq!(status("GET", "/metrics", host, ""), 200, "{host}");
    }
    for host in ["evil.example", "10.9.8.7", &format!("{own}.evil.example")] {
        assert_eq!(status("GET", "/metrics", host, ""), 421, "{host}");
    }
    for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert_eq!(status(method, path, &http, "Content-Length: 0\r\n"), 405, "{method} {path}");
        }
    }
    assert_eq!(status("GET", "/", &http, ""), 404);
    assert_eq!(status("GET", "/metrics", &http, "Origin: http://evil.example\r\n"), 403);
}

#[test]
fn an_address_that_makes_no_sense_or_is_taken_is_refused_with_what_does() {
    let home = home();
    let refused = |value: &str, parts: &[&str]| {
        let mut command = ppserver(home.path(), &["--http", value, "-p", "0", "-i", "127.0.0.1"]);
        let ended = Ended::of(command.env("PP_SECRET", SECRET));
        assert!(ended.code.is_some_and(|code| code != 0), "{value}");
        assert!(parts.iter().all(|part| ended.stderr.contains(part)), "{value}: {}", ended.stderr);
    };
    for value in ["metrics", "70000", "localhost:9600", "fd00::1:9600", "10.0.0.1", ":9600"] {
        refused(value, &["10.0.0.1:9600", "[fd00::1]:9600"]);
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    refused(&port, &["is taken", "--http"]);
    refused("192.0.2.1:0", &["cannot serve HTTP at 192.0.2.1:0", "--http"]);
}
