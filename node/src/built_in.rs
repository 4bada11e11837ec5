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
use crate::functions::{BuiltIn, CallError, Function, Identity, invoke};
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

fn call_echo(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(bytes,): (Vec<u8>,)| echo(bytes))
}

fn call_sleep(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(time,): (Duration,)| sleep(time))
}

fn call_command(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(line,): (CommandLine,)| command(line))
}

inventory::submit! {
    BuiltIn(Function {
        name: || "ppserver::command",
        version: "1",
        identity: || {
            let pointer: fn(CommandLine) -> CommandOutput = command;
            Identity::of(&command, &pointer, pointer as usize)
        },
        call: call_command,
    })
}

fn call_keep_file(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(contents,): (Bytes,)| keep_file(contents))
}

inventory::submit! {
    BuiltIn(Function {
        name: || "ppserver::keep_file",
        version: "1",
        identity: || {
            let pointer: fn(Bytes) -> Result<(), String> = keep_file;
            Identity::of(&keep_file, &pointer, pointer as usize)
        },
        call: call_keep_file,
    })
}

inventory::submit! {
    BuiltIn(Function {
        name: || "ppserver::echo",
        version: "",
        identity: || {
            let pointer: fn(Vec<u8>) -> Vec<u8> = echo;
            Identity::of(&echo, &pointer, pointer as usize)
        },
        call: call_echo,
    })
}

inventory::submit! {
    BuiltIn(Function {
        name: || "ppserver::sleep",
        version: "",
        identity: || {
            let pointer: fn(Duration) = sleep;
            Identity::of(&sleep, &pointer, pointer as usize)
        },
        call: call_sleep,
    })
}
