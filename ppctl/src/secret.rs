//! `ppctl secret`: makes the secret of a cluster, shows it, says where it is, and replaces it while everything runs.

mod rotation;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Subcommand, ValueEnum};
use pp_protocol::limits::SECRET_FILE_BYTES;
use pp_protocol::secret::{
    self, Origin, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, SecretError, Secrets, bring,
};
use pp_protocol::{environment, private};
use serde_json::json;

use self::rotation::{Rotation, Stage};
use crate::{Arguments, print, warn};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a secret and keep it in the file where ppserver and dispatchers look for it
    New {
        /// Write it to standard output instead, for whatever else keeps secrets
        #[arg(long)]
        print: bool,
    },
    /// Print the secret that is used here
    Show,
    /// Print the file that holds the secret, or is to hold it
    Path,
    /// Replace the secret by another one in three steps, while everything runs; without a step: say how far that has come, and
    /// what is next
    Rotate {
        /// Step to take; one that is out of turn changes nothing
        step: Option<Step>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Step {
    /// Add a new secret behind the one there is: nodes with this file accept both
    Add,
    /// Put the new secret first: dispatchers with this file prove it
    First,
    /// Remove the old secret: nodes with this file accept only the new one
    Drop,
}

pub(crate) fn run(arguments: &Arguments, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New { print } => new(arguments, *print),
        Command::Show => show(arguments),
        Command::Path => {
            let path = path(arguments)?;
            say(arguments, &json!({ "path": path }), &path.display().to_string())
        }
        Command::Rotate { step: None } => tell_state(arguments),
        Command::Rotate { step: Some(step) } => rotate(arguments, *step),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The file that holds the secret, or is to hold it.
fn path(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(path) = &arguments.secret_file {
        return Ok(path.clone());
    }
    if environment::is_set(SECRET_VARIABLE) {
        warn(&format!("{SECRET_VARIABLE} is set, and what it says is used before this file"));
    }
    match environment::path(SECRET_FILE_VARIABLE) {
        Some(path) => Ok(path),
        None => Ok(secret::default_path().map_err(SecretError::from)?),
    }
}

fn new(arguments: &Arguments, only_print: bool) -> anyhow::Result<()> {
    if only_print {
        let secret = Secret::random();
        return say(arguments, &json!({ "secret": secret.text() }), secret.text());
    }
    let path = path(arguments)?;
    if !private::create(&path, &Secret::random().line()).map_err(SecretError::from)? {
        // What is no secret is said how to put in order.
        Secrets::read(&path)?;
        bail!(
            "{} holds a secret already; `ppctl secret rotate` replaces it while everything runs, or remove the file first",
            path.display()
        );
    }
    let told = format!(
        "a new secret is in {}; bring it to the next machine with:\n  {}",
        path.display(),
        bring(&path)
    );
    say(arguments, &json!({ "path": path }), &told)
}

fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let found = secret::find(None, arguments.secret_file.as_deref())?;
    let Some(found) = found else { return Err(none_yet(arguments)) };
    let first = found.secrets.first();
    if let Some(weakness) = first.weakness() {
        warn(weakness.advice());
    }
    if found.secrets.len() > 1 {
        warn("more than one secret is accepted here, and this is the first: see `ppctl secret rotate`");
    }
    say(arguments, &json!({ "secret": first.text() }), first.text())
}

/// The file of the secrets that are used here, which have to be in one.
fn file(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    match secret::find(None, arguments.secret_file.as_deref())?.map(|found| found.origin) {
        Some(Origin::File(path)) => Ok(path),
        Some(_) => bail!(
            "the secret is in {SECRET_VARIABLE}, where it cannot be replaced while anything runs; keep it in a file, for \
             which unset {SECRET_VARIABLE} or give --secret-file"
        ),
        None => Err(none_yet(arguments)),
    }
}

/// The error of whoever needs a secret where there is none: where it is to be, if it can be anywhere.
fn none_yet(arguments: &Arguments) -> anyhow::Error {
    match path(arguments) {
        Ok(path) => {
            anyhow!("there is no secret here yet, in {}; `ppctl secret new` makes one", path.display())
        }
        Err(error) => error,
    }
}

fn rotate(arguments: &Arguments, step: Step) -> anyhow::Result<()> {
    let path = file(arguments)?;
    let take = |text: &str| -> anyhow::Result<rotation::Done> {
        let done = Rotation::read(text, &path)?.take(step);
        done.map_err(|misstep| anyhow!("{} {misstep}", path.display()))
    };
    let taken = private::update(&path, SECRET_FILE_BYTES, |text| match take(text) {
        Ok((text, said)) => (text, Ok(said)),
        Err(error) => (None, Err(error)),
    });
    let said = taken.map_err(SecretError::from)??;
    warn(&said);
    tell(arguments, &path, matches!(step, Step::Drop))
}

fn tell_state(arguments: &Arguments) -> anyhow::Result<()> {
    tell(arguments, &file(arguments)?, false)
}

/// Says which secrets the file holds, how far a rotation has come, and what to do next.
fn tell(arguments: &Arguments, path: &Path, is_done: bool) -> anyhow::Result<()> {
    let text = private::read(path, SECRET_FILE_BYTES).map_err(SecretError::from)?;
    let rotation = Rotation::read(&text, path)?;
    let (names, new, stage) = (rotation.names(), rotation.new_name(), rotation.stage());
    let file = path.display();
    let mut told = format!("{file} holds:\n");
    for (place, name) in names.iter().enumerate() {
        let is_new = if Some(name) == new.as_ref() { " (new)" } else { "" };
        let proved =
            if place == 0 { "proved by dispatchers, accepted by nodes" } else { "accepted by nodes, too" };
        told += &format!("  secret {name}{is_new}: {proved}\n");
    }
    let bring = bring(path);
    let next = match stage {
        Stage::One => Some("add"),
        Stage::Added => Some("first"),
        Stage::First => Some("drop"),
        Stage::Unmarked => None,
    };
    told += &match stage {
        Stage::One if is_done => format!(
            "All 3 steps are done here. Bring the file to every machine, and have each node read it (pkill -HUP ppserver, or \
             restart its service): what the old secret opened is closed within a second:\n  {bring}"
        ),
        Stage::One => "No rotation is under way. To replace the secret: ppctl secret rotate add".into(),
        Stage::Unmarked => format!("It {}", rotation.which()),
        Stage::Added => format!(
            "Step 1 of 3 is done here. Next:\n\
             - bring the file to every node, and have each read it (pkill -HUP ppserver, or restart its service):\n  {bring}\n\
             - once all nodes accept both: ppctl secret rotate first"
        ),
        Stage::First => format!(
            "Steps 1 and 2 of 3 are done here. Next:\n\
             - bring the file to every machine with dispatchers, which notice by themselves:\n  {bring}\n\
             - once all of them have it: ppctl secret rotate drop"
        ),
    };
    say(arguments, &json!({ "path": path, "secrets": names, "new": new, "next": next }), &told)
}

fn say(arguments: &Arguments, as_json: &serde_json::Value, as_text: &str) -> anyhow::Result<()> {
    Ok(if arguments.json { print(&format!("{as_json}\n")) } else { print(&format!("{as_text}\n")) }?)
}
