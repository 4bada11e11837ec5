//! Records of a peer that knows the secret and seals whatever it likes: a byte for the kind of each, and how long it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pp_protocol::connection::Reader;
use pp_protocol::handshake::{self, Established};
use pp_protocol::record::{Keys, SEALED_BYTES, Sealer};
use pp_protocol::secret::Secret;
use pp_protocol::{Role, ToNode};

/// Records in a row, and the bytes of each.
const RECORDS: usize = 16;
const RECORD_BYTES: usize = 60_000;

thread_local! {
    static SECRET: Secret = Secret::random();
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fn keys() -> (Keys, Keys) {
    SECRET.with(|secret| {
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let (mut near, mut far) = tokio::io::duplex(1 << 12);
                let (near, far) = tokio::join!(
                    handshake::initiate(&mut near, secret, Role::Dispatcher),
                    handshake::respond(&mut far, std::slice::from_ref(secret))
                );
                let keys = |side: Result<Established, _>| side.expect("it is the same secret").keys;
                (keys(near), keys(far))
            })
        })
    })
}

fuzz_target!(|input: &[u8]| {
    let (near, far) = keys();
    let mut sealer = Sealer::new(near);
    let (mut rest, mut sealed) = (input, Vec::new());
    for _ in 0..RECORDS {
        let [kind, low, high, more @ ..] = rest else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(RECORD_BYTES);
        let mut plain: Vec<u8> = more.iter().copied().take(length).collect();
        rest = &more[plain.len()..];
        plain.push(kind % 5);
        let start = sealed.len();
        sealed.resize(start + plain.len() + SEALED_BYTES, 0);
        sealer.seal(&plain, &mut sealed[start..]).expect("the keys are new");
    }
    let mut reader = Reader::new(&sealed[..], far);
    let mut received = Vec::<ToNode>::new();
    while pp_fuzz::bounded_run(&sealed, reader.receive(&mut received)).is_ok() {
        received.clear();
    }
});
