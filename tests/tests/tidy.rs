//! Claims about the source itself.

use std::path::{Path, PathBuf};
use std::{fs, io};

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("this package is a folder of the workspace").to_path_buf()
}

fn files_in(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files_in(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A core is told the time, its seed and its settings, and behaves the same each time it is told the same.
#[test]
fn the_cores_have_no_clock_no_threads_no_environment_and_no_order_of_chance() {
    let foreign = [
        "tokio",
        "async ",
        ".await",
        "Instant",
        "SystemTime",
        "std::env",
        "std::net",
        "std::fs",
        "std::io",
        "thread",
        "HashMap",
        "HashSet",
        "getrandom",
        "Mutex",
        "unsafe",
    ];
    for core in ["node/src/core", "dispatcher/src/core"] {
        let files = files_in(&root().join(core), "rs").expect("the core is there");
        assert!(files.len() > 5, "{core} has moved");
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let text = fs::read_to_string(file).expect("it can be read");
            let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
            for (number, line) in code {
                let found = foreign.iter().find(|word| line.contains(**word));
                assert_eq!(found, None, "{}:{}: {line}", file.display(), number + 1);
            }
        }
    }
}

/// The dispatcher is built in floors, and so is its client: each knows only those before it.
#[test]
fn in_the_dispatcher_no_floor_knows_one_above_it() {
    check_floors("dispatcher/src", "crate::", &["core", "links", "client", "api"]);
    check_floors("dispatcher/src/client", "crate::client::", &CLIENT);
    check_floors("dispatcher/src/api", "crate::api::", &API);
    for file in files_in(&root().join("dispatcher/src"), "rs").expect("it is there") {
        let text = fs::read_to_string(&file).expect("it can be read");
        assert!(!text.lines().any(is_import_from_the_root), "{} reaches over its floor", file.display());
    }
}

/// Whether a line imports what the library shows to programs, wherever that is made.
fn is_import_from_the_root(line: &str) -> bool {
    line.trim_start()
        .strip_prefix("use crate::")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_uppercase() || first == '{'))
}

/// Layers of the client, as its documentation has them.
const CLIENT: [&str; 14] = [
    "here",
    "completions",
    "counts",
    "settle",
    "callbacks",
    "events",
    "printer",
    "stats",
    "orders",
    "settings",
    "requests",
    "inbox",
    "handle",
    "thread",
];
const API: [&str; 10] =
    ["function", "error", "init", "job", "submit", "command", "completions", "map", "dispatcher", "builder"];

/// Reads the names that each file of `folder` uses of its neighbours: by their full path, or by `super::` from the first
/// level.
fn check_floors(folder: &str, path: &str, floors: &[&str]) {
    let folder = root().join(folder);
    for (own, floor) in floors.iter().enumerate() {
        let file = folder.join(format!("{floor}.rs"));
        let mut files = files_in(&folder.join(floor), "rs").unwrap_or_default();
        files.extend(file.exists().then(|| file.clone()));
        assert!(!files.is_empty(), "{floor} has moved");
        for used_in in files {
            let text = fs::read_to_string(&used_in).expect("it can be read");
            let prefixes = [Some(path), (used_in == file).then_some("super::")];
            for prefix in prefixes.into_iter().flatten() {
                for rest in text.split(prefix).skip(1) {
                    let used = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                    let used = floors.iter().position(|floor| Some(*floor) == used);
                    assert!(used <= Some(own), "{} knows {}", used_in.display(), floors[used.unwrap_or(0)]);
                }
            }
        }
    }
}

/// bincode is not developed any more: replacing it touches one module.
#[test]
fn one_module_alone_knows_how_messages_are_encoded() {
    let codec = root().join("protocol/src/codec");
    let users: Vec<_> = files_in(&root(), "rs")
        .expect("the sources are there")
        .into_iter()
        .filter(|file| !file.ends_with("tests/tests/tidy.rs"))
        .filter(|file| fs::read_to_string(file).expect("it can be read").contains("bincode::"))
        .filter(|file| *file != codec.with_extension("rs") && !file.starts_with(&codec))
        .collect();
    assert!(users.is_empty(), "{users:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in files_in(&root(), "md").expect("the documents are there") {
        let text = fs::read_to_string(&document).expect("it can be read");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_local = !target.is_empty() && !target.contains("://");
            let path = document.with_file_name(target);
            assert!(!is_local || path.exists(), "{}: {target}", document.display());
        }
    }
}
