//! What a job has, as the job sees it: no privileges, a directory of its own, few variables, its own descriptors.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use pp_dispatcher::job;

use crate::node::Node;

/// A job's process, as the job sees it.
#[job]
fn look_at_itself() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").expect("it can be read");
    let wanted = ["NoNewPrivs:", "CapEff:", "CapPrm:", "CapBnd:", "Umask:"];
    let mut seen: Vec<_> =
        status.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word))).collect();
    seen.sort_unstable();
    let mut seen: Vec<_> = seen.into_iter().map(|line| line.replace('\t', " ")).collect();
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    seen.push(format!("core {:?}", core.maximum));
    seen.push(format!("session {}", rustix::process::getsid(None).ok() == Some(rustix::process::getpid())));
    let here = std::env::current_dir().expect("it is there");
    let mode = fs::metadata(&here).expect("it is there").mode() & 0o777;
    seen.push(format!("scratch {} {mode:o}", here == std::env::temp_dir()));
    seen
}

#[job]
fn environment() -> Vec<String> {
    let mut names: Vec<_> = std::env::vars()
        .map(|(name, value)| match name.as_str() {
            "PP_NODE" | "PP_WORKER" | "PATH" | "HOME" | "TMPDIR" => name,
            _ => format!("{name}={value}"),
        })
        .collect();
    names.sort();
    names
}

/// The descriptors that a program has which a job starts, but for that with which they are listed.
#[job]
fn descriptors_of_a_program() -> String {
    let listed = Command::new("ls").arg("/proc/self/fd").output().expect("it can be listed");
    String::from_utf8(listed.stdout).expect("numbers are text")
}

pub(crate) fn a_job_has_no_privileges_and_a_directory_of_its_own() {
    let node = Node::start(1, &[], &[]);
    let dispatcher = node.dispatcher();
    let none = "0000000000000000";
    let seen = dispatcher.submit(look_at_itself, ()).wait().expect("it can be seen");
    let bounding = seen.iter().find(|line| line.starts_with("CapBnd:")).cloned().expect("it is listed");
    assert_eq!(
        seen[..],
        [
            bounding,
            format!("CapEff: {none}"),
            format!("CapPrm: {none}"),
            "NoNewPrivs: 1".into(),
            "Umask: 0077".into(),
            "core Some(0)".into(),
            "session true".into(),
            "scratch true 700".into(),
        ]
    );
    let descriptors = dispatcher.submit(descriptors_of_a_program, ()).wait().expect("it can be seen");
    assert_eq!(descriptors.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

pub(crate) fn a_job_has_the_variables_that_are_listed_or_given_and_no_others() {
    let given = [
        ("AWS_SECRET_ACCESS_KEY", "key"),
        ("CUDA_HOME", "/cuda"),
        ("LC_TIME", "C"),
        ("LANG", "C"),
        ("TZ", "UTC"),
    ];
    let node = Node::start(1, &["--worker-env", "CUDA_*", "--worker-env", "OMP_NUM_THREADS=1"], &given);
    let mut seen = node.dispatcher().submit(environment, ()).wait().expect("it can be seen");
    // Whoever runs the tests may have these.
    seen.retain(|entry| {
        !["USER=", "LOGNAME=", "SHELL=", "LC_ALL=", "LC_CTYPE=", "RUST_"]
            .iter()
            .any(|known| entry.starts_with(known))
    });
    let wanted = [
        "CUDA_HOME=/cuda",
        "HOME",
        "LANG=C",
        "LC_TIME=C",
        "OMP_NUM_THREADS=1",
        "PATH",
        "PP_NODE",
        "PP_WORKER",
        "TMPDIR",
        "TZ=UTC",
    ];
    assert_eq!(seen, wanted);
}
