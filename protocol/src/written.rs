//! The written form of 256 bits, which tells a typing error from other bits.
//!
//! A prefix that says what they are, and 56 characters: the bits, and 24 more that are computed from them, five to a
//! character. The alphabet is Crockford's: no letter looks like a digit. Upper case, `O` for zero, `I` or `L` for one, and
//! hyphens anywhere, as people who copy it by hand put them in, are read as meant.
//! Source: D. Crockford, Base 32, <https://www.crockford.com/base32.html>.

use zeroize::Zeroizing;

/// Beginning of each form; its number is that of the form.
pub(crate) const SECRET: &str = "pp1-";
pub(crate) const MACHINE_KEY: &str = "ppm1-";
pub(crate) const PUBLIC_KEY: &str = "ppk1-";

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Bits that are written.
pub(crate) type Bits = [u8; BYTES];

const BYTES: usize = 32;
/// A mistyped text is taken for another one once in 16 million.
const CHECK_BYTES: usize = 3;
/// Five bytes are eight characters.
const GROUP_BYTES: usize = 5;
const GROUP_CHARACTERS: usize = 8;
const CHARACTERS: usize = (BYTES + CHECK_BYTES) / GROUP_BYTES * GROUP_CHARACTERS;

/// Reason why a text that begins as one of these forms is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistyped {
    /// Something is missing, or too much.
    #[error("{0} characters follow instead of {CHARACTERS}")]
    Length(usize),
    /// A character that is never there, at this place behind the beginning.
    #[error("character {0} behind that is one that it never has")]
    Character(usize),
    /// The checksum does not fit.
    #[error("one of its characters is another than it was, as its checksum shows")]
    Checksum,
}

/// Writes bits behind the prefix that says what they are.
pub(crate) fn write(prefix: &str, bits: &Bits) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + CHARACTERS));
    text.push_str(prefix);
    for group in with_check(bits).chunks_exact(GROUP_BYTES) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let places = (0..GROUP_CHARACTERS).rev().map(|place| bits >> (5 * place) & 31);
        text.extend(places.map(|place| char::from(ALPHABET[place as usize])));
    }
    text
}

/// Reads what was written behind this prefix; `None` if it does not begin so.
pub(crate) fn read(prefix: &str, text: &str) -> Option<Result<Zeroizing<Bits>, Mistyped>> {
    let (begins, rest) = text.split_at_checked(prefix.len())?;
    begins.eq_ignore_ascii_case(prefix).then(|| read_characters(rest))
}

/// Whether `text` looks like a secret that was written here, but does not begin so: what is in front is mistyped, or too much.
pub(crate) fn is_like_secret(text: &str) -> bool {
    let mut characters = Zeroizing::new(String::with_capacity(text.len()));
    characters.extend(text.chars().filter(char::is_ascii_alphanumeric));
    let end = characters.len().checked_sub(CHARACTERS).map(|start| &characters[start..]);
    end.is_some_and(|end| read_characters(end).is_ok()) || begins_like_secret(text)
}

/// Whether it begins with `pp`, one or two characters and a dash or what is hit in its place; or is a long word with `pp`.
pub(crate) fn begins_like_secret(text: &str) -> bool {
    let Some(rest) = text.get(2..).filter(|_| text[..2].eq_ignore_ascii_case("pp")) else { return false };
    let is_dash = |c: char| "-_=:.,;/\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2212}".contains(c);
    let dash = rest.chars().position(|c| !c.is_ascii_alphanumeric());
    let is_prefix = dash.is_some_and(|place| place <= 2) && rest.chars().take(3).any(is_dash);
    is_prefix || (text.len() >= CHARACTERS && !text.contains(char::is_whitespace))
}

fn read_characters(text: &str) -> Result<Zeroizing<Bits>, Mistyped> {
    let characters = || text.chars().filter(|character| *character != '-');
    let length = characters().count();
    if length != CHARACTERS {
        return Err(Mistyped::Length(length));
    }
    let mut bytes = Zeroizing::new([0; BYTES + CHECK_BYTES]);
    for (place, character) in characters().enumerate() {
        let value = value_of(character).ok_or(Mistyped::Character(place + 1))?;
        let group = &mut bytes[place / GROUP_CHARACTERS * GROUP_BYTES..][..GROUP_BYTES];
        let bits = u64::from(value) << (5 * (GROUP_CHARACTERS - 1 - place % GROUP_CHARACTERS));
        group.iter_mut().zip(&bits.to_be_bytes()[8 - GROUP_BYTES..]).for_each(|(byte, more)| *byte |= more);
    }
    let mut read = Zeroizing::new([0; BYTES]);
    read.copy_from_slice(&bytes[..BYTES]);
    if with_check(&read) == bytes { Ok(read) } else { Err(Mistyped::Checksum) }
}

fn value_of(character: char) -> Option<u8> {
    let character = match character.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    ALPHABET.iter().position(|letter| char::from(*letter) == character).map(|value| value as u8)
}

fn with_check(bits: &Bits) -> Zeroizing<[u8; BYTES + CHECK_BYTES]> {
    let check = Zeroizing::new(blake3::derive_key("ppserver 2026-11 checksum of a written secret", bits));
    let mut bytes = Zeroizing::new([0; BYTES + CHECK_BYTES]);
    bytes[..BYTES].copy_from_slice(bits);
    bytes[BYTES..].copy_from_slice(&check[..CHECK_BYTES]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits() -> Bits {
        std::array::from_fn(|place| (place as u8).wrapping_mul(37).wrapping_add(11))
    }

    #[test]
    fn what_is_written_is_read_also_as_people_copy_it() {
        let text = write(SECRET, &bits());
        assert_eq!(text.len(), SECRET.len() + CHARACTERS);
        let spaced = text.as_bytes()[4..].chunks(8).map(|group| String::from_utf8_lossy(group).into_owned());
        let spaced = format!("PP1-{}", spaced.collect::<Vec<_>>().join("-"));
        let by_hand = text[4..].replace('0', "O").replace('1', "l");
        for text in [text.to_string(), text.to_uppercase(), spaced, format!("pp1-{by_hand}")] {
            assert_eq!(*read(SECRET, &text).unwrap().unwrap(), bits(), "{text}");
        }
        assert!(
            read(SECRET, "a passphrase").is_none()
                && read(SECRET, "pp1").is_none()
                && read(SECRET, "grün").is_none()
        );
    }

    #[test]
    fn every_character_mistyped_and_every_two_exchanged_are_noticed() {
        let text = write(SECRET, &bits()).to_string();
        for place in SECRET.len()..text.len() {
            for letter in ALPHABET.iter().copied().filter(|letter| *letter != text.as_bytes()[place]) {
                let mut wrong = text.clone().into_bytes();
                wrong[place] = letter;
                let wrong = String::from_utf8(wrong).unwrap();
                assert_eq!(read(SECRET, &wrong).unwrap().unwrap_err(), Mistyped::Checksum, "{wrong}");
            }
            let mut wrong = text.clone().into_bytes();
            wrong.swap(place, (place + 1).min(text.len() - 1));
            if wrong != text.as_bytes() {
                let wrong = String::from_utf8(wrong).unwrap();
                assert_eq!(read(SECRET, &wrong).unwrap().unwrap_err(), Mistyped::Checksum, "{wrong}");
            }
        }
    }

    #[test]
    fn what_has_another_beginning_is_told_from_a_passphrase() {
        let text = write(SECRET, &bits()).to_string();
        let bare = &text[SECRET.len()..];
        let with = |before: &str| format!("{before}{bare}");
        for like in [
            with(""),
            with("pp2-"),
            with("pp1_"),
            with("PPl-"),
            with("pp"),
            with("p1-"),
            with("pp1\u{2013}"),
            with("PP_SECRET=pp1-"),
            format!("\"{text}\""),
            "pp2-too-short".into(),
            "pp-".into(),
            format!("pp1{}", &bare[1..]),
        ] {
            assert!(is_like_secret(&like), "{like}");
        }
        let hex = "7f".repeat(24);
        for other in
            ["correct horse battery staple", "pp and its nodes", "ppserver-at-home", "p", "", "grün", &hex]
        {
            assert!(!is_like_secret(other), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_one_says_how() {
        let text = write(SECRET, &bits()).to_string();
        assert_eq!(
            read(SECRET, &text[..text.len() - 1]).unwrap().unwrap_err(),
            Mistyped::Length(CHARACTERS - 1)
        );
        assert_eq!(read(SECRET, &format!("{text}0")).unwrap().unwrap_err(), Mistyped::Length(CHARACTERS + 1));
        assert_eq!(
            read(SECRET, &format!("pp1-u{}", &text[5..])).unwrap().unwrap_err(),
            Mistyped::Character(1)
        );
        assert_eq!(
            read(SECRET, &format!("pp1-ü{}", &text[5..])).unwrap().unwrap_err(),
            Mistyped::Character(1)
        );
    }
}
