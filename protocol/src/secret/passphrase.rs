//! Secrets that people thought of. Whoever has recorded a handshake, or lured a dispatcher into one, can try guesses on it
//! for as long as they like; so each guess is made to cost memory and time, and what is guessed at once is refused.
//!
//! Source: RFC 9106 (Argon2); its second recommended option, with one lane.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

/// A passphrase has no fewer characters.
pub(super) const FEWEST_CHARACTERS: usize = 12;
/// One with fewer characters is guessed by whoever has a thousand processors for a month, as most people choose them: some two
/// bits a character (NIST SP 800-63-2, appendix A), and ten guesses a second on each.
const FEW_CHARACTERS: usize = 20;
/// One with fewer different characters is most likely a pattern.
const FEW_DIFFERENT: usize = 6;

/// Memory that a guess takes, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// The salt, which is the same everywhere: two machines that are told the same passphrase have nothing else in common, and
/// the key has to be there before they first speak. So guesses for one cluster are guesses for all.
const SALT: &[u8] = b"ppserver 2026-11 passphrase";

/// There is no memory to stretch a passphrase in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMemory;

/// Makes 256 bits of a passphrase. Takes a tenth of a second and 64 MiB, on purpose.
pub(super) fn stretch(passphrase: &str) -> Result<Zeroizing<[u8; 32]>, NoMemory> {
    let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are in range");
    let mut memory = Vec::<Block>::new();
    memory.try_reserve_exact(parameters.block_count()).map_err(|_| NoMemory)?;
    memory.resize(parameters.block_count(), Block::default());
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into_with_memory(passphrase.as_bytes(), SALT, key.as_mut(), &mut memory)
        .expect("passphrase, salt and key have lengths that Argon2 takes");
    memory.iter_mut().for_each(Block::zeroize);
    Ok(key)
}

/// Whether it is so short that it is guessed by whoever can try for long enough.
pub(super) fn is_short(passphrase: &str) -> bool {
    passphrase.chars().count() < FEW_CHARACTERS
}

/// Whether it has so few different characters that it is guessed long before others are.
pub(super) fn is_pattern(passphrase: &str) -> bool {
    let mut different = passphrase.chars().collect::<Vec<_>>();
    different.sort_unstable();
    different.dedup();
    let few = different.len() < FEW_DIFFERENT;
    different.zeroize();
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_passphrase_never_changes() {
        let key = stretch("correct horse battery staple").unwrap();
        assert_eq!(
            blake3::Hash::from(*key).to_hex().as_str(),
            "650e20f07e2375d202e865448eb57e54e083b6f656881ea24f0bc1e6f12d326c"
        );
    }

    #[test]
    fn patterns_are_told_from_words() {
        assert!(is_pattern("aaaaaaaaaaaaaaaa") && is_pattern("abcabcabcabcabc"));
        assert!(!is_pattern("correct horse battery staple"));
    }
}
