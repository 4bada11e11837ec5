//! What the daemon was told: command line, else environment, else configuration file, else default.

mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};
use pp_protocol::DEFAULT_PORT;
use pp_protocol::address::HostIp;
use pp_protocol::environment;
use pp_protocol::limits::SLOTS;
use serde::Deserialize;

use self::values::{IdleSeconds, NodeName, Port, SilentSeconds, Workers, switch, unless_blank};

/// How much may be kept of the programs that dispatchers send.
const STORE_BYTES: u64 = 4 << 30;

/// Offers the cores of this machine to dispatchers on the network.
///
/// Start it on every machine as `ppserver -a`; programs that use the pp-dispatcher library then find it by themselves and run
/// their jobs on it. All machines must have the same secret: the first ppserver makes one and says how to copy it.
#[derive(Debug, Default, Parser)]
#[command(
    name = "ppserver",
    version,
    after_help = "Examples:\n  \
        ppserver -a -d                    be found on the network, and say what happens\n  \
        ppserver -w 4 -p 60001            four workers, another port\n  \
        ppserver -c /etc/ppserver.toml    settings from a file, one key for each flag: port = 60001\n\n\
        Signals: USR1 prints statistics; TERM finishes what runs, then exits; a second TERM exits at once.\n\
        The secret is looked for in -s, --secret-file, PP_SECRET, PP_SECRET_FILE, the configuration file and \
        ~/.config/ppserver/secret. PP_LOG=pp_node=debug,info says what is logged in detail.\n\
        A variable that is blank is not set, and neither is a blank text in the file."
)]
pub(crate) struct Arguments {
    /// Announce this node on the local network (mDNS), so that dispatchers find it
    #[arg(short, long, env = "PP_AUTO", num_args = 0, default_missing_value = "true", action = ArgAction::Set,
        value_parser = switch)]
    auto: Option<bool>,
    /// Say in detail what happens
    #[arg(short, long, env = "PP_DEBUG", num_args = 0, default_missing_value = "true", action = ArgAction::Set,
        value_parser = switch)]
    debug: Option<bool>,
    /// Only say what goes wrong
    #[arg(short, long, env = "PP_QUIET", num_args = 0, default_missing_value = "true", action = ArgAction::Set,
        value_parser = switch)]
    quiet: Option<bool>,
    /// Listen on this address only, a link-local one with its interface: fe80::1%eth0 [default: all]
    #[arg(short, long, env = "PP_INTERFACE", value_name = "ADDRESS")]
    interface: Option<HostIp>,
    /// Listen on this port; 0 for any that is free [default: 60000]
    #[arg(short, long, env = "PP_PORT")]
    port: Option<Port>,
    /// Run so many jobs at once; 0 is allowed [default: the processors this process may use]
    #[arg(short, long, env = "PP_WORKERS", value_name = "N")]
    workers: Option<Workers>,
    /// The secret itself; other users can see it in the process list
    #[arg(short, long)]
    secret: Option<String>,
    /// A file that holds the secret and that only its owner can read
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Exit when no dispatcher has been connected for so many seconds
    #[arg(short, long, env = "PP_TIMEOUT", value_name = "SECONDS")]
    timeout: Option<IdleSeconds>,
    /// Close a connection that has been silent for so many seconds [default: 5]
    #[arg(short = 'k', long, env = "PP_SOCKET_TIMEOUT", value_name = "SECONDS")]
    socket_timeout: Option<SilentSeconds>,
    /// Start a fresh worker process for each job
    #[arg(short, long, env = "PP_RESTART", num_args = 0, default_missing_value = "true", action = ArgAction::Set,
        value_parser = switch)]
    restart: Option<bool>,
    /// Write the process id to this file, and remove it on exit
    #[arg(short = 'P', long, env = "PP_PID_FILE", value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// How log lines are written to standard error [default: text]
    #[arg(short = 'f', long, env = "PP_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Read settings from this file (TOML)
    #[arg(short, long, env = "PP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What dispatchers and people call this node [default: the host name]
    #[arg(long, env = "PP_NAME")]
    name: Option<NodeName>,
    /// Where the programs that dispatchers send are kept [default: ~/.cache/ppserver]
    #[arg(long, env = "PP_STORE", value_name = "DIRECTORY")]
    store: Option<PathBuf>,
    /// Accepted for old scripts; it has no effect: nodes are found by mDNS, not by broadcast
    #[arg(short = 'b', hide_short_help = true, value_name = "ADDRESS")]
    broadcast: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ValueEnum::from_str(text, true).map_err(|_| "it has to be text or json")
    }
}

impl Arguments {
    /// The arguments of this process. A variable that is blank is not set.
    pub(crate) fn of_this_process() -> Self {
        let command = Self::command().mut_args(|argument| {
            let value = argument.get_env().and_then(std::env::var_os);
            if value.is_some_and(|value| environment::is_blank(&value)) {
                argument.env(None)
            } else {
                argument
            }
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// The configuration file: one key for each flag.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    auto: Option<bool>,
    debug: Option<bool>,
    quiet: Option<bool>,
    #[serde(default, deserialize_with = "unless_blank")]
    interface: Option<HostIp>,
    port: Option<Port>,
    workers: Option<Workers>,
    #[serde(default, deserialize_with = "unless_blank")]
    secret: Option<String>,
    #[serde(default, deserialize_with = "unless_blank")]
    secret_file: Option<PathBuf>,
    timeout: Option<IdleSeconds>,
    socket_timeout: Option<SilentSeconds>,
    restart: Option<bool>,
    #[serde(default, deserialize_with = "unless_blank")]
    pid_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "unless_blank")]
    log_format: Option<LogFormat>,
    #[serde(default, deserialize_with = "unless_blank")]
    name: Option<NodeName>,
    #[serde(default, deserialize_with = "unless_blank")]
    store: Option<PathBuf>,
}

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read the configuration file {}: {source}; check the path given with -c", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is wrong: {reason}", .path.display())]
    Wrong { path: PathBuf, reason: String },
}

/// What the daemon goes by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) auto: bool,
    pub(crate) debug: bool,
    pub(crate) quiet: bool,
    pub(crate) interface: Option<HostIp>,
    pub(crate) port: u16,
    pub(crate) workers: u32,
    pub(crate) secret: SecretSetting,
    pub(crate) timeout: Option<Duration>,
    pub(crate) socket_timeout: Option<Duration>,
    pub(crate) restart: bool,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) log_format: LogFormat,
    pub(crate) name: String,
    pub(crate) store: PathBuf,
    pub(crate) store_bytes: u64,
    /// `-b` was given.
    pub(crate) broadcast: bool,
}

/// What was said about the secret, and where.
#[derive(Default)]
pub(crate) struct SecretSetting {
    pub(crate) on_command_line: Option<String>,
    pub(crate) file_on_command_line: Option<PathBuf>,
    pub(crate) in_config: Option<String>,
    pub(crate) file_in_config: Option<PathBuf>,
}

impl std::fmt::Debug for SecretSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSetting(..)")
    }
}

impl Settings {
    pub(crate) fn new(arguments: Arguments) -> Result<Self, SettingsError> {
        let file = match &arguments.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let Arguments { auto, debug, quiet, interface, port, workers, timeout, .. } = arguments;
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        Ok(Self {
            auto: auto.or(file.auto).unwrap_or(false),
            debug: debug.or(file.debug).unwrap_or(false),
            quiet: quiet.or(file.quiet).unwrap_or(false),
            interface: interface.or(file.interface),
            port: port.or(file.port).map_or(DEFAULT_PORT, Port::get),
            workers: workers.or(file.workers).map_or(cpus.min(SLOTS), Workers::get),
            secret: SecretSetting {
                on_command_line: arguments.secret,
                file_on_command_line: arguments.secret_file,
                in_config: file.secret,
                file_in_config: file.secret_file,
            },
            timeout: timeout.or(file.timeout).map(|seconds| Duration::from_secs(seconds.get())),
            socket_timeout: arguments
                .socket_timeout
                .or(file.socket_timeout)
                .map(|seconds| Duration::from_secs(seconds.get())),
            restart: arguments.restart.or(file.restart).unwrap_or(false),
            pid_file: arguments.pid_file.or(file.pid_file),
            log_format: arguments.log_format.or(file.log_format).unwrap_or_default(),
            name: arguments.name.or(file.name).map_or_else(host_name, NodeName::into_text),
            store: arguments.store.or(file.store).unwrap_or_else(default_store),
            store_bytes: STORE_BYTES,
            broadcast: arguments.broadcast.is_some(),
        })
    }
}

fn read(path: &Path) -> Result<File, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    toml::from_str(&text)
        .map_err(|error| SettingsError::Wrong { path: path.into(), reason: error.to_string() })
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().replace(char::is_control, "-");
    if name.trim().is_empty() { "node".into() } else { name }
}

/// `$XDG_CACHE_HOME/ppserver`, else `~/.cache/ppserver`, else a directory for this user among the temporary ones.
fn default_store() -> PathBuf {
    let cache = environment::path("XDG_CACHE_HOME")
        .or_else(|| environment::path("HOME").map(|home| home.join(".cache")));
    match cache {
        Some(cache) => cache.join("ppserver"),
        None => std::env::temp_dir().join(format!("ppserver-{}", rustix::process::getuid().as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        Arguments::try_parse_from([&["ppserver"], arguments].concat()).expect("the arguments are right")
    }

    #[test]
    fn the_letters_are_those_of_parallel_python() {
        let all =
            ["-a", "-d", "-i", "127.0.0.1", "-p", "7", "-w", "3", "-s", "x", "-t", "9", "-k", "8", "-r"];
        let settings = Settings::new(parse(&[&all[..], &["-P", "/p", "-f", "json", "-b", "255"]].concat()));
        let settings = settings.expect("the settings are right");
        assert!(settings.auto && settings.debug && settings.restart && settings.broadcast && !settings.quiet);
        assert_eq!((settings.port, settings.workers), (7, 3));
        assert_eq!(settings.timeout, Some(Duration::from_secs(9)));
        assert_eq!(settings.socket_timeout, Some(Duration::from_secs(8)));
        assert_eq!(settings.log_format, LogFormat::Json);
        assert_eq!(settings.secret.on_command_line.as_deref(), Some("x"));
    }

    #[test]
    fn the_command_line_comes_before_the_file_and_an_unknown_key_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("ppserver.toml");
        std::fs::write(&path, "port = 1\nworkers = 5\nlog_format = \"json\"\n").expect("a file");
        let path_text = path.display().to_string();
        let settings = Settings::new(parse(&["-c", &path_text, "-p", "2"])).expect("the settings are right");
        assert_eq!((settings.port, settings.workers, settings.log_format), (2, 5, LogFormat::Json));
        std::fs::write(&path, "port = 1\nprot = 2\n").expect("a file");
        let error = Settings::new(parse(&["-c", &path_text])).expect_err("there is no such key").to_string();
        assert!(error.contains("line 2") && error.contains("`prot`") && error.contains("`port`"), "{error}");
    }
}
