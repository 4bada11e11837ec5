//! What the jobs of other machines may do on this one.
//!
//! These are settings; [`launcher`](crate::launcher) puts them into force. A dispatcher's own cores have none: what runs
//! there is the user's own program on the user's own machine.

mod user;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::user::{User, UserError};

/// Limits on the workers of a node. Some need no setting: no worker gains privileges, keeps capabilities or descriptors,
/// or sees more of the environment than [`VARIABLES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Which files workers may reach.
    pub level: Level,
    /// The user that workers run as; without it that of the node. Only root can choose one.
    pub user: Option<User>,
    /// Files and directories that are kept from workers. The program store is always among them.
    pub hidden: Vec<PathBuf>,
    /// Files and directories that workers may read at [`Level::Strict`].
    pub readable: Vec<PathBuf>,
    /// Files and directories that workers may read and change at [`Level::Strict`].
    pub writable: Vec<PathBuf>,
    /// How many descriptors each process of a worker may have.
    pub descriptors: Option<u64>,
    /// How much memory a worker and all that its jobs start may have together, in bytes; where the node has no control
    /// groups, how much memory of its own each of these processes may have.
    pub memory: Option<u64>,
    /// How many processes and threads a worker and all that its jobs start may be together. Not in force where the node has
    /// neither control groups nor a [user](Self::user) for jobs.
    pub processes: Option<u32>,
    /// Variables that workers have besides [`VARIABLES`].
    pub environment: Vec<Variable>,
}

/// Which files, and which processes, workers may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All that the user may reach that they run as.
    None,
    /// All but what is hidden, and no other processes than their own; where the kernel has the means (Landlock).
    #[default]
    Secrets,
    /// Only what programs need to run, their own directory, and what they are granted; and fewer system calls.
    Strict,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Secrets => "secrets",
            Self::Strict => "strict",
        }
    }
}

impl FromStr for Level {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "secrets" => Ok(Self::Secrets),
            "strict" => Ok(Self::Strict),
            _ => Err("it has to be none, secrets or strict"),
        }
    }
}

/// Variables of the node's environment that its workers have, too. `TMPDIR` is set to a directory of their own.
pub const VARIABLES: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    // What a panic of a job is told with.
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "LC_*",
];

/// A variable of workers: `NAME=VALUE`; `NAME`, which has the value it has for the node; or `NAME*`, all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: Option<String>,
}

impl Variable {
    /// The one that tells jobs the name of the node.
    pub(crate) fn of_node(name: &str) -> Self {
        Self { name: NODE_VARIABLE.into(), value: Some(name.into()) }
    }
}

/// A text that names no variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be NAME, NAME=VALUE, or NAME* for all that begin so; PP_* cannot be given to workers")]
pub struct NoVariable;

impl FromStr for Variable {
    type Err = NoVariable;

    fn from_str(text: &str) -> Result<Self, NoVariable> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let stem = if value.is_none() { name.strip_suffix('*').unwrap_or(name) } else { name };
        let is_name = !stem.is_empty() && !stem.contains(['*', '\0']) && !text.contains('\0');
        // Among these are the secret, and what makes a program a worker.
        if !is_name || stem.starts_with(OWN) || OWN.starts_with(stem) && name.ends_with('*') {
            return Err(NoVariable);
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Variable that tells jobs the name of the node that they run on. A dispatcher's own cores have none.
pub const NODE_VARIABLE: &str = "PP_NODE";

/// Names of variables of this software begin so.
const OWN: &str = "PP_";

impl Confinement {
    /// The environment of workers, but for what the launcher adds, if that of the node is `all`.
    pub(crate) fn environment(
        &self,
        all: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let is_allowed = |name: &OsStr| {
            let told = self.environment.iter().filter(|told| told.value.is_none());
            let mut names = VARIABLES.into_iter().chain(told.map(|told| &*told.name));
            names.any(|allowed| matches(allowed, name))
        };
        let mut variables: Vec<_> = all.into_iter().filter(|(name, _)| is_allowed(name)).collect();
        if let Some(User { name, home, shell, .. }) = &self.user {
            for (variable, value) in [("USER", name), ("LOGNAME", name), ("HOME", home), ("SHELL", shell)] {
                variables.retain(|(known, _)| known != variable);
                variables.push((variable.into(), value.into()));
            }
        }
        for Variable { name, value } in &self.environment {
            if let Some(value) = value {
                variables.retain(|(known, _)| known != name.as_str());
                variables.push((name.into(), value.into()));
            }
        }
        variables
    }
}

fn matches(allowed: &str, name: &OsStr) -> bool {
    match allowed.strip_suffix('*') {
        Some(stem) => name.as_encoded_bytes().starts_with(stem.as_bytes()),
        None => name == allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_the_variables_that_are_listed_or_named_and_no_others() {
        let all =
            ["PATH=/bin", "LC_ALL=C", "AWS_KEY=k", "CUDA_HOME=/c", "CUDA_X=1", "PP_SECRET=s", "TMPDIR=/t"];
        let all = all.map(|entry| entry.split_once('=').unwrap()).map(|(n, v)| (n.into(), v.into()));
        let told = |told: &[&str]| {
            let environment = told.iter().map(|told| told.parse().unwrap()).collect();
            let variables = Confinement { environment, ..Confinement::default() }.environment(all.clone());
            let mut variables: Vec<_> =
                variables.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
            variables.sort();
            variables
        };
        assert_eq!(told(&[]), ["LC_ALL=C", "PATH=/bin"]);
        assert_eq!(
            told(&["CUDA_*", "PATH=/opt", "AWS"]),
            ["CUDA_HOME=/c", "CUDA_X=1", "LC_ALL=C", "PATH=/opt"]
        );
        for wrong in ["", "=x", "*", "P*", "PP_*", "PP_SECRET", "PP_WORKER=1", "A*B", "A\0"] {
            assert_eq!(wrong.parse::<Variable>(), Err(NoVariable), "{wrong:?}");
        }
    }
}
