//! Bytes as one word of a POSIX shell.

/// Appends `value`, quoted where that is needed, the way GNU parallel shows it.
///
/// ```
/// let mut line = Vec::new();
/// pp_run::quote::quote_into(b"it's", &mut line);
/// assert_eq!(line, br#"'it'"'"'s'"#);
/// ```
pub fn quote_into(value: &[u8], line: &mut Vec<u8>) {
    if value.is_empty() {
        line.extend_from_slice(b"''");
        return;
    }
    if value.iter().copied().all(is_plain) {
        line.extend_from_slice(value);
        return;
    }
    let parts = || value.split(|byte| *byte == b'\'');
    let last = parts().count() - 1;
    for (number, part) in parts().enumerate() {
        if number > 0 {
            line.extend_from_slice(br#""'""#);
        }
        let is_between = 0 < number && number < last;
        if is_between || !part.is_empty() {
            line.push(b'\'');
            line.extend_from_slice(part);
            line.push(b'\'');
        }
    }
}

/// `value` as one word.
pub fn quoted(value: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(value.len() + 2);
    quote_into(value, &mut line);
    line
}

/// Whether a byte means nothing to a shell, wherever it stands.
pub(crate) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-./_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;
    use crate::random::Random;

    #[test]
    fn a_shell_gives_quoted_bytes_back() {
        let mut random = Random::of_this_run();
        let all: Vec<u8> = (1..=255).collect();
        for round in 0..20 {
            // Few different bytes in half of the rounds, so that quotes meet.
            let of: &[u8] = if round % 2 == 0 { &all } else { b"'\"\\ \na$`" };
            let values: Vec<Vec<u8>> = (0..100).map(|_| random.bytes(20, of)).collect();
            let mut line = br"printf '%s\0'".to_vec();
            for value in &values {
                line.push(b' ');
                quote_into(value, &mut line);
            }
            let output = Command::new("/bin/sh").arg("-c").arg(OsStr::from_bytes(&line)).output().unwrap();
            let given_back: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
            assert_eq!(given_back[..values.len()], values, "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn quoting_is_what_parallel_shows() {
        let cases = [
            ("", "''"),
            ("a+-./_Z9", "a+-./_Z9"),
            ("a b", "'a b'"),
            ("a=b", "'a=b'"),
            ("a,b", "'a,b'"),
            ("\n", "'\n'"),
            ("'", r#""'""#),
            ("''", r#""'"''"'""#),
            ("'a", r#""'"'a'"#),
            ("a'", r#"'a'"'""#),
            ("a'b'c", r#"'a'"'"'b'"'"'c'"#),
            ("a'''b", r#"'a'"'"''"'"''"'"'b'"#),
            ("ä", "'ä'"),
        ];
        for (value, expected) in cases {
            assert_eq!(String::from_utf8(quoted(value.as_bytes())).unwrap(), expected);
        }
    }
}
