//! Both sides of a handshake with a peer that does not know the secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pp_protocol::Role;
use pp_protocol::handshake;
use pp_protocol::secret::Secret;
use tokio::io::{join, sink};

thread_local! {
    static SECRET: Secret = Secret::random();
}

fuzz_target!(|input: &[u8]| {
    let Some((side, said)) = input.split_first() else { return };
    SECRET.with(|secret| {
        let mut stream = join(said, sink());
        let proved = pp_fuzz::bounded_run(input, async {
            match side % 2 {
                0 => handshake::respond(&mut stream, std::slice::from_ref(secret)).await.is_ok(),
                _ => handshake::initiate(&mut stream, secret, Role::Dispatcher).await.is_ok(),
            }
        });
        assert!(!proved, "nobody knows the secret");
    });
});
