//! Proof of two peers to each other that they know the secret, before either parses anything else.
//!
//! ```text
//! initiator (dispatcher, operator)              responder (node)
//!   "ppsv", pattern, role, versions      ->
//!                                        <-     "ppsv", pattern, status, versions, nonce
//!   Noise message 1                      ->
//!                                        <-     status, Noise message 2
//! ```
//! Both clear-text greetings and the version chosen are the Noise prologue: whoever changes a byte of them on the way
//! makes the handshake fail. The roles of Noise tell the two sides apart, so a mirrored message proves nothing; the nonce
//! of the node is another one each time, so a recorded message 1 proves nothing either. Frames before the end of the
//! handshake are limited to 4 KiB, all of it to ten seconds. The bytes are in the README of this crate.
//! Source: the Noise Protocol Framework, revision 34, sections 7.4 and 9.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use crate::HandshakeError;
use crate::limits::{HANDSHAKE_FRAME_BYTES, HANDSHAKE_TIME, SECRETS};
use crate::record::Keys;
use crate::secret::Secret;
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
    SharedSecret = 1,
}

impl Pattern {
    /// The pattern that this build speaks.
    const SPOKEN: Self = Self::SharedSecret;

    /// Its name in the Noise Protocol Framework.
    fn noise(self) -> &'static str {
        match self {
            Self::SharedSecret => "Noise_NNpsk0_25519_AESGCM_SHA256",
        }
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
}

impl Status {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Welcome, Self::VersionMismatch, Self::SecretMismatch, Self::PatternMismatch];
        all.into_iter().find(|status| *status as u8 == byte)
    }
}

/// Connects as `role`: sends the greeting and proves knowledge of `secret`.
///
/// # Errors
/// Every variant of [`HandshakeError`], in bounded time.
pub async fn initiate<S>(stream: &mut S, secret: &Secret, role: Role) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    initiate_speaking(stream, secret, role, VersionRange::SPOKEN).await
}

/// As [`initiate`], speaking a given range of versions: for tests of what happens between releases.
#[doc(hidden)]
pub async fn initiate_speaking<S>(
    stream: &mut S,
    secret: &Secret,
    role: Role,
    ours: VersionRange,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(async {
        let greeting = greeting(Pattern::SPOKEN, role as u8, ours);
        stream.write_all(&greeting).await?;
        let mut answer = [0; ANSWER_BYTES];
        let (fixed, nonce) = answer.split_at_mut(GREETING_BYTES);
        fixed.copy_from_slice(&read_greeting(stream).await?);
        let Greeting { pattern, second: status, versions: theirs } = parse_greeting(fixed)?;
        // What sends back what it gets sends no status.
        match Status::from_byte(status).ok_or(HandshakeError::NotPpserver)? {
            Status::Welcome if pattern == Pattern::SPOKEN as u8 => {}
            Status::Welcome | Status::PatternMismatch => {
                return Err(HandshakeError::PatternMismatch(pattern));
            }
            Status::VersionMismatch => return Err(HandshakeError::VersionMismatch { ours, theirs }),
            Status::SecretMismatch => return Err(HandshakeError::SecretMismatch),
        }
        stream.read_exact(nonce).await?;
        let version = ours.highest_common(theirs).ok_or(HandshakeError::VersionMismatch { ours, theirs })?;

        let prologue = prologue(version, &greeting, &answer);
        let mut noise = noise(secret, &prologue).build_initiator().map_err(broken)?;
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
        let keys = Keys::new(noise.into_transport_mode().map_err(broken)?);
        Ok(Established { keys, version, role, secret: secret.id() })
    })
    .await
}

/// Answers a peer that connected: demands proof that it knows one of the first [`SECRETS`] of `secrets`.
///
/// # Errors
/// Every variant of [`HandshakeError`], in bounded time. The peer has then been told why, as far as it may know.
pub async fn respond<S>(stream: &mut S, secrets: &[Secret]) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    respond_speaking(stream, secrets, VersionRange::SPOKEN).await
}

/// As [`respond`], speaking a given range of versions: for tests of what happens between releases.
#[doc(hidden)]
pub async fn respond_speaking<S>(
    stream: &mut S,
    secrets: &[Secret],
    ours: VersionRange,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(async {
        let greeted = read_greeting(stream).await?;
        let Greeting { pattern, second: role, versions: theirs } = parse_greeting(&greeted)?;
        if pattern != Pattern::SPOKEN as u8 {
            turn_away(stream, Status::PatternMismatch, ours).await?;
            return Err(HandshakeError::PatternMismatch(pattern));
        }
        let Some(version) = ours.highest_common(theirs) else {
            turn_away(stream, Status::VersionMismatch, ours).await?;
            return Err(HandshakeError::VersionMismatch { ours, theirs });
        };
        let role = Role::from_byte(role).ok_or(HandshakeError::NotPpserver)?;
        let answer = answer(Status::Welcome, ours, nonce()?);
        stream.write_all(&answer).await?;

        let prologue = prologue(version, &greeted, &answer);
        let mut buffer = [0; HANDSHAKE_FRAME_BYTES];
        let frame = read_frame(stream).await?;
        // A look at the first message costs a hash and one short text to open; nothing of the curve is computed for it.
        let known = secrets.iter().take(SECRETS).find_map(|secret| {
            let mut noise = noise(secret, &prologue).build_responder().ok()?;
            noise.read_message(&frame, &mut buffer).ok().map(|_| (noise, secret.id()))
        });
        let Some((mut noise, secret)) = known else {
            write_frame(stream, &[Status::SecretMismatch as u8]).await?;
            stream.shutdown().await?;
            return Err(HandshakeError::SecretMismatch);
        };
        buffer[0] = Status::Welcome as u8;
        let length = noise.write_message(&[], &mut buffer[1..]).map_err(broken)?;
        write_frame(stream, &buffer[..=length]).await?;
        let keys = Keys::new(noise.into_transport_mode().map_err(broken)?);
        Ok(Established { keys, version, role, secret })
    })
    .await
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_TIME, handshake).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// Bytes that both sides must have seen alike for the handshake to succeed.
fn prologue(version: Version, initiator: &[u8], responder: &[u8]) -> Vec<u8> {
    [PROLOGUE, initiator, responder, &version.0.to_le_bytes()].concat()
}

fn noise<'a>(secret: &'a Secret, prologue: &'a [u8]) -> snow::Builder<'a> {
    let parameters = Pattern::SPOKEN.noise().parse().expect("the Noise pattern is well-formed");
    snow::Builder::new(parameters)
        .psk(0, secret.key())
        .and_then(|builder| builder.prologue(prologue))
        .expect("key and prologue are set once, with the right length")
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

fn answer(status: Status, versions: VersionRange, nonce: [u8; NONCE_BYTES]) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..GREETING_BYTES].copy_from_slice(&greeting(Pattern::SPOKEN, status as u8, versions));
    bytes[GREETING_BYTES..].copy_from_slice(&nonce);
    bytes
}

/// Says why there will be no handshake.
async fn turn_away(
    stream: &mut (impl AsyncWrite + Unpin),
    status: Status,
    ours: VersionRange,
) -> io::Result<()> {
    stream.write_all(&answer(status, ours, [0; NONCE_BYTES])).await?;
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

#[cfg(test)]
pub(crate) fn spoken_for_golden(role: Role) -> Spoken {
    let secret = Secret::parse(&"5a".repeat(32)).expect("it is a secret");
    let greeting = greeting(Pattern::SPOKEN, role as u8, VersionRange::SPOKEN);
    let answer = answer(Status::Welcome, VersionRange::SPOKEN, [0x5a; NONCE_BYTES]);
    let prologue = prologue(VersionRange::SPOKEN.newest, &greeting, &answer);
    let side = || noise(&secret, &prologue);
    let mut initiator =
        side().fixed_ephemeral_key_for_testing_only(&[1; 32]).build_initiator().expect("it is complete");
    let mut responder =
        side().fixed_ephemeral_key_for_testing_only(&[2; 32]).build_responder().expect("it is complete");
    let mut room = [0; HANDSHAKE_FRAME_BYTES];
    let length = initiator.write_message(&[], &mut room).expect("there is room");
    let first = room[..length].to_vec();
    responder.read_message(&first, &mut room).expect("it is whole");
    let length = responder.write_message(&[], &mut room).expect("there is room");
    let second = room[..length].to_vec();
    initiator.read_message(&second, &mut room).expect("it is whole");
    let away = |status| crate::handshake::answer(status, VersionRange::SPOKEN, [0; NONCE_BYTES]).to_vec();
    let flights = vec![
        ("greeting", greeting.to_vec()),
        ("answer", answer.to_vec()),
        ("answer, other version", away(Status::VersionMismatch)),
        ("answer, other pattern", away(Status::PatternMismatch)),
        ("first message", first),
        ("status, welcome", vec![Status::Welcome as u8]),
        ("status, other secret", vec![Status::SecretMismatch as u8]),
        ("second message", second),
    ];
    Spoken { flights, keys: Keys::new(initiator.into_transport_mode().expect("it is finished")) }
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
                tokio::join!(initiate(&mut near, dialled, Role::Dispatcher), respond(&mut far, &several));
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
                let answer = answer(Status::Welcome, VersionRange::SPOKEN, nonce().unwrap());
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
        let mut greeting = greeting(Pattern::SPOKEN, Role::Dispatcher as u8, VersionRange::SPOKEN);
        greeting[4] = 9;
        near.write_all(&greeting).await.unwrap();
        let result = respond(&mut far, &[secret("secret")]).await;
        assert!(matches!(result, Err(HandshakeError::PatternMismatch(9))), "{result:?}");
        let mut answer = [0; ANSWER_BYTES];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer[4], answer[5]), (Pattern::SPOKEN as u8, Status::PatternMismatch as u8));

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
        near.write_all(&greeting(Pattern::SPOKEN, 77, VersionRange::SPOKEN)).await.unwrap();
        let result = respond(&mut far, &[secret("secret")]).await;
        assert!(matches!(result, Err(HandshakeError::NotPpserver)), "{result:?}");
    }
}
