//! Who is answered: one function of what a request says, without I/O.
//!
//! A browser sends requests of any page to any address, so that being on the same machine proves nothing. What protects:
//!
//! * **Host** names this server: a foreign name that was made to lead here (DNS rebinding) is refused before anything else.
//! * **Origin**, where a browser says it, is this server's own.
//! * **A token**, which a page of another origin cannot know. It is in no cookie, which a browser would send by itself.
//! * **GET has no effect**; what has one is POST with JSON, which a page cannot send elsewhere without asking first, and
//!   nobody who asks is answered (there is no OPTIONS).
//!
//! What is not allowed by a [`Route`] is refused: there is no list of what is forbidden.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::token::Token;

/// What is served under a path.
#[derive(Clone, Copy, Debug)]
pub struct Route<K> {
    /// The path, exactly.
    pub path: &'static str,
    /// The one method it has.
    pub method: Allowed,
    /// Who may ask for it.
    pub access: Access,
    /// What it is, to whoever answers.
    pub what: K,
}

/// A method that a path may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// It has no effect.
    Get,
    /// It has one; its body is JSON.
    Post,
}

/// Who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the server.
    Anybody,
    /// Whoever knows its token.
    Token,
}

/// Whom a server answers, and as what.
#[derive(Clone, Debug)]
pub struct Site<K: 'static> {
    /// All that there is.
    pub routes: &'static [Route<K>],
    /// Without one, nobody is answered who has to know it.
    pub token: Option<Token>,
    /// Names of this server, beside the address that a request has come to, and beside `localhost` where that is of loopback.
    pub names: Vec<String>,
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It names this server twice, or not at all, or in a way that none does that speaks to a server.
    #[error("the request is malformed: it needs one Host, and a path that begins with /")]
    Malformed,
    /// It was meant for a server of another name.
    #[error(
        "this server does not answer by that name; ask it by its address, or by localhost on its own machine"
    )]
    Host,
    /// There is nothing.
    #[error("there is nothing at this path")]
    NoSuchPath,
    /// There is something, for another method.
    #[error("this path is for {0} only")]
    Method(&'static str),
    /// It comes from a page of another server.
    #[error("pages of other origins are not answered")]
    Origin,
    /// It does not say the token.
    #[error("this needs the token that was printed when the server was started: Authorization: Bearer TOKEN")]
    Token,
    /// It is not said to be JSON.
    #[error("this takes Content-Type: application/json only")]
    ContentType,
    /// Its body is longer than any that means something.
    #[error("the body has more than {} bytes", crate::limits::BODY_BYTES)]
    TooLong,
    /// Its body did not arrive.
    #[error("the body did not arrive within {} s", crate::limits::BODY_TIME.as_secs())]
    TooSlow,
}

impl Refusal {
    /// The status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl Allowed {
    /// The method as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    fn is(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET,
            Self::Post => method == Method::POST,
        }
    }
}

impl<K> Site<K> {
    /// What is answered to a request that came to this address of the machine.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn judge(&self, local: SocketAddr, head: &Parts) -> Result<&'static Route<K>, Refusal> {
        // With an authority in its first line, it is meant for a proxy.
        if head.uri.authority().is_some() {
            return Err(Refusal::Malformed);
        }
        let host = one(head, &HOST)?.ok_or(Refusal::Malformed)?;
        if !self.is_named(local.ip().to_canonical(), host) {
            return Err(Refusal::Host);
        }
        let path = head.uri.path();
        let route = self.routes.iter().find(|route| route.path == path).ok_or(Refusal::NoSuchPath)?;
        if !route.method.is(&head.method) {
            return Err(Refusal::Method(route.method.name()));
        }
        let own = |origin: &str| {
            origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        };
        if one(head, &ORIGIN)?.is_some_and(|origin| !own(origin)) {
            return Err(Refusal::Origin);
        }
        if route.access == Access::Token && !self.knows_token(one(head, &AUTHORIZATION)?) {
            return Err(Refusal::Token);
        }
        if route.method == Allowed::Post && !one(head, &CONTENT_TYPE)?.is_some_and(is_json) {
            return Err(Refusal::ContentType);
        }
        Ok(route)
    }

    /// Whether a name of a request is one of this server. Ports are left alone: a tunnel has another one, and whoever makes a
    /// foreign name lead here does not choose this server's.
    fn is_named(&self, local: IpAddr, host: &str) -> bool {
        let name = without_port(host);
        let ip = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match ip.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip == local || local.is_loopback() && ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
            Err(_) => {
                let own = self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
                own || local.is_loopback() && name.eq_ignore_ascii_case("localhost")
            }
        }
    }

    fn knows_token(&self, authorization: Option<&str>) -> bool {
        let said = authorization.and_then(|said| said.strip_prefix("Bearer "));
        self.token.as_ref().zip(said).is_some_and(|(token, said)| token.is(said))
    }
}

/// A field that there may be once.
fn one<'a>(head: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut all = head.headers.get_all(name).iter();
    let first = all.next().map(|value| value.to_str().map_err(|_| Refusal::Malformed)).transpose()?;
    if all.next().is_some() { Err(Refusal::Malformed) } else { Ok(first) }
}

/// `localhost:80` and `[::1]:80` without their ports.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// Whether it is `application/json`, whatever parameters it has.
fn is_json(value: &str) -> bool {
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
