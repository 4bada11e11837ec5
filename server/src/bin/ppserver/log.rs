//! The log: lines on standard error.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use pp_protocol::environment;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Environment variable that says what is logged: `debug`, `pp_node=debug,info`.
const VARIABLE: &str = "PP_LOG";

/// Amount of logging, unless the environment says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// News for people who look after the machine.
    Normal,
    /// All that happens, in detail.
    Debug,
}

/// Form of log lines.
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

/// Starts logging.
pub(crate) fn start(verbosity: Verbosity, format: LogFormat) {
    let level = match verbosity {
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Quiet => LevelFilter::ERROR,
        Verbosity::Normal => LevelFilter::INFO,
    };
    let told = environment::log_filter::<Targets>(VARIABLE);
    let (told, unclear) = told.map_or_else(|error| (None, Some(error)), |told| (told, None));
    // The libraries below are of interest only when something is wrong with them.
    let filter =
        told.unwrap_or_else(|| Targets::new().with_default(level).with_target("mdns_sd", LevelFilter::ERROR));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Some(error) = unclear {
        tracing::warn!("{error}");
    }
}

/// Says why the daemon cannot go on: in the log if programs read it, else plainly.
pub(crate) fn error(error: &anyhow::Error, log_format: LogFormat) {
    match log_format {
        LogFormat::Json => tracing::error!("{}", told_once(error)),
        // There is nobody to tell if standard error is closed.
        LogFormat::Text => {
            let _ = writeln!(std::io::stderr(), "ppserver: {}", told_once(error));
        }
    }
}

/// An error and its causes, but for those whose words are in what is said already.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        text if told.contains(&text) => told,
        text if told.is_empty() => text,
        text => format!("{told}: {text}"),
    })
}
