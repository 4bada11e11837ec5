//! The configuration file of the daemon: what is wrong with it is said, and never with a secret that it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;

use self::daemon::log;
use self::daemon::options::SecretOption;

#[expect(dead_code, reason = "the daemon needs more of it")]
#[path = "../../server/src/bin/ppserver"]
mod daemon {
    pub(crate) mod log;
    pub(crate) mod options;
}

const SECRET: &str = "n0b0dy-sees-this";

/// The text with a secret somewhere in it.
fn with_secret(text: &str, place: usize) -> String {
    let (before, after) = text.split_at(text.floor_char_boundary(place % (text.len() + 1)));
    format!("{before}\nsecret = \"{SECRET}\"\n{after}")
}

fuzz_target!(|input: &[u8]| {
    let Some(([low, high], bytes)) = input.split_first_chunk() else { return };
    let place = usize::from(u16::from_le_bytes([*low, *high]));
    let text = std::str::from_utf8(bytes).ok().filter(|text| place % 2 == 0 && !text.contains(SECRET));
    let text = text.map(|text| with_secret(text, place / 2));
    let held = text.as_deref().map_or(bytes, str::as_bytes);
    let path = pp_fuzz::private_file("ppserver.toml", held);
    match pp_fuzz::bounded(held, || SecretOption::read(&path)) {
        Ok(told) if text.is_some() => assert_eq!(told.secret.as_deref().map(String::as_str), Some(SECRET)),
        Ok(_) => {}
        Err(error) => {
            let error = error.to_string();
            assert!(text.is_none() || !error.contains(SECRET), "{error}");
        }
    }
});
