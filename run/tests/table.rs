//! The same jobs as GNU parallel, line by line. Where that is installed, it is asked as well: for all rows with
//! `PP_PARALLEL=all`, which takes half a minute or more, else for the most important ones.

#[path = "table/rows.rs"]
mod rows;

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pp_run::counts::parse_size;
use pp_run::{
    ComposeError, Input, Opened, Options, Pattern, Plan, Records, Several, Start, Trim, parse_delimiter,
};
use rows::{DIFFERENT, OWN, Row, TABLE};

#[test]
fn jobs_are_those_of_gnu_parallel() {
    let directory = files("same");
    let rows: Vec<Row> = TABLE.iter().chain(OWN).copied().collect();
    compare(&rows, |line, input| composed(&directory, line, input));
}

#[test]
fn what_differs_on_purpose_is_known() {
    let directory = files("different");
    let rows: Vec<Row> =
        DIFFERENT.iter().map(|(line, input, expected, _)| (*line, *input, *expected)).collect();
    compare(&rows, |line, input| composed(&directory, line, input));
}

#[test]
fn gnu_parallel_says_what_the_table_says() {
    let version = Command::new("parallel").args(["--will-cite", "--version"]).output();
    if !version.is_ok_and(|output| output.stdout.starts_with(b"GNU parallel 20221122")) {
        eprintln!(
            "SKIPPED: GNU parallel 20221122 is not installed here: only its recorded answers were compared"
        );
        return;
    }
    let directory = &files("real");
    let asks_all = std::env::var_os("PP_PARALLEL").is_some_and(|value| value == "all");
    let rows: Vec<Row> = TABLE.iter().chain(if asks_all { OWN } else { &[] }).copied().collect();
    std::thread::scope(|scope| {
        for part in rows.chunks(rows.len() / 4 + 1) {
            scope.spawn(move || compare(part, |line, input| real(directory, line, input)));
        }
        for (line, input, ours, reason) in DIFFERENT {
            assert_ne!(real(directory, line, input), *ours, "the answer is the same: {line}: {reason}");
        }
    });
}

/// Compares answers with what rows say, all of them.
fn compare(rows: &[Row], answer: impl Fn(&str, &str) -> String) {
    let differences: Vec<String> = rows
        .iter()
        .map(|(line, input, expected)| (line, answer(line, input), expected))
        .filter(|(_, answer, expected)| answer != *expected)
        .map(|(line, answer, expected)| format!("{line}\n  gives  {answer:?}\n  not    {expected:?}\n"))
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} rows:\n{}",
        differences.len(),
        rows.len(),
        differences.concat()
    );
}

/// A directory with the files that rows name.
fn files(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("table-{name}"));
    fs::create_dir_all(&directory).expect("a directory");
    for (file, text) in [("abc", "A\nB\nC\n"), ("n3", "1\n2\n3\n"), ("tsv", "x\ty\n1\t2\n3\t4\n")] {
        fs::write(directory.join(file), text).expect("a file");
    }
    directory
}

/// What GNU parallel says.
fn real(directory: &Path, line: &str, input: &str) -> String {
    shell(directory, &format!("parallel --will-cite -k --dry-run -j1 {line}"), input)
}

/// What the shell puts out for a line.
fn shell(directory: &Path, line: &str, input: &str) -> String {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).current_dir(directory).env("PARALLEL_SHELL", "/bin/sh");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    // A command that does not read its input has closed it, which is no error.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    String::from_utf8(output.stdout).expect("text")
}

/// What is composed here, in the form of `--dry-run`.
fn composed(directory: &Path, line: &str, input: &str) -> String {
    let words =
        if line.is_empty() { String::new() } else { shell(directory, &format!(r"printf '%s\0' {line}"), "") };
    let told = told(words.split_terminator('\0').map(|word| word.as_bytes().to_vec()).collect());
    let plan = Plan::new(told.options, told.words).expect("a plan");
    let open = |source: &Input| -> io::Result<Opened<'_>> {
        Ok(match source {
            Input::Standard => {
                Box::new(Records::new(Cursor::new(input.as_bytes().to_vec()), &told.delimiter))
            }
            Input::File(path) => {
                Box::new(Records::new(BufReader::new(File::open(directory.join(path))?), &told.delimiter))
            }
        })
    };
    let jobs: Vec<_> =
        plan.jobs(open).and_then(|jobs| jobs.collect::<Result<_, ComposeError>>()).expect("jobs");
    let start = Start { slot: 1, total: jobs.len() as u64 };
    let mut shown = Vec::new();
    for job in &jobs {
        shown.extend(job.tag(start).unwrap_or_default());
        shown.extend(job.command(start));
        shown.push(b'\n');
    }
    String::from_utf8(shown).expect("text")
}

/// A command line, understood.
struct Told {
    options: Options,
    delimiter: Vec<u8>,
    words: Vec<Vec<u8>>,
}

/// Reads the options that rows use, up to the first word that is none.
fn told(words: Vec<Vec<u8>>) -> Told {
    let mut told =
        Told { options: Options { slots: 1, ..Options::default() }, delimiter: b"\n".to_vec(), words };
    let options = &mut told.options;
    while told.words.first().is_some_and(|word| word.starts_with(b"-")) {
        let word = told.words.remove(0);
        let text = String::from_utf8(word.clone()).expect("text");
        let (name, attached) = match text.as_str() {
            long if long.starts_with("--") => (long, ""),
            short => short.split_at(2),
        };
        let mut value =
            || if attached.is_empty() { told.words.remove(0) } else { attached.as_bytes().to_vec() };
        let mut text = || String::from_utf8(value()).expect("text");
        match name {
            "-0" => told.delimiter = vec![0],
            "-C" | "--colsep" => options.colsep = Some(Pattern::parse(text().as_bytes()).expect("a pattern")),
            "-E" => options.end_of_file = Some(text().into_bytes()),
            "-I" => options.replace = Some(text().into_bytes()),
            "-L" => options.max_lines = Some(parse_size(&text()).expect("a number")),
            "-N" => options.max_replace_args = Some(parse_size(&text()).expect("a number")),
            "-X" => options.several = Some(Several::Context),
            "-a" => options.arg_files.push(Input::named(text().into_bytes())),
            "-d" => told.delimiter = parse_delimiter(text().as_bytes()).expect("a delimiter"),
            "-j" => options.slots = text().parse().expect("a number"),
            "-m" => options.several = options.several.or(Some(Several::Once)),
            "-n" => options.max_args = Some(parse_size(&text()).expect("a number")),
            "-q" => options.quote = true,
            "-r" => options.no_run_if_empty = true,
            "-s" => options.max_chars = Some(parse_size(&text()).expect("a number")),
            "--header" => options.header = Plan::names_columns(&text()).expect("a header"),
            "--link" => options.link = true,
            "--plus" => options.plus = true,
            "--tag" => options.tagstring = Some(b"{}".to_vec()),
            "--tagstring" => options.tagstring = Some(text().into_bytes()),
            "--trim" => options.trim = Some(Trim::parse(&text()).expect("a trim")),
            "--xargs" => options.several = Some(Several::Xargs),
            other => panic!("no row uses {other}"),
        }
    }
    told
}
