//! The list of machines that may connect to a node, and as what.
//!
//! A file with a line for each:
//!
//! ```text
//! # render farm
//! ppk1-84pk..  ada@desk
//! operate ppk1-9xz1..  grace@office
//! no-submit,operate ppk1-c3v0..  monitoring
//! ```
//! A key, before it options separated by commas, behind it a comment. Without options it is the key of a dispatcher: it
//! sends jobs. `operate` lets it give orders, too (`ppctl`), and `no-submit` takes away the right to send jobs.
//! Source: the form of OpenSSH's `authorized_keys`, sshd(8).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{PublicKey, WrongKey};
use crate::limits::{AUTHORIZED_KEYS, AUTHORIZED_KEYS_BYTES};
use crate::private::{self, PrivateError};
use crate::written::is_like_secret;
use crate::{Role, shown};

/// Lines that are told when they are wrong; of more only the number is.
const WRONG_LINES: usize = 8;

/// The machines that may connect, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizedKeys(BTreeMap<PublicKey, Rights>);

/// Roles in which the machine that has a key may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    dispatcher: bool,
    operator: bool,
    /// Line of the file that says so.
    line: usize,
}

/// A machine may not connect, or not as what it wants to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Its key is not listed.
    Key,
    /// Its key is listed, but not for this role.
    Role,
}

/// The list of machines cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizedError {
    /// The file cannot be read, or others can change it.
    #[error("cannot use the file of authorized keys: {0}")]
    File(#[from] PrivateError),
    /// Lines make no sense.
    #[error("the authorized keys in {} are wrong: {}", .path.display(), listed(.lines, *.more))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Numbers of the first lines that are wrong, and their faults.
        lines: Vec<(usize, WrongLine)>,
        /// Number of further ones.
        more: usize,
    },
}

/// A line lists no machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongLine {
    /// There is no such option.
    #[error(
        "{0:?} is none of the options `no-submit` and `operate`, which stand before the key and are separated by commas"
    )]
    Option(String),
    /// An option where it would be taken for a comment, or for the key.
    #[error(
        "{0:?} is an option, which stands before the key; several are separated by commas: `no-submit,operate ppk1-...`"
    )]
    Misplaced(String),
    /// There are options, and no key.
    #[error(
        "no key follows the options; write `[OPTIONS] ppk1-... [COMMENT]`, as `ppctl key show` prints it"
    )]
    NoKey,
    /// The key is none.
    #[error(transparent)]
    Key(#[from] WrongKey),
    /// The key is listed before.
    #[error("the same key is in line {0}; remove one of them")]
    Again(usize),
    /// There are too many.
    #[error("no more than {AUTHORIZED_KEYS} machines can be listed; remove those that are gone")]
    Many,
}

fn listed(lines: &[(usize, WrongLine)], more: usize) -> String {
    let lines: Vec<_> = lines.iter().map(|(line, reason)| format!("line {line}: {reason}")).collect();
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    lines.join("; ") + &more
}

impl Rights {
    fn include(self, role: Role) -> bool {
        match role {
            Role::Dispatcher => self.dispatcher,
            Role::Operator => self.operator,
        }
    }
}

impl AuthorizedKeys {
    /// Reads the list in a file that nobody else can change.
    ///
    /// # Errors
    /// When it cannot be read, others can change it, or a line makes no sense.
    pub fn read(path: &Path) -> Result<Self, AuthorizedError> {
        let text = private::read_unaltered(path, AUTHORIZED_KEYS_BYTES)?;
        Self::parse(&text).map_err(|mut lines| {
            let more = lines.len().saturating_sub(WRONG_LINES);
            lines.truncate(WRONG_LINES);
            AuthorizedError::Wrong { path: path.into(), lines, more }
        })
    }

    /// The list in `text`; else the numbers of the lines that are wrong, and what is wrong with each.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<(usize, WrongLine)>> {
        let (mut keys, mut wrong) = (BTreeMap::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match parse_line(line, text) {
                Ok(_) if keys.len() == AUTHORIZED_KEYS => {
                    wrong.push((line, WrongLine::Many));
                    break;
                }
                Ok((key, rights)) => {
                    if let Some(Rights { line: first, .. }) = keys.insert(key, rights) {
                        wrong.push((line, WrongLine::Again(first)));
                    }
                }
                Err(reason) => wrong.push((line, reason)),
            }
        }
        if wrong.is_empty() { Ok(Self(keys)) } else { Err(wrong) }
    }

    /// Whether the machine that has this key may connect in this role.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, key: &PublicKey, role: Role) -> Result<(), Unlisted> {
        let rights = self.0.get(key).ok_or(Unlisted::Key)?;
        if rights.include(role) { Ok(()) } else { Err(Unlisted::Role) }
    }

    /// Every machine with each role in which it may connect.
    pub fn rights(&self) -> impl Iterator<Item = (PublicKey, Role)> {
        let of_one = |(key, rights): (&PublicKey, &Rights)| {
            let (key, rights) = (*key, *rights);
            Role::ALL.into_iter().filter(move |role| rights.include(*role)).map(move |role| (key, role))
        };
        self.0.iter().flat_map(of_one)
    }

    /// Number of machines that it lists.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it lists none: then nobody gets in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_line(line: usize, text: &str) -> Result<(PublicKey, Rights), WrongLine> {
    let mut rights = Rights { dispatcher: true, operator: false, line };
    let mut words = text.split_whitespace();
    let first = words.next().ok_or(WrongLine::NoKey)?;
    // Whatever looks like one of our keys is meant to be one, and a secret is not shown.
    let is_key =
        first.get(..2).is_some_and(|begins| begins.eq_ignore_ascii_case("pp")) || is_like_secret(first);
    if is_key {
        let key = first.parse()?;
        return words.next().map_or(Ok(()), no_option).map(|()| (key, rights));
    }
    for option in first.split(',') {
        match option {
            "no-submit" => rights.dispatcher = false,
            "operate" => rights.operator = true,
            other => return Err(WrongLine::Option(shown(other).into_owned())),
        }
    }
    let key = words.next().ok_or(WrongLine::NoKey)?;
    no_option(key)?;
    let key = key.parse()?;
    words.next().map_or(Ok(()), no_option).map(|()| (key, rights))
}

/// A restriction that is written where it has no effect would give more rights than was meant.
fn no_option(word: &str) -> Result<(), WrongLine> {
    let is_option = word.split(',').any(|part| matches!(part, "no-submit" | "operate"));
    if is_option { Err(WrongLine::Misplaced(shown(word).into_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::machine::MachineKey;
    use crate::secret::Secret;

    fn keys<const N: usize>() -> [PublicKey; N] {
        std::array::from_fn(|_| MachineKey::random().public())
    }

    #[test]
    fn a_line_lists_a_dispatcher_unless_its_options_say_otherwise() {
        let [plain, both, operator, nothing, other] = keys();
        let text = format!(
            "# ours\n\n  {plain} ada@desk, the one by the window\noperate {both}\nno-submit,operate\t{operator} # c\n\
             no-submit {nothing}\r\n"
        );
        let listed = AuthorizedKeys::parse(&text).unwrap();
        let as_what = |key| [Role::Dispatcher, Role::Operator].map(|role| listed.check(&key, role));
        assert_eq!(listed.len(), 4);
        assert_eq!(as_what(plain), [Ok(()), Err(Unlisted::Role)]);
        assert_eq!(as_what(both), [Ok(()), Ok(())]);
        assert_eq!(as_what(operator), [Err(Unlisted::Role), Ok(())]);
        assert_eq!(as_what(nothing), [Err(Unlisted::Role); 2]);
        assert_eq!(as_what(other), [Err(Unlisted::Key); 2]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
        let [key, other] = keys();
        let wrong = |text: String, parts: &[&str]| {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("authorized_keys");
            fs::write(&path, text).unwrap();
            let error = AuthorizedKeys::read(&path).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not in: {error}");
            error
        };
        wrong(format!("{key}\nno-sumbit {other}"), &["line 2", "no-sumbit", "`no-submit` and `operate`"]);
        wrong(format!("{key}\n\n{key}"), &["line 3", "in line 1", "remove one"]);
        wrong("operate".into(), &["line 1", "no key follows"]);
        wrong(format!("{key} no-submit"), &["line 1", "before the key"]);
        wrong(format!("operate {key} no-submit"), &["line 1", "before the key"]);
        wrong(format!("operate no-submit {key}"), &["line 1", "separated by commas"]);
        wrong("operate ssh-ed25519 AAAA".into(), &["line 1", "begins with `ppk1-`"]);
        wrong(format!("{}0", key), &["line 1", "was not copied as it was"]);
        wrong("ppm1-00".into(), &["line 1", "a machine's own key"]);
        let secret = Secret::random();
        for line in [secret.text().to_owned(), format!("operate {}", secret.text())] {
            wrong(format!("{key}\n{line}"), &["line 2", "a secret", "ppctl secret rotate"]);
        }
        let bare = &secret.text()[4..];
        assert!(!wrong(bare.into(), &["line 1", "begins with `ppk1-`"]).contains(bare), "it is not shown");
        wrong(format!("x\n{key}\nno-key"), &["line 1", "\"x\"", "; line 3", "no-key"]);
        wrong("x\n".repeat(WRONG_LINES + 2), &["line 8", "; and 2 more"]);
        let many: String =
            (0..=AUTHORIZED_KEYS).map(|_| format!("{}\n", MachineKey::random().public())).collect();
        wrong(many, &["line 1025", "no more than 1024"]);
    }

    #[test]
    fn a_list_that_others_can_change_is_refused_and_one_that_they_can_read_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_keys");
        fs::write(&path, "").unwrap();
        for (mode, is_fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = AuthorizedKeys::read(&path);
            assert_eq!(read.is_ok(), is_fine, "{mode:o}: {read:?}");
            assert!(is_fine || read.unwrap_err().to_string().contains("chmod go-w"));
        }
    }
}
