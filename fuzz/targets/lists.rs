//! Files that say who is trusted: secrets, keys of machines, nodes that are known. Into the last one goes what anybody on a
//! network announced.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pp_protocol::limits::{AUTHORIZED_KEYS, NAME_BYTES, SECRETS, cut};
use pp_protocol::machine::{AuthorizedKeys, KnownNodes, MachineKey, PublicKey};
use pp_protocol::secret::{Secret, Secrets};
use pp_protocol::shown;

/// The node of a user who is careful.
const OURS: &str = "render1:60000";

/// The key of a node that is met for the first time.
static NEW: LazyLock<PublicKey> = LazyLock::new(|| MachineKey::random().public());

/// What has a checksum, which nobody hits upon by chance, in place of the first control characters.
static WRITTEN: LazyLock<[String; 5]> = LazyLock::new(|| {
    let path = pp_fuzz::directory().join("written");
    MachineKey::create(&path).expect("there is room in memory");
    let own = fs::read_to_string(path).expect("it was written just now");
    let [one, other] = [(); 2].map(|()| MachineKey::random().public().to_string());
    [one, other, own.trim().into(), Secret::random().text().into(), Secret::random().text().into()]
});

fn written(input: &[u8]) -> Vec<u8> {
    let text_of = |byte: &u8| WRITTEN.get(usize::from(*byte).wrapping_sub(1)).map(String::as_bytes);
    input.iter().flat_map(|byte| text_of(byte).unwrap_or(std::slice::from_ref(byte))).copied().collect()
}

/// Whether no key is made of it that takes 64 MiB and a tenth of a second, as that of a passphrase does.
fn is_cheap(line: &str) -> bool {
    let is_written = line.get(..4).is_some_and(|begins| begins.eq_ignore_ascii_case("pp1-"));
    let is_digits = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_written || is_digits || line.chars().count() < 12
}

fn secrets(text: &str) {
    if !text.lines().all(|line| is_cheap(line.trim())) {
        return;
    }
    let Ok(secrets) = pp_fuzz::bounded(text.as_bytes(), || Secrets::parse(text)) else { return };
    assert!((1..=SECRETS).contains(&secrets.len()));
    let lines: String = secrets.iter().map(|secret| format!("{}\n", secret.text())).collect();
    assert_eq!(Secrets::parse(&lines).expect("it was written just now").ids(), secrets.ids());
}

fn authorized(bytes: &[u8]) {
    let path = pp_fuzz::private_file("authorized_keys", bytes);
    match pp_fuzz::bounded(bytes, || AuthorizedKeys::read(&path)) {
        Ok(listed) => {
            assert!(listed.len() <= AUTHORIZED_KEYS);
            for (key, role) in listed.rights() {
                assert_eq!(listed.check(&key, role), Ok(()));
                assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
        Err(error) => is_fit_to_show(&error.to_string()),
    }
}

fn known(identity: &str, bytes: &[u8]) {
    let path = pp_fuzz::private_file("known_nodes", bytes);
    let known = KnownNodes::beside(&path);
    let before = pp_fuzz::bounded(bytes, || known.find(OURS));
    let Ok(before) = before.inspect_err(|error| is_fit_to_show(&error.to_string())) else { return };
    if known.pin(identity, *NEW).is_ok() {
        assert_eq!(known.find(identity).expect("it was found before").map(|pin| pin.key), Some(*NEW));
    }
    let is_ours = cut(shown(identity).trim(), NAME_BYTES).trim_end() == OURS;
    assert!(
        is_ours || known.find(OURS).expect("it was found before") == before,
        "{identity:?} makes itself ours"
    );
}

fn machine_key(bytes: &[u8]) {
    let path = pp_fuzz::private_file("machine_key", bytes);
    if let Err(error) = pp_fuzz::bounded(bytes, || MachineKey::read(&path)) {
        is_fit_to_show(&error.to_string());
    }
}

fn is_fit_to_show(text: &str) {
    text.lines().for_each(|line| assert_eq!(shown(line), line));
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    let bytes = written(bytes);
    match (kind % 4, str::from_utf8(&bytes)) {
        (0, Ok(text)) => secrets(text),
        (1, _) => authorized(&bytes),
        (2, Ok(text)) => {
            let (identity, file) = text.split_once('\0').unwrap_or((text, ""));
            known(identity, file.as_bytes());
        }
        (3, _) => machine_key(&bytes),
        _ => {}
    }
});
