//! `ppserver`: offers the cores of this machine to dispatchers on the network.
//!
//! The daemon itself is the library of this package. Here is what belongs to a process of its own: the command line and the
//! configuration file (`options`), the secret it is to have (`secret`), where it listens (`bind`), its pid file, its log,
//! its signals, the service manager that started it (`service`).

mod bind;
mod log;
mod options;
mod pid_file;
mod secret;
mod service;
mod signals;

use std::process::ExitCode;

use crate::log::LogFormat;
use crate::options::Options;
use crate::pid_file::PidFile;
use crate::signals::Signals;

fn main() -> ExitCode {
    // A node starts this very program as a worker for its built-in functions.
    pp_node::worker::serve_if_worker();
    pp_node::on_enough_stack(start)
}

fn start() -> ExitCode {
    let (log_format, ended) = match Options::of_this_process() {
        Ok(options) => (options.log_format(), run(options)),
        // Nothing is logged yet.
        Err(error) => (LogFormat::Text, Err(error.into())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&error, log_format);
            ExitCode::FAILURE
        }
    }
}

/// Runs the daemon until it is told to stop.
fn run(options: Options) -> anyhow::Result<()> {
    // The log may be such a file, and a program that a dispatcher sends.
    pp_node::processes::meet_errors_not_signals();
    log::start(options.verbosity(), options.log_format());
    pp_node::ensure_descriptors()?;
    // One thread: what a job passes through here is little, and handing it from thread to thread costs more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(options));
    runtime.shutdown_background();
    ended
}

async fn serve(options: Options) -> anyhow::Result<()> {
    // Before anything that tells others that the daemon is there: a signal must not find it unprepared.
    let signals = Signals::catch()?;
    let (secrets, place) = secret::find(&options)?;
    let _pid_file = options.pid_file().map(PidFile::create).transpose()?;
    let listener = bind::bind(options.interface(), options.port()).await?;
    if options.has_broadcast() {
        tracing::warn!("-b has no effect: nodes are found by mDNS, see -a");
    }
    if options.runs_jobs_as_root() {
        tracing::warn!(
            "jobs run as root, though without its privileges; give them a user of their own with --user NAME"
        );
    }
    let daemon = ppserver::Daemon::start(listener, options.settings(secrets)?)?;
    service::ready(daemon.address());
    let node = daemon.node().clone();
    let acceptance = daemon.acceptance();
    let reload = || place.read_again(&acceptance);
    tokio::select! {
        _ = async { tokio::join!(signals.obey(&node, reload), daemon.ended()) } => {}
        () = service::keep_watchdog_quiet() => {}
    }
    tracing::info!("ended");
    Ok(())
}
