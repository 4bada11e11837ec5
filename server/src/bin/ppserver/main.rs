//! `ppserver`: offers the cores of this machine to dispatchers on the network.
//!
//! The daemon itself is the library of this package. Here is what belongs to a process of its own: the command line and the
//! configuration file (`options`), the secret it is to have (`secret`) and that nobody else sees (`hidden`), the machines that
//! may connect (`machines`), where it listens (`bind`), its pid file, its log,
//! its signals, the service manager that started it (`service`).

mod bind;
mod hidden;
mod log;
mod machines;
mod options;
mod pid_file;
mod secret;
mod service;
mod signals;

use std::path::Path;
use std::process::ExitCode;

use crate::hidden::HandedOver;
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
    let protected = hidden::protect().and_then(|()| hidden::take());
    let (log_format, ended) = match (Options::of_this_process(), protected) {
        (Ok(options), Ok(handed_over)) => (options.log_format(), run(options, handed_over)),
        // Nothing is logged yet.
        (Err(error), _) => (LogFormat::Text, Err(error.into())),
        (Ok(options), Err(error)) => {
            let error = anyhow::Error::new(error)
                .context("the system does not keep what this process knows from others");
            (options.log_format(), Err(error))
        }
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
fn run(options: Options, handed_over: Option<HandedOver>) -> anyhow::Result<()> {
    let hidden = if handed_over.is_some() { Ok(()) } else { hidden::hide(options.secret_given()) };
    // The log may be such a file, and a program that a dispatcher sends.
    pp_node::processes::meet_errors_not_signals();
    log::start(options.verbosity(), options.log_format());
    if let Err(error) = hidden {
        tracing::warn!(
            %error,
            "jobs can read the secret where ppserver was told it, since it cannot be started anew; use --secret-file"
        );
    }
    pp_node::ensure_descriptors()?;
    // One thread: what a job passes through here is little, and handing it from thread to thread costs more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(options, handed_over));
    runtime.shutdown_background();
    ended
}

async fn serve(options: Options, handed_over: Option<HandedOver>) -> anyhow::Result<()> {
    // Before anything that tells others that the daemon is there: a signal must not find it unprepared.
    let signals = Signals::catch()?;
    let (secrets, place) = secret::find(&options, handed_over)?;
    let machines = machines::find(&options)?;
    let list = options.authorized_keys().map(Path::to_owned);
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
    let http = match options.http() {
        Some(address) => Some(bind::bind_http(address).await?),
        None => None,
    };
    let mut daemon = ppserver::Daemon::start(listener, options.settings(secrets, machines)?)?;
    if let Some((listener, names)) = http {
        daemon.serve_http(listener, names)?;
    }
    service::ready(daemon.address());
    let node = daemon.node().clone();
    let acceptance = daemon.acceptance();
    let reload = || {
        place.read_again(&acceptance);
        if let Some(list) = &list {
            machines::read_again(list, &acceptance);
        }
    };
    tokio::select! {
        _ = async { tokio::join!(signals.obey(&node, reload), daemon.ended()) } => {}
        () = service::keep_watchdog_quiet() => {}
    }
    tracing::info!("ended");
    Ok(())
}
