//! Nobody but root reads what this process knows: not from its memory, not from a core, and not from the environment or the
//! command line that it was started with.
//!
//! The memory in which the system keeps the environment and the command line is readable for as long as a process lives, and
//! jobs that run as the same user look there. So a process that was told a secret there starts the same program anew in its
//! own place (the number of the process stays), without it: the secret is handed over in memory that standard input leads
//! to. Overwriting that memory in place would leave the copies that the standard library and the parser made of it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use pp_protocol::environment;
use pp_protocol::limits::SECRET_FILE_BYTES;
use pp_protocol::secret::SECRET_VARIABLE;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

/// Says that standard input is a secret, and where it was told.
const HANDED_OVER: &str = "PP_SECRET_HANDED_OVER";
const BY_ENVIRONMENT: &str = "environment";
const BY_COMMAND_LINE: &str = "command line";
/// What stands on the command line in place of the secret.
const HIDDEN: &str = "(hidden)";
/// Nobody changes what is handed over.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A secret that this process was told when it was started, and that is nowhere to be seen any more.
pub(crate) enum HandedOver {
    ByEnvironment(Zeroizing<String>),
    ByCommandLine(Zeroizing<String>),
}

/// From now on other processes of this user can neither read nor change the memory of this one, and it leaves no core.
pub(crate) fn protect() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let maximum = getrlimit(Resource::Core).maximum;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Takes the secret that a process before this one handed over in its own place.
pub(crate) fn take() -> io::Result<Option<HandedOver>> {
    let Some(how) = std::env::var_os(HANDED_OVER) else { return Ok(None) };
    // Standard input of whoever set the variable by hand is something else.
    if !fcntl_get_seals(io::stdin()).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::with_capacity(SECRET_FILE_BYTES as usize));
    let handed_over = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    handed_over.take(SECRET_FILE_BYTES).read_to_string(&mut text)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some(if how == BY_COMMAND_LINE {
        HandedOver::ByCommandLine(text)
    } else {
        HandedOver::ByEnvironment(text)
    }))
}

/// Starts this program anew in place of this process if it was told a secret where others can read it: on the command line,
/// as `given` says, or in the environment. Returns if it was not.
///
/// # Errors
/// When it was, and cannot be started anew.
pub(crate) fn hide(given: Option<&str>) -> io::Result<()> {
    let given = given.filter(|given| !given.trim().is_empty());
    let in_environment = environment::text(SECRET_VARIABLE).ok().flatten();
    let (secret, how) = match (given, &in_environment) {
        (Some(given), _) => (given, BY_COMMAND_LINE),
        (None, Some(text)) => (text.as_str(), BY_ENVIRONMENT),
        (None, None) => return Ok(()),
    };
    let mut memory = File::from(memfd_create("secret", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    memory.write_all(secret.as_bytes())?;
    fcntl_add_seals(&memory, SEALS)?;
    let arguments = std::env::args_os().map(|argument| without(argument, given)).collect::<Vec<_>>();
    memory.rewind()?;
    // By its own name, which process lists show; by the other one if its file was replaced.
    let mut failed = io::ErrorKind::NotFound.into();
    for program in [std::env::current_exe(), pp_node::own_executable()] {
        let mut again = Command::new(program?);
        if let Some((name, rest)) = arguments.split_first() {
            again.arg0(name).args(rest);
        }
        again.env_remove(SECRET_VARIABLE).env(HANDED_OVER, how).stdin(Stdio::from(memory.try_clone()?));
        failed = again.exec();
    }
    Err(failed)
}

/// The argument, with something else in place of the secret: it is all of it, or what follows the name of the option.
fn without(argument: OsString, secret: Option<&str>) -> OsString {
    let name = secret.and_then(|secret| argument.as_bytes().strip_suffix(secret.as_bytes()));
    match name {
        Some(name) if name.is_empty() || name.starts_with(b"-") => {
            let mut hidden = OsStr::from_bytes(name).to_owned().into_vec();
            hidden.extend_from_slice(HIDDEN.as_bytes());
            OsString::from_vec(hidden)
        }
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_written_on_the_command_line() {
        let hidden =
            |argument: &str| without(argument.into(), Some("swordfish123")).into_string().expect("text");
        for (argument, expected) in [
            ("swordfish123", "(hidden)"),
            ("-sswordfish123", "-s(hidden)"),
            ("-adsswordfish123", "-ads(hidden)"),
            ("--secret=swordfish123", "--secret=(hidden)"),
            ("/var/swordfish123", "/var/swordfish123"),
            ("--port=7", "--port=7"),
        ] {
            assert_eq!(hidden(argument), expected);
        }
        assert_eq!(without("x".into(), None), "x");
    }
}
