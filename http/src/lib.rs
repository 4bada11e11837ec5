//! The HTTP that `ppserver --http` and `ppctl web` speak: a few paths for a browser or a probe, behind one guard and within
//! limits that hold for anybody.
//!
//! A server is a [`Site`] (its paths, who may ask for them, its names) and a function that answers what the guard let
//! through. What is refused, and how, is decided in one place without I/O ([`Site::judge`]); how much anybody may take is in
//! [`limits`]. There is no TLS, no compression, no cookie, no upload, and no connection for more than one request.
//!
//! ```
//! use pp_http::{Access, Allowed, Answer, Route, Site, kind};
//!
//! const ROUTES: &[Route<()>] =
//!     &[Route { path: "/healthz", method: Allowed::Get, access: Access::Anybody, what: () }];
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let site = Site { routes: ROUTES, token: None, names: Vec::new() };
//! pp_http::serve(listener, site, |_| async { Answer::new(kind::TEXT, "ok\n") }).await;
//! # Ok(())
//! # }
//! ```

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod guard;
pub mod limits;
mod serve;
mod socket;
mod token;

pub use hyper::StatusCode;

pub use self::answer::{Answer, kind};
pub use self::guard::{Access, Allowed, Refusal, Route, Site};
pub use self::serve::{Asked, serve};
pub use self::token::Token;
