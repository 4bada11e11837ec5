//! Options of every TCP connection between a dispatcher and a node.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Time for which what was written may stay unacknowledged by the peer's machine before the connection is broken
/// (`TCP_USER_TIMEOUT`, see tcp(7)). Heartbeats notice a silent peer sooner; this is the net below them.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// A connection on which nothing happens is probed after so long, so often, so many times.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// Congestion control between two processes of one machine, where there is no congestion: it paces nothing. Timers that
/// hold back what is sent, as those of BBR, take a tenth of the throughput there.
#[cfg(target_os = "linux")]
const WITHIN_A_MACHINE: &str = "reno";

/// Makes a connection send what it is given at once, and notice by itself that the peer's machine is gone.
///
/// # Errors
/// When the socket is broken already.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    #[cfg(target_os = "linux")]
    {
        sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
        sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
        sockopt::set_tcp_keepcnt(stream, PROBES)?;
        sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED.as_millis() as u32)?;
        if stream.peer_addr()?.ip() == stream.local_addr()?.ip() {
            pace_nothing(stream);
        }
    }
    Ok(())
}

/// Has a connection within this machine send as fast as it can.
#[cfg(target_os = "linux")]
pub fn pace_nothing(stream: impl AsFd) {
    // Where the system does not have it, its own choice has to do.
    let _ = sockopt::set_tcp_congestion(stream, WITHIN_A_MACHINE);
}
