//! What a worker, which runs other people's code, tells its node, and work as it arrives there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pp_protocol::Payload;
use pp_protocol::packed::{self, Input};

fuzz_target!(|input: &[u8]| {
    let Some((side, bytes)) = input.split_first() else { return };
    pp_fuzz::bounded(input, || {
        let mut rest = Input::new(bytes);
        while !rest.is_empty() {
            let is_right = match side % 2 {
                0 => packed::finished(&mut rest, |_| Some(Payload::default())).is_ok(),
                _ => packed::work(&mut rest).is_ok(),
            };
            if !is_right {
                return;
            }
        }
    });
});
