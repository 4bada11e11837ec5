//! The steps in which a secret takes the place of another one, on the text of a secret file.
//!
//! ```text
//!  one ── add ──> added ── first ──> first ── drop ──> one
//! ```
//!
//! `add` writes a comment that names the new secret, and by that the other steps know which one is to stay, wherever it is.
//! A step that is out of turn changes nothing.

use std::path::Path;

use pp_protocol::SecretId;
use pp_protocol::secret::{Secret, SecretError, Secrets, lines};
use zeroize::Zeroizing;

use super::Step;

/// Beginning of the comment that names the new secret.
const MARK: &str = "# new: ";

/// A secret file, and how far it has come.
pub(super) struct Rotation<'a> {
    text: &'a str,
    secrets: Secrets,
    /// Place of the new secret among them, if there are several and the file says which one it is.
    new: Option<usize>,
}

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is one secret: none is under way.
    One,
    /// There are several, and nothing says which one is new.
    Unmarked,
    /// The new one is there, and not first.
    Added,
    /// The new one is first.
    First,
}

/// A step that is out of turn: what the file is like, and which step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misstep(String);

impl std::fmt::Display for Misstep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step does: the text of the file then, if it is another one, and what was done, for people.
pub(super) type Done = (Option<Zeroizing<String>>, String);

impl<'a> Rotation<'a> {
    /// Reads the text of this file.
    pub(super) fn read(text: &'a str, file: &Path) -> Result<Self, SecretError> {
        let secrets = Secrets::parse_from(text, file.display())?;
        let is_named = |secret: &Secret| text.lines().any(|line| named(line) == Some(&name(secret)));
        let mut named = secrets.iter().enumerate().filter(|(_, secret)| is_named(secret));
        let new = match (named.next(), named.next()) {
            (Some((place, _)), None) if secrets.len() > 1 => Some(place),
            _ => None,
        };
        Ok(Self { text, secrets, new })
    }

    pub(super) fn stage(&self) -> Stage {
        match (self.secrets.len(), self.new) {
            (1, _) => Stage::One,
            (_, None) => Stage::Unmarked,
            (_, Some(0)) => Stage::First,
            (_, Some(_)) => Stage::Added,
        }
    }

    /// Names of the secrets, which do not tell them, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.secrets.iter().map(name).collect()
    }

    /// The name of the new one.
    pub(super) fn new_name(&self) -> Option<String> {
        self.new.map(|place| name(&self.secrets[place]))
    }

    /// Takes a step.
    pub(super) fn take(&self, step: Step) -> Result<Done, Misstep> {
        match (step, self.stage(), self.new) {
            (Step::Add, Stage::One, _) => Ok(self.add(&Secret::random())),
            (Step::First, Stage::Added, Some(new)) => Ok(self.first(new)),
            (Step::First, Stage::First, _) => Ok((
                None,
                format!("secret {} is first already; nothing was changed", name(self.secrets.first())),
            )),
            (Step::Drop, Stage::First, _) => Ok(self.leave_first()),
            (step, stage, _) => Err(self.misstep(step, stage)),
        }
    }

    fn add(&self, new: &Secret) -> Done {
        let mut text = self.edited("", |_| true);
        text.push_str(&marked(new));
        (Some(text), format!("secret {} is new, and comes second until every node has it", name(new)))
    }

    fn first(&self, new: usize) -> Done {
        let text = self.edited(&marked(&self.secrets[new]), |place| place != new);
        let said = format!(
            "secret {} is first now, in the place of {}",
            name(&self.secrets[new]),
            name(self.secrets.first())
        );
        (Some(text), said)
    }

    fn leave_first(&self) -> Done {
        let gone = self.names().split_off(1).join(" and ");
        let said = format!("secret {gone} is removed, and {} alone is left", name(self.secrets.first()));
        (Some(self.edited("", |place| place == 0)), said)
    }

    /// The text without its marks and the secrets that are not kept; `before` comes before the first of all.
    fn edited(&self, before: &str, is_kept: impl Fn(usize) -> bool) -> Zeroizing<String> {
        // With room for all, so that no copy of a part is left anywhere.
        let mut edited = Zeroizing::new(String::with_capacity(
            2 * self.text.len() + 2 * marked(self.secrets.first()).len(),
        ));
        let mut secrets = (0..).zip(lines(self.text)).peekable();
        for (number, line) in (1..).zip(self.text.lines()) {
            let place = secrets.next_if(|(_, (at, _))| *at == number).map(|(place, _)| place);
            if place == Some(0) {
                edited.push_str(before);
            }
            if named(line).is_none() && place.is_none_or(&is_kept) {
                edited.extend([line, "\n"]);
            }
        }
        edited
    }

    fn misstep(&self, step: Step, stage: Stage) -> Misstep {
        let new = self.new_name().unwrap_or_default();
        Misstep(match stage {
            Stage::One => match step {
                Step::Drop => "holds one secret only, so that there is none to remove: either all steps are done, or none is; \
                               `ppctl secret rotate add` is the first"
                    .into(),
                _ => "holds one secret only; `ppctl secret rotate add` comes before this step".into(),
            },
            Stage::Unmarked => self.which(),
            Stage::Added if matches!(step, Step::Drop) => format!(
                "does not have the new secret, {new}, first, so that it would be lost, and the old one stay; `ppctl secret \
                 rotate first` comes before this step, and dispatchers need its file before that"
            ),
            Stage::Added | Stage::First => {
                let next = if stage == Stage::Added { "first" } else { "drop" };
                format!(
                    "holds a new secret, {new}, already: a rotation is under way, and the step that comes next is `ppctl secret \
                     rotate {next}`"
                )
            }
        })
    }

    /// What to do where the file does not say which secret is new.
    pub(super) fn which(&self) -> String {
        format!(
            "holds {} secrets and does not say which of them is new; write `{MARK}NAME` into a line of it, with the name of \
             the one that is to stay ({})",
            self.secrets.len(),
            self.names().join(" or ")
        )
    }
}

/// A name that does not tell the secret.
pub(super) fn name(secret: &Secret) -> String {
    let SecretId(id) = secret.id();
    format!("{:08x}", id >> 32)
}

/// The lines of a secret that is new.
fn marked(secret: &Secret) -> Zeroizing<String> {
    let mut lines = Zeroizing::new(String::with_capacity(128 + secret.text().len()));
    lines.extend([MARK, &name(secret), ", which is to take the place of the other (ppctl secret rotate)\n"]);
    lines.extend([secret.text(), "\n"]);
    lines
}

/// The name of the secret that a line says is new.
fn named(line: &str) -> Option<&str> {
    line.trim().strip_prefix(MARK)?.split(|c: char| !c.is_ascii_hexdigit()).next()
}
