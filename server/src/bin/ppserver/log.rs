//! What the daemon says: lines on standard error.

use std::io::{IsTerminal, Write};

use pp_protocol::environment;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::settings::{LogFormat, Settings};

/// Environment variable that says what is logged: `debug`, `pp_node=debug,info`.
const VARIABLE: &str = "PP_LOG";

/// Starts logging as the settings say.
pub(crate) fn start(settings: &Settings) {
    let level = match (settings.debug, settings.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::ERROR,
        (false, false) => LevelFilter::INFO,
    };
    let told = environment::log_filter::<Targets>(VARIABLE);
    let (told, unclear) = told.map_or_else(|error| (None, Some(error)), |told| (told, None));
    // The libraries below are of interest only when something is wrong with them.
    let filter =
        told.unwrap_or_else(|| Targets::new().with_default(level).with_target("mdns_sd", LevelFilter::ERROR));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match settings.log_format {
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
