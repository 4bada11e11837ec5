//! Keys of machines: the second way to prove who may connect, as ssh has it.
//!
//! A machine has a static key ([`MachineKey`]). A node lists the public keys of those that may connect, and as what
//! ([`AuthorizedKeys`]); a dispatcher remembers the key that each node showed first ([`KnownNodes`]). The secret of the
//! cluster is proved besides, before anything of these is computed or told, so that strangers cost a node no more than
//! without keys. Who steals a node's key has the key of something that is listed nowhere.
//!
//! The handshake that proves all this is in [`handshake`](crate::handshake).

mod authorized;
mod key;
mod known;

pub use self::authorized::{AuthorizedError, AuthorizedKeys, Unlisted, WrongLine};
pub use self::key::{KeyError, MACHINE_KEY_VARIABLE, MachineKey, PublicKey, WrongKey, default_path};
pub use self::known::{KnownNodes, KnownNodesError, Pin};
