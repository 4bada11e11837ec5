//! The examples, run as a user would: what they print is right, and wrong arguments are answered with how to do it.

use std::path::Path;

use pp_tests::process::{Process, SECRET, Server, command, example};

/// An example that has run to its end.
struct Run {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Run {
    fn line(&self, part: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no line with {part:?} in:\n{}\n{}", self.stdout, self.stderr))
    }

    /// The statistics: how many jobs each node ended.
    fn jobs_of_nodes(&self) -> Vec<(String, u64)> {
        let (_, table) = self.stdout.split_once("Job execution statistics:\n").expect("there are statistics");
        let mut rows = table.lines();
        let heading = rows.next().expect("the table has a heading");
        let columns: Vec<_> = heading.split('|').map(str::trim).collect();
        assert_eq!(columns, ["job count", "% of all jobs", "job time sum", "time per job", "node"]);
        let row = |row: &str| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [count, _, _, _, node] = cells[..] else { return None };
            Some((node.to_owned(), count.parse().expect("a count is a number")))
        };
        rows.map_while(row).collect()
    }
}

/// Runs an example without a network, on two local workers, unless `environment` says otherwise.
fn run_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let home = tempfile::tempdir().expect("a home directory");
    let mut command = command(example(name), home.path());
    command.args(arguments).env("PP_DISCOVER", "0").env("PP_LOCAL_WORKERS", "2");
    command.envs(environment.iter().copied());
    let mut process = Process::start(&mut command);
    let code = process.wait().code();
    Run { stdout: process.stdout(), stderr: process.stderr(), code }
}

fn run(name: &str, arguments: &[&str]) -> Run {
    let run = run_with(name, arguments, &[]);
    assert_eq!(run.code, Some(0), "{name} failed:\n{}\n{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run
}

/// Asserts that these arguments are answered with the usage, and with nothing else.
fn refuses(name: &str, arguments: &[&str]) {
    let run = run_with(name, arguments, &[]);
    assert_eq!(run.code, Some(2), "{name} {arguments:?}:\n{}\n{}", run.stdout, run.stderr);
    assert!(run.stderr.starts_with(&format!("usage: {name} [")), "{name} {arguments:?}: {}", run.stderr);
    assert_eq!(run.stdout, "", "{name} {arguments:?}");
}

#[test]
fn fib_prints_each_term_in_order_and_the_statistics() {
    let run = run("fib", &["20..30"]);
    let terms = [6765, 10946, 17711, 28657, 46368, 75025, 121393, 196418, 317811, 514229];
    let expected: Vec<_> = (20..).zip(terms).map(|(n, term)| format!("fib {n} = {term}")).collect();
    assert_eq!(run.stdout.lines().take(10).collect::<Vec<_>>(), expected);
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 10)]);
    assert!(run.line("Time elapsed since the dispatcher was started").ends_with(" s"));
}

#[test]
fn fib_without_local_workers_runs_every_job_on_the_node_it_is_told_of() {
    let server = Server::start(2);
    let address = server.address();
    let environment = [("PP_LOCAL_WORKERS", "0"), ("PP_NODES", &*address), ("PP_SECRET", SECRET)];
    let run = run_with("fib", &["20..30"], &environment);
    assert_eq!(run.code, Some(0), "{}\n{}", run.stderr, server.log());
    run.line("fib 29 = 514229");
    let nodes = run.jobs_of_nodes();
    let by_name = |(node, jobs): &(String, u64)| (node.contains(&address), *jobs);
    let used: Vec<_> = nodes.iter().map(by_name).filter(|(_, jobs)| *jobs > 0).collect();
    assert_eq!(used, [(true, 10)], "{nodes:?}");
}

#[test]
fn primes_tells_each_number_apart() {
    let run = run("primes", &["2", "97", "99", "2147483647", "4", "1000003"]);
    // They come in the order in which they end.
    let mut answers: Vec<_> = run.stdout.lines().filter(|line| line.contains(" prime")).collect();
    answers.sort_unstable();
    let expected = [
        "1000003 is prime",
        "2 is prime",
        "2147483647 is prime",
        "4 is not prime, divisible by 2",
        "97 is prime",
        "99 is not prime, divisible by 3",
    ];
    assert_eq!(answers, expected);
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 6)]);
}

#[test]
fn merge_sort_sorts_the_numbers_of_a_file() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("numbers.txt");
    std::fs::write(&file, "7\n-3\n\n 42 \n9223372036854775807\n0\n").expect("a file");
    let run = run("merge_sort", &[path(&file)]);
    run.line("smallest -3, largest 9223372036854775807");
    run.line("5 numbers sorted and checked");
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 1)], "so few are one chunk");
}

#[test]
fn merge_sort_merges_the_chunks_of_many_numbers() {
    let run = run("merge_sort", &["220000"]);
    run.line("220000 numbers sorted and checked");
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 9)], "five chunks are merged in four jobs");
}

#[test]
fn merge_sort_says_which_line_is_not_a_number_and_which_file_is_missing() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("numbers.txt");
    std::fs::write(&file, "1\ntwo\n").expect("a file");
    let wrong = run_with("merge_sort", &[path(&file)], &[]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("line 2") && wrong.stderr.contains("two"), "{}", wrong.stderr);
    let missing = run_with("merge_sort", &["no-such-file.txt"], &[]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot read no-such-file.txt"), "{}", missing.stderr);
}

#[test]
fn pipeline_takes_every_frame_through_three_stages() {
    let run = run("pipeline", &["10"]);
    let frame = |line: &str| {
        let (number, rest) = line.strip_prefix("frame ")?.split_once(": 64000 pixels in ")?;
        let runs: usize = rest.strip_suffix(" runs")?.parse().ok()?;
        assert!((2..64_000).contains(&runs), "a picture is neither blank nor noise: {line}");
        number.parse::<u32>().ok()
    };
    let mut frames: Vec<_> = run.stdout.lines().filter_map(frame).collect();
    frames.sort_unstable();
    assert_eq!(frames, (0..10).collect::<Vec<_>>());
    run.line("10 frames finished");
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 30)]);
}

#[test]
fn crawl_finds_every_page_of_its_own_site_once_and_the_broken_link() {
    let run = run("crawl", &[]);
    let broken = run.line("broken: ");
    assert!(broken.contains("/appendix/ (") && broken.contains("404"), "{broken}");
    assert!(broken.ends_with('/') && broken.contains("linked from http://127.0.0.1:"), "{broken}");
    // An index, 4 chapters and 20 sections; the index links to 5 pages, a chapter to 5, a section to 2.
    let counts = run.line(" pages, ");
    assert!(counts.starts_with("25 pages, 65 links, 1 broken links, "), "{counts}");
    assert_eq!(run.jobs_of_nodes(), [("local".into(), 26)], "each page is fetched once");
}

#[test]
fn gather_estimates_pi_and_cancels_what_takes_too_long() {
    let run = run("gather", &["2"]);
    let estimate = run.line("2 jobs threw 5000000 darts each: pi is about ");
    // One standard deviation of ten million darts is 0.0005.
    let pi: f64 = estimate.rsplit(' ').next().and_then(|pi| pi.parse().ok()).expect("a number");
    assert!((pi - std::f64::consts::PI).abs() < 0.002, "{estimate}");
    run.line("a job with 18446744073709551615 darts was cancelled after a second");
}

#[test]
fn resize_does_more_with_more_workers() {
    let run = run("resize", &["0.2"]);
    let rate = |line: &str| {
        let (workers, rate) = line.split_once(" workers: ")?;
        Some((workers.parse().ok()?, rate.strip_suffix(" jobs/s")?.parse().ok()?))
    };
    let rates: Vec<(u32, f64)> = run.stdout.lines().filter_map(rate).collect();
    assert_eq!(rates.iter().map(|(workers, _)| *workers).collect::<Vec<_>>(), [1, 2, 4, 1]);
    assert!(rates.iter().all(|(_, rate)| *rate > 0.0), "{rates:?}");
    // A job waits for 5 ms: one worker does at most 200 a second.
    assert!(rates[0].1 < 250.0 && rates[2].1 > 1.5 * rates[0].1, "{rates:?}");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    refuses("fib", &["30"]);
    refuses("fib", &["30..20"]);
    refuses("fib", &["20..95"]);
    refuses("fib", &["1..2", "3..4"]);
    refuses("primes", &["7", "1"]);
    refuses("primes", &["seven"]);
    refuses("merge_sort", &["--help"]);
    refuses("merge_sort", &["1", "2"]);
    refuses("pipeline", &["-1"]);
    refuses("crawl", &["ftp://127.0.0.1/"]);
    refuses("crawl", &["http://127.0.0.1/", "three"]);
    refuses("gather", &["0"]);
    refuses("resize", &["-0.5"]);
    refuses("resize", &["NaN"]);
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths here are text")
}
