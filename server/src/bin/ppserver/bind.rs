//! Binding: which addresses of this machine the daemon listens on, and why it cannot.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use pp_protocol::address::{self, HostIp};
use tokio::net::TcpListener;

use crate::options::{HttpAddress, host_name};

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

/// HTTP cannot be served where it was to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpBindError {
    #[error("cannot serve HTTP at {0}: the port is taken; choose another one with --http (0 for any)")]
    Taken(String),
    #[error(
        "cannot serve HTTP at {0}: {1}; choose an address of this machine and a port above 1023 with --http"
    )]
    Other(String, io::Error),
}

/// Binds the address at which HTTP is served, for whose own name it is answered beyond loopback.
pub(crate) async fn bind_http(address: &HttpAddress) -> Result<(TcpListener, Vec<String>), HttpBindError> {
    let shown = address::with_port(&address.host.to_string(), address.port);
    let bound = match address.host.socket_address(address.port) {
        Ok(address) => TcpListener::bind(address).await,
        Err(error) => Err(error),
    };
    let listener = bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => HttpBindError::Taken(shown),
        _ => HttpBindError::Other(shown, error),
    })?;
    let names = if address.host.ip.is_loopback() { Vec::new() } else { vec![host_name()] };
    Ok((listener, names))
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
