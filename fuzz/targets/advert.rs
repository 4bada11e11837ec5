//! What anybody on the network may announce.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pp_protocol::advert::Advert;
use pp_protocol::is_plain_name;

const KEYS: [&str; 5] = ["txtvers", "proto", "slots", "id", "name"];

fuzz_target!(|input: &[u8]| {
    let parts: Vec<_> = input.split(|byte| *byte == 0).take(KEYS.len()).map(std::str::from_utf8).collect();
    let value = |key: &str| parts.get(KEYS.iter().position(|it| *it == key)?)?.ok();
    let advert = pp_fuzz::bounded(input, || Advert::from_txt(value));
    let name = advert.as_ref().and_then(|advert| advert.name.as_deref());
    assert!(name.is_none_or(is_plain_name), "{name:?}");
});
