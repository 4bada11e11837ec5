//! Errors of the handshake, as both sides log them and a dispatcher shows them.

use std::io::{self, ErrorKind};

use crate::limits::{HANDSHAKE_FRAME_BYTES, HANDSHAKE_TIME};
use crate::{SystemError, VersionRange};

/// Reason why two peers did not come together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(SystemError),
    /// The peer closed it.
    #[error("it closed the connection during the handshake; is it a ppserver? Its log says why, then")]
    Closed,
    /// Too slow.
    #[error(
        "no answer to the handshake within {} s; is the machine frozen or overloaded, or does something else listen there?",
        HANDSHAKE_TIME.as_secs()
    )]
    Timeout,
    /// The peer speaks something else.
    #[error("what listens there is not a ppserver; check host and port")]
    NotPpserver,
    /// The two releases have no protocol version in common.
    #[error(
        "it speaks protocol version {theirs}, this side speaks {ours}; install the same release on both machines"
    )]
    VersionMismatch {
        /// Versions that this side speaks.
        ours: VersionRange,
        /// Versions that the other side speaks.
        theirs: VersionRange,
    },
    /// The two sides prove different things.
    #[error(
        "it asks for another kind of proof ({0}) than a shared secret; install the same release on both machines"
    )]
    PatternMismatch(u8),
    /// The two secrets differ.
    #[error(
        "the secrets differ; give both machines the same one: copy the node's secret file \
         (~/.config/ppserver/secret) here, or set PP_SECRET"
    )]
    SecretMismatch,
    /// A frame before the end of the handshake was too long.
    #[error("the peer sent a handshake frame of {0} bytes, the limit is {HANDSHAKE_FRAME_BYTES}")]
    TooLong(usize),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a peer does with a connection on which it did not read everything resets it (RFC 2525, section 2.17).
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_closes_is_told_apart_from_a_network_that_breaks() {
        let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(closed.iter().all(|kind| matches!(io::Error::from(*kind).into(), HandshakeError::Closed)));
        assert!(matches!(io::Error::from(ErrorKind::HostUnreachable).into(), HandshakeError::Io(_)));
    }
}
