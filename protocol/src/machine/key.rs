//! The key of a machine, and the public half of it that others list.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::Zeroizing;

use crate::MachineId;
use crate::environment;
use crate::limits::SECRET_FILE_BYTES;
use crate::private::{self, PrivateError};
use crate::shown::quoted;
use crate::written::{self, Bits, Mistyped};

/// Environment variable that names the file with the key of this machine.
pub const MACHINE_KEY_VARIABLE: &str = "PP_MACHINE_KEY";

/// A machine's own key (X25519). Never shown: its `Debug` form has the public half only. Clones are the same memory, which is
/// overwritten when the last of them goes; a handshake has a copy for as long as it takes.
#[derive(Clone)]
pub struct MachineKey(Arc<Held>);

struct Held {
    private: Zeroizing<Bits>,
    public: PublicKey,
}

/// The public half of a machine's key: others list it, and it may be known to anybody.
///
/// Written as `ppk1-` and 56 characters, with a checksum that tells a typing error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Bits);

/// A text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongKey {
    /// It begins with something else.
    #[error("a public key begins with `{}`; `ppctl key show` prints that of a machine", written::PUBLIC_KEY)]
    Other,
    /// It is a machine's own key.
    #[error(
        "this is a machine's own key, which belongs nowhere but into its file: whoever has read it here can pose as that \
         machine, so make it another one; the line to write is what `ppctl key show` prints there"
    )]
    Private,
    /// It is a secret.
    #[error(
        "this is a secret of a cluster, which belongs nowhere but into its file: whoever has read it here can run code on the \
         nodes, so replace it (`ppctl secret rotate`); the line to write is what `ppctl key show` prints on a machine"
    )]
    Secret,
    /// It was not copied as it was.
    #[error("this public key was not copied as it was: {0}; copy it once more")]
    Mistyped(#[from] Mistyped),
}

/// A machine's key could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be found, read or written, or is not private.
    #[error("cannot use the machine's key: {}{}", .0, advice(.0))]
    File(#[from] PrivateError),
    /// The file holds something else.
    #[error(
        "{} holds no machine's key: {reason}; if it is to be one, remove the file and run: ppctl key new", .path.display()
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        reason: String,
    },
}

/// What helps against a file that cannot be used, as far as the error does not say it.
fn advice(error: &PrivateError) -> String {
    match error {
        PrivateError::Missing(path) => {
            format!("; make one with: {MACHINE_KEY_VARIABLE}={} ppctl key new", quoted(path))
        }
        error => error.or_elsewhere(MACHINE_KEY_VARIABLE),
    }
}

impl KeyError {
    /// Whether there is no such file: a key can be made there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(error) if error.is_missing())
    }
}

impl MachineKey {
    /// A fresh key.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn random() -> Self {
        let mut private = Zeroizing::new(Bits::default());
        getrandom::fill(private.as_mut()).expect("the system's random number source works");
        Self::of(private)
    }

    pub(crate) fn of(private: Zeroizing<Bits>) -> Self {
        let mut pair = DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("this curve is built in");
        pair.set(private.as_ref());
        let mut public = Bits::default();
        public.copy_from_slice(pair.pubkey());
        Self(Arc::new(Held { private, public: PublicKey(public) }))
    }

    /// Reads the key in a file that nobody else can read ([`private`]).
    ///
    /// # Errors
    /// When it cannot be read, is not private, or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = private::read(path, SECRET_FILE_BYTES)?;
        let wrong = |reason| KeyError::Wrong { path: path.into(), reason };
        match written::read(written::MACHINE_KEY, text.trim()) {
            Some(private) => private.map(Self::of).map_err(|error| wrong(error.to_string())),
            None if text.trim().is_empty() => Err(wrong("it is empty".into())),
            None => Err(wrong(format!("it does not begin with `{}`", written::MACHINE_KEY))),
        }
    }

    /// Makes a key and writes it to a new file that only its owner can read, making the directory too. `None` if there is a
    /// file already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Option<Self>, KeyError> {
        let key = Self::random();
        let mut text = written::write(written::MACHINE_KEY, &key.0.private);
        text.push('\n');
        Ok(private::create(path, &text)?.then_some(key))
    }

    /// Reads the key in this file, making one if there is no such file; whether it was made.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn read_or_create(path: &Path) -> Result<(Self, bool), KeyError> {
        match Self::read(path) {
            Err(error) if error.is_missing() => match Self::create(path)? {
                Some(key) => Ok((key, true)),
                // Somebody else was faster.
                None => Ok((Self::read(path)?, false)),
            },
            read => Ok((read?, false)),
        }
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.0.public
    }

    pub(crate) fn private(&self) -> &Bits {
        &self.0.private
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineKey(.., {})", self.public())
    }
}

impl PublicKey {
    /// The name of the machine that has it.
    pub fn id(&self) -> MachineId {
        MachineId(self.0)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written::write(written::PUBLIC_KEY, &self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = WrongKey;

    fn from_str(text: &str) -> Result<Self, WrongKey> {
        let text = text.trim();
        let begins = |prefix| written::read(prefix, text).is_some();
        match written::read(written::PUBLIC_KEY, text) {
            Some(bits) => Ok(Self(*bits?)),
            None if begins(written::MACHINE_KEY) => Err(WrongKey::Private),
            None if text.get(..3).is_some_and(|kind| kind.eq_ignore_ascii_case("ppk")) => {
                Err(WrongKey::Other)
            }
            None if begins(written::SECRET) || written::begins_like_secret(text) => Err(WrongKey::Secret),
            None => Err(WrongKey::Other),
        }
    }
}

/// The file with the key of this machine: the one that `PP_MACHINE_KEY` names, else `$XDG_CONFIG_HOME/ppserver/machine_key`, else
/// `~/.config/ppserver/machine_key`.
///
/// # Errors
/// When none of the variables is set, or one is no absolute path.
pub fn default_path() -> Result<PathBuf, PrivateError> {
    let said = environment::path(MACHINE_KEY_VARIABLE);
    said.map_or_else(|| private::usual_path("machine_key"), Ok)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_key_made_is_read_back_and_a_second_one_does_not_replace_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ppserver/machine_key");
        let (made, is_new) = MachineKey::read_or_create(&path).unwrap();
        let (read, is_new_again) = MachineKey::read_or_create(&path).unwrap();
        assert_eq!((made.public(), is_new, is_new_again), (read.public(), true, false));
        assert!(MachineKey::create(&path).unwrap().is_none());
        assert_ne!(MachineKey::random().public(), made.public());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("ppm1-") && !format!("{made:?}").contains(text.trim()), "{made:?}");
    }

    #[test]
    fn a_public_key_is_read_as_it_is_written_and_a_private_one_is_not_taken_for_it() {
        let key = MachineKey::random();
        let text = key.public().to_string();
        assert_eq!(text.parse(), Ok(key.public()));
        assert_eq!(text.to_uppercase().parse(), Ok(key.public()));
        let private = written::write(written::MACHINE_KEY, key.private());
        assert_eq!(private.parse::<PublicKey>(), Err(WrongKey::Private));
        assert_eq!("ssh-ed25519".parse::<PublicKey>(), Err(WrongKey::Other));
        let secret = Secret::random();
        for text in [secret.text(), &secret.text().replace('-', "_")] {
            assert_eq!(text.parse::<PublicKey>(), Err(WrongKey::Secret));
        }
        assert_eq!(
            key.public().to_string().replace("ppk1", "ppk2").parse::<PublicKey>(),
            Err(WrongKey::Other)
        );
        let mistyped = text[..text.len() - 1].parse::<PublicKey>();
        assert!(matches!(mistyped, Err(WrongKey::Mistyped(_))), "{mistyped:?}");
    }

    #[test]
    fn a_file_with_something_else_in_it_is_no_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("machine_key");
        private::create(&path, &MachineKey::random().public().to_string()).unwrap();
        let error = MachineKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("does not begin with `ppm1-`") && error.contains("ppctl key new"), "{error}");
        fs::write(&path, "\n").unwrap();
        let error = MachineKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("it is empty") && error.contains("remove the file"), "{error}");
    }
}
