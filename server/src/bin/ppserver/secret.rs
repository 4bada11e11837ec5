//! The secrets of a daemon: found where the options or the environment say, else made; read again when it is told to.

use std::io::Write;
use std::path::{Path, PathBuf};

use pp_protocol::secret::{
    self, FoundSecrets, Origin, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, SecretError, Secrets,
};

use ppserver::Acceptance;

use crate::hidden::HandedOver;
use crate::log::LogFormat;
use crate::options::{Options, OptionsError, SecretOption};

/// Where the secrets of this daemon are, as far as they can be replaced there while it runs.
pub(crate) enum Place {
    /// On the command line or in the environment, where nobody can change them.
    Fixed,
    /// In a file of theirs.
    File(PathBuf),
    /// In the configuration file.
    Configuration(PathBuf),
}

/// Secrets could not be read again.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(
        "they were given on the command line or in the environment, where they cannot change; start ppserver with \
         --secret-file, and it reads them again at this signal"
    )]
    Fixed,
    #[error("the configuration file {} says nothing of them any more", .0.display())]
    NotSaid(PathBuf),
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The secrets of this daemon, and where they are. One that is made is said how to bring to other machines.
pub(crate) fn find(
    options: &Options,
    handed_over: Option<HandedOver>,
) -> Result<(Secrets, Place), SecretError> {
    let told = options.secret_told();
    if told.secret.is_some() {
        tracing::warn!(
            "other users can see the secret in the process list for a moment while ppserver starts; use --secret-file or \
             PP_SECRET_FILE"
        );
    }
    let is_told =
        handed_over.is_some() || told.secret.is_some() || told.file.is_some() || secret::is_in_environment();
    let first = if is_told { told } else { options.secret_in_file() };
    let found = match handed_over {
        Some(HandedOver::ByCommandLine(text)) => Some(FoundSecrets {
            secrets: Secrets::parse_from(&text, "the command line")?,
            origin: Origin::Given,
        }),
        Some(HandedOver::ByEnvironment(text)) if told.file.is_none() => Some(FoundSecrets {
            secrets: Secrets::parse_from(&text, SECRET_VARIABLE)?,
            origin: Origin::Environment,
        }),
        _ => secret::find(text_of(first), first.file.as_deref())?,
    };
    let FoundSecrets { secrets, origin } = match found {
        Some(found) => found,
        None => make(options.log_format())?,
    };
    match &origin {
        Origin::File(path) => tracing::debug!(file = %path.display(), "secret read"),
        Origin::Given | Origin::Environment => tracing::debug!("secret given"),
    }
    warn_if_weak(&secrets);
    let place = match (origin, options.config()) {
        (Origin::File(path), _) => Place::File(path),
        (Origin::Given, Some(config)) if !is_told => Place::Configuration(config.into()),
        (Origin::Given | Origin::Environment, _) => Place::Fixed,
    };
    Ok((secrets, place))
}

impl Place {
    /// Has the daemon accept what is there now. If that cannot be used, what it accepts stays as it is.
    pub(crate) fn read_again(&self, acceptance: &Acceptance) {
        match self.read() {
            Ok(secrets) => {
                tracing::info!(accepted = secrets.len(), "the secrets were read again");
                warn_if_weak(&secrets);
                acceptance.replace(secrets);
            }
            Err(error) => {
                tracing::error!("the secrets were not read again, and those of before stay: {error}")
            }
        }
    }

    fn read(&self) -> Result<Secrets, ReloadError> {
        match self {
            Self::Fixed => Err(ReloadError::Fixed),
            Self::File(path) => Ok(Secrets::read(path)?),
            Self::Configuration(config) => read_configuration(config),
        }
    }
}

fn read_configuration(config: &Path) -> Result<Secrets, ReloadError> {
    let said = SecretOption::read(config)?;
    if said.secret.is_none() && said.file.is_none() {
        return Err(ReloadError::NotSaid(config.into()));
    }
    let found = secret::find(text_of(&said), said.file.as_deref())?;
    found.map(|found| found.secrets).ok_or_else(|| ReloadError::NotSaid(config.into()))
}

fn text_of(option: &SecretOption) -> Option<&str> {
    option.secret.as_deref().map(String::as_str)
}

fn warn_if_weak(secrets: &Secrets) {
    if let Some(weakness) = secrets.iter().filter_map(Secret::weakness).max() {
        tracing::warn!("{}", weakness.advice());
    }
}

/// Makes a secret, and says how the next machine gets it.
fn make(log_format: LogFormat) -> Result<FoundSecrets, SecretError> {
    let path = secret::default_path()?;
    let secrets = Secrets::create(&path)?;
    for name in [SECRET_VARIABLE, SECRET_FILE_VARIABLE] {
        if std::env::var_os(name).is_some() {
            tracing::warn!("{name} is blank, which counts as not set");
        }
    }
    let (file, bring) = (path.display(), secret::bring(&path));
    match log_format {
        LogFormat::Json => {
            tracing::warn!(%file, bring, "a new secret was written; bring it to other machines")
        }
        // For a person to copy: without a time and a level in front of it. There is nobody to tell if standard error
        // is closed.
        LogFormat::Text => {
            let _ = writeln!(
                std::io::stderr(),
                "A new secret was written to {file}. Bring it to the next machine, before its ppserver is started, \
                 with:\n  {bring}"
            );
        }
    }
    Ok(FoundSecrets { secrets, origin: Origin::File(path) })
}
