//! The daemon from start to end.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use pp_node::{Node, NodeConfig, StoreConfig};
use pp_protocol::address;
use pp_protocol::secret::{self, Origin, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, SecretError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::advertise::Advertiser;
use crate::pid_file::PidFile;
use crate::settings::{LogFormat, Settings};
use crate::{listener, load, log};

/// Runs the daemon until it is told to stop.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    // The log may be such a file, and a program that a dispatcher sends.
    pp_node::processes::meet_errors_not_signals();
    log::start(&settings);
    // One thread: what a job passes through here is little, and handing it from thread to thread costs more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    ended
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // Before anything that tells others that the daemon is there: a signal must not find it unprepared.
    let signals = Signals::catch()?;
    let secret = find_secret(&settings)?;
    let _pid_file = settings.pid_file.as_deref().map(PidFile::create).transpose()?;
    let listener = listener::bind(settings.interface.as_ref(), settings.port).await?;
    let address = listener.local_addr()?;
    let mut config = NodeConfig::new(&settings.name, settings.workers);
    config.store = Some(StoreConfig { directory: settings.store.clone(), limit_bytes: settings.store_bytes });
    config.fresh_worker_per_job = settings.restart;
    config.silence = settings.socket_timeout.unwrap_or(config.silence);
    let node = Node::start(config)?;
    if settings.broadcast {
        tracing::warn!("-b has no effect: nodes are found by mDNS, see -a");
    }
    let advertiser =
        if settings.auto {
            let interface = settings.interface.as_ref().map(|interface| interface.ip);
            let start = Advertiser::start(node.clone(), settings.name.clone(), interface, address.port());
            Some(start.context(
                "cannot announce this node on the network; without -a it can be named with PP_NODES",
            )?)
        } else {
            None
        };
    tracing::info!(
        slots = settings.workers,
        advertised = settings.auto,
        "ppserver {} \"{}\" listens on {}",
        env!("CARGO_PKG_VERSION"),
        settings.name,
        address::shown(address)
    );
    tokio::spawn(load::report(node.clone()));
    tokio::spawn(listener::serve(listener, secret, node.clone()));
    let keep_up_to_date = async {
        match &advertiser {
            Some(advertiser) => advertiser.keep_up_to_date().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.obey(&node) => {}
        () = idle(&node, settings.timeout) => {
            tracing::info!("no dispatcher for so long: exiting");
            node.drain();
            node.ended().await;
        }
        () = node.ended() => {}
        () = keep_up_to_date => {}
    }
    if let Some(advertiser) = advertiser {
        advertiser.goodbye().await;
    }
    tracing::info!("ended");
    Ok(())
}

/// The signals that the daemon answers.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    statistics: Signal,
    /// The processor time that this process may use is used up.
    time_used: Signal,
}

impl Signals {
    /// From now on they are kept until they are obeyed.
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            statistics: signal(SignalKind::user_defined1())?,
            time_used: signal(SignalKind::from_raw(rustix::process::Signal::XCPU.as_raw()))?,
        })
    }

    /// Returns once a signal has ended the node.
    async fn obey(self, node: &Node) {
        let Self { mut terminate, mut interrupt, mut statistics, mut time_used } = self;
        let mut draining = false;
        loop {
            tokio::select! {
                () = told_to_stop(&mut terminate, &mut interrupt) => {
                    if draining {
                        tracing::info!("told again to stop: exiting at once");
                        node.kill();
                    } else {
                        tracing::info!("told to stop: finishing what runs; tell again to exit at once");
                        node.drain();
                        draining = true;
                    }
                }
                _ = time_used.recv(), if !draining => {
                    tracing::error!(
                        "the processor time that this process may use is used up: finishing what runs; raise the limit \
                         (ulimit -t, or LimitCPU= of the service)"
                    );
                    node.drain();
                    draining = true;
                }
                _ = statistics.recv() => {
                    if let Some(statistics) = node.statistics().await {
                        // There is nobody to tell if standard output is closed.
                        let _ = write!(std::io::stdout(), "{statistics}");
                        let _ = std::io::stdout().flush();
                    }
                }
                () = node.ended() => return,
            }
        }
    }
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Returns when no dispatcher has been connected for as long as `timeout`; never without one.
async fn idle(node: &Node, timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let mut status = node.status();
    loop {
        if status.wait_for(|status| status.sessions == 0).await.is_err() {
            return std::future::pending().await;
        }
        let connected = status.wait_for(|status| status.sessions > 0);
        if tokio::time::timeout(timeout, connected).await.is_err() {
            return;
        }
    }
}

fn find_secret(settings: &Settings) -> Result<Secret, SecretError> {
    let setting = &settings.secret;
    if setting.on_command_line.is_some() {
        tracing::warn!(
            "other users can see the secret in the process list; use --secret-file or PP_SECRET_FILE"
        );
    }
    let told = setting.on_command_line.is_some()
        || setting.file_on_command_line.is_some()
        || secret::is_in_environment();
    let found = if told {
        secret::find(setting.on_command_line.as_deref(), setting.file_on_command_line.as_deref())?
    } else {
        secret::find(setting.in_config.as_deref(), setting.file_in_config.as_deref())?
    };
    let (secret, origin) = match found {
        Some(found) => found,
        None => make_secret(settings.log_format)?,
    };
    match &origin {
        Origin::File(path) => tracing::debug!(file = %path.display(), "secret read"),
        Origin::Given | Origin::Environment => tracing::debug!("secret given"),
    }
    if secret.is_weak() {
        tracing::warn!(
            "the secret is short enough to be guessed; let ppserver make one: start it without any"
        );
    }
    Ok(secret)
}

/// Makes a secret, and says how the next machine gets it.
fn make_secret(log_format: LogFormat) -> Result<(Secret, Origin), SecretError> {
    let path = secret::default_path()?;
    let secret = Secret::create(&path)?;
    for name in [SECRET_VARIABLE, SECRET_FILE_VARIABLE] {
        if std::env::var_os(name).is_some() {
            tracing::warn!("{name} is blank, which counts as not set");
        }
    }
    let file = path.display();
    let bring = format!(
        "ssh OTHER 'umask 077; mkdir -p ~/.config/ppserver; cat > ~/.config/ppserver/secret' < {file}"
    );
    match log_format {
        LogFormat::Json => {
            tracing::warn!(%file, bring, "a new secret was written; bring it to other machines")
        }
        // For a person to copy: without a time and a level in front of it. There is nobody to tell if standard error
        // is closed.
        LogFormat::Text => {
            let _ = writeln!(
                std::io::stderr(),
                "A new secret was written to {file}. Bring it to the next machine, before its ppserver is started, \
                 with:\n  {bring}"
            );
        }
    }
    Ok((secret, Origin::File(path)))
}
