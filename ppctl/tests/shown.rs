//! What `ppctl run` shows of a run to people and to programs: how far it has come, a summary, lines of JSON.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pp_tests::process::{self, Process, Signal};
use pp_tests::wait::wait_until;
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// `ppctl run` with these arguments, on this machine alone.
fn run(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_ppctl"), folder);
    command.arg("run").args(arguments).env("PP_DISCOVER", "0").current_dir(folder);
    command
}

fn output(command: &mut Command) -> (String, String) {
    let Output { stdout, stderr, .. } = command.output().expect("it runs");
    (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

/// What a terminal of so many columns is sent by a line of a shell, in which `ppctl` can be called. None where there is no
/// `script` to make a terminal with.
fn on_terminal(folder: &Path, columns: usize, line: &str) -> Option<String> {
    let line = line.replace("ppctl", env!("CARGO_BIN_EXE_ppctl"));
    let mut command = process::command("script", folder);
    command.args(["-qec", &format!("stty cols {columns}; {line}"), "/dev/null"]).current_dir(folder);
    command.env("PP_DISCOVER", "0").env("TERM", "xterm").env("SHELL", "/bin/sh").stdin(Stdio::null());
    match command.output() {
        Ok(Output { stdout, .. }) => Some(String::from_utf8_lossy(&stdout).into_owned()),
        Err(error) => {
            eprintln!("SKIPPED: there is no program `script` here ({error})");
            None
        }
    }
}

/// What a terminal shows in the end, line by line: of what was written, only what these tests need is understood.
fn screen(sent: &str) -> Vec<String> {
    let (mut lines, mut line, mut column) = (Vec::new(), Vec::<char>::new(), 0);
    let mut rest = sent.chars();
    while let Some(sign) = rest.next() {
        match sign {
            '\n' => lines.push(std::mem::take(&mut line).into_iter().collect()),
            '\r' => column = 0,
            '\x1b' => {
                assert_eq!((rest.next(), rest.next()), (Some('['), Some('J')), "only this is used");
                line.truncate(column);
            }
            sign => {
                line.truncate(column.max(line.len()));
                line.resize(line.len().max(column + 1), ' ');
                line[column] = sign;
                column += 1;
            }
        }
    }
    lines.push(line.into_iter().collect());
    lines
}

#[test]
fn a_bar_stays_below_the_output_and_is_gone_in_the_end() {
    for columns in [40, 80, 200] {
        let folder = folder();
        let line = "ppctl run -j2 --bar --quiet 'sleep 0.1; echo line {}; test {} != 3' ::: 1 2 3 4 5 6 7 8";
        let Some(sent) = on_terminal(folder.path(), columns, line) else { return };
        let drawn: Vec<&str> = sent.split(['\r', '\n', '\x1b']).filter(|part| part.contains('%')).collect();
        assert!(drawn.iter().all(|line| line.len() < columns), "{drawn:?}");
        let last = drawn.last().expect("it was drawn");
        assert!(last.contains(" of 8  1 failed"), "{drawn:?}");
        let has_all = last.contains('#') && last.contains("1 node, 2 slots");
        assert!(has_all || columns == 40, "{last}");
        let mut shown = screen(&sent);
        shown.sort();
        let lines: Vec<String> = (1..=8).map(|number| format!("line {number}")).collect();
        assert_eq!(shown, [&[String::new()][..], &lines].concat(), "{sent:?}");
    }
}

#[test]
fn output_without_a_line_end_is_not_drawn_over() {
    let folder = folder();
    let line = "ppctl run -k -j1 --progress --quiet 'sleep 0.2; printf {}' ::: aaa bbb";
    let Some(sent) = on_terminal(folder.path(), 80, line) else { return };
    let shown = screen(&sent).concat();
    assert_eq!(shown, "aaabbb", "{sent:?}");
    assert!(sent.contains("50%  1 of 2"), "{sent:?}");
}

#[test]
fn a_bar_is_gone_when_the_run_is_interrupted() {
    let folder = folder();
    let line = "(until test -e started; do sleep 0.05; done; sleep 0.5; kill -INT $$) & \
        exec ppctl run --bar 'touch started; sleep 30' ::: 1";
    let Some(sent) = on_terminal(folder.path(), 80, line) else { return };
    assert!(sent.contains("0%  0 of 1"), "{sent:?}");
    assert!(!screen(&sent).concat().contains('%'), "{sent:?}");
    let line = "(until grep -q 'sleep 0.1' log; do sleep 0.05; done; kill -INT $$) 2> /dev/null & \
        exec ppctl run --summary --joblog log 'sleep {}' ::: 0.1 30";
    let sent = on_terminal(folder.path(), 80, line).unwrap_or_default();
    assert!(sent.contains("stopped after 1 job in "), "{sent:?}");
}

#[test]
fn whoever_forgets_the_arguments_is_told_that_the_terminal_is_read() {
    let folder = folder();
    for (line, told) in [
        ("ppctl run echo", "arguments are read from this terminal"),
        ("ppctl run", "commands are read from this terminal"),
        ("ppctl run --pipe cat", "the input of jobs is read from this terminal"),
    ] {
        let Some(sent) = on_terminal(folder.path(), 80, line) else { return };
        assert!(sent.contains(told) && sent.contains("Ctrl-D"), "{sent:?}");
    }
    for line in ["ppctl run --quiet echo", "ppctl run true ::: a", "ppctl run true < /dev/null"] {
        assert_eq!(on_terminal(folder.path(), 80, line).unwrap_or_default(), "", "{line}");
    }
}

#[test]
fn without_a_terminal_a_line_is_written_from_time_to_time_and_at_the_end() {
    let folder = folder();
    let (_, said) = output(&mut run(folder.path(), &["--bar", "echo", ":::", "1"]));
    assert!(said.starts_with("ppctl: 100%  1 of 1  ") && said.lines().count() == 1, "{said}");
    let (_, said) = output(&mut run(folder.path(), &["-j2", "--bar", "sleep {}", ":::", "1", "11"]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("ppctl: 50%  1 of 2  "), "{said}");
    assert!(lines[1].starts_with("ppctl: 100%  2 of 2  "), "{said}");
}

#[test]
fn what_is_wrong_is_said_of_what_and_with_the_way_out() {
    let folder = folder();
    fs::create_dir(folder.path().join("bin")).expect("it can be made");
    fs::write(folder.path().join("notes"), "1\tto do\n").expect("it can be written");
    for (line, told) in [
        ("ppctl run echo :::: bin", "cannot read arguments from bin: is a directory"),
        ("ppctl run echo ::: a > /dev/full", "cannot write to standard output: No space left"),
        ("ppctl run --dry-run echo ::: a > /dev/full", "cannot write to standard output: No space left"),
        ("ppctl run --delay -1 echo ::: a", "write seconds, or numbers with s, m, h or d"),
        ("ppctl run --retries -1 echo ::: a", "-1 is not in 1.."),
        ("ppctl run -N-1 echo ::: a", "it has to be a whole number, 0 or more"),
        ("ppctl run --env A=b echo ::: a", "write A=b ppctl run --env A "),
        (
            "ppctl run --joblog notes --resume echo ::: a",
            "job log notes: none of its lines is one of a job log",
        ),
        ("ppctl run --sem echo", "--sem is not offered: "),
        ("ppctl run --wd /no/such 'echo {}' ::: a", "ppctl: job 1 (echo a): not started: "),
    ] {
        let mut shell = process::command("/bin/sh", folder.path());
        shell.args(["-c", &line.replace("ppctl", env!("CARGO_BIN_EXE_ppctl"))]);
        let (_, said) = output(shell.env("PP_DISCOVER", "0").current_dir(folder.path()));
        assert!(said.contains(told), "{line}: {said}");
    }
    let notes = fs::read_to_string(folder.path().join("notes"));
    assert_eq!(notes.expect("it is there"), "1\tto do\n");
}

#[test]
fn whoever_ends_a_run_that_is_logged_is_told_how_it_goes_on() {
    let folder = folder();
    // SIGHUP would be ignored where the tests are run by nohup.
    for signal in [Signal::INT, Signal::TERM] {
        let arguments = ["-j1", "--joblog", "log", "echo {}; sleep {}", ":::", "0", "0", "30"];
        let mut child = Process::start(&mut run(folder.path(), &arguments));
        wait_until("two jobs to be logged", || {
            fs::read_to_string(folder.path().join("log")).is_ok_and(|log| log.lines().count() == 3)
        });
        child.signal(signal);
        assert_eq!(child.wait().code(), Some(255));
        assert_eq!(child.stderr(), "ppctl: stopped after 2 jobs; the same with --resume goes on");
        fs::remove_file(folder.path().join("log")).expect("it was written");
    }
}

#[test]
fn a_summary_names_what_failed_and_what_took_long() {
    let folder = folder();
    let arguments = ["-j4", "--summary", "sleep $(({} / 4)); exit $(({} == 3))", ":::", "1", "2", "3", "4"];
    let (_, said) = output(&mut run(folder.path(), &arguments));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ppctl: 4 jobs in ") && lines[0].ends_with("s, 1 failed"), "{said}");
    assert_eq!(lines[1], "  failed:   3 (exit code 1)");
    assert!(lines[2].starts_with("  slowest:  4 (1.") && lines[2].contains(", 1 (0."), "{said}");
    assert!(lines[3].starts_with("  by node:  this machine  4 jobs that ran 1."), "{said}");
}

#[test]
fn a_terminal_is_told_of_more_than_a_few_jobs_unless_it_wants_quiet() {
    let folder = folder();
    let summary = |arguments: &str| {
        let line = format!("ppctl run {arguments} > out");
        on_terminal(folder.path(), 80, &line).map(|sent| sent.contains("jobs in"))
    };
    let Some(of_many) = summary("true ::: 1 2 3 4 5 6 7 8 9") else { return };
    assert!(of_many);
    assert_eq!(summary("true ::: 1 2 3"), Some(false));
    assert_eq!(summary("--quiet true ::: 1 2 3 4 5 6 7 8 9"), Some(false));
}

#[test]
fn jobs_are_lines_of_json_and_bytes_are_kept() {
    let folder = folder();
    let command = "printf 'a\\n\"b\"'; echo e >&2; exit 3";
    let bytes = "head -c 3 /dev/zero | tr \\\\0 \\\\377; kill -9 $$";
    let (printed, said) = output(&mut run(folder.path(), &["-k", "--json", ":::", command, bytes]));
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let field = |line: usize, name: &str| lines[line][name].clone();
    assert_eq!((lines.len(), said.as_str()), (2, ""));
    for (name, value) in [("seq", 1.into()), ("exit", 3.into()), ("signal", 0.into()), ("node", Value::Null)]
    {
        assert_eq!(field(0, name), value, "{name}");
    }
    assert_eq!((field(0, "stdout"), field(0, "stderr")), ("a\n\"b\"".into(), "e\n".into()));
    assert_eq!(field(0, "command"), command);
    assert_eq!((field(1, "signal"), field(1, "stdout_base64")), (9.into(), "////".into()));
    assert_eq!((field(1, "stdout"), field(1, "stderr")), (Value::Null, "".into()));
    assert!(field(0, "started").as_f64().is_some_and(|time| time > 1e9));
}

#[test]
fn a_run_whose_input_goes_on_shows_what_is_done() {
    let folder = folder();
    let mut command = run(folder.path(), &["--progress", "--json", "echo"]);
    let mut child =
        Process::start(command.stdin(Command::new("yes").stdout(Stdio::piped()).spawn().map_or_else(
            |error| panic!("there is no `yes`: {error}"),
            |yes| yes.stdout.map_or_else(Stdio::null, Stdio::from),
        )));
    child.wait_for_stdout("\"seq\":1000,");
    child.signal(Signal::INT);
    assert_eq!(child.wait().code(), Some(255), "{}", child.stderr());
}
