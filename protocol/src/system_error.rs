//! Errors of the operating system, as data.

use std::fmt;
use std::io;

/// Error of the operating system that can be kept, compared and copied, as [`io::Error`] cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemError {
    /// Its kind.
    pub kind: io::ErrorKind,
    /// Its text, as the system words it.
    pub text: String,
}

impl From<io::Error> for SystemError {
    fn from(error: io::Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SystemError {}
