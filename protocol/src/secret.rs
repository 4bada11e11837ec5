//! The secret a dispatcher and a node must share: its forms, where it is looked for, how it is made.
//!
//! A place that holds a secret may hold several, one a line, so that one can take the place of another while both are in
//! use: all are accepted, the first is the one that is proved when dialling. Lines that begin with `#` are comments.

mod passphrase;

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::SecretId;
use crate::environment::{self, VariableError};
use crate::limits::{SECRET_FILE_BYTES, SECRETS};
use crate::private::{self, PrivateError};
use crate::shown::{is_invisible, quoted};
use crate::written;

pub use crate::written::Mistyped;

/// Environment variable that holds the secret itself.
pub const SECRET_VARIABLE: &str = "PP_SECRET";
/// Environment variable that names a file with the secret in it.
pub const SECRET_FILE_VARIABLE: &str = "PP_SECRET_FILE";

/// A secret that a dispatcher and a node share. Never shown: its `Debug` form hides it. Clones are the same memory, which is
/// overwritten when the last of them goes.
#[derive(Clone)]
pub struct Secret(Arc<Held>);

struct Held {
    text: Zeroizing<String>,
    key: Zeroizing<[u8; 32]>,
    weakness: Option<Weakness>,
}

/// Weakness of a secret against whoever has recorded a handshake; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// Somebody thought of it: it is as good as it is hard to think of.
    Passphrase,
    /// Somebody thought of it, and it is short.
    ShortPassphrase,
    /// It has few different characters: it is guessed soon.
    Pattern,
}

/// Secrets of which any is accepted, at least one and at most [`SECRETS`]. The first is the one that is proved when dialling.
#[derive(Clone, Debug)]
pub struct Secrets(Arc<[Secret]>);

/// Origin of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Given in code or on a command line.
    Given,
    /// In an environment variable.
    Environment,
    /// In this file.
    File(PathBuf),
}

/// Secrets, and where they were found: others may be there by now.
#[derive(Clone, Debug)]
pub struct FoundSecrets {
    /// Secrets that were there.
    pub secrets: Secrets,
    /// Place.
    pub origin: Origin,
}

/// A text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongSecret {
    /// It has no characters.
    #[error("is empty (comments do not count); put one there, as `ppctl secret new --print` prints it")]
    Empty,
    /// It is guessed too soon.
    #[error(
        "has {0} characters: a passphrase has {least} at least; `ppctl secret new` makes a secret that nobody guesses",
        least = passphrase::FEWEST_CHARACTERS
    )]
    Short(usize),
    /// It was not copied as it was.
    #[error(
        "begins with `pp1-` as those that are made, but was not copied as it was: {0}; copy it once more"
    )]
    Mistyped(#[from] Mistyped),
    /// It is like one that was made, but does not begin so.
    #[error(
        "looks like one that was made, but those begin with `pp1-`, with nothing before that and nothing else in its \
         place; copy it once more"
    )]
    Prefix,
    /// It is the key of a machine.
    #[error(
        "is the key of a machine, which belongs elsewhere; a secret that was made begins with `pp1-`: `ppctl secret show` \
         prints that of another machine there"
    )]
    Key,
    /// Nobody could write it anywhere else.
    #[error(
        "has a character in it that cannot be seen (U+{0:04X}); remove it, or use a secret made by `ppctl secret new`"
    )]
    Unseen(u32),
    /// It is there twice.
    #[error("is the same as the one in line {0}; remove one of them")]
    Twice(usize),
    /// More are there than are accepted at once.
    #[error(
        "has {0} lines, each of them a secret, and no more than {SECRETS} are accepted at once; remove those that no \
         machine uses any more"
    )]
    Many(usize),
    /// A passphrase takes memory, and there is none.
    #[error(
        "is a passphrase, and there are no 64 MiB of memory to make a key of it in; give one made by `ppctl secret new`"
    )]
    NoMemory,
}

/// A secret could not be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text there is no secret.
    #[error("the secret from {place} {reason}")]
    Wrong {
        /// Its origin.
        place: String,
        /// Reason why it is none.
        reason: WrongSecret,
    },
    /// The file cannot be found, read or written, or is not private.
    #[error("cannot use the secret file: {}{}", .0, advice(.0))]
    File(#[from] PrivateError),
    /// The variable that holds it is not text.
    #[error(transparent)]
    Variable(#[from] VariableError),
}

/// What helps against a file that cannot be used, as far as the error does not say it.
fn advice(error: &PrivateError) -> String {
    match error {
        PrivateError::Missing(path) => {
            format!(
                "; bring it there from another machine, or make one: ppctl secret new --secret-file {}",
                quoted(path)
            )
        }
        error => error.or_elsewhere("PP_SECRET_FILE, or --secret-file of ppserver and ppctl"),
    }
}

impl Secret {
    /// The secret in `text`; surrounding white space does not count.
    ///
    /// A text that begins with `pp1-` is a secret of 256 random bits with a checksum, as [`random`](Self::random) makes it.
    /// So are 64 hexadecimal digits, without one. Any other is a passphrase, of which a key is made by Argon2id: that takes a
    /// tenth of a second, to slow down whoever guesses. What looks like a secret of the first kind with another beginning is
    /// neither.
    ///
    /// ```
    /// use pp_protocol::secret::{Secret, WrongSecret};
    ///
    /// assert!(Secret::parse(Secret::random().text()).is_ok());
    /// assert_eq!(Secret::parse("swordfish").unwrap_err(), WrongSecret::Short(9));
    /// ```
    ///
    /// # Errors
    /// When it is empty, was mistyped, or is too short for a passphrase, or has characters that cannot be seen.
    pub fn parse(text: &str) -> Result<Self, WrongSecret> {
        let text = text.trim();
        if let Some(secret) = written::read(written::SECRET, text) {
            return Ok(Self::of_bits(text, &*secret?));
        }
        if let Ok(bits) = blake3::Hash::from_hex(text) {
            return Ok(Self::of_bits(text, bits.as_bytes()));
        }
        if [written::MACHINE_KEY, written::PUBLIC_KEY].iter().any(|key| written::read(key, text).is_some()) {
            return Err(WrongSecret::Key);
        }
        if written::is_like_secret(text) {
            return Err(WrongSecret::Prefix);
        }
        if let Some(unseen) = text.chars().find(|c| c.is_control() || is_invisible(*c)) {
            return Err(WrongSecret::Unseen(unseen.into()));
        }
        match text.chars().count() {
            0 => Err(WrongSecret::Empty),
            characters if characters < passphrase::FEWEST_CHARACTERS => Err(WrongSecret::Short(characters)),
            _ => Self::of_passphrase(text),
        }
    }

    /// A fresh secret of 256 random bits.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn random() -> Self {
        let mut bits = Zeroizing::new(written::Bits::default());
        getrandom::fill(bits.as_mut()).expect("the system's random number source works");
        Self::of_bits(&written::write(written::SECRET, &bits), &bits)
    }

    fn of_bits(text: &str, bits: &written::Bits) -> Self {
        let weakness = passphrase::is_pattern(text).then_some(Weakness::Pattern);
        Self::new(text, bits, weakness)
    }

    fn of_passphrase(text: &str) -> Result<Self, WrongSecret> {
        let bits = passphrase::stretch(text).map_err(|passphrase::NoMemory| WrongSecret::NoMemory)?;
        let weakness = match text {
            _ if passphrase::is_pattern(text) => Weakness::Pattern,
            _ if passphrase::is_short(text) => Weakness::ShortPassphrase,
            _ => Weakness::Passphrase,
        };
        Ok(Self::new(text, &bits, Some(weakness)))
    }

    fn new(text: &str, bits: &[u8; 32], weakness: Option<Weakness>) -> Self {
        let key = blake3::derive_key("ppserver 2026-11 key of dispatchers and nodes", bits);
        Self(Arc::new(Held { text: Zeroizing::new(text.into()), key: Zeroizing::new(key), weakness }))
    }

    /// The secret as text, to be written where another machine finds it.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The same, as a file holds it.
    pub fn line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(self.text().len() + 1));
        line.extend([self.text(), "\n"]);
        line
    }

    /// Weakness against somebody who recorded a handshake, if it has one.
    pub fn weakness(&self) -> Option<Weakness> {
        self.0.weakness
    }

    /// The 256-bit key that the handshake proves knowledge of.
    pub fn key(&self) -> &[u8; 32] {
        &self.0.key
    }

    /// Its name.
    pub fn id(&self) -> SecretId {
        let digest = blake3::derive_key("ppserver 2026-11 number of a secret", self.key());
        let [a, b, c, d, e, f, g, h, ..] = digest;
        SecretId(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Weakness {
    /// Whether whoever has a handshake to try guesses on finds the secret before long: it is proved to nobody who has only
    /// announced a node.
    pub fn is_guessed_soon(self) -> bool {
        matches!(self, Self::ShortPassphrase | Self::Pattern)
    }

    /// Advice for people about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Passphrase => {
                "the secret is a passphrase: whoever records a handshake, or announces a node that dispatchers dial, can \
                 try guesses on it; `ppctl secret new` makes one that nobody guesses"
            }
            Self::ShortPassphrase => {
                "the secret is a short passphrase, which is guessed soon: dispatchers do not dial nodes that only announce \
                 themselves, but those that they are told of (PP_NODES); `ppctl secret new` makes one that nobody guesses"
            }
            Self::Pattern => {
                "the secret has so few different characters that it is guessed soon: dispatchers do not dial nodes that only \
                 announce themselves, but those that they are told of (PP_NODES); `ppctl secret new` makes one that nobody \
                 guesses"
            }
        }
    }
}

impl Secrets {
    /// The secrets in `text`, one a line; blank lines and comments do not count.
    ///
    /// # Errors
    /// When there is none, there are too many, one is there twice, or one of them is wrong.
    pub fn parse(text: &str) -> Result<Self, WrongSecret> {
        Self::parse_lines(text).map_err(|(_, reason)| reason)
    }

    /// As [`parse`](Self::parse), of a text from a place that an error names.
    ///
    /// # Errors
    /// As there.
    pub fn parse_from(text: &str, place: impl fmt::Display) -> Result<Self, SecretError> {
        Self::parse_lines(text).map_err(|(line, reason)| SecretError::Wrong {
            place: line.map_or_else(|| place.to_string(), |line| format!("line {line} of {place}")),
            reason,
        })
    }

    /// The secrets; else what is wrong, and the number of the line where that is, if several are secrets.
    fn parse_lines(text: &str) -> Result<Self, (Option<usize>, WrongSecret)> {
        let count = lines(text).count();
        match count {
            0 => return Err((None, WrongSecret::Empty)),
            1..=SECRETS => {}
            _ => return Err((None, WrongSecret::Many(count))),
        }
        let mut secrets = Vec::<(usize, Secret)>::with_capacity(count);
        for (line, text) in lines(text) {
            let wrong = |reason| ((count > 1).then_some(line), reason);
            let secret = Secret::parse(text).map_err(wrong)?;
            if let Some((before, _)) = secrets.iter().find(|(_, before)| before.id() == secret.id()) {
                return Err(wrong(WrongSecret::Twice(*before)));
            }
            secrets.push((line, secret));
        }
        Ok(Self(secrets.into_iter().map(|(_, secret)| secret).collect()))
    }

    /// Reads the secrets in a file that nobody else can read ([`private`]).
    ///
    /// # Errors
    /// When it cannot be read, is not private, or what it holds is no secret.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Self::parse_from(&private::read(path, SECRET_FILE_BYTES)?, path.display())
    }

    /// Makes a secret and writes it to a new file that only its owner can read, making the directory too.
    /// If another process was faster, its secret is read instead.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, SecretError> {
        let secret = Secret::random();
        let is_made = private::create(path, &secret.line())?;
        if is_made { Ok(secret.into()) } else { Self::read(path) }
    }

    /// The secret to prove when dialling.
    pub fn first(&self) -> &Secret {
        &self.0[0]
    }

    /// Their names.
    pub fn ids(&self) -> BTreeSet<SecretId> {
        self.0.iter().map(Secret::id).collect()
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self([secret].into())
    }
}

impl From<Secret> for FoundSecrets {
    fn from(secret: Secret) -> Self {
        Self { secrets: secret.into(), origin: Origin::Given }
    }
}

impl std::ops::Deref for Secrets {
    type Target = [Secret];

    fn deref(&self) -> &[Secret] {
        &self.0
    }
}

/// Looks for secrets: `given`, then `file`, then `PP_SECRET`, then the file `PP_SECRET_FILE` names, then
/// [`default_path`]. `None` if none of these is there; a variable that is blank is not.
///
/// # Errors
/// When one of them is there but cannot be used: the next place is not tried then.
pub fn find(given: Option<&str>, file: Option<&Path>) -> Result<Option<FoundSecrets>, SecretError> {
    let found = |secrets, origin| Ok(Some(FoundSecrets { secrets, origin }));
    let in_file = |path: PathBuf| found(Secrets::read(&path)?, Origin::File(path));
    if let Some(text) = given {
        return found(Secrets::parse_from(text, "the command line or code")?, Origin::Given);
    }
    if let Some(path) = file {
        return in_file(path.into());
    }
    if let Some(text) = environment::text(SECRET_VARIABLE).map_err(hide)? {
        let text = Zeroizing::new(text);
        return found(Secrets::parse_from(&text, SECRET_VARIABLE)?, Origin::Environment);
    }
    if let Some(path) = environment::path(SECRET_FILE_VARIABLE) {
        return in_file(path);
    }
    let path = match default_path() {
        Err(PrivateError::NoHome) => return Ok(None),
        path => path?,
    };
    match in_file(path) {
        Err(SecretError::File(error)) if error.is_missing() => Ok(None),
        found => found,
    }
}

/// The lines of a text that are secrets, with their numbers.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
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
pub fn default_path() -> Result<PathBuf, PrivateError> {
    private::usual_path("secret")
}

/// The command that brings a secret file to another machine: to the usual place if it is in that here, else to the same one.
/// What is there is replaced, all of it or nothing, and nobody else can read it then, whatever it was before. A group can
/// where one can here.
pub fn bring(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let directory = match path.parent() {
        Some(directory) if !default_path().is_ok_and(|usual| usual == path) => quoted(directory),
        _ => "${XDG_CONFIG_HOME:-$HOME/.config}/ppserver".into(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = format!("{name}.new");
    let (name, draft) = (quoted(&*name), quoted(&draft));
    let is_for_group = std::fs::metadata(&path).is_ok_and(|file| file.mode() & 0o040 != 0);
    let group = if is_for_group { format!("chgrp GROUP {draft} && chmod 640") } else { "chmod 600".into() };
    let there = format!(
        "umask 077; d={directory}; mkdir -p \"$d\" && cd \"$d\" && cat > {draft} && {group} {draft} && mv {draft} {name}"
    );
    format!("ssh OTHER {} < {}", quoted(&there), quoted(&path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PASSPHRASE: &str = "correct horse battery staple";

    #[test]
    fn a_secret_made_is_read_back_and_a_second_one_does_not_replace_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ppserver/secret");
        let made = Secrets::create(&path).unwrap();
        assert_eq!(Secrets::read(&path).unwrap().ids(), made.ids());
        assert_eq!(Secrets::create(&path).unwrap().ids(), made.ids());
        assert_eq!(fs::read_to_string(&path).unwrap(), *made.first().line());
    }

    #[test]
    fn a_typing_error_is_told_from_another_secret() {
        let text = Secret::random().text().to_owned();
        let last = if text.ends_with('0') { "1" } else { "0" };
        let mistyped = format!("{}{last}", &text[..text.len() - 1]);
        assert_eq!(Secret::parse(&mistyped).unwrap_err(), WrongSecret::Mistyped(Mistyped::Checksum));
        assert_eq!(Secret::parse(&text).unwrap().weakness(), None);
        assert!(Secret::parse(&text.replace("pp1", "PP1")).is_ok());
        for prefix in ["pp2-", "pp1_", "ppl-", "", "PP_SECRET=pp1-", "\"pp1-"] {
            let error = Secret::parse(&text.replace("pp1-", prefix)).unwrap_err();
            assert_eq!(error, WrongSecret::Prefix, "{prefix}");
        }
        let key = crate::machine::MachineKey::random().public().to_string();
        assert_eq!(Secret::parse(&key).unwrap_err(), WrongSecret::Key);
    }

    /// Runs the command that brings a file, in a shell that stands in for that of another machine.
    fn brought(path: &Path, there: &Path) {
        let line = bring(path).replace("ssh OTHER", "sh -c").replace("chgrp GROUP", "chgrp 0");
        let mut shell = std::process::Command::new("sh");
        let ran =
            shell.args(["-c", &line]).env("HOME", there).env_remove("XDG_CONFIG_HOME").status().unwrap();
        assert!(ran.success(), "{line}");
    }

    #[test]
    fn a_file_that_is_brought_is_private_whatever_was_there_and_wherever_it_is() {
        let home = tempfile::tempdir().unwrap();
        let odd = home.path().join("it's $HOME's `secret` file");
        Secrets::create(&odd).unwrap();
        let text = fs::read_to_string(&odd).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        fs::set_permissions(&odd, fs::Permissions::from_mode(0o604)).unwrap();
        brought(&odd, home.path());
        assert_eq!(
            (fs::read_to_string(&odd).unwrap(), mode(&odd)),
            (text, 0o600),
            "it is read, then replaced"
        );
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        fs::set_permissions(&odd, fs::Permissions::from_mode(0o640)).unwrap();
        brought(&odd, home.path());
        assert_eq!(mode(&odd), 0o640, "where it is for a group here, it is there");
    }

    #[test]
    fn passphrases_are_slow_keys_that_are_warned_of_and_short_ones_are_refused() {
        let secret = Secret::parse(&format!(" {PASSPHRASE}\n")).unwrap();
        assert_eq!((secret.text(), secret.weakness()), (PASSPHRASE, Some(Weakness::Passphrase)));
        let stretched = Secret::new("", &passphrase::stretch(PASSPHRASE).unwrap(), None);
        assert_eq!(secret.key(), stretched.key());
        let weakness = |text| Secret::parse(text).unwrap().weakness();
        assert_eq!(weakness("nineteen characters"), Some(Weakness::ShortPassphrase));
        assert_eq!(weakness("of twenty characters"), Some(Weakness::Passphrase));
        assert_eq!(weakness("aaaaaaaaaaaaaaaa"), Some(Weakness::Pattern));
        assert_eq!(Secret::parse(&"0".repeat(64)).unwrap().weakness(), Some(Weakness::Pattern));
        assert_eq!(Secret::parse("elevenchars").unwrap_err(), WrongSecret::Short(11));
        assert_eq!(Secret::parse("correct\u{200b}horse battery").unwrap_err(), WrongSecret::Unseen(0x200b));
        assert_eq!(Secret::parse(" \n").unwrap_err(), WrongSecret::Empty);
    }

    #[test]
    fn digits_and_the_written_form_are_the_same_bits() {
        let bits = [7; 32];
        let digits = "07".repeat(32);
        assert_eq!(
            Secret::parse(&written::write(written::SECRET, &bits)).unwrap().id(),
            Secret::parse(&digits).unwrap().id()
        );
    }

    #[test]
    fn several_lines_are_several_secrets_and_the_first_is_dialled_with() {
        let secrets: Vec<_> = std::iter::repeat_with(Secret::random).take(SECRETS + 1).collect();
        let text = |secrets: &[Secret]| {
            secrets.iter().map(|secret| format!(" {}\n\n", secret.text())).collect::<String>()
        };
        let parsed = Secrets::parse(&text(&secrets[..SECRETS])).unwrap();
        assert_eq!(parsed.len(), SECRETS);
        assert_eq!(parsed.first().id(), secrets[0].id());
        let commented = format!("# ours\r\n{}\r\n  #{}", text(&secrets[..1]).trim(), secrets[1].text());
        assert_eq!(Secrets::parse(&commented).unwrap().ids(), [secrets[0].id()].into());
        let twice = format!("{}{}", text(&secrets[..2]), secrets[0].text());
        let error = Secrets::parse_from(&twice, "/a").unwrap_err().to_string();
        assert!(
            error.starts_with("the secret from line 5 of /a is the same as the one in line 1; remove"),
            "{error}"
        );
        assert_eq!(Secrets::parse(&text(&secrets)).unwrap_err(), WrongSecret::Many(SECRETS + 1));
        assert_eq!(Secrets::parse("\n \n").unwrap_err(), WrongSecret::Empty);
        let one_wrong = format!("{}hello\n", text(&secrets[..1]));
        assert_eq!(Secrets::parse(&one_wrong).unwrap_err(), WrongSecret::Short(5));
    }

    #[test]
    fn what_is_given_comes_first_and_an_empty_one_is_an_error() {
        let given = Secret::random();
        let FoundSecrets { secrets, origin } =
            find(Some(&format!(" {} \n", given.text())), None).unwrap().unwrap();
        assert_eq!((secrets.first().text(), origin), (given.text(), Origin::Given));
        let error = find(Some("  "), None).unwrap_err().to_string();
        assert!(error.contains("the secret from the command line or code is empty"), "{error}");
    }

    #[test]
    fn the_debug_form_hides_the_secret() {
        assert_eq!(format!("{:?}", Secrets::from(Secret::random())), "Secrets([Secret(..)])");
    }
}
