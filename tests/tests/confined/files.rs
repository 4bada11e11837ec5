//! Files of commands, and files that a session keeps, under each confinement and as each user.

use std::fs;
use std::path::{Path, PathBuf};

use pp_dispatcher::{
    BaseFile, CommandFile, CommandFiles, CommandStatus, Dispatcher, NodeKind, Output, built_in,
};
use pp_tests::process::SECRET;
use pp_tests::wait::{PATIENCE, wait_until};

use crate::node::Node;

const BASE: &[u8] = b"what all commands of a session have";

fn base_file() -> BaseFile {
    let file = CommandFile { path: "base".into(), permissions: 0o644, contents: BASE.into() };
    BaseFile::of(&file, "/nowhere")
}

/// One that brings no program: nothing but files is sent.
fn connect(node: &Node) -> Dispatcher {
    let builder = Dispatcher::builder().local_workers(0).discover(false).only_built_in(true).secret(SECRET);
    let dispatcher =
        builder.output(Output::EventsOnly).nodes([node.server.address()]).start().expect("it starts");
    assert_eq!(dispatcher.wait_for_nodes(1, PATIENCE), 1, "{:?}", dispatcher.nodes());
    dispatcher
}

/// Has the node keep the base file.
fn keep(dispatcher: &Dispatcher) {
    let mut nodes = dispatcher.nodes().into_iter().filter(|node| node.kind != NodeKind::Local);
    let life = nodes.find_map(|node| node.id).expect("it is connected");
    let kept = dispatcher.job(built_in::keep_file, (BASE.into(),)).on_node(life).submit().wait();
    assert_eq!(kept, Ok(Ok(())));
}

/// What a shell says in a directory of its own that has the base file.
fn shell(dispatcher: &Dispatcher, script: &str, files: CommandFiles) -> pp_dispatcher::CommandOutput {
    let files = CommandFiles { base: vec![base_file()], ..files };
    let job = dispatcher.command("/bin/sh").args(["-c", script]).files(files).submit();
    job.wait().expect("it runs")
}

/// Files go there and come back, a base file is asked for once.
fn go_there_and_back(node: &Node) {
    let dispatcher = connect(node);
    let lacks = shell(&dispatcher, "true", CommandFiles::default()).status;
    assert_eq!(lacks, CommandStatus::Lacks(vec![base_file().digest]));
    keep(&dispatcher);
    let tool =
        CommandFile { path: "bin/tool".into(), permissions: 0o755, contents: "#!/bin/sh\ncat base\n".into() };
    for _ in 0..2 {
        let files = CommandFiles {
            sent: vec![tool.clone()],
            returned: vec!["out/a".into()],
            ..CommandFiles::default()
        };
        let output =
            shell(&dispatcher, "mkdir out && bin/tool > out/a && rm -f base && echo x > base && pwd", files);
        assert_eq!(output.status, CommandStatus::Exited(0), "{output:?}");
        assert_eq!(output.file("out/a").map(|contents| &contents[..]), Some(BASE));
        let directory = String::from_utf8(output.stdout.into()).expect("text");
        assert!(!Path::new(directory.trim_end()).exists(), "{directory}");
    }
}

pub(crate) fn files_of_commands_go_there_and_back_under_each_confinement_and_as_each_user() {
    for level in ["secrets", "strict", "none"] {
        go_there_and_back(&Node::start(2, &["--confine", level], &[]));
        if let Some(node) = Node::start_by_root(2, &["--user", "nobody", "--confine", level]) {
            go_there_and_back(&node);
        }
    }
}

pub(crate) fn what_a_session_keeps_is_its_own_and_goes_with_it() {
    let node = Node::start(4, &[], &[]);
    let (dispatcher, other) = (connect(&node), connect(&node));
    if !node.keeps_secrets(&dispatcher) {
        return;
    }
    keep(&dispatcher);
    let output = shell(&dispatcher, "cat base", CommandFiles::default());
    assert_eq!(&output.stdout[..], BASE);
    let kept = kept_in(&node.path("store"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    // It has none: what the first session keeps is not found.
    let lacks = shell(&other, "true", CommandFiles::default()).status;
    assert_eq!(lacks, CommandStatus::Lacks(vec![base_file().digest]));
    let script = "cat $1; echo changed > $1; rm -f $1; mv $1 here; ln $1 here; echo more > ${1%/*}/more; ls";
    let attack =
        other.command("/bin/sh").args(["-c", script, "sh"]).arg(&kept[0]).submit().wait().expect("it runs");
    assert_eq!(&attack.stdout[..], b"", "{}", String::from_utf8_lossy(&attack.stderr));
    assert_eq!(fs::read(&kept[0]).expect("it is there"), BASE);
    let output = shell(&dispatcher, "cat base", CommandFiles::default());
    assert_eq!(&output.stdout[..], BASE);
    drop(dispatcher);
    wait_until("what it kept to be gone", || kept_in(&node.path("store")).is_empty());
    // Where a command is to run it may be anybody's: links there do not lead it astray.
    std::os::unix::fs::symlink(node.path("secret"), node.path("data/link")).expect("it can be made");
    let files = CommandFiles { returned: vec!["link".into()], ..CommandFiles::default() };
    let job = other.command("true").current_dir(node.path("data")).files(files).submit();
    let CommandStatus::FileTrouble(trouble) = job.wait().expect("it runs").status else {
        panic!("it was returned")
    };
    assert!(trouble.contains("leads out"), "{trouble}");
}

/// What is kept in all sessions.
fn kept_in(store: &Path) -> Vec<PathBuf> {
    let below =
        |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten().map(|it| it.path());
    let nodes = below(store.into())
        .filter(|it| it.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"kept-")));
    nodes.flat_map(below).flat_map(below).collect()
}
