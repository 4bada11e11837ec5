//! Binding: which addresses of this machine the daemon listens on, and why it cannot.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use pp_protocol::address::{self, HostIp};
use tokio::net::TcpListener;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(
        "port {0} is taken: is another ppserver running? Stop it, or choose another port with -p (0 for any)"
    )]
    Taken(u16),
    #[error("port {0} needs privileges; choose one above 1023 with -p")]
    Privileged(u16),
    #[error("{0} is not an address of this machine; choose one with -i, or leave -i out to listen on all")]
    NotHere(HostIp),
    #[error("cannot listen on {0}: {1}")]
    Other(String, io::Error),
}

/// Binds `port` of `interface`, or of every address this machine has.
pub(crate) async fn bind(interface: Option<&HostIp>, port: u16) -> Result<TcpListener, BindError> {
    let host = interface.cloned().unwrap_or(HostIp { ip: Ipv6Addr::UNSPECIFIED.into(), zone: None });
    let failed = |error| BindError::Other(address::with_port(&host.to_string(), port), error);
    let bound = match TcpListener::bind(host.socket_address(port).map_err(failed)?).await {
        // A machine without IPv6.
        Err(_) if interface.is_none() => {
            TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).await
        }
        bound => bound,
    };
    bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => BindError::Taken(port),
        ErrorKind::PermissionDenied => BindError::Privileged(port),
        ErrorKind::AddrNotAvailable => BindError::NotHere(host.clone()),
        _ => failed(error),
    })
}
