//! Functions that every node has, whatever programs dispatchers bring or lack.
//!
//! They are part of the node's own program: of `ppserver`, and of a dispatcher's program for its local cores. A job that
//! calls one of them runs on every node, also on those that cannot run the dispatcher's program.

mod command;
mod files;

use std::time::Duration;

use bytes::Bytes;
use pp_protocol::room;
use pp_protocol::values::Source;

pub use self::command::{Ahead, CommandLine, CommandOutput, CommandStatus};
pub use self::files::{BaseFile, CommandDirectory, CommandFile, CommandFiles, FileError, FileFault};
use crate::functions::{BuiltIn, Function, Identity, invoke};
use crate::kept;

/// Returns the bytes it is given.
pub fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Occupies a slot for so long.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Runs a command on the node, and waits for its end. What it has started and left running is not waited for, and ends with
/// the worker at the latest. A command that writes more than a job's result may have is killed, and the job's outcome says so.
pub fn command(line: CommandLine) -> CommandOutput {
    command::run(line)
}

/// Keeps what is in a file for the commands of this session that name it as a [base file](BaseFile). Meant for one node
/// (`JobBuilder::on_node`): it is kept there and nowhere else, until the session ends.
///
/// # Errors
/// Says why it is not kept: there is no room, or the node keeps no files, as the dispatcher's own cores do not.
pub fn keep_file(contents: Bytes) -> Result<(), String> {
    kept::keep(&contents).map_err(|error| error.to_string())
}

/// Offers one of these functions to jobs, under its name and this version.
macro_rules! offer {
    ($function:ident, $version:literal, fn($argument:ty) $(-> $result:ty)?) => {
        inventory::submit! {
            BuiltIn(Function {
                name: || concat!("ppserver::", stringify!($function)),
                version: $version,
                identity: || {
                    let pointer: fn($argument) $(-> $result)? = $function;
                    Identity::of(&$function, &pointer, pointer as usize)
                },
                call: |args: Source<'_>, result: &mut room::Writer| {
                    invoke(args, result, |(argument,): ($argument,)| $function(argument))
                },
            })
        }
    };
}

offer!(echo, "", fn(Vec<u8>) -> Vec<u8>);
offer!(sleep, "", fn(Duration));
offer!(command, "1", fn(CommandLine) -> CommandOutput);
offer!(keep_file, "1", fn(Bytes) -> Result<(), String>);
