//! Files that go with a job: what `--transferfile` and `--return` name.

/// A file, as it is named on a command line: `DIR/./PATH` is `PATH` below `DIR` here, and `PATH` below the directory of a job.
/// Without `/./`, all of it is the path, below the directory that things are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The directory it is below on this side.
    pub directory: Option<Vec<u8>>,
    /// Its path on both sides. May be absolute, or lead upwards, which is for others to refuse.
    pub path: Vec<u8>,
}

impl NamedFile {
    /// Reads the name of a file.
    ///
    /// ```
    /// use pp_run::NamedFile;
    ///
    /// let file = NamedFile::parse(b"/data/./scene/1.png");
    /// assert_eq!((file.directory, file.path), (Some(b"/data".to_vec()), b"scene/1.png".to_vec()));
    /// ```
    pub fn parse(name: &[u8]) -> Self {
        let cut = name.windows(3).position(|three| three == b"/./");
        let (directory, mut path) = match cut {
            // What is below the root.
            Some(0) => (Some(b"/".to_vec()), &name[3..]),
            Some(cut) => (Some(name[..cut].to_vec()), &name[cut + 3..]),
            None => (None, name),
        };
        while let Some(rest) = path.strip_prefix(b"./") {
            path = rest;
        }
        Self { directory, path: path.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_a_dot_of_its_own_is_not_part_of_the_path() {
        let cases: [(&str, Option<&str>, &str); 9] = [
            ("in/x.png", None, "in/x.png"),
            ("./in/x.png", None, "in/x.png"),
            ("././x", Some("."), "x"),
            ("/tmp/x", None, "/tmp/x"),
            ("/tmp/./in/x", Some("/tmp"), "in/x"),
            ("out/./in/x", Some("out"), "in/x"),
            ("a/./b/./c", Some("a"), "b/./c"),
            ("/./etc/x", Some("/"), "etc/x"),
            (".hidden/..x", None, ".hidden/..x"),
        ];
        for (name, directory, path) in cases {
            let expected = NamedFile { directory: directory.map(Into::into), path: path.into() };
            assert_eq!(NamedFile::parse(name.as_bytes()), expected, "{name}");
        }
    }
}
