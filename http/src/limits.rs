//! Every limit of a server. Whoever connects has proved nothing, so that all of them hold for anybody.

use std::time::Duration;

/// Connections at once. At one more, the oldest that has not asked for anything yet gives way; if each of them has, the
/// newcomer does.
pub const CONNECTIONS: usize = 32;
/// Answers without end at once, of the connections that there may be: others are to find room.
pub const STREAMS: usize = 16;
/// Bytes of a request before its body. More is answered by 431, or by nothing.
pub const HEAD_BYTES: usize = 8 << 10;
/// Fields of a request.
pub const HEAD_FIELDS: usize = 64;
/// Bytes of the body of a request.
pub const BODY_BYTES: usize = 16 << 10;
/// Time in which a request has to have arrived, but for its body.
pub const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time in which the body of a request has to have arrived.
pub const BODY_TIME: Duration = Duration::from_secs(5);
/// Time for which an answer may go without that anything of it is taken.
pub const STALL_TIME: Duration = Duration::from_secs(10);
/// Time that a request and its answer may take together, but for an answer without end.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Pieces of an answer without end that wait to be sent.
pub const STREAM_PIECES: usize = 4;
