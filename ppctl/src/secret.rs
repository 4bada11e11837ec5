//! `ppctl secret`: makes the secret of a cluster, shows it, says where it is, and replaces it while everything runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Subcommand, ValueEnum};
use pp_protocol::environment;
use pp_protocol::secret::{self, Origin, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, Secrets};
use pp_protocol::{SecretId, limits::SECRETS, private};
use serde_json::json;

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
    /// Replace the secret by another one in three steps, while everything runs; without a step: say how far it has come
    Rotate { step: Option<Step> },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Step {
    /// Add a new secret behind the one there is: nodes with this file accept both
    Add,
    /// Put the last secret first: dispatchers with this file prove it
    First,
    /// Remove all but the first secret: nodes with this file accept no other
    Drop,
}

pub(crate) fn run(arguments: &Arguments, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New { print } => new(arguments, *print),
        Command::Show => show(arguments),
        Command::Path => {
            say(arguments, &json!({ "path": path(arguments)? }), &path(arguments)?.display().to_string())
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
        warn(&format!("{SECRET_VARIABLE} is set, and what it says is used before any file"));
    }
    match environment::path(SECRET_FILE_VARIABLE) {
        Some(path) => Ok(path),
        None => Ok(secret::default_path()?),
    }
}

fn new(arguments: &Arguments, only_print: bool) -> anyhow::Result<()> {
    if only_print {
        let secret = Secret::random();
        return say(arguments, &json!({ "secret": secret.text() }), secret.text());
    }
    let path = path(arguments)?;
    let secret = Secret::random();
    if !private::create(&path, &Secrets::from(secret).lines()).with_context(|| cannot_write(&path))? {
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
    let found = found.ok_or_else(|| anyhow!("there is no secret here yet; `ppctl secret new` makes one"))?;
    let first = found.secrets.first();
    if let Some(weakness) = first.weakness() {
        warn(weakness.advice());
    }
    if found.secrets.len() > 1 {
        warn("more than one secret is accepted here, and this is the first: see `ppctl secret rotate`");
    }
    say(arguments, &json!({ "secret": first.text() }), first.text())
}

/// The secrets of the file, which has to be what is used here.
fn in_file(arguments: &Arguments) -> anyhow::Result<(PathBuf, Secrets)> {
    let found = secret::find(None, arguments.secret_file.as_deref())?;
    match found.map(|found| (found.origin, found.secrets)) {
        Some((Origin::File(path), secrets)) => Ok((path, secrets)),
        Some(_) => bail!(
            "the secret is in {SECRET_VARIABLE}, where it cannot be replaced while anything runs; keep it in a file, for \
             which unset {SECRET_VARIABLE} or give --secret-file"
        ),
        None => bail!("there is no secret here yet; `ppctl secret new` makes one"),
    }
}

fn rotate(arguments: &Arguments, step: Step) -> anyhow::Result<()> {
    let (path, secrets) = in_file(arguments)?;
    let file = path.display();
    let several = secrets.len() > 1;
    let mut lines = secrets.to_vec();
    let name = |secret: &Secret| short(secret.id());
    let before: Vec<_> = lines.iter().map(name).collect();
    match step {
        Step::Add if several => bail!(
            "{file} holds {} secrets already: a rotation is under way; `ppctl secret rotate` says how far it has come",
            lines.len()
        ),
        Step::Add => lines.push(Secret::random()),
        Step::First | Step::Drop if !several => {
            bail!("{file} holds one secret only; `ppctl secret rotate add` begins a rotation")
        }
        Step::First => lines.rotate_right(1),
        Step::Drop => lines.truncate(1),
    }
    // Steps out of order look alike in the end: which secret has come, or gone, is said each time.
    let done = match step {
        Step::Add => format!("secret {} is new, and comes second until every node has it", name(&lines[1])),
        Step::First => format!(
            "secret {} is first now, in the place of {}; once more puts that back",
            name(&lines[0]),
            before[0]
        ),
        Step::Drop => format!(
            "secret {} is removed, and {} alone is left; if that is the one to be replaced, begin again",
            before[1..].join(" and "),
            before[0]
        ),
    };
    let lines: Secrets =
        lines.try_into().map_err(|_| anyhow!("{file} would hold more than {SECRETS} secrets"))?;
    private::replace(&path, &lines.lines()).with_context(|| cannot_write(&path))?;
    warn(&done);
    tell_state(arguments)
}

/// Says which secrets the file holds, and what to do next.
fn tell_state(arguments: &Arguments) -> anyhow::Result<()> {
    let (path, secrets) = in_file(arguments)?;
    let names: Vec<_> = secrets.iter().map(|secret| short(secret.id())).collect();
    let mut told = format!("{} holds:\n", path.display());
    for (place, name) in names.iter().enumerate() {
        let use_of =
            if place == 0 { "proved by dispatchers, accepted by nodes" } else { "accepted by nodes, too" };
        told += &format!("  secret {name}: {use_of}\n");
    }
    told += &match secrets.len() {
        1 => "to replace it: `ppctl secret rotate add`, then bring the file to all machines as that says"
            .to_owned(),
        _ => format!(
            "1. bring this file to every node, and have each read it (pkill -HUP ppserver, or restart its service):\n  {}\n\
             2. once all nodes accept both: `ppctl secret rotate first`, unless the new one is first; bring the file to every \
             machine with dispatchers, which notice by themselves\n\
             3. once all of them have it: `ppctl secret rotate drop`; bring the file to every machine, and have the nodes read \
             it: what the old secret opened is closed within a second",
            bring(&path)
        ),
    };
    say(arguments, &json!({ "path": path, "secrets": names }), &told)
}

/// A name that does not tell the secret.
fn short(SecretId(id): SecretId) -> String {
    format!("{:08x}", id >> 32)
}

fn bring(path: &Path) -> String {
    let file = path.display();
    format!("ssh OTHER 'umask 077; mkdir -p ~/.config/ppserver; cat > ~/.config/ppserver/secret' < {file}")
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}; name another file with --secret-file", path.display())
}

fn say(arguments: &Arguments, as_json: &serde_json::Value, as_text: &str) -> anyhow::Result<()> {
    Ok(if arguments.json { print(&format!("{as_json}\n")) } else { print(&format!("{as_text}\n")) }?)
}
