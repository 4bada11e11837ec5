//! Text that came from elsewhere, as it may be shown on a terminal.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;

#[cfg(any(feature = "net", feature = "codec"))]
use crate::limits::TEXT_BYTES;
use crate::limits::{NAME_BYTES, cut};

/// `text` with everything that a terminal would obey, but for tabs, in the form `\x1b`: colours, cursor movements, bells,
/// titles, line ends. The same goes for invisible characters that reorder what is around them, or hide in it.
///
/// ```
/// assert_eq!(pp_protocol::shown("\x1b[31mred\x1b[0m\tand so on"), "\\x1b[31mred\\x1b[0m\tand so on");
/// ```
pub fn shown(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\t')
}

/// The same, with the ends of its lines left as they are.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\t' || c == '\n')
}

/// A name, as one line of bounded length.
///
/// ```
/// assert_eq!(pp_protocol::shown_name("render\u{202e}1\t"), "render\\u{202e}1\\x09");
/// ```
pub fn shown_name(text: &str) -> String {
    cut(&escape(cut(text, NAME_BYTES), |_| false), NAME_BYTES).to_owned()
}

/// Text of a peer, in one line of bounded length: how the codec decodes text, unless its field is read by one
/// of the functions below.
#[cfg(any(feature = "net", feature = "codec"))]
pub(crate) fn shown_text(text: &str) -> Cow<'_, str> {
    match shown(cut(text, TEXT_BYTES)) {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => cut(&text, TEXT_BYTES).to_owned().into(),
    }
}

/// A path or another word as a shell reads it, to be copied by people: in quotes where it needs them.
///
/// ```
/// assert_eq!(pp_protocol::quoted("/etc/ppserver/secret"), "/etc/ppserver/secret");
/// assert_eq!(pp_protocol::quoted("/it's mine"), r"'/it'\''s mine'");
/// ```
pub fn quoted(word: &(impl AsRef<OsStr> + ?Sized)) -> Cow<'_, str> {
    let text = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''")).into()
    }
}

/// Whether nothing in `text` would be shown as something else: [`shown_name`] leaves it as it is.
pub fn is_plain_name(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || is_invisible(c)) && text.len() <= NAME_BYTES
}

fn escape(text: &str, is_left: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_obeyed = |c: char| (c.is_control() && !is_left(c)) || is_invisible(c);
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_obeyed(c) => escaped.push(c),
            // Writing to a string does not fail.
            c if c.is_ascii() => drop(write!(escaped, "\\x{:02x}", u32::from(c))),
            c => drop(write!(escaped, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    escaped.into()
}

/// Characters of no width, line ends beyond those of ASCII, and what changes the direction of text.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_the_rest_is_left() {
        assert!(matches!(shown("grün, 5 €\t☃"), Cow::Borrowed("grün, 5 €\t☃")));
        assert_eq!(shown("\x07\x7f\r\n\0\u{9b}2J"), "\\x07\\x7f\\x0d\\x0a\\x00\\u{9b}2J");
        assert_eq!(shown_lines("one\ntwo\x1b"), "one\ntwo\\x1b");
    }

    #[test]
    #[cfg(any(feature = "net", feature = "codec"))]
    fn names_of_peers_are_plain_where_they_enter() {
        use crate::{Digest, ProgramBuild, Target, codec};

        let name = format!("fib\u{202e}\x1b\t{}", "x".repeat(1_000));
        let offer = ProgramBuild { digest: Digest([0; 32]), target: Target::here(), bytes: 1, name };
        let mut bytes = Vec::new();
        codec::encode(&offer, &mut bytes).unwrap();
        let arrived: ProgramBuild = codec::decode(&bytes).unwrap();
        assert!(arrived.name.starts_with("fib\\u{202e}\\x1b\\x09xxx"), "{}", arrived.name);
        assert!(is_plain_name(&arrived.name));
    }

    #[test]
    fn what_would_reorder_text_or_hide_in_it_is_shown() {
        assert_eq!(shown("admin\u{202e}txt.exe"), "admin\\u{202e}txt.exe");
        for hidden in
            ['\u{61c}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}']
        {
            let escaped = format!("a\\u{{{:x}}}b", u32::from(hidden));
            assert_eq!(shown(&format!("a{hidden}b")), escaped);
            assert_eq!(shown_lines(&format!("a{hidden}b")), escaped);
        }
        assert_eq!(shown_name(&format!("\u{202e}{}", "ü".repeat(400))).len(), NAME_BYTES);
        assert!(is_plain_name("grün 5 ☃") && !is_plain_name("a\u{200b}b") && !is_plain_name("a\tb"));
        // Neighbours of those are text.
        assert!(matches!(shown("\u{200a}\u{2010}\u{2027}\u{202f}\u{205f}\u{206a}"), Cow::Borrowed(_)));
    }
}
