//! The secret a dispatcher and a node must share: where it is looked for, how it is made.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::environment::{self, VariableError};

/// Environment variable that holds the secret itself.
pub const SECRET_VARIABLE: &str = "PP_SECRET";
/// Environment variable that names a file with the secret in it.
pub const SECRET_FILE_VARIABLE: &str = "PP_SECRET_FILE";

/// Below so many characters a secret can be guessed.
const STRONG_CHARACTERS: usize = 16;
/// A longer secret file is some other file.
const FILE_BYTES: u64 = 4096;

/// A secret that a dispatcher and a node share. Never shown: its `Debug` form hides it.
#[derive(Clone)]
pub struct Secret {
    text: String,
    key: [u8; 32],
}

/// Where a secret was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Given in code or on a command line.
    Given,
    /// In an environment variable.
    Environment,
    /// In this file.
    File(PathBuf),
}

/// A secret could not be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It has no characters.
    #[error("the secret from {0} is empty; write one into it, or remove it to have one made")]
    Empty(String),
    /// The file cannot be read.
    #[error("cannot read the secret file {}: {source}; check its path and owner", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file.
    #[error("{} is to hold the secret and is no file; name the file that does", .0.display())]
    NoFile(PathBuf),
    /// Others may read the file.
    #[error(
        "the secret file {} can be read by others (mode {mode:03o}); run: chmod 600 {}", .path.display(), .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too large or not text.
    #[error("the secret file {} does not hold a line of text of at most {FILE_BYTES} bytes", .0.display())]
    NotText(PathBuf),
    /// The file cannot be written.
    #[error("cannot write a new secret to {}: {source}; give one with --secret-file or PP_SECRET", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The variable that holds it is not text.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// There is no home directory to keep it in.
    #[error(
        "no place for a secret file: neither XDG_CONFIG_HOME nor HOME is set; give one with --secret-file or PP_SECRET"
    )]
    NoHome,
}

impl Secret {
    /// The secret in `text`; surrounding white space does not count.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        Self::parse_from(text, "the command line or code")
    }

    fn parse_from(text: &str, place: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty(place.into()));
        }
        let key = blake3::derive_key("ppserver 2026-11 key of dispatchers and nodes", text.as_bytes());
        Ok(Self { text: text.into(), key })
    }

    /// A fresh secret of 256 random bits, as 64 hexadecimal digits.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system's random number source works");
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::parse(&text).expect("it is not empty")
    }

    /// Reads the secret in a file that nobody else can read.
    ///
    /// # Errors
    /// When the file is missing, unreadable, readable by others, or not a line of text.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.into(), source };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        // Reading what is none could wait for ever, and nobody should be told to change the mode of a directory.
        if !metadata.is_file() {
            return Err(SecretError::NoFile(path.into()));
        }
        let mode = permission_bits(&metadata);
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.into(), mode });
        }
        if metadata.len() > FILE_BYTES {
            return Err(SecretError::NotText(path.into()));
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.into()))?;
        Self::parse_from(&text, &path.display().to_string())
    }

    /// Makes a secret and writes it to a new file that only its owner can read, making the directory too.
    /// If another process was faster, its secret is read instead.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, SecretError> {
        let unwritable = |source| SecretError::Unwritable { path: path.into(), source };
        let secret = Self::random();
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(unwritable)?;
        }
        // Written elsewhere and linked into place, so that nobody ever reads half a secret.
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let written = new_private_file(&draft).and_then(|mut file| writeln!(file, "{}", secret.text));
        let linked = written.and_then(|()| fs::hard_link(&draft, path));
        let _ = fs::remove_file(&draft);
        match linked {
            Ok(()) => Ok(secret),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(source) => Err(unwritable(source)),
        }
    }

    /// The secret as text, to be written where another machine finds it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is short enough to be guessed by somebody who recorded a handshake.
    pub fn is_weak(&self) -> bool {
        self.text.chars().count() < STRONG_CHARACTERS
    }

    /// The 256-bit key that the handshake proves knowledge of (BLAKE3 key derivation of the text).
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Looks for a secret: `given`, then `file`, then `PP_SECRET`, then the file `PP_SECRET_FILE` names, then
/// [`default_path`]. `None` if none of these is there; a variable that is blank is not.
///
/// # Errors
/// When one of them is there but cannot be used: the next place is not tried then.
pub fn find(given: Option<&str>, file: Option<&Path>) -> Result<Option<(Secret, Origin)>, SecretError> {
    if let Some(text) = given {
        return Ok(Some((Secret::parse(text)?, Origin::Given)));
    }
    if let Some(path) = file {
        return Ok(Some((Secret::read(path)?, Origin::File(path.into()))));
    }
    if let Some(text) = environment::text(SECRET_VARIABLE).map_err(hide)? {
        return Ok(Some((Secret::parse_from(&text, SECRET_VARIABLE)?, Origin::Environment)));
    }
    if let Some(path) = environment::path(SECRET_FILE_VARIABLE) {
        return Ok(Some((Secret::read(&path)?, Origin::File(path))));
    }
    match default_path() {
        Ok(path) if path.exists() => Ok(Some((Secret::read(&path)?, Origin::File(path)))),
        Ok(_) | Err(SecretError::NoHome) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the environment says what the secret is, or where.
pub fn is_in_environment() -> bool {
    [SECRET_VARIABLE, SECRET_FILE_VARIABLE].into_iter().any(environment::is_set)
}

/// A secret is not shown, not even one that cannot be used.
fn hide(error: VariableError) -> VariableError {
    VariableError { value: "(hidden)".into(), ..error }
}

/// `$XDG_CONFIG_HOME/ppserver/secret`, or `~/.config/ppserver/secret`.
///
/// # Errors
/// When neither variable is set, or one is no absolute path.
pub fn default_path() -> Result<PathBuf, SecretError> {
    let config = match environment::directory("XDG_CONFIG_HOME")? {
        Some(config) => Some(config),
        None => environment::directory("HOME")?.map(|home| home.join(".config")),
    };
    Ok(config.ok_or(SecretError::NoHome)?.join("ppserver").join("secret"))
}

#[cfg(unix)]
fn permission_bits(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o777
}

#[cfg(unix)]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_made_is_read_back_and_only_its_owner_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ppserver/secret");
        let made = Secret::create(&path).unwrap();
        assert_eq!(Secret::read(&path).unwrap().text(), made.text());
        assert_eq!(permission_bits(&fs::metadata(&path).unwrap()), 0o600);
        assert_eq!(Secret::create(&path).unwrap().text(), made.text(), "a second one does not replace it");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_secret_others_can_read_is_refused_with_the_way_to_mend_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        fs::write(&path, "0123456789abcdef").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secret::read(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_to_be_changed() {
        for path in ["/", "/dev/zero"] {
            let error = Secret::read(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("is no file") && !error.contains("chmod"), "{error}");
        }
    }

    #[test]
    fn what_is_given_comes_first_and_an_empty_one_is_an_error() {
        let (secret, origin) = find(Some(" abc \n"), None).unwrap().unwrap();
        assert_eq!((secret.text(), origin), ("abc", Origin::Given));
        assert!(secret.is_weak());
        assert!(matches!(find(Some("  "), None), Err(SecretError::Empty(_))));
    }

    #[test]
    fn the_debug_form_hides_the_secret() {
        assert_eq!(format!("{:?}", Secret::parse("hush").unwrap()), "Secret(..)");
    }
}
