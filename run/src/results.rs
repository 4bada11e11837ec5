//! Where the output of a job goes with `--results`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::job::Row;

/// Longest name that file systems take.
const NAME_BYTES: usize = 255;

/// The files of a job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFiles {
    /// What it wrote to standard output.
    pub stdout: PathBuf,
    /// What it wrote to standard error.
    pub stderr: PathBuf,
    /// Its number.
    pub sequence: PathBuf,
}

impl ResultFiles {
    /// Those in a directory.
    pub fn within(directory: &Path) -> Self {
        let file = |name| directory.join(name);
        Self { stdout: file("stdout"), stderr: file("stderr"), sequence: file("seq") }
    }

    /// Those of this node, where the same job runs on several: in a directory for each.
    #[must_use]
    pub fn of_node(self, node: &str) -> Self {
        let node = PathBuf::from(OsString::from_vec(component(node.as_bytes())));
        let file = |path: PathBuf| match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) => directory.join(&node).join(name),
            _ => path,
        };
        Self { stdout: file(self.stdout), stderr: file(self.stderr), sequence: file(self.sequence) }
    }

    /// Those of a name: of a directory, if it ends with a slash.
    pub(crate) fn named(name: Vec<u8>) -> Self {
        let with = |end: &[u8]| PathBuf::from(OsString::from_vec([&name[..], end].concat()));
        if name.ends_with(b"/") {
            Self::within(&with(b""))
        } else {
            Self { stdout: with(b""), stderr: with(b".err"), sequence: with(b".seq") }
        }
    }
}

/// For each argument the name of its column, or its number, and its value: `1/a/2/b`.
pub(crate) fn path(rows: &[Row], names: &[Vec<u8>]) -> PathBuf {
    let mut path = PathBuf::new();
    for (column, value) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        let name = names.get(column).cloned().unwrap_or_else(|| (column + 1).to_string().into_bytes());
        for part in [component(&name), component(value)] {
            // Nothing stands for an empty argument, as in GNU parallel.
            if !part.is_empty() {
                path.push(OsString::from_vec(part));
            }
        }
    }
    path
}

/// Some bytes as one name of a file, another one for other bytes.
fn component(value: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(value.len());
    // These two would lead elsewhere.
    if matches!(value, b"." | b"..") {
        name.push(b'\\');
    }
    for byte in value {
        match byte {
            b'/' => name.extend_from_slice(br"\_"),
            b'\\' => name.extend_from_slice(br"\\"),
            b'\t' => name.extend_from_slice(br"\t"),
            0 => name.extend_from_slice(br"\0"),
            byte => name.push(*byte),
        }
    }
    if name.len() > NAME_BYTES {
        // The digest keeps apart what begins alike.
        let digest = format!("\\{:016x}", digest(value));
        name.truncate(NAME_BYTES - digest.len());
        name.extend(digest.into_bytes());
    }
    name
}

/// FNV-1a (Fowler, Noll, Vo).
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;

    fn path_of(values: &[&str], names: &[&str]) -> PathBuf {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        path(&[bytes(values)], &bytes(names))
    }

    #[test]
    fn a_path_has_name_and_value_of_each_argument() {
        assert_eq!(path_of(&["I", "a b"], &[]), Path::new("1/I/2/a b"));
        assert_eq!(path_of(&["I", "II"], &["x", "y"]), Path::new("x/I/y/II"));
        assert_eq!(path_of(&["a/b", r"\_", "", "\t"], &[]), Path::new(r"1/a\_b/2/\\_/3/4/\t"));
        let rows = ["a", "b"].map(|value| vec![value.as_bytes().to_vec()]);
        assert_eq!(path(&rows, &[]), Path::new("1/a/1/b"));
    }

    #[test]
    fn no_path_leads_out() {
        for value in ["..", ".", "/etc", "../x", "a/../../b", "/", "\0"] {
            let path = path_of(&[value], &[value]);
            assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
            assert!(!path_of(&[value], &[]).ends_with("1"), "{value:?} has a name of its own");
        }
    }

    #[test]
    fn long_values_have_names_of_their_own() {
        let [one, other] = ["x", "y"].map(|end| path_of(&[&("a".repeat(400) + end)], &[]));
        assert_ne!(one, other);
        assert_eq!(one.file_name().map(std::ffi::OsStr::len), Some(NAME_BYTES));
    }
}
