//! Messages between a node and a worker, as they are packed in frames. The sockets and the worker's loop are left out.

use anyhow::ensure;
use bytes::Bytes;
use pp_protocol::packed::{Input, finished, put_succeeded, put_work, work};

use super::{FUNCTION, RUN_TIME_NS, payload_bytes};

pub(super) fn run(at_once: u32, jobs: u32) -> anyhow::Result<()> {
    let mut ended = 0;
    while ended < jobs {
        let numbers = ended..ended + at_once.min(jobs - ended);
        let mut frame = Vec::new();
        for number in numbers.clone() {
            let args = payload_bytes(number);
            put_work(number, FUNCTION, args.len(), &mut frame);
            frame.extend_from_slice(args);
        }
        let mut input = Input::new(&frame);
        let mut answer = Vec::new();
        while !input.is_empty() {
            let (number, ..) = work(&mut input)?;
            let result = payload_bytes(number);
            put_succeeded(number, RUN_TIME_NS, result.len(), &mut answer);
            answer.extend_from_slice(result);
        }
        let answer = Bytes::from(answer);
        let mut input = Input::shared(&answer);
        let mut all = Vec::with_capacity(at_once as usize);
        while !input.is_empty() {
            all.push(finished(&mut input, |_| None)?);
        }
        ensure!(all.len() == numbers.len(), "as many end as were given");
        ended = numbers.end;
    }
    Ok(())
}
