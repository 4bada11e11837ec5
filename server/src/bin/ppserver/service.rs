//! Messages to a service manager that has started this process: systemd's `Type=notify` and `WatchdogSec=`. Without one
//! nobody is told anything.

use std::net::SocketAddr;

use pp_protocol::address;
use sd_notify::NotifyState;

/// Parts of the watchdog's time after which it is told that this process is alive: once may be missed.
const PARTS: u32 = 3;

/// The daemon is there for others.
pub(crate) fn ready(listens_on: SocketAddr) {
    let status = format!("listens on {}", address::shown(listens_on));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The daemon takes nothing new any more, and ends once what runs has finished.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what runs")]);
}

/// Tells the watchdog, if there is one, again and again that the loop which runs this turns. One that hangs says nothing, and
/// the process is started anew.
pub(crate) async fn keep_watchdog_quiet() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut again = tokio::time::interval(patience / PARTS);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
