//! The whole table: methods, paths, tokens, hosts, origins, kinds of content. Few of its cells are allowed.

use hyper::Request;

use super::*;

const ROUTES: &[Route<&str>] = &[
    Route { path: "/", method: Allowed::Get, access: Access::Anybody, what: "page" },
    Route { path: "/live", method: Allowed::Get, access: Access::Token, what: "live" },
    Route { path: "/resize", method: Allowed::Post, access: Access::Token, what: "resize" },
];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const PATHS: [&str; 8] = ["/", "/live", "/resize", "/live/", "//live", "/LIVE", "/%6cive", "/../live"];
const HOSTS: [(&[&str], bool); 11] = [
    (&["127.0.0.1:8080"], true),
    (&["127.0.0.1"], true),
    (&["localhost:1"], true),
    (&["LocalHost:8080"], true),
    (&["render1:8080"], true),
    (&[], false),
    (&["evil.example:8080"], false),
    (&["127.0.0.1.evil.example"], false),
    (&["10.0.0.1:8080"], false),
    (&["127.0.0.1:8080", "127.0.0.1:8080"], false),
    (&["localhost:8080@evil.example"], false),
];
const KINDS: [(Option<&str>, bool); 5] = [
    (None, false),
    (Some("text/plain"), false),
    (Some("application/x-www-form-urlencoded"), false),
    (Some("application/json"), true),
    (Some("Application/JSON; charset=utf-8"), true),
];

fn site() -> Site<&'static str> {
    Site {
        routes: ROUTES,
        token: Some(Token::random().expect("random numbers")),
        names: vec!["render1".into()],
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn head(method: &str, target: &str, fields: &[(HeaderName, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

#[test]
fn of_the_whole_table_only_the_cells_that_are_meant_are_allowed() {
    let site = site();
    let token = site.token.as_ref().expect("it has one").text().to_owned();
    let right = format!("Bearer {token}");
    let tokens = [
        (None, false),
        (Some("Bearer "), false),
        (Some("Bearer 0"), false),
        (Some(token.as_str()), false),
        (Some(right.as_str()), true),
    ];
    let (mut allowed, mut all) = (0, 0);
    for method in METHODS {
        for path in PATHS {
            for (authorization, knows) in tokens {
                for (hosts, is_here) in HOSTS {
                    let own = format!("http://{}", hosts.first().unwrap_or(&"127.0.0.1:8080"));
                    let origins = [
                        (None, true),
                        (Some(own.as_str()), true),
                        (Some("null"), false),
                        (Some("https://evil.example"), false),
                        (Some("http://localhost:9"), false),
                    ];
                    for (origin, is_own) in origins {
                        for (kind, is_json) in KINDS {
                            let mut fields: Vec<_> = hosts.iter().map(|host| (HOST, *host)).collect();
                            fields.extend(origin.map(|origin| (ORIGIN, origin)));
                            fields.extend(authorization.map(|said| (AUTHORIZATION, said)));
                            fields.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
                            let head = head(method, path, &fields);
                            let expected = match (method, path) {
                                ("GET", "/") => is_here && is_own,
                                ("GET", "/live") => is_here && is_own && knows,
                                ("POST", "/resize") => is_here && is_own && knows && is_json,
                                _ => false,
                            };
                            let judged = site.judge(loopback(), &head);
                            assert_eq!(judged.is_ok(), expected, "{head:?}: {judged:?}");
                            (allowed, all) = (allowed + u32::from(expected), all + 1);
                        }
                    }
                }
            }
        }
    }
    // Of 5 good hosts, each with 2 good origins: 25 cells of `/`, 5 of `/live`, 2 of `/resize`.
    assert_eq!((allowed, all), (5 * 2 * (25 + 5 + 2), 7 * 8 * 5 * 11 * 5 * 5));
}

#[test]
fn each_refusal_has_its_status() {
    let site = site();
    let host = || (HOST, "localhost");
    let refused = |method, target, fields: &[_]| {
        let judged = site.judge(loopback(), &head(method, target, fields));
        judged.map(|route| route.what).expect_err("it is not allowed")
    };
    let origin = (ORIGIN, "https://evil.example");
    let cases = [
        (refused("GET", "/", &[]), Refusal::Malformed, 400),
        (refused("GET", "http://localhost/", &[host()]), Refusal::Malformed, 400),
        (refused("GET", "/", &[(HOST, "evil.example")]), Refusal::Host, 421),
        (refused("GET", "/nothing", &[host()]), Refusal::NoSuchPath, 404),
        (refused("DELETE", "/resize", &[host()]), Refusal::Method("POST"), 405),
        (refused("GET", "/", &[host(), origin]), Refusal::Origin, 403),
        (refused("GET", "/live", &[host()]), Refusal::Token, 401),
        (refused("GET", "/live?token=0", &[host()]), Refusal::Token, 401),
    ];
    for (judged, expected, status) in cases {
        assert_eq!((judged.status().as_u16(), &judged), (status, &expected));
    }
}

#[test]
fn beyond_loopback_it_is_named_by_its_address_and_by_no_other_name() {
    let site = site();
    let judge = |local: &str, host: &str| {
        let local = SocketAddr::new(local.parse().expect("an address"), 1);
        site.judge(local, &head("GET", "/", &[(HOST, host)])).is_ok()
    };
    assert!(judge("10.0.0.7", "10.0.0.7:1") && judge("10.0.0.7", "render1"));
    assert!(judge("::ffff:10.0.0.7", "10.0.0.7:1"), "as a socket for both families says it");
    assert!(judge("fe80::7", "[fe80::7]:1") && judge("::1", "[::1]:1") && judge("::1", "localhost"));
    for host in ["localhost", "127.0.0.1", "10.0.0.8", "[::1]", "fd00::7", "render1.evil.example", ""] {
        assert!(!judge("10.0.0.7", host), "{host}");
    }
}

#[test]
fn without_a_token_nobody_is_answered_who_has_to_know_one() {
    let site = Site { token: None, ..site() };
    for said in ["Bearer ", "Bearer", "Bearer None"] {
        let fields = [(HOST, "localhost"), (AUTHORIZATION, said)];
        assert!(site.judge(loopback(), &head("GET", "/live", &fields)).is_err(), "{said:?}");
    }
}
