//! `ppserver`: offers the cores of this machine to dispatchers on the network.

mod advertise;
mod listener;
mod load;
mod log;
mod pid_file;
mod run;
mod settings;

use std::process::ExitCode;

use crate::settings::{Arguments, LogFormat, Settings};

fn main() -> ExitCode {
    // A node starts this very program as a worker for its built-in functions.
    pp_node::worker::serve_if_worker();
    let arguments = Arguments::of_this_process();
    let (ended, log_format) = match Settings::new(arguments) {
        Ok(settings) => {
            let log_format = settings.log_format;
            (run::run(settings), log_format)
        }
        // Nothing is logged yet.
        Err(error) => (Err(error.into()), LogFormat::Text),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&error, log_format);
            ExitCode::FAILURE
        }
    }
}
