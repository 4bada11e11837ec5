//! Answers: what they are, and the fields that all of them have.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::guard::Refusal;

/// What a page may do: run and show what this server gave it, speak with this server, be shown in no other page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Fields of every answer.
const FIELDS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("content-security-policy", POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

/// Kinds of content that there are.
pub mod kind {
    /// Text for people.
    pub const TEXT: &str = "text/plain; charset=utf-8";
    /// What Prometheus reads.
    pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    /// A page.
    pub const HTML: &str = "text/html; charset=utf-8";
    /// What a page does.
    pub const SCRIPT: &str = "text/javascript; charset=utf-8";
    /// What it looks like.
    pub const STYLE: &str = "text/css; charset=utf-8";
    /// One JSON value.
    pub const JSON: &str = "application/json";
    /// JSON values, one a line.
    pub const LINES: &str = "application/x-ndjson";
}

/// What a request is answered.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    kind: &'static str,
    content: Content,
    field: Option<(HeaderName, &'static str)>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Bytes>),
}

impl Answer {
    /// All is well, and this is it.
    pub fn new(kind: &'static str, content: impl Into<Bytes>) -> Self {
        Self::with(StatusCode::OK, kind, content)
    }

    /// With another status.
    pub fn with(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Self {
        Self { status, kind, content: Content::Whole(content.into()), field: None }
    }

    /// What comes, piece by piece, until the sender is dropped. The sender is closed once nobody takes it any more.
    pub fn pieces(kind: &'static str, pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { status: StatusCode::OK, kind, content: Content::Pieces(pieces), field: None }
    }

    /// There are as many answers without end as there may be.
    pub(crate) fn too_many_streams() -> Self {
        let text = format!("{} of these are open already; close one\n", crate::limits::STREAMS);
        Self::with(StatusCode::SERVICE_UNAVAILABLE, kind::TEXT, text)
    }

    pub(crate) fn is_without_end(&self) -> bool {
        matches!(self.content, Content::Pieces(_))
    }

    pub(crate) fn into_response(self, place: Option<OwnedSemaphorePermit>) -> Response<Outgoing> {
        let body = match self.content {
            Content::Whole(bytes) => Outgoing::Whole(Some(bytes)),
            Content::Pieces(pieces) => Outgoing::Pieces { pieces, _place: place },
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        for (name, value) in FIELDS {
            fields.insert(name, HeaderValue::from_static(value));
        }
        if let Some((name, value)) = self.field {
            fields.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let field = match refusal {
            Refusal::Method(method) => Some((ALLOW, method)),
            Refusal::Token => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        let answer = Self::with(refusal.status(), kind::TEXT, format!("{refusal}\n"));
        Self { field, ..answer }
    }
}

/// The body of an answer on its way.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Whole(Option<Bytes>),
    Pieces { pieces: mpsc::Receiver<Bytes>, _place: Option<OwnedSemaphorePermit> },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Pieces { pieces, .. } => pieces.poll_recv(context),
        };
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Pieces { .. } => SizeHint::default(),
        }
    }
}
