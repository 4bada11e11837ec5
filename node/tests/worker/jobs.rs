//! The functions that the workers under test run.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio, abort, id};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use pp_node::functions::{Function, Identity, invoke};
use serde::ser::{Error, Serialize, Serializer};

/// Argument with which this program prints whether it was started as a worker.
pub(crate) const TELL_WHETHER_WORKER: &str = "--tell-whether-worker";

/// Variable with which this program has a thread before it becomes a worker.
pub(crate) const WITH_THREAD: &str = "WORKER_TEST_WITH_THREAD";

static KEPT: Mutex<Vec<Bytes>> = Mutex::new(Vec::new());

macro_rules! jobs {
    ($($name:literal => $function:expr,)*) => {
        $(inventory::submit! {
            Function {
                name: || $name,
                version: "",
                identity: || Identity::of(&$function, &(), 0),
                call: |args, result| invoke(args, result, $function),
            }
        })*
    };
}

jobs! {
    "double" => |(number,): (u64,)| number * 2,
    "echo" => |(bytes,): (Bytes,)| bytes,
    // So many bytes, all the same.
    "bytes" => |(byte, count): (u8, usize)| Bytes::from(vec![byte; count]),
    // Keeps its argument beyond the end of the job, and tells how many are kept.
    "keep" => |(bytes,): (Bytes,)| {
        let mut kept = KEPT.lock().unwrap();
        kept.push(bytes);
        kept.len()
    },
    // The first byte of each kept argument, or none if not all of its bytes are the same.
    "kept" => |(): ()| KEPT.lock().unwrap().iter().map(only_byte).collect::<Vec<_>>(),
    "drop_later" => |(bytes,): (Bytes,)| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(bytes);
        });
    },
    "much_and_then_an_error" => |(count,): (usize,)| (Bytes::from(vec![1; count]), Unwilling),
    "forget" => |(): ()| KEPT.lock().unwrap().clear(),
    "panic" => |(message,): (String,)| -> () { panic!("{message}") },
    "abort" => |(): ()| -> () { abort() },
    "exit" => |(code,): (i32,)| -> () { std::process::exit(code) },
    // Ends the thread that it runs on, and nothing else: as the C library does it, or as the system does.
    "end_thread" => |(raw,): (bool,)| end_thread(raw),
    "process_id" => |(): ()| id(),
    "print" => |(out, err): (String, String)| {
        print!("{out}");
        eprint!("{err}");
    },
    "print_in_c" => |(text,): (CString,)| print_in_c(&text),
    // Shows a text, if there is one, and returns when there is a file at the path, if that is given.
    "show_and_wait" => |(text, path): (String, Option<String>)| {
        print!("{text}");
        std::io::stdout().flush().unwrap();
        path.iter().for_each(|path| wait_for_file(path.as_ref()));
    },
    "die_with" => |(last_words,): (String,)| -> () {
        eprint!("{last_words}");
        abort()
    },
    // Returns at once, or when there is a file at the path.
    "wait_for" => |(path,): (Option<String>,)| path.iter().for_each(|path| wait_for_file(path.as_ref())),
    "start_sleeper" => |(): ()| Command::new("sleep").arg("1000").spawn().unwrap().id(),
    // Starts a process in a session of its own that has none of the worker's environment.
    "start_nameless" => |(): ()| {
        Command::new("env").args(["-i", "setsid", "sleep", "1000"]).spawn().unwrap().id()
    },
    // Starts processes that are in no group of the worker's and have no parent of its, and yields them.
    "start_stray" => |(): ()| start_stray(),
    // Starts a shell that starts itself again and again, and yields what its command line has in it.
    "fork_without_end" => |(): ()| fork_without_end(),
    "is_child_a_worker" => |(): ()| {
        let this = std::env::current_exe().unwrap();
        let output = Command::new(this).arg(TELL_WHETHER_WORKER).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    },
}

#[expect(unsafe_code, reason = "as code in C does")]
fn print_in_c(text: &CStr) {
    // SAFETY: both texts end with a zero.
    unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
}

#[expect(unsafe_code, reason = "as code in C does")]
fn end_thread(raw: bool) {
    // SAFETY: none; whoever runs on it has to live with it.
    unsafe {
        if raw {
            libc::syscall(libc::SYS_exit, 0);
        } else {
            libc::pthread_exit(std::ptr::null_mut());
        }
    }
}

fn start_stray() -> Vec<u32> {
    let sleep = "sleep 1000 </dev/null >/dev/null 2>&1 &";
    let script = format!("{sleep} echo $!; setsid {sleep} echo $!; (setsid sh -c '{sleep} echo $!')");
    let output = Command::new("setsid").args(["sh", "-c", &script]).output().unwrap();
    let strays = String::from_utf8(output.stdout).unwrap();
    strays.split_whitespace().map(|stray| stray.parse().unwrap()).collect()
}

/// Each process starts the next one and ends, some thousand times: there is never more than a handful of them.
fn fork_without_end() -> String {
    let mark = format!("forker-{}", id());
    let script = r#"[ $2 -gt 0 ] && setsid sh -c "$3" sh "$1" $(($2 - 1)) "$3" & exit"#;
    for _ in 0..2 {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script, "sh", &mark, "5000", script]);
        // The first shell of each ends at once.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
    mark
}

/// Cannot be serialised.
struct Unwilling;

impl Serialize for Unwilling {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("no more"))
    }
}

fn wait_for_file(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The byte that all of these are.
pub(crate) fn only_byte(bytes: &Bytes) -> Option<u8> {
    let first = *bytes.first()?;
    bytes.iter().all(|byte| *byte == first).then_some(first)
}
