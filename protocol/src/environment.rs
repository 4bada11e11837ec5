//! Settings from environment variables, read the same way by the library and by every tool.
//!
//! A variable that is blank is one that is not set: services, containers and scripts set many that way. White space
//! around a value does not count.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

/// Values of a switch, for people.
const SWITCH: &str = "1 or 0 (or true, yes, on, false, no, off)";

/// An environment variable does not have the form it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is {value:?}, which is not {expected}")]
pub struct VariableError {
    /// The variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The values it may have.
    pub expected: String,
}

impl VariableError {
    /// Variable `name`, which is `value` and should be what `expected` says.
    pub fn new(name: &'static str, value: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { name, value: value.into(), expected: expected.into() }
    }
}

/// Whether nothing but white space is in it.
pub fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// A variable as it is.
fn raw(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !is_blank(value))
}

/// Whether a variable is set, that is: not blank.
pub fn is_set(name: &str) -> bool {
    raw(name).is_some()
}

/// A directory of the user, such as `HOME`. It has to be absolute: whatever was kept below another one would be found
/// again from the same place only.
///
/// # Errors
/// When it is not.
pub fn directory(name: &'static str) -> Result<Option<PathBuf>, VariableError> {
    match path(name) {
        Some(path) if path.is_relative() => {
            Err(VariableError::new(name, path.to_string_lossy(), "an absolute path (one that begins with /)"))
        }
        path => Ok(path),
    }
}

/// Where a user's settings of `ppserver` are: `$XDG_CONFIG_HOME/ppserver`, else `~/.config/ppserver`. `None` if neither
/// variable is set.
///
/// # Errors
/// When one of them is no absolute path.
pub fn config_directory() -> Result<Option<PathBuf>, VariableError> {
    let config = match directory("XDG_CONFIG_HOME")? {
        Some(config) => Some(config),
        None => directory("HOME")?.map(|home| home.join(".config")),
    };
    Ok(config.map(|config| config.join("ppserver")))
}

/// A path.
pub fn path(name: &str) -> Option<PathBuf> {
    raw(name).map(PathBuf::from)
}

/// Text, without white space around it.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(name: &'static str) -> Result<Option<String>, VariableError> {
    let Some(value) = raw(name) else { return Ok(None) };
    match value.into_string() {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(value) => Err(VariableError::new(name, value.to_string_lossy(), "text in UTF-8")),
    }
}

/// A list, separated by commas; blanks in it do not count.
///
/// # Errors
/// When it is not UTF-8.
pub fn list(name: &'static str) -> Result<Option<Vec<String>>, VariableError> {
    Ok(text(name)?.map(|list| {
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }))
}

/// Anything that is read from text; `expected` says what it should be.
///
/// # Errors
/// When it cannot be read.
pub fn parsed<T: FromStr>(name: &'static str, expected: &str) -> Result<Option<T>, VariableError> {
    let Some(value) = text(name)? else { return Ok(None) };
    value.parse().map(Some).map_err(|_| VariableError::new(name, value, expected))
}

/// A choice of what is logged, as the filters of `tracing` understand it: levels, and targets with their levels.
///
/// They take a word that is no level for a target, and then log nothing else: a slip of the pen would silence everything.
/// Here a target is followed by its level. Blank parts do not count.
///
/// # Errors
/// When it is something else.
pub fn log_filter<T: FromStr>(name: &'static str) -> Result<Option<T>, VariableError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let Some(value) = text(name)? else { return Ok(None) };
    let parts: Vec<_> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let is_clear = |part: &&str| part.contains('=') || LEVELS.contains(&part.to_ascii_lowercase().as_str());
    let filter = if parts.iter().all(is_clear) { parts.join(",").parse().ok() } else { None };
    let expected =
        "a level (off, error, warn, info, debug, trace) or targets with theirs: pp_node=debug,info";
    filter.map(Some).ok_or_else(|| VariableError::new(name, value, expected))
}

/// A switch: on or off.
///
/// # Errors
/// When it is neither.
pub fn switch(name: &'static str) -> Result<Option<bool>, VariableError> {
    let Some(value) = text(name)? else { return Ok(None) };
    parse_switch(&value).map(Some).map_err(|expected| VariableError::new(name, value, expected))
}

/// Reads a switch as people write it.
///
/// ```
/// use pp_protocol::environment::parse_switch;
///
/// assert_eq!(parse_switch(" Yes "), Ok(true));
/// assert_eq!(parse_switch("off"), Ok(false));
/// assert!(parse_switch("2").is_err());
/// ```
///
/// # Errors
/// What it should have been.
pub fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "no" | "n" | "off" => Ok(false),
        _ => Err(SWITCH),
    }
}
