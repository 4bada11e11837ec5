//! Options of the daemon: from the command line, else the environment, else the configuration file, else their defaults.
//!
//! A setting is one field of [`Told`], which is read from all three, and one use in [`Options`].

mod values;

use std::fs;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser};
use pp_node::confinement::{Confinement, Level, Variable};
use pp_node::{NodeConfig, StoreConfig};
use pp_protocol::DEFAULT_PORT;
use pp_protocol::address::HostIp;
use pp_protocol::environment::{self, VariableError};
use pp_protocol::machine::{self, KnownNodes};
use pp_protocol::private::{self, PrivateError};
use pp_protocol::secret::{self, SECRET_FILE_VARIABLE, Secrets};
use ppserver::Machines;
use serde::Deserialize;
use zeroize::Zeroizing;

pub(crate) use self::values::HttpAddress;
use self::values::{
    IdleSeconds, NodeName, Port, SilentSeconds, UserName, WorkerMemory, WorkerProcesses, Workers, switch,
    unless_blank,
};
use crate::log::{LogFormat, Verbosity};

/// Bytes that may be kept of the programs that dispatchers send.
const STORE_BYTES: u64 = 4 << 30;
/// A longer configuration file is some other file.
const FILE_BYTES: u64 = 64 << 10;

/// Offers the cores of this machine to dispatchers on the network.
///
/// Start it on every machine as `ppserver -a`; programs that use the pp-dispatcher library then find it by themselves and run
/// their jobs on it. All machines must have the same secret: the first ppserver makes one and says how to copy it.
#[derive(Parser)]
#[command(
    name = "ppserver",
    version,
    after_help = "Examples:\n  \
        ppserver -a -d                    be found on the network, and say what happens\n  \
        ppserver -w 4 -p 60001            four workers, another port\n  \
        ppserver -c /etc/ppserver.toml    settings from a file, one key for each flag: port = 60001\n\n\
        Signals: HUP reads the secret again; USR1 prints statistics; TERM finishes what runs, then exits; a second TERM \
        exits at once.\n\
        The secret is looked for in -s, --secret-file, PP_SECRET, PP_SECRET_FILE, the configuration file and \
        ~/.config/ppserver/secret. PP_LOG=pp_node=debug,info says what is logged in detail.\n\
        A variable that is blank is not set, and neither is a blank text in the file."
)]
struct Arguments {
    #[command(flatten)]
    _told: Told,
    /// Read settings from this file (TOML)
    #[arg(short, long, env = "PP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Accepted for old scripts; it has no effect: nodes are found by mDNS, not by broadcast
    #[arg(short = 'b', hide_short_help = true, value_name = "ADDRESS")]
    broadcast: Option<String>,
}

/// The options as they can be set: a flag, an environment variable and a key of the configuration file each. One that is
/// not set anywhere is none.
#[derive(Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Told {
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
    #[serde(deserialize_with = "unless_blank")]
    interface: Option<HostIp>,
    /// Listen on this port; 0 for any that is free [default: 60000]
    #[arg(short, long, env = "PP_PORT")]
    port: Option<Port>,
    /// Run so many jobs at once; 0 is allowed [default: the processors this process may use]
    #[arg(short, long, env = "PP_WORKERS", value_name = "N")]
    workers: Option<Workers>,
    /// The secret itself; other users can see it in the process list
    #[arg(short, long)]
    #[serde(deserialize_with = "unless_blank")]
    secret: Option<String>,
    /// A file that holds the secret and that only its owner can read
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "unless_blank")]
    secret_file: Option<PathBuf>,
    /// Only let machines connect whose keys this file lists, one a line as `ppctl key show` prints it
    #[arg(long, env = "PP_AUTHORIZED_KEYS", value_name = "FILE")]
    #[serde(deserialize_with = "unless_blank")]
    authorized_keys: Option<PathBuf>,
    /// Where this machine's own key is, made if it is missing [default: ~/.config/ppserver/machine_key]
    #[arg(long, env = "PP_MACHINE_KEY", value_name = "FILE")]
    #[serde(deserialize_with = "unless_blank")]
    machine_key: Option<PathBuf>,
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
    #[serde(deserialize_with = "unless_blank")]
    pid_file: Option<PathBuf>,
    /// Serve metrics and health over HTTP at this address: PORT, on loopback, or ADDRESS:PORT, for anybody who reaches that
    #[arg(long, env = "PP_HTTP", value_name = "ADDRESS")]
    #[serde(deserialize_with = "unless_blank")]
    http: Option<HttpAddress>,
    /// How log lines are written to standard error [default: text]
    #[arg(short = 'f', long, env = "PP_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(deserialize_with = "unless_blank")]
    log_format: Option<LogFormat>,
    /// What dispatchers and people call this node [default: the host name]
    #[arg(long, env = "PP_NAME")]
    #[serde(deserialize_with = "unless_blank")]
    name: Option<NodeName>,
    /// Where the programs that dispatchers send are kept [default: ~/.cache/ppserver]
    #[arg(long, env = "PP_STORE", value_name = "DIRECTORY")]
    #[serde(deserialize_with = "unless_blank")]
    store: Option<PathBuf>,
    /// A variable that jobs are to have: NAME=VALUE; NAME, as it is here; NAME*, all that begin so (may be repeated)
    /// [default: PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_*, TZ, RUST_BACKTRACE]
    #[arg(long, value_name = "NAME[=VALUE]")]
    worker_env: Vec<Variable>,
    /// What jobs may reach: none (all that this user may), secrets (all but this node's secret, configuration and programs,
    /// and no other processes) or strict (what programs need to run, and what is given with --worker-read and --worker-write)
    /// [default: secrets]
    #[arg(long, env = "PP_CONFINE", value_name = "LEVEL")]
    confine: Option<Level>,
    /// Run jobs as this user; only where ppserver is started by root
    #[arg(long, env = "PP_USER", value_name = "NAME")]
    #[serde(deserialize_with = "unless_blank")]
    user: Option<UserName>,
    /// A file or directory that jobs may read at --confine strict (may be repeated)
    #[arg(long, value_name = "PATH")]
    worker_read: Vec<PathBuf>,
    /// A file or directory that jobs may change at --confine strict (may be repeated)
    #[arg(long, value_name = "PATH")]
    worker_write: Vec<PathBuf>,
    /// How much memory a worker's jobs may have, in MiB: all that they start together, where ppserver has a control group of
    /// its own (Delegate=yes of its service); elsewhere each process
    #[arg(long, env = "PP_WORKER_MEMORY", value_name = "MIB")]
    worker_memory: Option<WorkerMemory>,
    /// How many processes and threads a worker's jobs may have together. Without a control group it limits all jobs of the
    /// node together, and is in force only with --user
    #[arg(long, env = "PP_WORKER_PROCESSES", value_name = "N")]
    worker_processes: Option<WorkerProcesses>,
    /// How many descriptors (open files, sockets) each process of a job may have
    #[arg(long, env = "PP_WORKER_FILES", value_name = "N")]
    worker_files: Option<NonZeroU32>,
}

/// A secret, or where it is.
#[derive(Default)]
pub(crate) struct SecretOption {
    pub(crate) secret: Option<Zeroizing<String>>,
    pub(crate) file: Option<PathBuf>,
}

impl SecretOption {
    fn taken_from(told: &mut Told) -> Self {
        Self { secret: told.secret.take().map(Zeroizing::new), file: told.secret_file.take() }
    }

    /// What the configuration file says by now.
    pub(crate) fn read(config: &Path) -> Result<Self, OptionsError> {
        Ok(Self::taken_from(&mut read(config)?))
    }
}

/// Options that make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error("cannot read the configuration file: {0} (given with -c or PP_CONFIG)")]
    Unreadable(PrivateError),
    #[error(
        "cannot read the configuration file {}: it is no regular file; check the path given with -c or PP_CONFIG",
        .0.display()
    )]
    NoFile(PathBuf),
    #[error(
        "the configuration file {} has more than {FILE_BYTES} bytes: is it another file? Check the path given with -c or \
         PP_CONFIG", .0.display()
    )]
    Long(PathBuf),
    #[error("the configuration file {} is wrong: {reason}", .path.display())]
    Wrong { path: PathBuf, reason: String },
    #[error("the configuration file holds the secret, and {0}")]
    Exposed(PrivateError),
    #[error("{0} both debug and quiet are set, which contradict each other: leave one out")]
    Contradiction(&'static str),
    #[error("{0}; or say with --store where programs are kept")]
    NoStore(VariableError),
    #[error(
        "there is no place for the programs that dispatchers send: neither XDG_CACHE_HOME nor HOME is set; say one with \
         --store or PP_STORE: a directory that is this user's own"
    )]
    NoPlace,
}

/// All that the daemon was told.
pub(crate) struct Options {
    told: Told,
    verbosity: Verbosity,
    secret_told: SecretOption,
    secret_in_file: SecretOption,
    config: Option<PathBuf>,
    has_broadcast: bool,
}

impl Options {
    /// The options of this process. A variable that is blank is not set.
    pub(crate) fn of_this_process() -> Result<Self, OptionsError> {
        let command = Arguments::command().mut_args(|argument| {
            let value = argument.get_env().and_then(std::env::var_os);
            if value.is_some_and(|value| environment::is_blank(&value)) {
                argument.env(None)
            } else {
                argument
            }
        });
        Self::of(&command.get_matches())
    }

    fn of(matches: &ArgMatches) -> Result<Self, OptionsError> {
        let config = matches.get_one::<PathBuf>("config").cloned();
        let mut told = match &config {
            Some(path) => read(path)?,
            None => Told::default(),
        };
        let secret_in_file = SecretOption::taken_from(&mut told);
        // What the command line and the environment say takes the place of what the file says.
        told.update_from_arg_matches(matches).unwrap_or_else(|error| error.exit());
        let verbosity = verbosity(&told, matches)?;
        let secret_told = SecretOption::taken_from(&mut told);
        Ok(Self {
            told,
            verbosity,
            secret_told,
            secret_in_file,
            config,
            has_broadcast: matches.contains_id("broadcast"),
        })
    }

    /// The verbosity of the log.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// The form of log lines.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.told.log_format.unwrap_or_default()
    }

    /// The address to listen on; none for all.
    pub(crate) fn interface(&self) -> Option<&HostIp> {
        self.told.interface.as_ref()
    }

    /// The port to listen on.
    pub(crate) fn port(&self) -> u16 {
        self.told.port.map_or(DEFAULT_PORT, Port::get)
    }

    /// The address at which metrics and health are served.
    pub(crate) fn http(&self) -> Option<&HttpAddress> {
        self.told.http.as_ref()
    }

    /// The file that holds the process id.
    pub(crate) fn pid_file(&self) -> Option<&Path> {
        self.told.pid_file.as_deref()
    }

    /// The secret as the command line says it, which comes before the environment.
    pub(crate) fn secret_told(&self) -> &SecretOption {
        &self.secret_told
    }

    /// The secret as the configuration file says it, which comes after the environment.
    pub(crate) fn secret_in_file(&self) -> &SecretOption {
        &self.secret_in_file
    }

    /// The secret on the command line.
    pub(crate) fn secret_given(&self) -> Option<&str> {
        self.secret_told.secret.as_deref().map(String::as_str)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The file that lists the machines that may connect, if the secret is not all that is asked for.
    pub(crate) fn authorized_keys(&self) -> Option<&Path> {
        self.told.authorized_keys.as_deref()
    }

    /// The file with this machine's own key; none for the usual place.
    pub(crate) fn machine_key(&self) -> Option<&Path> {
        self.told.machine_key.as_deref()
    }

    /// Whether `-b` was given.
    pub(crate) fn has_broadcast(&self) -> bool {
        self.has_broadcast
    }

    /// Whether jobs run as root.
    pub(crate) fn runs_jobs_as_root(&self) -> bool {
        rustix::process::geteuid().is_root() && self.told.user.as_ref().is_none_or(|user| user.0.is_root())
    }

    /// What jobs may do. Out of their reach is all that others would get in with.
    fn confinement(&self) -> Confinement {
        let told = &self.told;
        let secrets = [
            &self.secret_told.file,
            &self.secret_in_file.file,
            &self.config,
            &told.machine_key,
            &told.authorized_keys,
        ];
        let environment = environment::path(SECRET_FILE_VARIABLE);
        // Whoever is at home here may have a dispatcher, too.
        let keys = machine::default_path().ok().into_iter();
        let keys = keys.flat_map(|key| [KnownNodes::beside(&key).path().to_owned(), key]);
        let hidden = secrets
            .into_iter()
            .flatten()
            .cloned()
            .chain(environment)
            .chain(secret::default_path().ok())
            .chain(keys);
        Confinement {
            level: told.confine.unwrap_or_default(),
            user: told.user.as_ref().map(|name| name.0.clone()),
            hidden: hidden.collect(),
            readable: told.worker_read.clone(),
            writable: told.worker_write.clone(),
            descriptors: told.worker_files.map(|files| files.get().into()),
            memory: told.worker_memory.map(|mib| mib.get() << 20),
            processes: told.worker_processes.map(WorkerProcesses::get),
            environment: told.worker_env.clone(),
        }
    }

    /// The settings of the daemon.
    pub(crate) fn settings(
        self,
        secrets: Secrets,
        machines: Option<Machines>,
    ) -> Result<ppserver::Settings, OptionsError> {
        let confinement = self.confinement();
        let Told { auto, workers, timeout, socket_timeout, restart, name, store, .. } = self.told;
        let slots = workers.map_or_else(pp_node::processors, Workers::get);
        let mut node = NodeConfig::new(name.map_or_else(host_name, NodeName::into_text), slots);
        let directory = store.map_or_else(default_store, Ok)?;
        node.store = Some(StoreConfig { directory, limit_bytes: STORE_BYTES });
        node.confinement = Some(confinement);
        node.fresh_worker_per_job = restart.unwrap_or(false);
        node.silence = socket_timeout.map_or(node.silence, |seconds| Duration::from_secs(seconds.get()));
        Ok(ppserver::Settings {
            node,
            announce: auto.unwrap_or(false),
            idle: timeout.map(|seconds| Duration::from_secs(seconds.get())),
            machines,
            ..ppserver::Settings::new(secrets)
        })
    }
}

/// The verbosity of the log. Of two options that contradict each other, the one from the nearer place counts: the command line, then
/// the environment, then the file.
fn verbosity(told: &Told, matches: &ArgMatches) -> Result<Verbosity, OptionsError> {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Place {
        File,
        Environment,
        CommandLine,
    }
    let place_of = |name| match matches.value_source(name) {
        Some(ValueSource::CommandLine) => Place::CommandLine,
        Some(_) => Place::Environment,
        None => Place::File,
    };
    let debug = (told.debug == Some(true)).then(|| place_of("debug"));
    let quiet = (told.quiet == Some(true)).then(|| place_of("quiet"));
    match (debug, quiet) {
        (Some(place), Some(other)) if place == other => Err(OptionsError::Contradiction(match place {
            Place::File => "in the configuration file",
            Place::Environment => "in the environment (PP_DEBUG, PP_QUIET)",
            Place::CommandLine => "on the command line (-d, -q)",
        })),
        (Some(_), _) if debug > quiet => Ok(Verbosity::Debug),
        (_, Some(_)) => Ok(Verbosity::Quiet),
        _ => Ok(Verbosity::Normal),
    }
}

fn read(path: &Path) -> Result<Told, OptionsError> {
    let unreadable = |source| OptionsError::Unreadable(private::unreadable(path, source));
    // What is none may never end, or wait for somebody to write it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(OptionsError::NoFile(path.into()));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // With room for all of it, so that no copy of a part is left anywhere.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES as usize + 1));
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(OptionsError::Long(path.into()));
    }
    let told = toml::from_str::<Told>(&text)
        .map_err(|error| OptionsError::Wrong { path: path.into(), reason: without_secret(&text, &error) })?;
    if told.secret.is_some() {
        private::check_at(path, &metadata).map_err(OptionsError::Exposed)?;
    }
    Ok(told)
}

/// Text that says what is wrong with the file. The lines that are wrong are shown, unless it may have a secret in it:
/// quotes that are missing make any line part of any other.
fn without_secret(text: &str, error: &toml::de::Error) -> String {
    let has_secret =
        text.lines().any(|line| line.trim_start().trim_start_matches(['"', '\'']).starts_with("secret"));
    if !has_secret {
        return error.to_string();
    }
    let line =
        error.span().and_then(|span| text.get(..span.start)).map(|before| before.lines().count().max(1));
    let place = line.map(|line| format!("in line {line}, ")).unwrap_or_default();
    format!(
        "{place}which is not shown, since a secret is in this file; is each text in quotes, and each key one of --help?"
    )
}

/// The name of this machine, if a node can be called that.
pub(crate) fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().replace(char::is_control, "-");
    name.parse().map_or_else(|_| "node".into(), NodeName::into_text)
}

/// `$XDG_CACHE_HOME/ppserver`, else `~/.cache/ppserver`. Never a place that anybody could have made before.
fn default_store() -> Result<PathBuf, OptionsError> {
    let home = || Ok(environment::directory("HOME")?.map(|home| home.join(".cache")));
    let cache = match environment::directory("XDG_CACHE_HOME") {
        Ok(None) => home(),
        cache => cache,
    };
    Ok(cache.map_err(OptionsError::NoStore)?.ok_or(OptionsError::NoPlace)?.join("ppserver"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use pp_counting::{Counting, Random, allowed, peak_of};
    use pp_protocol::secret::Secret;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
        let matches = Arguments::command().try_get_matches_from([&["ppserver"], arguments].concat());
        Options::of(&matches.expect("the arguments are right"))
    }

    #[test]
    fn the_letters_are_those_of_parallel_python() {
        let all =
            ["-a", "-d", "-i", "127.0.0.1", "-p", "7", "-w", "3", "-s", "x", "-t", "9", "-k", "8", "-r"];
        let options = parse(&[&all[..], &["-P", "/p", "-f", "json", "-b", "255"]].concat());
        let options = options.expect("the options are right");
        assert!(options.has_broadcast() && options.verbosity() == Verbosity::Debug);
        assert_eq!((options.port(), options.log_format()), (7, LogFormat::Json));
        assert_eq!(options.interface().map(ToString::to_string).as_deref(), Some("127.0.0.1"));
        assert_eq!(options.pid_file(), Some(Path::new("/p")));
        assert_eq!(options.secret_told().secret.as_deref().map(String::as_str), Some("x"));
        let settings =
            options.settings(Secret::random().into(), None).expect("there is a place for programs");
        assert!(settings.announce && settings.node.fresh_worker_per_job);
        assert_eq!((settings.node.slots, settings.node.silence), (3, Duration::from_secs(8)));
        assert_eq!(settings.idle, Some(Duration::from_secs(9)));
    }

    #[test]
    fn the_command_line_comes_before_the_file_and_an_unknown_key_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("ppserver.toml");
        std::fs::write(&path, "port = 1\nworkers = 5\nlog_format = \"json\"\n").expect("a file");
        let path_text = path.display().to_string();
        let options = parse(&["-c", &path_text, "-p", "2"]).expect("the options are right");
        assert_eq!((options.port(), options.log_format()), (2, LogFormat::Json));
        let settings =
            options.settings(Secret::random().into(), None).expect("there is a place for programs");
        assert_eq!(settings.node.slots, 5);
        std::fs::write(&path, "port = 1\nprot = 2\n").expect("a file");
        let Err(error) = parse(&["-c", &path_text]) else { panic!("there is no such key") };
        let error = error.to_string();
        assert!(error.contains("line 2") && error.contains("`prot`") && error.contains("`port`"), "{error}");
    }

    #[test]
    fn of_debug_and_quiet_the_nearer_one_counts_and_both_in_one_place_contradict_each_other() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("ppserver.toml");
        std::fs::write(&path, "debug = true\n").expect("a file");
        let path_text = path.display().to_string();
        let verbosity = |arguments: &[&str]| {
            parse(&[&["-c", &path_text], arguments].concat()).map(|options| options.verbosity())
        };
        assert!(matches!(verbosity(&[]), Ok(Verbosity::Debug)));
        assert!(matches!(verbosity(&["-q"]), Ok(Verbosity::Quiet)));
        assert!(matches!(verbosity(&["-d", "-q"]), Err(OptionsError::Contradiction(_))));
        std::fs::write(&path, "debug = true\nquiet = true\n").expect("a file");
        let Err(error) = verbosity(&[]) else { panic!("that makes no sense") };
        assert!(error.to_string().contains("in the configuration file both debug and quiet"), "{error}");
        assert!(matches!(verbosity(&["-d"]), Ok(Verbosity::Debug)), "the command line decides");
    }

    #[test]
    fn a_damaged_file_takes_no_more_memory_than_its_bytes_make_reasonable_and_shows_no_secret() {
        const HIDDEN: &str = "n0b0dy-sees-this";
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("ppserver.toml");
        let sample =
            b"port = 60001\nname = \"render1\"\nworker_env = [\"A=1\", 'LC_*']\nconfine = \"strict\"\n";
        let (mut right, mut wrong) = (0, 0);
        for seed in 1..=2_000 {
            let mut random = Random(seed);
            let mut input = random.spoiled(sample);
            let place = random.below(input.len() + 1);
            input.splice(place..place, format!("\nsecret = \"{HIDDEN}\"\n").into_bytes());
            let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(&input)).expect("it can be written");
            let (read, peak) = peak_of(|| read(&path));
            assert!(peak <= allowed(input.len()), "seed {seed}: {peak} bytes for {} of input", input.len());
            let shown = read.map(|_| right += 1).map_err(|error| error.to_string());
            wrong += u32::from(shown.is_err());
            assert!(!shown.is_err_and(|shown| shown.contains(HIDDEN)), "seed {seed}");
        }
        assert!(right > 0 && wrong > 0, "{right} were read, {wrong} were not");
    }
}
