//! The words behind the options: a command, and the sources of its arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What a command line is about: a command (no words: the arguments are commands), and where its arguments come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Words of the command.
    pub command: Vec<Vec<u8>>,
    /// Sources of arguments, never none.
    pub sources: Vec<Source>,
}

/// One source of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whether it goes along with the source before it (`:::+`, `::::+`), instead of being combined with it.
    pub linked: bool,
    /// What is in it.
    pub values: Values,
}

/// The values of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// They stand on the command line.
    Literal(Vec<Vec<u8>>),
    /// The shell reads them.
    Input(Input),
}

/// Something the shell reads arguments from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Standard,
    /// A file.
    File(PathBuf),
}

impl Input {
    /// What the name of a file on a command line means: `-` is standard input.
    pub fn named(name: Vec<u8>) -> Self {
        if name == b"-" { Self::Standard } else { Self::File(PathBuf::from(OsString::from_vec(name))) }
    }
}

impl Words {
    /// Splits words at `:::`, `:::+`, `::::` and `::::+`. Files named by `-a` come first; without any source, arguments
    /// come from standard input.
    pub fn split(words: Vec<Vec<u8>>, arg_files: &[Input]) -> Self {
        let mut command = Vec::new();
        let files = arg_files.iter().cloned();
        let mut sources: Vec<Source> =
            files.map(|file| Source { linked: false, values: Values::Input(file) }).collect();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next_if(|word| separator(word).is_none()) {
            command.push(word);
        }
        while let Some((names_files, linked)) = words.next().and_then(|word| separator(&word)) {
            let mut values = Vec::new();
            while let Some(word) = words.next_if(|word| separator(word).is_none()) {
                values.push(word);
            }
            if !names_files {
                sources.push(Source { linked, values: Values::Literal(values) });
                continue;
            }
            if values.is_empty() {
                values.push(b"-".to_vec());
            }
            let files = values.into_iter().map(Input::named);
            sources.extend(files.map(|file| Source { linked, values: Values::Input(file) }));
        }
        if sources.is_empty() {
            sources.push(Source { linked: false, values: Values::Input(Input::Standard) });
        }
        Self { command, sources }
    }

    /// Whether no source is named, so that standard input is the only one.
    pub(crate) fn are_without_source(&self) -> bool {
        matches!(&self.sources[..], [Source { values: Values::Input(Input::Standard), .. }])
    }
}

/// Whether a word begins a source: whether that names files, and whether it goes along with the one before.
fn separator(word: &[u8]) -> Option<(bool, bool)> {
    match word {
        b":::" => Some((false, false)),
        b":::+" => Some((false, true)),
        b"::::" => Some((true, false)),
        b"::::+" => Some((true, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Words {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec());
        Words::split(words.collect(), &[])
    }

    fn literal(linked: bool, values: &[&str]) -> Source {
        let values = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        Source { linked, values: Values::Literal(values) }
    }

    fn input(linked: bool, input: Input) -> Source {
        Source { linked, values: Values::Input(input) }
    }

    #[test]
    fn sources_begin_at_colons() {
        let words = split("echo x ::: a b :::+ 1 2 :::: f - ::::+ g");
        assert_eq!(words.command, [b"echo".to_vec(), b"x".to_vec()]);
        let expected = [
            literal(false, &["a", "b"]),
            literal(true, &["1", "2"]),
            input(false, Input::File("f".into())),
            input(false, Input::Standard),
            input(true, Input::File("g".into())),
        ];
        assert_eq!(words.sources, expected);
    }

    #[test]
    fn without_a_source_standard_input_is_one() {
        assert_eq!(split("echo").sources, [input(false, Input::Standard)]);
        assert_eq!(split("echo ::::").sources, [input(false, Input::Standard)]);
        assert_eq!(split("").sources, [input(false, Input::Standard)]);
        assert_eq!(split("echo :::").sources, [literal(false, &[])]);
    }

    #[test]
    fn files_of_options_come_first() {
        let words = vec![b"echo".to_vec(), b":::".to_vec(), b"x".to_vec()];
        let words = Words::split(words, &[Input::named(b"abc".to_vec())]);
        assert_eq!(words.sources, [input(false, Input::File("abc".into())), literal(false, &["x"])]);
    }
}
