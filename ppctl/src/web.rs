//! `ppctl web`: the cluster's page, served by the operator's own machine over the connections that `ppctl` has to nodes.
//!
//! Nobody but whoever started it is answered: each start makes a token, which is printed and nowhere else. What nodes tell is
//! looked at only while a page is open ([`Looking`]).

mod frame;
mod look;
mod site;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use pp_http::{Site, Token};
use pp_protocol::{Role, address};
use tokio::net::TcpListener;

use self::look::Looking;
use crate::{Arguments, look as look_at, print, warn};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also look at this node: HOST, HOST:PORT or dns:NAME:PORT; or, of those that are found, only at those whose names
    /// fit a pattern such as 'gpu*'; may be repeated
    #[arg(long = "node", value_name = "ADDRESS")]
    nodes: Vec<String>,
    /// Serve the page at this address; the port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve it beyond this machine, where the token and all that is shown cross the network for anybody to read. An ssh
    /// tunnel is better: ssh -L 8080:127.0.0.1:PORT
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn run(arguments: &Arguments, options: &Options) -> anyhow::Result<ExitCode> {
    let listen = options.listen;
    if !listen.ip().is_loopback() && !options.insecure {
        bail!(
            "{listen} can be reached from other machines, and the page is not encrypted: whoever listens on the way has the \
             token, and with it may resize and drain nodes. Leave --listen out and reach the page by ssh -L, or say --insecure"
        );
    }
    let dispatcher = look_at(arguments, &options.nodes, Role::Operator).start()?;
    let token = Token::random().context("the system has no random numbers")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => anyhow::anyhow!("{listen} is taken; choose another port with --listen (0 for any)"),
            _ => anyhow::anyhow!("cannot listen on {listen}: {error}; choose an address of this machine with --listen"),
        })?;
        let at = address::shown(listener.local_addr()?);
        print(&format!("http://{at}/#token={}\n", token.text()))?;
        warn("open this in a browser; whoever has it may resize and drain nodes. Ctrl-C ends the page, and no job");
        let looking = Looking::start(dispatcher.clone());
        let site = Site { routes: site::ROUTES, token: Some(token), names: Vec::new() };
        pp_http::serve(listener, site, move |asked| site::answer(asked, dispatcher.clone(), looking.clone())).await;
        Ok(ExitCode::SUCCESS)
    })
}
