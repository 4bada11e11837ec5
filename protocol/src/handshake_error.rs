//! Errors of the handshake, as both sides log them and a dispatcher shows them.

use std::io::{self, ErrorKind};

use crate::limits::{HANDSHAKE_FRAME_BYTES, HANDSHAKE_TIME};
use crate::rules::article;
use crate::{Role, SystemError, VersionRange};

/// Byte of a greeting that says that the secret of the cluster is proved.
pub const SHARED_SECRET: u8 = 1;
/// Byte that says that keys of machines are proved besides.
pub const MACHINE_KEYS: u8 = 2;

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
    #[error("{}", another_proof(*.0))]
    PatternMismatch(u8),
    /// The two secrets differ.
    #[error(
        "the secrets differ; give both machines the same one: copy the node's secret file \
         (~/.config/ppserver/secret) here, or set PP_SECRET"
    )]
    SecretMismatch,
    /// The node does not list this machine.
    #[error(
        "the node does not list the key of this machine, {key}; add the line that `ppctl key show` prints here to the \
         node's file of authorized keys, and have the node read it (SIGHUP)"
    )]
    KeyNotListed {
        /// The initiator's key.
        key: String,
    },
    /// The node lists this machine, but for something else.
    #[error(
        "the node lists the key of this machine, {key}, but not as {}; change the options of its line in the node's file of \
         authorized keys (`no-submit`, `operate`), and have the node read it (SIGHUP)", article(.role)
    )]
    RoleNotListed {
        /// The initiator's key.
        key: String,
        /// The role that it wanted.
        role: Role,
    },
    /// The node has another key than the one that is known.
    #[error("its key is {shown}, which is not the one that is known")]
    OtherNodeKey {
        /// The key that it showed.
        shown: String,
    },
    /// A frame before the end of the handshake was too long.
    #[error("the peer sent a handshake frame of {0} bytes, the limit is {HANDSHAKE_FRAME_BYTES}")]
    TooLong(usize),
}

fn another_proof(theirs: u8) -> String {
    match theirs {
        SHARED_SECRET => "it asks for the secret of the cluster, and this side for keys of machines".into(),
        MACHINE_KEYS => {
            "it asks for keys of machines (--authorized-keys), and this side for the secret alone".into()
        }
        other => {
            format!(
                "it asks for another kind of proof ({other}) than this side; install the same release on both machines"
            )
        }
    }
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
