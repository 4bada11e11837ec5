//! Examples of documents, each run as it stands there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pp_tests::process;

/// A line as it is typed, and what is under it.
#[derive(Debug)]
struct Example {
    line: String,
    printed: String,
}

#[test]
fn what_is_said_to_those_who_come_from_gnu_parallel_is_what_happens() {
    let examples = examples(&document("docs/coming-from-parallel.md"));
    assert!(examples.len() > 25, "the page has {} examples", examples.len());
    let folder = tempfile::tempdir().expect("a directory");
    prepare(folder.path());
    let wrong: Vec<String> = examples
        .iter()
        .map(|example| (example, run(folder.path(), &example.line)))
        .filter(|(example, printed)| example.printed != *printed)
        .map(|(Example { line, printed: told }, printed)| {
            format!("$ {line}\nprints\n{printed}\nand the document says\n{told}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from);
    let path = root.expect("the package is a folder of the workspace").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Examples of a document: lines behind `$` in blocks of the kind `console`, with what is under each.
fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    // How far a block is indented: those within lists are.
    let mut within: Option<usize> = None;
    for line in document.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start(), within) {
            ("```console", _) => within = Some(indent),
            ("```", _) => within = None,
            (_, None) => {}
            (_, Some(indent)) => {
                let line = line.get(indent..).unwrap_or_default();
                match (line.strip_prefix("$ "), examples.last_mut()) {
                    (Some(line), _) => examples.push(Example { line: line.into(), printed: String::new() }),
                    (None, Some(example)) => example.printed += &format!("{line}\n"),
                    (None, None) => panic!("nothing was typed before {line:?}"),
                }
            }
        }
    }
    examples
}

/// The files that the page begins with, and `ppctl` where shells find it.
fn prepare(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("it can be written");
    write("fruits", "apple\nbanana\ncherry\n");
    write("sizes.tsv", "name\tsize\na.txt\t1\nb.txt\t2\n");
    for directory in ["photos", "bin"] {
        fs::create_dir(folder.join(directory)).expect("it can be made");
    }
    write("photos/cat.jpg", "");
    write("photos/dog.jpg", "");
    symlink(env!("CARGO_BIN_EXE_ppctl"), folder.join("bin/ppctl")).expect("it can be made");
}

/// What a line prints, on standard output and on standard error.
fn run(folder: &Path, line: &str) -> String {
    let mut shell: Command = process::command("/bin/sh", folder);
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    shell.args(["-c", &format!("exec 2>&1; {line}")]).current_dir(folder);
    let Output { stdout, .. } =
        shell.env("PATH", path).env("PP_DISCOVER", "0").output().expect("there is a shell");
    String::from_utf8_lossy(&stdout).into_owned()
}
