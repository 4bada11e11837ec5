//! The secret of a daemon: found where the options or the environment say, else made.

use std::io::Write;

use pp_protocol::secret::{
    self, Origin, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, SecretError, Secrets,
};

use crate::log::LogFormat;
use crate::options::Options;

/// The secrets of this daemon. One that is made is said how to bring to other machines.
pub(crate) fn find(options: &Options) -> Result<Secrets, SecretError> {
    let told = options.secret_told();
    if told.secret.is_some() {
        tracing::warn!(
            "other users can see the secret in the process list; use --secret-file or PP_SECRET_FILE"
        );
    }
    let is_told = told.secret.is_some() || told.file.is_some() || secret::is_in_environment();
    let first = if is_told { told } else { options.secret_in_file() };
    let found = secret::find(first.secret.as_deref(), first.file.as_deref())?;
    let (secrets, origin) = match found {
        Some(found) => found,
        None => make(options.log_format())?,
    };
    match &origin {
        Origin::File(path) => tracing::debug!(file = %path.display(), "secret read"),
        Origin::Given | Origin::Environment => tracing::debug!("secret given"),
    }
    if let Some(weakness) = secrets.iter().filter_map(Secret::weakness).max() {
        tracing::warn!("{}", weakness.advice());
    }
    Ok(secrets)
}

/// Makes a secret, and says how the next machine gets it.
fn make(log_format: LogFormat) -> Result<(Secrets, Origin), SecretError> {
    let path = secret::default_path()?;
    let secrets = Secrets::create(&path)?;
    for name in [SECRET_VARIABLE, SECRET_FILE_VARIABLE] {
        if std::env::var_os(name).is_some() {
            tracing::warn!("{name} is blank, which counts as not set");
        }
    }
    let file = path.display();
    let bring = format!(
        "ssh OTHER 'umask 077; mkdir -p ~/.config/ppserver; cat > ~/.config/ppserver/secret' < {file}"
    );
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
    Ok((secrets, Origin::File(path)))
}
