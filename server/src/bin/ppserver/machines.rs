//! The machines that may connect, if the options name a list of them, and the key of this one: found, else made.

use std::path::Path;

use pp_protocol::machine::{self, AuthorizedError, AuthorizedKeys, KeyError, MachineKey};
use ppserver::{Acceptance, Machines};

use crate::options::Options;

/// Keys of machines cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachinesError {
    #[error(transparent)]
    Authorized(#[from] AuthorizedError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The machines that are listed; none if the secret is all that is asked for.
pub(crate) fn find(options: &Options) -> Result<Option<Machines>, MachinesError> {
    let Some(list) = options.authorized_keys() else { return Ok(None) };
    let authorized = AuthorizedKeys::read(list)?;
    let path = options.machine_key().map_or_else(machine::default_path, |path| Ok(path.into()));
    let path = path.map_err(KeyError::from)?;
    let (key, is_new) = MachineKey::read_or_create(&path)?;
    if is_new {
        tracing::info!(file = %path.display(), "a new key of this machine was written");
    }
    tracing::info!(key = %key.public(), "only machines listed in {} may connect: {}", list.display(), authorized.len());
    warn_if_empty(list, &authorized);
    Ok(Some(Machines { key, authorized }))
}

/// Has the daemon let in those that the list holds now. If it cannot be used, those of before stay.
pub(crate) fn read_again(list: &Path, acceptance: &Acceptance) {
    match AuthorizedKeys::read(list) {
        Ok(authorized) => {
            tracing::info!(machines = authorized.len(), "the authorized keys were read again");
            warn_if_empty(list, &authorized);
            acceptance.replace_authorized(authorized);
        }
        Err(error) => {
            tracing::error!("the authorized keys were not read again, and those of before stay: {error}")
        }
    }
}

fn warn_if_empty(list: &Path, authorized: &AuthorizedKeys) {
    if authorized.is_empty() {
        tracing::warn!(
            "{} lists no machine, so that nobody gets in: add the line that `ppctl key show` prints on each machine that is to",
            list.display()
        );
    }
}
