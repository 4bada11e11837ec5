//! The limits every peer keeps, by name. A number that bounds a queue, a frame or a count is written here once.
//!
//! Limits that concern one side only, and that no peer has to know, stand where they are kept:
//!
//! | limit | where |
//! |---|---|
//! | depth of values, lists and texts within them | `protocol/src/values/nesting.rs`, `values/kind.rs` |
//! | batches received that nobody has taken | `BATCHES_RECEIVED` in `protocol/src/connection.rs` |
//! | memory for large payloads, how much of it is kept and lent | `protocol/src/room/arena.rs`, `room/kept.rs`, `MARKS` in `node/src/page.rs` |
//! | batches that wait for a node's task | `node/src/shell.rs` |
//! | what a frame for somebody who watches has of each | `node/src/core/frame.rs` |
//! | time after which a program that does not go on makes way | `node/src/core/uploads.rs` |
//! | output of a command that is held back | `node/src/built_in/command/output.rs` |
//! | pace at which a worker's output is read | `node/src/pool/output.rs` |
//! | outcomes that a worker holds back | `node/src/worker/outbox.rs` |
//! | stack of jobs | `node/src/worker/mod.rs` |
//! | tries of a program or a worker that does not start | `TROUBLE` in `node/src/core/programs.rs`, `node/src/core/shortage.rs` |
//! | arguments sent ahead of slots | `ARGS_*` in `dispatcher/src/core/session.rs` |
//! | jobs and bytes pending, attempts before a job is held for poison | `dispatcher/src/client/settings.rs` (defaults; the user's) |
//! | jobs, requests and cancellations taken in at once | `dispatcher/src/client/thread/intake.rs` |
//! | parts of output that were taken and told at once | `dispatcher/src/client/thread.rs` |
//! | events that a listener has not taken, lines that wait for the terminal | `dispatcher/src/client/events.rs`, `client/printer.rs` |
//! | jobs of a map in flight | `dispatcher/src/api/map/feed.rs` |
//! | words of discovery that wait, strangers that are known and dialled | `dispatcher/src/links/discovery.rs`, `links/strangers.rs` |
//! | programs remembered to have started before | `PROVEN_KEPT` in `node/src/core/programs.rs` |
//! | threads for callbacks, ranges of silence | `dispatcher/src/api/builder.rs` |
//! | kinds of refusals that are counted, strangers at once | `server/src/listener/refusals.rs`, `server/src/listener.rs` |
//! | arguments, command lines, what is kept of them, output held for its order, lines of output, logs of jobs | `run/src/`: `records.rs`, `jobs.rs`, `sources.rs`, `order.rs`, `lines.rs`, `joblog.rs` |
//! | bytes in the files of jobs under way | `ppctl/src/run/files.rs` |
//! | output of jobs in memory, and on its way to be shown | `ppctl/src/run/spool.rs`, `output.rs` |
//! | programs kept on disk, size of the configuration file | `server/src/bin/ppserver/options.rs` |

use std::time::Duration;

/// Largest sealed record on a wire, tag included: what one Noise message can hold.
pub const RECORD_BYTES: usize = 65_535;

/// Most plain text one record carries.
pub const RECORD_PLAIN_BYTES: usize = RECORD_BYTES - 16;

/// A batch of messages is closed once it holds this much, so that it fits one record.
pub const BATCH_BYTES: usize = 32 * 1024;

/// Messages in one record, at most.
pub const BATCH_MESSAGES: usize = 512;

/// A message that grows larger than this travels in segments, between which small messages pass.
pub const BULK_BYTES: usize = 16 * 1024;

/// Largest frame read before the peer has proved that it knows the secret.
pub const HANDSHAKE_FRAME_BYTES: usize = 4 * 1024;

/// Time that a handshake may take, from the first byte to the first message.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Handshakes a node has under way at once; beyond that, the oldest gives way to a new one.
pub const HANDSHAKES_AT_ONCE: usize = 256;

/// Of these, one source (an address of IPv4, a /64 of IPv6) has at most one in so many.
pub const HANDSHAKES_OF_ONE_SOURCE_DIVISOR: usize = 4;

/// Connections that wait to be taken in by a node.
pub const BACKLOG: u32 = 1_024;

/// Of the descriptors a node may have, handshakes take at most one in so many.
pub const HANDSHAKE_DESCRIPTORS_DIVISOR: usize = 2;

/// Of the descriptors a node may have, the last one in so many, and no more than `DESCRIPTORS_KEPT`, are kept from handshakes:
/// programs, and workers of whoever is in, need some.
pub const DESCRIPTORS_KEPT_DIVISOR: usize = 4;

/// Descriptors that are kept from handshakes, at most.
pub const DESCRIPTORS_KEPT: usize = 32;

/// Secrets that are accepted at once, so that one can take the place of another while both are in use.
pub const SECRETS: usize = 4;

/// Largest file that holds them.
pub const SECRET_FILE_BYTES: u64 = 4 * 1024;

/// Machines whose keys a node lists.
pub const AUTHORIZED_KEYS: usize = 1024;

/// Largest file that lists them, with its comments.
pub const AUTHORIZED_KEYS_BYTES: u64 = 256 * 1024;

/// Nodes whose keys a dispatcher remembers.
pub const KNOWN_NODES: usize = 4096;

/// Largest file that remembers them, with its comments.
pub const KNOWN_NODES_BYTES: u64 = 2 * 1024 * 1024;

/// Largest serialised argument or result of one job.
pub const PAYLOAD_BYTES: usize = 1 << 30;

/// Files that a command is sent, or returns, at most.
pub const COMMAND_FILES: usize = 1_024;

/// Bytes in the files that a command is sent, all together; and in those that it returns.
pub const COMMAND_FILE_BYTES: usize = 512 << 20;

/// Files that a session keeps at a node for all of its commands, at most.
pub const BASE_FILES: usize = 256;

/// Bytes in these, all together.
pub const BASE_FILE_BYTES: u64 = 1 << 30;

/// Attempts or outcomes in one message, at most.
pub const LIST_ITEMS: usize = 4_096;

/// Largest message that is no list of attempts or outcomes: one that tells of all attempts a session has at a node.
pub const MESSAGE_BYTES: usize = 2 << 20;

/// Bytes a message may need beyond its payload.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;

/// Arguments that are smaller do not count where arguments are limited together: the window limits how many there are.
pub const LARGE_ARGS_BYTES: usize = 4 << 10;

/// Large arguments that a dispatcher has at a node at once, at most, or those of one attempt: a quarter of the memory that the
/// node says it has, or 4 GiB where it says nothing. The node takes twice as much of all dispatchers before it asks for no more,
/// and returns what comes beyond three times as much.
///
/// ```
/// assert_eq!(pp_protocol::limits::args_bytes_at_node(16 << 30), 4 << 30);
/// ```
pub const fn args_bytes_at_node(memory_bytes: u64) -> u64 {
    const UNKNOWN: u64 = 4 << 30;
    if memory_bytes == 0 { UNKNOWN } else { memory_bytes / 4 }
}

/// Largest executable file that is sent to a node.
pub const PROGRAM_BYTES: u64 = 2 << 30;

/// Piece of a compressed program carried by one message.
pub const PROGRAM_CHUNK_BYTES: usize = 256 * 1024;

/// Programs that are sent to a node at once; others wait. One that does not go on counts no longer.
pub const UPLOADS: usize = 8;

/// Programs of which a node keeps a part while they do not go on, those included that do.
pub const UPLOADS_BEGUN: usize = 64;

/// Programs that one session sends to a node at once.
pub const UPLOADS_OF_SESSION: usize = 2;

/// Pieces of a program that are sent beyond those which the node has said are on its disk.
pub const PROGRAM_CHUNKS_AHEAD: u32 = 16;

/// Programs that a node looks for in its store at once.
pub const PROGRAMS_LOCATED: usize = 4;

/// Largest block of a compressed program (LZ4 frame format).
pub const PROGRAM_BLOCK_BYTES: usize = 256 * 1024;

/// Programs one session may offer (kept by `offered` in `node/src/core/programs.rs`, and by the dispatcher's `OfferedPrograms`).
pub const PROGRAMS: usize = 64;

/// Builds of a program that may be offered, each for another target.
pub const PROGRAM_BUILDS: usize = 16;

/// Attempts a node takes from one session at once, at most, or as many as it has slots.
pub const WINDOW_ATTEMPTS: u32 = 65_536;

/// Functions of which it is known at once how long they run, for each session and node.
pub const FUNCTIONS_TIMED: usize = 1_024;

/// Attempts a worker is given at once, at most.
pub const WORKER_ATTEMPTS: usize = 4_096;

/// Number of unacknowledged outcomes that a node keeps for one session, before no more of its attempts are started. A
/// dispatcher acknowledges those without a gap: small ones that overtook a large one wait for that.
pub const OUTCOMES_KEPT: usize = 4 * WINDOW_ATTEMPTS as usize;

/// Size of unacknowledged outcomes that a node keeps for one session, before no more of its attempts are started.
pub const OUTCOME_BYTES_KEPT: usize = 512 << 20;

/// The same for all sessions, which have equal parts of it.
pub const OUTCOME_BYTES_AT_NODE: usize = 2 << 30;

/// What waits to be sent to a peer, beyond outcomes and output that it has not acknowledged, before it is taken not to read and
/// its connection is closed.
pub const QUEUED_BYTES: usize = 8 << 20;

/// Time that a connection has, once it is closed here, to write what is queued and to see its peer close it.
pub const CLOSING_TIME: Duration = Duration::from_secs(10);

/// Where more than this is queued on a connection that is closed here, it has no such time: its peer does not read.
pub const CLOSING_BYTES: usize = 4 << 20;

/// Connections of a node that have such time at once; others are closed at once.
pub const CLOSING_AT_ONCE: usize = 32;

/// What has arrived of large messages that are not whole, over all connections of a node, before only one of these is read on:
/// the one that lacks least.
pub const LARGE_BYTES_AT_NODE: usize = 512 << 20;

/// Smaller messages are not counted there.
pub const LARGE_MESSAGE_BYTES: usize = 512 << 10;

/// Time in which nothing more of such a message may come while others wait for that room.
pub const LARGE_STALLED: Duration = Duration::from_secs(5);

/// Most slots a node can be given.
pub const SLOTS: u32 = 4_096;

/// Sessions one node keeps at once (kept by `begin_session` in `node/src/core/connect.rs`).
pub const SESSIONS: usize = 1_024;

/// Connections of a node that belong to no session, those of operators and of whoever has not greeted yet: the oldest one gives
/// way to another.
pub const CONNECTIONS_WITHOUT_SESSION: usize = 256;

/// Operators that watch a node at once.
pub const WATCHERS: usize = 32;

/// Least time between two frames for one of them.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Most bytes in a frame.
pub const ACTIVITY_BYTES: usize = 8 << 10;

/// Most attempts that ended in a frame.
pub const WATCHED_ATTEMPTS: usize = 64;

/// Most workers in a frame: of no more it is asked what they run.
pub const WATCHED_WORKERS: usize = 512;

/// Most sessions in a frame.
pub const WATCHED_SESSIONS: usize = 32;

/// Most programs in a frame.
pub const WATCHED_PROGRAMS: usize = 32;

/// Functions of a program whose names a worker tells.
pub const FUNCTIONS_NAMED: usize = 1_024;

/// Longest name of a function that is told; of a longer one its end.
pub const FUNCTION_NAME_BYTES: usize = 96;

/// Nodes that a dispatcher remembers of those that are announced to it and have not proved that they know the secret.
pub const STRANGERS_ANNOUNCED: usize = 64;

/// Addresses of one node that is announced.
pub const ADDRESSES_ANNOUNCED: usize = 8;

/// Addresses that a dispatcher remembers of one `dns:` name.
pub const ADDRESSES_NAMED: usize = 16_384;

/// Longest line of captured output that is forwarded; the rest of it is cut.
pub const OUTPUT_LINE_BYTES: usize = 8 * 1024;

/// Output that is under way to a dispatcher before the workers that print it have to wait.
pub const OUTPUT_BYTES_SENT: usize = 1 << 20;

/// Output a node keeps for one session, sent or not, before it is dropped and counted.
pub const OUTPUT_BYTES_KEPT: usize = 16 << 20;

/// The same for all sessions, which have equal parts of it: half of that may be under way.
pub const OUTPUT_BYTES_AT_NODE: usize = 512 << 20;

/// A dispatcher says how much output has arrived once it is this much.
pub const OUTPUT_BYTES_TOLD: usize = 64 * 1024;

/// Most bytes in one part of what a job sends ahead of its result: with them a message is not large yet
/// ([`BULK_BYTES`]), so that nothing overtakes it.
pub const PART_BYTES: usize = 15 * 1024;

/// Parts that are under way to a dispatcher, or there and not yet taken; what more a node has of them, it holds back, and
/// does not read from the workers that send them. A dispatcher has so much of each node at most.
pub const PART_BYTES_SENT: usize = 1 << 20;

/// The same for all sessions of a node, which have equal parts of it.
pub const PART_BYTES_AT_NODE: usize = 256 << 20;

/// Lines of a worker's standard error that are kept for the story of its death.
pub const LAST_STDERR_LINES: usize = 20;

/// Longest name of a dispatcher or a node.
pub const NAME_BYTES: usize = 256;

/// Longest explanation of a dispatcher why a job has not ended.
pub const EXPLANATION_BYTES: usize = 4 * 1024;

/// Questions about jobs to which dispatchers may answer still. The oldest gives way.
pub const QUESTIONS: usize = 32;

/// Longest backtrace or panic message that travels.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Cuts `text` to at most `limit` bytes at a character boundary.
///
/// ```
/// assert_eq!(pp_protocol::limits::cut("grün", 3), "gr");
/// assert_eq!(pp_protocol::limits::cut("grün", 9), "grün");
/// ```
pub fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
