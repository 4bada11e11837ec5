//! Both sides of a handshake with a peer that does not know the secret, and where keys of machines are asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pp_protocol::Role;
use pp_protocol::handshake::{self, Credentials, Demand};
use pp_protocol::machine::{AuthorizedKeys, MachineKey};
use pp_protocol::secret::Secret;
use tokio::io::{join, sink};

thread_local! {
    static SECRET: Secret = Secret::random();
    static KEY: MachineKey = MachineKey::random();
    static AUTHORIZED: AuthorizedKeys = AuthorizedKeys::default();
}

fn is_proved(side: u8, said: &[u8], secret: &Secret, key: &MachineKey, authorized: &AuthorizedKeys) -> bool {
    let mut stream = join(said, sink());
    let secrets = std::slice::from_ref(secret);
    pp_fuzz::bounded_run(said, async {
        match side % 4 {
            0 => handshake::respond(&mut stream, Demand::Secret(secrets)).await.is_ok(),
            1 => {
                handshake::initiate(&mut stream, Credentials::Secret(secret), Role::Dispatcher).await.is_ok()
            }
            2 => handshake::respond(&mut stream, Demand::Key { secrets, key, authorized }).await.is_ok(),
            _ => {
                let credentials = Credentials::Key { secret, key, node: None };
                handshake::initiate(&mut stream, credentials, Role::Operator).await.is_ok()
            }
        }
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((side, said)) = input.split_first() else { return };
    let is_proved = SECRET
        .with(|secret| KEY.with(|key| AUTHORIZED.with(|list| is_proved(*side, said, secret, key, list))));
    assert!(!is_proved, "nobody knows the secret");
});
