//! Proof of two peers to each other that they know the secret, before either parses anything else.
//!
//! ```text
//! initiator (dispatcher, operator)              responder (node)
//!   "ppsv", pattern, role, versions      ->
//!                                        <-     "ppsv", pattern, status, versions, nonce
//!   Noise message 1                      ->
//!                                        <-     status, Noise message 2
//!   with keys of machines only:
//!   Noise message 3                      ->
//!                                        <-     status
//! ```
//! With keys of machines ([`machine`](crate::machine)) message 2 proves the node's key and message 3 the initiator's; the
//! node then says whether it lists that one. The secret is proved by message 1 in either case, before the node computes
//! anything with what somebody sent.
//!
//! Both clear-text greetings and the version chosen are the Noise prologue: whoever changes a byte of them on the way
//! makes the handshake fail. The roles of Noise tell the two sides apart, so a mirrored message proves nothing; the nonce
//! of the node is another one each time, so a recorded message 1 proves nothing either. Frames before the end of the
//! handshake are limited to 4 KiB, all of it to ten seconds. The bytes are in the README of this crate.
//! Source: the Noise Protocol Framework, revision 34, sections 7.4 and 9.

use std::io;

use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{HANDSHAKE_FRAME_BYTES, HANDSHAKE_TIME, SECRETS};
use crate::machine::{AuthorizedKeys, MachineKey, PublicKey, Unlisted};
use crate::record::Keys;
use crate::secret::Secret;
pub use crate::{HandshakeError, MACHINE_KEYS, SHARED_SECRET};
use crate::{Role, SecretId, Version, VersionRange};

const MAGIC: [u8; 4] = *b"ppsv";
/// Magic, pattern, role or status, oldest and newest version.
const GREETING_BYTES: usize = 10;
const NONCE_BYTES: usize = 16;
/// The node's greeting: as the initiator's, and a nonce.
const ANSWER_BYTES: usize = GREETING_BYTES + NONCE_BYTES;
const PROLOGUE: &[u8] = b"ppserver handshake";

/// Kind of proof that both sides give, as a byte of the greeting. Numbers are never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Pattern {
    /// That they know the one secret of the cluster.
    SharedSecret = SHARED_SECRET,
    /// That they know it, and which machines they are.
    MachineKeys = MACHINE_KEYS,
}

impl Pattern {
    /// Its name in the Noise Protocol Framework.
    fn noise(self) -> &'static str {
        match self {
            Self::SharedSecret => "Noise_NNpsk0_25519_AESGCM_SHA256",
            Self::MachineKeys => "Noise_XXpsk0_25519_AESGCM_SHA256",
        }
    }
}

/// Proofs that an initiator gives.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// That it knows the secret of the cluster.
    Secret(&'a Secret),
    /// That it knows the secret and has the key of a machine.
    Key {
        /// The secret.
        secret: &'a Secret,
        /// The key of this machine.
        key: &'a MachineKey,
        /// The key that the node has to have; any, if none is known.
        node: Option<PublicKey>,
    },
}

impl<'a> From<&'a Secret> for Credentials<'a> {
    fn from(secret: &'a Secret) -> Self {
        Self::Secret(secret)
    }
}

impl<'a> Credentials<'a> {
    fn pattern(self) -> Pattern {
        self.own_key().map_or(Pattern::SharedSecret, |_| Pattern::MachineKeys)
    }

    fn secret(self) -> &'a Secret {
        let (Self::Secret(secret) | Self::Key { secret, .. }) = self;
        secret
    }

    fn own_key(self) -> Option<&'a MachineKey> {
        if let Self::Key { key, .. } = self { Some(key) } else { None }
    }
}

/// Proofs that a node demands of initiators. Any of the secrets is accepted, of the first [`SECRETS`].
#[derive(Clone, Copy, Debug)]
pub enum Demand<'a> {
    /// To know a secret of the cluster.
    Secret(&'a [Secret]),
    /// To know a secret, and to have a key that is listed.
    Key {
        /// The secrets.
        secrets: &'a [Secret],
        /// The key of the node.
        key: &'a MachineKey,
        /// The machines that may connect.
        authorized: &'a AuthorizedKeys,
    },
}

impl<'a> From<&'a [Secret]> for Demand<'a> {
    fn from(secrets: &'a [Secret]) -> Self {
        Self::Secret(secrets)
    }
}

impl<'a, const N: usize> From<&'a [Secret; N]> for Demand<'a> {
    fn from(secrets: &'a [Secret; N]) -> Self {
        Self::Secret(secrets)
    }
}

impl<'a> Demand<'a> {
    fn pattern(self) -> Pattern {
        self.own_key().map_or(Pattern::SharedSecret, |_| Pattern::MachineKeys)
    }

    fn secrets(self) -> &'a [Secret] {
        let (Self::Secret(secrets) | Self::Key { secrets, .. }) = self;
        &secrets[..secrets.len().min(SECRETS)]
    }

    fn own_key(self) -> Option<&'a MachineKey> {
        if let Self::Key { key, .. } = self { Some(key) } else { None }
    }
}

/// A finished handshake.
#[derive(Debug)]
pub struct Established {
    /// Keys that seal and open the records that follow.
    pub keys: Keys,
    /// The protocol version both sides speak from now on.
    pub version: Version,
    /// In what capacity the initiator connected.
    pub role: Role,
    /// The secret that both sides know.
    pub secret: SecretId,
    /// The key of the other machine, if it proved one.
    pub peer: Option<PublicKey>,
}

/// Answer of the node to a step of the handshake. Not a byte that stands for a role, so that whoever sends every byte
/// back is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Welcome = 0x80,
    VersionMismatch = 0x81,
    SecretMismatch = 0x82,
    PatternMismatch = 0x83,
    KeyNotListed = 0x84,
    RoleNotListed = 0x85,
}

impl Status {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::Welcome,
            Self::VersionMismatch,
            Self::SecretMismatch,
            Self::PatternMismatch,
            Self::KeyNotListed,
            Self::RoleNotListed,
        ];
        all.into_iter().find(|status| *status as u8 == byte)
    }
}

/// Connects as `role`: sends the greeting and proves what there is to prove.
///
/// # Errors
/// Every variant of [`HandshakeError`], in bounded time.
pub async fn initiate<'a, S>(
    stream: &mut S,
    credentials: impl Into<Credentials<'a>>,
    role: Role,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    initiate_speaking(stream, credentials, role, VersionRange::SPOKEN).await
}

/// As [`initiate`], speaking a given range of versions: for tests of what happens between releases.
#[doc(hidden)]
pub async fn initiate_speaking<'a, S>(
    stream: &mut S,
    credentials: impl Into<Credentials<'a>>,
    role: Role,
    ours: VersionRange,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let credentials = credentials.into();
    let (pattern, secret) = (credentials.pattern(), credentials.secret());
    in_time(async {
        let greeting = greeting(pattern, role as u8, ours);
        stream.write_all(&greeting).await?;
        let mut answer = [0; ANSWER_BYTES];
        let (fixed, nonce) = answer.split_at_mut(GREETING_BYTES);
        fixed.copy_from_slice(&read_greeting(stream).await?);
        let Greeting { pattern: theirs_pattern, second: status, versions: theirs } = parse_greeting(fixed)?;
        // What sends back what it gets sends no status.
        match Status::from_byte(status).ok_or(HandshakeError::NotPpserver)? {
            Status::Welcome if theirs_pattern == pattern as u8 => {}
            Status::Welcome | Status::PatternMismatch => {
                return Err(HandshakeError::PatternMismatch(theirs_pattern));
            }
            Status::VersionMismatch => return Err(HandshakeError::VersionMismatch { ours, theirs }),
            Status::SecretMismatch | Status::KeyNotListed | Status::RoleNotListed => {
                return Err(HandshakeError::SecretMismatch);
            }
        }
        stream.read_exact(nonce).await?;
        let version = ours.highest_common(theirs).ok_or(HandshakeError::VersionMismatch { ours, theirs })?;

        let prologue = prologue(version, &greeting, &answer);
        let noise = noise(pattern, secret, credentials.own_key(), &prologue);
        let mut noise = noise.build_initiator().map_err(broken)?;
        let mut buffer = [0; HANDSHAKE_FRAME_BYTES];
        let length = noise.write_message(&[], &mut buffer).map_err(broken)?;
        write_frame(stream, &buffer[..length]).await?;
        let frame = read_frame(stream).await?;
        match frame.split_first() {
            Some((&status, message)) if status == Status::Welcome as u8 => {
                noise.read_message(message, &mut buffer).map_err(|_| HandshakeError::SecretMismatch)?;
            }
            _ => return Err(HandshakeError::SecretMismatch),
        }
        let peer = match credentials {
            Credentials::Secret(_) => None,
            Credentials::Key { key, node, .. } => Some(show_key(stream, &mut noise, key, node, role).await?),
        };
        let keys = Keys::new(noise.into_transport_mode().map_err(broken)?);
        Ok(Established { keys, version, role, secret: secret.id(), peer })
    })
    .await
}

/// Shows the initiator's key to a node that has shown its own, which is the right one, and yields that. What it lists is its
/// to say.
async fn show_key(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    noise: &mut HandshakeState,
    key: &MachineKey,
    known: Option<PublicKey>,
    role: Role,
) -> Result<PublicKey, HandshakeError> {
    let shown = remote_key(noise)?;
    if known.is_some_and(|known| known != shown) {
        return Err(HandshakeError::OtherNodeKey { shown: shown.to_string() });
    }
    let mut buffer = [0; HANDSHAKE_FRAME_BYTES];
    let length = noise.write_message(&[], &mut buffer).map_err(broken)?;
    write_frame(stream, &buffer[..length]).await?;
    let frame = read_frame(stream).await?;
    let status = frame.first().and_then(|status| Status::from_byte(*status));
    let key = || key.public().to_string();
    match status {
        Some(Status::Welcome) => Ok(shown),
        Some(Status::KeyNotListed) => Err(HandshakeError::KeyNotListed { key: key() }),
        Some(Status::RoleNotListed) => Err(HandshakeError::RoleNotListed { key: key(), role }),
        _ => Err(HandshakeError::NotPpserver),
    }
}

/// Answers a peer that connected: demands that it proves something.
///
/// # Errors
/// Every variant of [`HandshakeError`], in bounded time. The peer has then been told why, as far as it may know.
pub async fn respond<'a, S>(
    stream: &mut S,
    demand: impl Into<Demand<'a>>,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    respond_speaking(stream, demand, VersionRange::SPOKEN).await
}

/// As [`respond`], speaking a given range of versions: for tests of what happens between releases.
#[doc(hidden)]
pub async fn respond_speaking<'a, S>(
    stream: &mut S,
    demand: impl Into<Demand<'a>>,
    ours: VersionRange,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let demand = demand.into();
    let spoken = demand.pattern();
    in_time(async {
        let greeted = read_greeting(stream).await?;
        let Greeting { pattern, second: role, versions: theirs } = parse_greeting(&greeted)?;
        if pattern != spoken as u8 {
            turn_away(stream, spoken, Status::PatternMismatch, ours).await?;
            return Err(HandshakeError::PatternMismatch(pattern));
        }
        let Some(version) = ours.highest_common(theirs) else {
            turn_away(stream, spoken, Status::VersionMismatch, ours).await?;
            return Err(HandshakeError::VersionMismatch { ours, theirs });
        };
        let role = Role::from_byte(role).ok_or(HandshakeError::NotPpserver)?;
        let answer = answer(spoken, Status::Welcome, ours, nonce()?);
        stream.write_all(&answer).await?;

        let prologue = prologue(version, &greeted, &answer);
        let frame = read_frame(stream).await?;
        let Some((mut noise, secret)) = first_message(demand, &prologue, &frame)? else {
            say_no(stream, Status::SecretMismatch).await?;
            return Err(HandshakeError::SecretMismatch);
        };
        let mut buffer = [0; HANDSHAKE_FRAME_BYTES];
        buffer[0] = Status::Welcome as u8;
        let length = noise.write_message(&[], &mut buffer[1..]).map_err(broken)?;
        write_frame(stream, &buffer[..=length]).await?;
        let peer = match demand {
            Demand::Secret(_) => None,
            Demand::Key { authorized, .. } => Some(see_key(stream, &mut noise, authorized, role).await?),
        };
        let keys = Keys::new(noise.into_transport_mode().map_err(broken)?);
        Ok(Established { keys, version, role, secret, peer })
    })
    .await
}

/// Opens the first message with the secret that it was made with; none if that is not one of ours. For each secret that
/// costs a hash and one short text to open, and nothing is computed on the curve.
fn first_message(
    demand: Demand<'_>,
    prologue: &[u8],
    message: &[u8],
) -> Result<Option<(HandshakeState, SecretId)>, HandshakeError> {
    let Some((first, others)) = demand.secrets().split_first() else { return Ok(None) };
    let noise = noise(demand.pattern(), first, demand.own_key(), prologue);
    let mut noise = noise.build_responder().map_err(broken)?;
    let mut buffer = [0; HANDSHAKE_FRAME_BYTES];
    if noise.read_message(message, &mut buffer).is_ok() {
        return Ok(Some((noise, first.id())));
    }
    for secret in others {
        // What could not be opened has left no trace in it.
        noise.set_psk(0, secret.key()).map_err(broken)?;
        if noise.read_message(message, &mut buffer).is_ok() {
            return Ok(Some((noise, secret.id())));
        }
    }
    Ok(None)
}

/// Lets the initiator show its key, and yields that if it is listed for its role. If not, the initiator is told so.
async fn see_key(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    noise: &mut HandshakeState,
    authorized: &AuthorizedKeys,
    role: Role,
) -> Result<PublicKey, HandshakeError> {
    let frame = read_frame(stream).await?;
    // It knows the secret; this was altered on the way, or is nonsense.
    noise.read_message(&frame, &mut [0; HANDSHAKE_FRAME_BYTES]).map_err(|_| HandshakeError::NotPpserver)?;
    let key = remote_key(noise)?;
    match authorized.check(&key, role) {
        Ok(()) => {
            write_frame(stream, &[Status::Welcome as u8]).await?;
            Ok(key)
        }
        Err(Unlisted::Key) => {
            say_no(stream, Status::KeyNotListed).await?;
            Err(HandshakeError::KeyNotListed { key: key.to_string() })
        }
        Err(Unlisted::Role) => {
            say_no(stream, Status::RoleNotListed).await?;
            Err(HandshakeError::RoleNotListed { key: key.to_string(), role })
        }
    }
}

fn remote_key(noise: &HandshakeState) -> Result<PublicKey, HandshakeError> {
    noise.get_remote_static().and_then(PublicKey::from_slice).ok_or(HandshakeError::NotPpserver)
}

/// Ends a handshake.
async fn say_no(stream: &mut (impl AsyncWrite + Unpin), status: Status) -> io::Result<()> {
    write_frame(stream, &[status as u8]).await?;
    stream.shutdown().await
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_TIME, handshake).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// Bytes that both sides must have seen alike for the handshake to succeed.
fn prologue(version: Version, initiator: &[u8], responder: &[u8]) -> Vec<u8> {
    [PROLOGUE, initiator, responder, &version.0.to_le_bytes()].concat()
}

fn noise<'a>(
    pattern: Pattern,
    secret: &'a Secret,
    key: Option<&'a MachineKey>,
    prologue: &'a [u8],
) -> snow::Builder<'a> {
    let parameters = pattern.noise().parse().expect("the Noise pattern is well-formed");
    let builder = snow::Builder::new(parameters)
        .psk(0, secret.key())
        .and_then(|builder| builder.prologue(prologue))
        .and_then(|builder| match key {
            Some(key) => builder.local_private_key(key.private()),
            None => Ok(builder),
        });
    builder.expect("keys and prologue are set once, with the right length")
}

/// Noise can only fail locally for lack of random numbers or for a programming error.
fn broken(error: snow::Error) -> HandshakeError {
    HandshakeError::Io(io::Error::other(error).into())
}

/// Number that is another one in each handshake, so that a first message proves that its sender knows the secret now.
fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// First bytes of every greeting, in every release: these are never changed.
struct Greeting {
    pattern: u8,
    /// The role of an initiator, the status of a responder.
    second: u8,
    versions: VersionRange,
}

fn greeting(pattern: Pattern, second: u8, versions: VersionRange) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = pattern as u8;
    bytes[5] = second;
    bytes[6..8].copy_from_slice(&versions.oldest.0.to_le_bytes());
    bytes[8..].copy_from_slice(&versions.newest.0.to_le_bytes());
    bytes
}

/// Reads a greeting. Something else may be shorter, and is told apart by how it begins.
async fn read_greeting(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; GREETING_BYTES], HandshakeError> {
    let mut greeting = [0; GREETING_BYTES];
    let mut length = 0;
    while length < GREETING_BYTES {
        let more = stream.read(&mut greeting[length..]).await?;
        length += more;
        let begins_right = greeting[..length].iter().zip(&MAGIC).all(|(found, expected)| found == expected);
        if !begins_right {
            return Err(HandshakeError::NotPpserver);
        }
        if more == 0 {
            return Err(HandshakeError::Closed);
        }
    }
    Ok(greeting)
}

fn answer(
    pattern: Pattern,
    status: Status,
    versions: VersionRange,
    nonce: [u8; NONCE_BYTES],
) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..GREETING_BYTES].copy_from_slice(&greeting(pattern, status as u8, versions));
    bytes[GREETING_BYTES..].copy_from_slice(&nonce);
    bytes
}

/// Says why there will be no handshake.
async fn turn_away(
    stream: &mut (impl AsyncWrite + Unpin),
    pattern: Pattern,
    status: Status,
    ours: VersionRange,
) -> io::Result<()> {
    stream.write_all(&answer(pattern, status, ours, [0; NONCE_BYTES])).await?;
    stream.shutdown().await
}

fn parse_greeting(bytes: &[u8]) -> Result<Greeting, HandshakeError> {
    let [b'p', b'p', b's', b'v', pattern, second, o0, o1, n0, n1, ..] = *bytes else {
        return Err(HandshakeError::NotPpserver);
    };
    let version = |low, high| Version(u16::from_le_bytes([low, high]));
    let versions = VersionRange { oldest: version(o0, o1), newest: version(n0, n1) };
    Ok(Greeting { pattern, second, versions })
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let mut frame = (bytes.len() as u16).to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    stream.write_all(&frame).await
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, HandshakeError> {
    let length = usize::from(stream.read_u16_le().await?);
    if length > HANDSHAKE_FRAME_BYTES {
        return Err(HandshakeError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Bytes of a handshake whose random numbers are always the same.
#[cfg(test)]
pub(crate) struct Spoken {
    pub(crate) flights: Vec<(&'static str, Vec<u8>)>,
    /// The initiator's.
    pub(crate) keys: Keys,
}

/// With the secret alone, or with keys of machines besides.
#[cfg(test)]
pub(crate) fn spoken_for_golden(role: Role, with_keys: bool) -> Spoken {
    let pattern = if with_keys { Pattern::MachineKeys } else { Pattern::SharedSecret };
    let secret = Secret::parse(&"5a".repeat(32)).expect("it is a secret");
    let machine = |byte| MachineKey::of(zeroize::Zeroizing::new([byte; 32]));
    let [initiators, responders] = [machine(3), machine(4)];
    let greeting = greeting(pattern, role as u8, VersionRange::SPOKEN);
    let answer = answer(pattern, Status::Welcome, VersionRange::SPOKEN, [0x5a; NONCE_BYTES]);
    let prologue = prologue(VersionRange::SPOKEN.newest, &greeting, &answer);
    let side = |key| noise(pattern, &secret, Some(key).filter(|_| with_keys), &prologue);
    let ephemeral = snow::Builder::fixed_ephemeral_key_for_testing_only;
    let mut initiator = ephemeral(side(&initiators), &[1; 32]).build_initiator().expect("it is complete");
    let mut responder = ephemeral(side(&responders), &[2; 32]).build_responder().expect("it is complete");
    let away =
        |status| crate::handshake::answer(pattern, status, VersionRange::SPOKEN, [0; NONCE_BYTES]).to_vec();
    let mut flights = vec![
        ("greeting", greeting.to_vec()),
        ("answer", answer.to_vec()),
        ("answer, other version", away(Status::VersionMismatch)),
        ("answer, other pattern", away(Status::PatternMismatch)),
        ("first message", pass(&mut initiator, &mut responder)),
        ("status, welcome", vec![Status::Welcome as u8]),
        ("status, other secret", vec![Status::SecretMismatch as u8]),
        ("second message", pass(&mut responder, &mut initiator)),
    ];
    if with_keys {
        flights.extend([
            ("third message", pass(&mut initiator, &mut responder)),
            ("status, key not listed", vec![Status::KeyNotListed as u8]),
            ("status, role not listed", vec![Status::RoleNotListed as u8]),
        ]);
    }
    Spoken { flights, keys: Keys::new(initiator.into_transport_mode().expect("it is finished")) }
}

#[cfg(test)]
fn pass(from: &mut HandshakeState, to: &mut HandshakeState) -> Vec<u8> {
    let mut room = [0; HANDSHAKE_FRAME_BYTES];
    let length = from.write_message(&[], &mut room).expect("there is room");
    let message = room[..length].to_vec();
    to.read_message(&message, &mut room).expect("it is whole");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret of its own for each name.
    fn secret(name: &str) -> Secret {
        Secret::parse(blake3::hash(name.as_bytes()).to_hex().as_str()).unwrap()
    }

    async fn meet(
        ours: (&str, VersionRange),
        theirs: (&str, VersionRange),
    ) -> (Result<Established, HandshakeError>, Result<Established, HandshakeError>) {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let (ours_secret, theirs_secrets) = (secret(ours.0), [secret(theirs.0)]);
        tokio::join!(
            initiate_speaking(&mut near, &ours_secret, Role::Dispatcher, ours.1),
            respond_speaking(&mut far, &theirs_secrets, theirs.1),
        )
    }

    fn versions(oldest: u16, newest: u16) -> VersionRange {
        VersionRange { oldest: Version(oldest), newest: Version(newest) }
    }

    #[tokio::test]
    async fn the_same_secret_brings_peers_together_at_the_highest_common_version() {
        let (near, far) = meet(("secret", versions(1, 3)), ("secret", versions(2, 7))).await;
        assert_eq!(near.unwrap().version, Version(3));
        let far = far.unwrap();
        assert_eq!((far.version, far.role), (Version(3), Role::Dispatcher));
    }

    #[tokio::test]
    async fn different_secrets_are_told_to_both() {
        let (near, far) = meet(("secret", VersionRange::SPOKEN), ("other", VersionRange::SPOKEN)).await;
        assert!(matches!(near, Err(HandshakeError::SecretMismatch)), "{near:?}");
        assert!(matches!(far, Err(HandshakeError::SecretMismatch)), "{far:?}");
    }

    #[tokio::test]
    async fn any_of_several_secrets_is_accepted_and_which_one_it_was_is_known() {
        let several: Vec<_> = ["a", "b", "c", "d", "e"].map(secret).into();
        for (place, dialled) in several.iter().enumerate() {
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let (near, far) =
                tokio::join!(initiate(&mut near, dialled, Role::Dispatcher), respond(&mut far, &several[..]));
            if place < SECRETS {
                assert_eq!((near.unwrap().secret, far.unwrap().secret), (dialled.id(), dialled.id()));
            } else {
                assert!(matches!(far, Err(HandshakeError::SecretMismatch)), "no more are looked at: {far:?}");
            }
        }
    }

    #[tokio::test]
    async fn no_common_version_names_both_ranges_on_both_sides() {
        let (near, far) = meet(("secret", versions(1, 1)), ("secret", versions(2, 3))).await;
        let near = near.unwrap_err().to_string();
        assert!(near.contains("version 2 to 3") && near.contains("speaks 1;"), "{near}");
        assert!(far.unwrap_err().to_string().contains("version 1,"));
    }

    #[tokio::test]
    async fn a_web_browser_is_told_apart_from_a_dispatcher() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = respond(&mut far, &[secret("secret")]).await.unwrap_err();
        assert!(matches!(error, HandshakeError::NotPpserver), "{error}");
    }

    #[tokio::test]
    async fn what_answers_and_is_no_ppserver_is_told_apart_from_one_that_closes() {
        let tls_alert = &b"\x15\x03\x01\x00\x02\x02\x46"[..];
        for (answer, is_other) in
            [(tls_alert, true), (b"HTTP/1.1 400 Bad Request\r\n\r\n", true), (b"", false), (b"pp", false)]
        {
            let (mut near, mut far) = tokio::io::duplex(1024);
            far.write_all(answer).await.unwrap();
            drop(far.shutdown().await);
            let error = initiate(&mut near, &secret("secret"), Role::Dispatcher).await.unwrap_err();
            assert_eq!(matches!(error, HandshakeError::NotPpserver), is_other, "{answer:?}: {error}");
            assert!(is_other || matches!(error, HandshakeError::Closed), "{answer:?}: {error}");
            assert!(error.to_string().contains("ppserver"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_mirror_proves_nothing_and_is_told_to_be_no_ppserver() {
        // A peer that sends every byte back knows no secret, and gets nowhere.
        let (mut near, mut far) = tokio::io::duplex(1024);
        let mirror = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = far.read(&mut buffer).await {
                if far.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        });
        for role in [Role::Dispatcher, Role::Operator] {
            let result = initiate(&mut near, &secret("secret"), role).await;
            assert!(matches!(result, Err(HandshakeError::NotPpserver)), "{role:?}: {result:?}");
        }
        mirror.abort();
    }

    /// Bytes that an initiator sends up to the first Noise message, to a node that answers as this one does.
    async fn first_flight(secret: &Secret) -> Vec<u8> {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let (sent, _) = tokio::join!(
            async {
                let mut sent = vec![0; GREETING_BYTES];
                far.read_exact(&mut sent).await.unwrap();
                let answer =
                    answer(Pattern::SharedSecret, Status::Welcome, VersionRange::SPOKEN, nonce().unwrap());
                far.write_all(&answer).await.unwrap();
                let message = read_frame(&mut far).await.unwrap();
                write_frame(&mut sent, &message).await.unwrap();
                drop(far);
                sent
            },
            initiate(&mut near, secret, Role::Dispatcher)
        );
        sent
    }

    #[tokio::test]
    async fn a_recorded_first_flight_proves_nothing() {
        let secret = secret("secret");
        let recorded = first_flight(&secret).await;
        let (mut near, mut far) = tokio::io::duplex(1024);
        near.write_all(&recorded).await.unwrap();
        let result = respond(&mut far, &[secret]).await;
        assert!(matches!(result, Err(HandshakeError::SecretMismatch)), "{result:?}");
        let mut answer = [0; ANSWER_BYTES];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(
            read_frame(&mut near).await.unwrap(),
            [Status::SecretMismatch as u8],
            "and is not answered"
        );
    }

    #[tokio::test]
    async fn another_kind_of_proof_is_named_on_both_sides() {
        // A later release whose machines have keys of their own.
        let (mut near, mut far) = tokio::io::duplex(1024);
        let mut greeting = greeting(Pattern::SharedSecret, Role::Dispatcher as u8, VersionRange::SPOKEN);
        greeting[4] = 9;
        near.write_all(&greeting).await.unwrap();
        let result = respond(&mut far, &[secret("secret")]).await;
        assert!(matches!(result, Err(HandshakeError::PatternMismatch(9))), "{result:?}");
        let mut answer = [0; ANSWER_BYTES];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer[4], answer[5]), (Pattern::SharedSecret as u8, Status::PatternMismatch as u8));

        answer[4] = 9;
        for status in [Status::PatternMismatch, Status::Welcome] {
            let (mut near, mut far) = tokio::io::duplex(1024);
            answer[5] = status as u8;
            far.write_all(&answer).await.unwrap();
            let result = initiate(&mut near, &secret("secret"), Role::Dispatcher).await;
            assert!(matches!(result, Err(HandshakeError::PatternMismatch(9))), "{status:?}: {result:?}");
        }
    }

    #[tokio::test]
    async fn a_role_that_nobody_has_is_refused() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        near.write_all(&greeting(Pattern::SharedSecret, 77, VersionRange::SPOKEN)).await.unwrap();
        let result = respond(&mut far, &[secret("secret")]).await;
        assert!(matches!(result, Err(HandshakeError::NotPpserver)), "{result:?}");
    }

    /// Two machines that know the same secret.
    struct Machines {
        secret: Secret,
        initiators: MachineKey,
        nodes: MachineKey,
    }

    impl Machines {
        fn new() -> Self {
            Self { secret: Secret::random(), initiators: MachineKey::random(), nodes: MachineKey::random() }
        }

        async fn meet(
            &self,
            listed: &str,
            role: Role,
            node: Option<PublicKey>,
        ) -> (Result<Established, HandshakeError>, Result<Established, HandshakeError>) {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let authorized = AuthorizedKeys::parse(listed).unwrap();
            let secrets = [self.secret.clone()];
            let near = async {
                let mut near = near;
                let proof = Credentials::Key { secret: &self.secret, key: &self.initiators, node };
                initiate(&mut near, proof, role).await
            };
            let demand = Demand::Key { secrets: &secrets, key: &self.nodes, authorized: &authorized };
            tokio::join!(near, respond(&mut far, demand))
        }
    }

    #[tokio::test]
    async fn machines_show_each_other_their_keys_and_what_is_sealed_then_is_opened() {
        let machines = Machines::new();
        let listed = format!("{} ada@desk", machines.initiators.public());
        for node in [None, Some(machines.nodes.public())] {
            let (near, far) = machines.meet(&listed, Role::Dispatcher, node).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            assert_eq!(near.peer, Some(machines.nodes.public()));
            assert_eq!((far.peer, far.role), (Some(machines.initiators.public()), Role::Dispatcher));
            assert_eq!((near.secret, far.secret), (machines.secret.id(), machines.secret.id()));
            let mut sealed = [0; 64];
            let length = crate::record::Sealer::new(near.keys).seal(b"hello", &mut sealed).unwrap();
            let mut opened = bytes::BytesMut::from(&sealed[..length]);
            let mut opener = crate::record::Opener::new(far.keys);
            let length = tokio_util::codec::Decoder::decode(&mut opener, &mut opened).unwrap();
            assert_eq!(length.map(|length| opener.plain(length)), Some(&b"hello"[..]));
        }
    }

    #[tokio::test]
    async fn a_machine_that_is_not_listed_or_not_for_its_role_is_told_so_and_so_is_the_node() {
        let machines = Machines::new();
        let key = machines.initiators.public();
        let stranger = MachineKey::random().public();
        let not_listed = HandshakeError::KeyNotListed { key: key.to_string() };
        for (listed, role, expected) in [
            ("".to_owned(), Role::Dispatcher, not_listed.to_string()),
            (format!("operate {stranger}"), Role::Dispatcher, not_listed.to_string()),
            (format!("{key}"), Role::Operator, role_not_listed(key, Role::Operator)),
            (format!("no-submit,operate {key}"), Role::Dispatcher, role_not_listed(key, Role::Dispatcher)),
        ] {
            let (near, far) = machines.meet(&listed, role, None).await;
            assert_eq!(near.unwrap_err().to_string(), expected);
            assert_eq!(far.unwrap_err().to_string(), expected);
            assert!(expected.contains("authorized keys") && expected.contains("SIGHUP"), "{expected}");
        }
    }

    fn role_not_listed(key: PublicKey, role: Role) -> String {
        HandshakeError::RoleNotListed { key: key.to_string(), role }.to_string()
    }

    #[tokio::test]
    async fn a_node_with_another_key_than_the_known_one_never_sees_that_of_the_machine() {
        let machines = Machines::new();
        let known = MachineKey::random().public();
        let listed = machines.initiators.public().to_string();
        let (near, far) = machines.meet(&listed, Role::Dispatcher, Some(known)).await;
        let near = near.unwrap_err();
        let HandshakeError::OtherNodeKey { shown } = &near else { panic!("{near}") };
        assert_eq!(*shown, machines.nodes.public().to_string());
        assert!(matches!(far, Err(HandshakeError::Closed)), "{far:?}");
    }

    #[tokio::test]
    async fn without_the_secret_no_key_opens_anything() {
        let (machines, others) = (Machines::new(), Machines::new());
        let secrets = [others.secret.clone()];
        let listed = AuthorizedKeys::parse(&machines.initiators.public().to_string()).unwrap();
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let proof = Credentials::Key { secret: &machines.secret, key: &machines.initiators, node: None };
        let demand = Demand::Key { secrets: &secrets, key: &machines.nodes, authorized: &listed };
        let (near, far) =
            tokio::join!(initiate(&mut near, proof, Role::Dispatcher), respond(&mut far, demand));
        assert!(matches!(near, Err(HandshakeError::SecretMismatch)), "{near:?}");
        assert!(matches!(far, Err(HandshakeError::SecretMismatch)), "{far:?}");
    }

    #[tokio::test]
    async fn a_node_of_either_kind_says_to_the_other_kind_what_it_asks_for() {
        let machines = Machines::new();
        let (secrets, listed) = ([machines.secret.clone()], AuthorizedKeys::default());
        let proof = Credentials::Key { secret: &machines.secret, key: &machines.initiators, node: None };
        let demand = Demand::Key { secrets: &secrets, key: &machines.nodes, authorized: &listed };
        for (proof, demand, [near_says, far_says]) in [
            (Credentials::Secret(&machines.secret), demand, [MACHINE_KEYS, SHARED_SECRET]),
            (proof, Demand::Secret(&secrets), [SHARED_SECRET, MACHINE_KEYS]),
        ] {
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let (near, far) =
                tokio::join!(initiate(&mut near, proof, Role::Dispatcher), respond(&mut far, demand));
            assert!(
                matches!(near, Err(HandshakeError::PatternMismatch(told)) if told == near_says),
                "{near:?}"
            );
            assert!(matches!(far, Err(HandshakeError::PatternMismatch(told)) if told == far_says), "{far:?}");
        }
    }

    #[tokio::test]
    async fn with_keys_any_of_several_secrets_is_accepted_too() {
        let machines = Machines::new();
        let several = [secret("a"), secret("b"), machines.secret.clone()];
        let listed = AuthorizedKeys::parse(&machines.initiators.public().to_string()).unwrap();
        for dialled in &several {
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let proof = Credentials::Key { secret: dialled, key: &machines.initiators, node: None };
            let demand = Demand::Key { secrets: &several, key: &machines.nodes, authorized: &listed };
            let (near, far) =
                tokio::join!(initiate(&mut near, proof, Role::Dispatcher), respond(&mut far, demand));
            assert_eq!((near.unwrap().secret, far.unwrap().secret), (dialled.id(), dialled.id()));
        }
    }
}
