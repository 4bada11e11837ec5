//! What jobs leave on disk, and what becomes of programs that somebody changes there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pp_tests::process::Signal;
use pp_tests::wait::PATIENCE;

use crate::bounds::{square, write_files};
use crate::node::Node;

/// Directories that workers are given, of daemons with this directory for temporary files.
fn scratch_in(temporary: &Path) -> usize {
    fs::read_dir(temporary).expect("it is there").count()
}

pub(crate) fn what_jobs_wrote_is_removed_when_their_daemon_ends_and_when_the_next_begins() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let path = temporary.path().to_str().expect("text");
    let mut node = Node::start(1, &[], &[("TMPDIR", path)]);
    let dispatcher = node.dispatcher();
    let files = dispatcher.submit(write_files, (3,)).wait().expect("they can be written");
    assert!(files.starts_with(temporary.path()) && files.exists(), "{files:?}");
    node.server.process().kill();
    drop(dispatcher);
    assert!(scratch_in(temporary.path()) > 0, "nobody could remove it");
    node.server.restart();
    assert!(!files.exists(), "the next one did");
    assert_eq!(scratch_in(temporary.path()), 1);
    node.server.process().signal(Signal::TERM);
    node.server.process().wait();
    assert_eq!(scratch_in(temporary.path()), 0);
}

pub(crate) fn a_stored_program_that_was_changed_is_not_run() {
    let node = Node::start(1, &["--confine", "none"], &[]);
    let dispatcher = node.dispatcher();
    assert_eq!(dispatcher.submit(square, (2,)).wait(), Ok(4));
    let stored: Vec<_> = fs::read_dir(node.path("store")).expect("it is there").flatten().collect();
    let ran = node.path("data/ran");
    for program in &stored {
        let text = format!("#!/bin/sh\ntouch {}\n", ran.display());
        fs::remove_file(program.path()).expect("it can be removed");
        fs::write(program.path(), text).expect("it can be written");
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).expect("it can be made so");
    }
    assert!(!stored.is_empty());
    // Another dispatcher's workers are others.
    let other = node.dispatcher();
    let result = other.submit(square, (3,)).wait_timeout(PATIENCE).map_err(|_| "it hangs");
    assert_eq!(result, Ok(Ok(9)), "{}", node.server.log());
    assert!(!ran.exists(), "the other program ran");
}
