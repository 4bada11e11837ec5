//! The recorded counts: a text of one line for each piece, to be read in a diff.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const HEAD: &str = "\
# Instructions a job takes in each piece of the job path. Not edited by hand, but written by
#   cargo run --release -p pp-instructions -- --record
";
const MADE_WITH: &str = "made-with";

/// Instructions a job in each piece, and what they depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// Compiler, C library and processor.
    pub(crate) made_with: String,
    /// By the name of the piece.
    pub(crate) counts: BTreeMap<String, f64>,
}

impl Record {
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded.txt")
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        let what_to_do =
            || format!("cannot use the recorded counts in {}; make them anew with --record", path.display());
        let text = fs::read_to_string(&path).with_context(what_to_do)?;
        Self::parse(&text).with_context(what_to_do)
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = Self::path();
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut record = Self { made_with: String::new(), counts: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ').map(|(name, rest)| (name, rest.trim())) {
                Some((MADE_WITH, rest)) => record.made_with = rest.into(),
                Some((name, rest)) => {
                    let count =
                        rest.parse().with_context(|| format!("{rest:?} is not a count, in {line:?}"))?;
                    record.counts.insert(name.into(), count);
                }
                None => bail!("{line:?} is not a name and a count"),
            }
        }
        Ok(record)
    }

    fn text(&self) -> String {
        let counts = self.counts.iter().map(|(name, count)| format!("{name:24} {count:10.1}\n"));
        format!("{HEAD}{MADE_WITH:24} {}\n{}", self.made_with, counts.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let counts = BTreeMap::from([("a".to_owned(), 1_234.5), ("long-name".to_owned(), 0.1)]);
        let record = Record { made_with: "rustc 1.2.3, glibc 4.5, x86_64".into(), counts };
        assert_eq!(Record::parse(&record.text()).unwrap(), record);
    }

    #[test]
    fn a_line_that_is_no_count_is_shown() {
        let said = |text| format!("{:#}", Record::parse(text).unwrap_err());
        assert!(said("piece many").contains("\"piece many\""));
        assert!(said("<<<<<<<").contains("\"<<<<<<<\""));
    }
}
