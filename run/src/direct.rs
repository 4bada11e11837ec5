//! Command lines that need no shell: all that one would do is find the words, and then become the program.
//!
//! Starting a shell takes about as long as starting a small program. What a shell would do otherwise than [`words`] says is
//! left to one: that function rather finds too little.

use crate::quote;

/// Words that are no programs to a shell of those that are called `sh`, or not always the program of that name.
const OF_SHELLS: &str = "
    alias bg bind break builtin caller case cd chdir command compgen complete compopt continue coproc declare
    dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi for function getopts
    global hash help hist history if in jobs kill let local logout mapfile newgrp popd print printf pushd pwd
    read readarray readonly return select set shift shopt source stop suspend test then time times trap true
    type typeset ulimit umask unalias unset until wait whence while
";

/// The words of a command line, the first of them a program, if a shell would do nothing else with it.
///
/// ```
/// use pp_run::direct::words;
///
/// assert_eq!(words(b"gzip -9 'a b'"), Some(vec![b"gzip".to_vec(), b"-9".to_vec(), b"a b".to_vec()]));
/// assert_eq!(words(b"gzip -9 < a"), None);
/// assert_eq!(words(b"echo a"), None);
/// ```
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = without_blanks(line);
    while !rest.is_empty() {
        let (word, behind) = first_word(rest, words.is_empty())?;
        words.push(word);
        rest = without_blanks(behind);
    }
    is_program(words.first()?).then_some(words)
}

/// A line without the blanks that it begins with. Other white space ends a command, or is a part of a word.
fn without_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &line[blanks..]
}

/// The word that this begins with, and what comes behind it.
fn first_word(line: &[u8], is_program: bool) -> Option<(Vec<u8>, &[u8])> {
    let (mut word, mut rest) = (Vec::new(), line);
    loop {
        match rest {
            [] | [b' ' | b'\t', ..] => return Some((word, rest)),
            // A quoted word is no name that a shell knows, or it is: that differs.
            [b'\'', behind @ ..] if !is_program => {
                let end = behind.iter().position(|byte| *byte == b'\'')?;
                word.extend_from_slice(&behind[..end]);
                rest = &behind[end + 1..];
            }
            [byte, behind @ ..] if is_literal(*byte, is_program) => {
                word.push(*byte);
                rest = behind;
            }
            _ => return None,
        }
    }
}

/// Whether a byte stands for itself, wherever in a word.
fn is_literal(byte: u8, in_program: bool) -> bool {
    // An equals sign in the first word sets a variable.
    quote::is_plain(byte) || b",:@%".contains(&byte) || (byte == b'=' && !in_program)
}

fn of_shells() -> impl Iterator<Item = &'static str> {
    OF_SHELLS.split_ascii_whitespace()
}

fn is_program(word: &[u8]) -> bool {
    word.contains(&b'/') || (word != b"." && word != b":" && !of_shells().any(|name| name.as_bytes() == word))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;
    use crate::random::Random;

    #[test]
    fn what_means_something_to_a_shell_is_left_to_one() {
        for line in [
            "",
            " ",
            "echo a",
            "exit 3",
            ". ./a",
            ": a",
            "A=1 env",
            "ls *",
            "ls ?",
            "ls [a]",
            "ls ~",
            "ls $A",
            "ls `a`",
            "ls; ls",
            "ls & ls",
            "ls | ls",
            "ls > a",
            "ls < a",
            "ls # a",
            "ls \"a\"",
            "ls a\\ b",
            "ls 'a",
            "{ ls",
            "! ls",
            "ls\nls",
            "'ls' a",
            "(ls)",
            "ls {a,b}",
            "ls a^b",
            "while ls",
            "/bin/ls a\rb",
            "A=/bin/ls",
            "ls \u{e4}",
            "\rls",
        ] {
            assert_eq!(words(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn every_word_that_this_machines_shell_knows_is_left_to_it() {
        let known = |name: &str| {
            let said = Command::new("/bin/sh").args(["-c", &format!("type {name}")]).output().unwrap();
            String::from_utf8_lossy(&said.stdout).contains("shell")
        };
        for name in of_shells().chain(["ls", "env", "gzip"]) {
            assert!(!known(name) || words(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn words_are_those_that_a_shell_finds() {
        let mut random = Random::of_this_run();
        let mut found = 0;
        for _ in 0..400 {
            let tail = random.bytes(24, b"ab'' \t,:=%@-+./_\"$");
            let line = [br"printf-words ", &tail[..]].concat();
            let Some(words) = words(&line) else { continue };
            found += 1;
            let script = [b"printf-words() { printf '%s\\0' printf-words \"$@\"; }; ", &line[..]].concat();
            let script = String::from_utf8(script).unwrap().replace("printf-words", "printf_words");
            let output =
                Command::new("/bin/sh").arg("-c").arg(OsStr::from_bytes(script.as_bytes())).output().unwrap();
            let said: Vec<_> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            assert_eq!(said[1..said.len() - 1], words[1..], "{}", String::from_utf8_lossy(&line));
        }
        assert!(found > 20, "{found}");
    }
}
