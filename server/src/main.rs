//! `ppserver`: offers the cores of this machine to dispatchers on the network.

mod advertise;
mod listener;
mod load;
mod log;
mod pid_file;
mod run;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::settings::{Arguments, Settings};

fn main() -> ExitCode {
    // A node starts this very program as a worker for its built-in functions.
    pp_node::worker::serve_if_worker();
    let arguments = Arguments::parse();
    match Settings::new(arguments).map_err(Into::into).and_then(run::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&error);
            ExitCode::FAILURE
        }
    }
}
