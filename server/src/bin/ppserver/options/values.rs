//! Single values, read the same way from the command line, the environment and the configuration file; what makes no
//! sense is refused with what does.

use std::fmt;
use std::str::FromStr;

use pp_node::confinement::{User, UserError};
use pp_protocol::address::{HostIp, is_like_address};
use pp_protocol::environment::parse_switch;
use pp_protocol::is_plain_name;
use pp_protocol::limits::{NAME_BYTES, SLOTS};
use rustix::process::geteuid;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<T, const LEAST: u64, const MOST: u64>(T);

/// A TCP port; 0 is any that is free.
pub(crate) type Port = Whole<u16, 0, 65_535>;
/// Jobs at once.
pub(crate) type Workers = Whole<u32, 0, { SLOTS as u64 }>;
/// Time for which nobody may be connected: up to a year.
pub(crate) type IdleSeconds = Whole<u64, 1, 31_536_000>;
/// Silence that a connection may keep. Either side is heard of at least once a second, so that less would end
/// connections all the time; up to a day.
pub(crate) type SilentSeconds = Whole<u64, 2, 86_400>;

/// MiB that jobs may have: a worker that has none yet needs some, mostly for its stacks.
pub(crate) type WorkerMemory = Whole<u64, 32, 16_777_216>;
/// Processes and threads of jobs: a worker by itself has a few. The system has no more than the upper limit.
pub(crate) type WorkerProcesses = Whole<u32, 8, 4_194_304>;

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Whole<T, LEAST, MOST> {
    pub(crate) fn get(self) -> T {
        self.0
    }

    fn of(number: Option<u64>) -> Result<Self, OutOfRange> {
        let number = number.filter(|number| (LEAST..=MOST).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.map(Self).ok_or(OutOfRange { least: LEAST, most: MOST })
    }
}

/// Where HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    /// The address; on loopback unless another one was said.
    pub(crate) host: HostIp,
    pub(crate) port: u16,
}

/// HTTP cannot be served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has to be a port, to be reached from this machine only, or an address and a port: 9600, 10.0.0.1:9600, [fd00::1]:9600, \
     or 0.0.0.0:9600 for all of IPv4"
)]
pub(crate) struct NotHttpAddress;

impl FromStr for HttpAddress {
    type Err = NotHttpAddress;

    fn from_str(text: &str) -> Result<Self, NotHttpAddress> {
        let (host, port) = match text.trim().rsplit_once(':') {
            None => ("127.0.0.1", text.trim()),
            Some((host, port)) => match host.strip_prefix('[') {
                Some(host) => (host.strip_suffix(']').ok_or(NotHttpAddress)?, port),
                // One of IPv6 without brackets may have a port at its end, or not.
                None if host.contains(':') => return Err(NotHttpAddress),
                None => (host, port),
            },
        };
        let port = port.parse().map_err(|_| NotHttpAddress)?;
        Ok(Self { host: host.parse().map_err(|_| NotHttpAddress)?, port })
    }
}

/// The user that jobs run as.
#[derive(Clone, Debug)]
pub(crate) struct UserName(pub(crate) User);

/// Jobs cannot run as that user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUser {
    #[error(transparent)]
    Unknown(#[from] UserError),
    #[error("only root can run jobs as another user; start ppserver as that user instead")]
    NotRoot,
}

impl FromStr for UserName {
    type Err = NoUser;

    fn from_str(name: &str) -> Result<Self, NoUser> {
        if geteuid().is_root() { Ok(Self(User::named(name.trim())?)) } else { Err(NoUser::NotRoot) }
    }
}

/// A number is none, or not one that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be a whole number from {least} to {most}")]
pub(crate) struct OutOfRange {
    least: u64,
    most: u64,
}

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> FromStr for Whole<T, LEAST, MOST> {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        Self::of(text.trim().parse().ok())
    }
}

impl<'de, T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<T, LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        Self::of(u64::try_from(number).ok()).map_err(D::Error::custom)
    }
}

/// The name of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeName(String);

/// A node cannot be called that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadName {
    #[error("a name has to have something in it; leave it out for the host's name")]
    Blank,
    #[error("a name has at most {NAME_BYTES} bytes, this one {0}")]
    Long(usize),
    #[error("a name is one line, without control characters and others that cannot be seen")]
    Invisible,
    #[error("{0:?} is what dispatchers call their own cores; give this node another name")]
    Local(String),
    #[error("{0:?} looks like an address, which tools would dial; give this node a name without a colon")]
    Address(String),
}

impl NodeName {
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl FromStr for NodeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.trim() {
            "" => Err(BadName::Blank),
            name if name.len() > NAME_BYTES => Err(BadName::Long(name.len())),
            name if !is_plain_name(name) => Err(BadName::Invisible),
            name if name.eq_ignore_ascii_case("local") => Err(BadName::Local(name.into())),
            name if is_like_address(name) || is_like_label(name) => Err(BadName::Address(name.into())),
            name => Ok(Self(name.into())),
        }
    }
}

/// Whether it is how nodes are shown, with their address behind the name: `render1 (10.0.0.1:60000)`.
fn is_like_label(name: &str) -> bool {
    let inner = name.strip_suffix(')').and_then(|name| name.rsplit_once('('));
    inner.is_some_and(|(_, address)| is_like_address(address))
}

/// Reads what turns something on or off.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    parse_switch(text).map_err(|expected| format!("it has to be {expected}"))
}

/// Reads what the file says as text; blank text says nothing.
pub(crate) fn unless_blank<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}
