//! Functions that every node has, whatever programs dispatchers bring or lack.
//!
//! They are part of the node's own program: of `ppserver`, and of a dispatcher's program for its local cores. A job that
//! calls one of them runs on every node, also on those that cannot run the dispatcher's program.

use std::time::Duration;

use pp_protocol::room;
use pp_protocol::values::Source;

use crate::functions::{BuiltIn, CallError, Function, Identity, invoke};

/// Returns the bytes it is given.
pub fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Occupies a slot for so long.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

fn call_echo(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(bytes,): (Vec<u8>,)| echo(bytes))
}

fn call_sleep(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
    invoke(args, result, |(time,): (Duration,)| sleep(time))
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
