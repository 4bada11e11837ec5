//! Arguments and results: what is read as one of these types is written and read again as the same.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pp_protocol::values;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Tagged {
    Empty,
    Named { text: String, many: Vec<i64> },
    Nested(Box<Untagged>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Tagged(Tagged),
    Map(BTreeMap<String, Untagged>),
}

fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug + 'static>(bytes: &[u8]) {
    let Ok(value) = pp_fuzz::bounded(bytes, || values::decode::<T>(bytes)) else { return };
    let mut written = Vec::new();
    values::encode(&value, &mut written).unwrap_or_else(|error| panic!("{error}: {value:?}"));
    assert_eq!(values::decode::<T>(&written).expect("it was written just now"), value);
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 6 {
        0 => read::<(u8, i64, Option<String>)>(bytes),
        1 => read::<Vec<Tagged>>(bytes),
        2 => read::<Untagged>(bytes),
        3 => read::<BTreeMap<String, Vec<u8>>>(bytes),
        4 => read::<Vec<Vec<u32>>>(bytes),
        _ => read::<serde_json::Value>(bytes),
    }
});
