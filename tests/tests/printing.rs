//! Output of jobs: all of it arrives, before the outcome, and does nothing to the terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pp_dispatcher::{ClusterEvent, Dispatcher, Job, Output, job};
use pp_tests::flood::narrow_way;
use pp_tests::harness::{self, Test};
use pp_tests::process::{Process, SECRET, Server, most_resident, resident};
use pp_tests::wait::{PATIENCE, wait_until, wait_within};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// With this in its environment, this program does what it names instead of running tests.
const PART: &str = "PP_TESTS_PART";
/// The address of the node that it is to use; its own cores without.
const NODE: &str = "PP_TESTS_NODE";

const LINES: usize = 500;

#[job]
fn print_steps(job: usize) {
    for step in 1..=LINES {
        println!("step {step} {}", "z".repeat(90));
    }
    print!("RESULT: {job} done");
}

#[job]
fn print_text(text: String) {
    print!("{text}");
}

#[job]
fn complain(text: String) {
    eprint!("{text}");
}

/// Prints so many bytes, in lines of a hundred.
#[job]
fn print_bytes(bytes: usize) {
    let line = "w".repeat(99);
    (0..bytes / 100).for_each(|_| println!("{line}"));
}

/// Shows how far it is, without a line end, and waits for a file.
#[job]
fn show_progress(file: String) {
    use std::io::Write;
    print!("half\r");
    std::io::stdout().flush().expect("it can be written");
    while !Path::new(&file).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("whole\r");
}

#[job]
fn nothing() {}

fn dispatcher(workers: usize) -> Dispatcher {
    let builder = Dispatcher::builder().discover(false).local_workers(workers).output(Output::EventsOnly);
    builder.start().expect("it starts")
}

/// This program again, as something else than a test.
fn part(name: &str, node: Option<&Server>) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test program has a path"));
    command.env(PART, name).env("PP_DISCOVER", "0").env("PP_SECRET", SECRET).env_remove("PP_LOG");
    command.envs(node.map(|server| (NODE, server.address())));
    command
}

fn started_as_part() -> Dispatcher {
    let builder = Dispatcher::builder().output(Output::Shown);
    let builder = match std::env::var(NODE) {
        Ok(node) => builder.local_workers(0).node(node),
        Err(_) => builder.local_workers(2),
    };
    builder.start().expect("it starts")
}

/// Jobs that run at the same time in the test below.
const AT_ONCE: usize = 8;

fn print_and_end() {
    let dispatcher = started_as_part();
    let jobs: Vec<_> = (0..AT_ONCE).map(|job| dispatcher.submit(print_steps, (job,))).collect();
    jobs.into_iter().for_each(|job| job.wait().expect("it prints"));
}

fn every_line_arrives_before_the_program_ends() {
    let server = Server::start(2);
    for node in [None, Some(&server)] {
        let mut program = Process::start(&mut part("print and end", node));
        assert!(program.wait().success(), "{}", program.stderr());
        let text = program.stderr();
        let steps = text.lines().filter(|line| line.contains("step ")).count();
        assert_eq!(steps, AT_ONCE * LINES, "lines through {node:?}");
        for job in 0..AT_ONCE {
            assert!(text.contains(&format!("RESULT: {job} done")), "the last line of job {job}");
        }
    }
}

fn what_a_job_printed_is_told_before_its_outcome() {
    let server = Server::start(1);
    let remote = Dispatcher::builder()
        .local_workers(0)
        .node(server.address())
        .secret(SECRET)
        .output(Output::EventsOnly);
    for dispatcher in [dispatcher(1), remote.start().expect("it starts")] {
        let events = dispatcher.events();
        for job in 0..20 {
            dispatcher.submit(print_steps, (job,)).wait().expect("it prints");
            let mut lines = Vec::new();
            while let Some(event) = events.try_next() {
                if let ClusterEvent::Printed { line, .. } = event {
                    lines.push(line);
                }
            }
            assert_eq!(lines.len(), LINES + 1, "lines that were there when the outcome was");
            assert_eq!(lines.last(), Some(&format!("RESULT: {job} done")));
        }
    }
}

fn print_oddly() {
    let dispatcher = started_as_part();
    let print = |text: &str| dispatcher.submit(print_text, (text.to_owned(),)).wait().expect("it prints");
    print("\x1b[31mred\x1b[0m\ttab\x07\x7f\u{9b}2J\n");
    print(&"x".repeat(20_000));
    dispatcher.submit(complain, ("\x1b]0;title\x07\n".into(),)).wait().expect("it prints");
    let error = dispatcher.submit(die_with, ("\x1b[2Jlast words\n".into(),)).wait().expect_err("it dies");
    eprintln!("{error}");
    let error = dispatcher.submit(panic_with, ("\x1b[2Jno cheese".into(),)).wait().expect_err("it panics");
    eprintln!("{error}");
}

#[job]
fn die_with(last_words: String) {
    eprint!("{last_words}");
    std::process::abort();
}

#[job]
fn panic_with(message: String) {
    std::panic::panic_any(message);
}

fn control_characters_are_shown_as_text_and_a_long_line_says_that_it_was_cut() {
    let mut program = Process::start(&mut part("print oddly", None));
    assert!(program.wait().success(), "{}", program.stderr());
    let text = program.stderr();
    let raw = text.chars().find(|c| c.is_control() && !"\n\t".contains(*c));
    assert_eq!(raw, None, "{text}");
    assert!(text.contains("\\x1b[31mred\\x1b[0m\ttab\\x07\\x7f\\u{9b}2J"), "{text}");
    let long = text.lines().find(|line| line.contains("xxx")).expect("the long line");
    assert!(long.len() < 9_000 && long.ends_with("of 20000 bytes)"), "{}", &long[long.len() - 60..]);
    assert!(text.contains("last words") && text.contains("no cheese"), "{text}");
}

fn print_raw() {
    let dispatcher = Dispatcher::builder().local_workers(1).output(Output::Raw).start().expect("it starts");
    dispatcher.submit(print_text, ("\x1b[31mred\x1b[0m".into(),)).wait().expect("it prints");
}

fn control_characters_are_left_alone_where_that_is_asked_for() {
    let mut program = Process::start(&mut part("print raw", None));
    assert!(program.wait().success(), "{}", program.stderr());
    assert!(program.stderr().contains("\x1b[31mred\x1b[0m"), "{}", program.stderr());
}

fn a_progress_line_is_shown_as_it_comes() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("go on");
    let dispatcher = dispatcher(1);
    let events = dispatcher.events();
    let next_line = || {
        wait_within(PATIENCE, "a line", || match events.try_next() {
            Some(ClusterEvent::Printed { line, .. }) => Some(line),
            _ => None,
        })
    };
    let job = dispatcher.submit(show_progress, (file.display().to_string(),));
    assert_eq!(next_line(), "half");
    File::create(&file).expect("a file");
    assert_eq!(next_line(), "whole");
    job.wait().expect("it ends");
}

fn a_flood_slows_nobody_else_and_is_counted() {
    const FLOOD: usize = 24 << 20;
    let server = Server::start(2);
    let builder = Dispatcher::builder().local_workers(0).node(server.address()).secret(SECRET);
    let dispatcher = builder.output(Output::EventsOnly).start().expect("it starts");
    dispatcher.submit(nothing, ()).wait().expect("the node is there");
    let mut server = server;
    let node = u32::try_from(server.process().id().as_raw_nonzero().get()).expect("it is positive");
    let before = resident(node);
    let flood = dispatcher.submit(print_bytes, (FLOOD,));
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    while !flood.has_ended() {
        let started = Instant::now();
        dispatcher.submit(nothing, ()).wait().expect("it runs beside the flood");
        slowest = slowest.max(started.elapsed());
        most = most.max(resident(node));
    }
    flood.wait().expect("it ends");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(most < before + (24 << 20), "the node grew from {before} to {most}");
}

/// Prints this again and again, for ever.
#[job]
fn print_for_ever(text: String) {
    loop {
        print!("{text}");
    }
}

#[job]
fn print_ten_lines(job: usize) {
    (0..10).for_each(|line| println!("line {line} of {job}"));
}

/// A slow link is a dispatcher that reads slowly: its jobs wait, and that costs the node no memory and others no time.
fn jobs_that_print_for_ever_over_a_slow_link_wait_and_cost_neither_memory_nor_others() {
    const A_SECOND: u32 = 64 << 10;
    const TIME: Duration = Duration::from_secs(15);
    let mut server = Server::start(8);
    let node = u32::try_from(server.process().id().as_raw_nonzero().get()).expect("it is positive");
    let others = Dispatcher::builder().local_workers(0).node(server.address()).secret(SECRET);
    let others = others.output(Output::EventsOnly).start().expect("it starts");
    others.submit(nothing, ()).wait().expect("the node is there");
    let way = narrow_way(server.address().parse().expect("an address"), A_SECOND);
    let slow = Dispatcher::builder().local_workers(0).node(way.to_string()).secret(SECRET);
    let slow = slow.output(Output::EventsOnly).start().expect("it starts");
    slow.submit(nothing, ()).wait().expect("it is connected");
    let (node_before, own_before) = (most_resident(node), resident(std::process::id()));
    let events = slow.events();
    let texts = ["short\n", &format!("{}\n", "long ".repeat(4_000)), "without an end", "again\r"];
    let endless: Vec<_> =
        texts.iter().map(|text| slow.submit(print_for_ever, ((*text).to_owned(),))).collect();
    let mut short = Vec::new();
    let submit = || others.submit(nothing, ());
    let mut under_way: VecDeque<_> = (0..100).map(|_| submit()).collect();
    let (began, mut slowest, mut done, mut lines, mut dropped) = (Instant::now(), Duration::ZERO, 0, 0, 0);
    while began.elapsed() < TIME {
        let started = Instant::now();
        for _ in 0..100 {
            under_way.push_back(submit());
            under_way.pop_front().expect("one is").wait().expect("it runs beside them");
            done += 1;
        }
        slowest = slowest.max(started.elapsed());
        // Two slots are left: whoever has one keeps it while it waits.
        short.retain(|job: &Job<()>| !job.has_ended());
        short.resize_with(2, || slow.submit(print_ten_lines, (done,)));
        while let Some(event) = events.try_next() {
            if let ClusterEvent::Printed { line, .. } = event {
                lines += 1;
                dropped += usize::from(line.contains("were dropped"));
            }
        }
    }
    let node_grew = most_resident(node) - node_before;
    let own_grew = resident(std::process::id()).saturating_sub(own_before);
    eprintln!(
        "{lines} lines; {done} jobs, {slowest:?} for 100; the node grew by {node_grew}, this by {own_grew}"
    );
    assert!(lines > 1_000 && dropped == 0, "{lines} lines arrived, {dropped} times some were dropped");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(node_grew < 16 << 20, "the node grew by {node_grew} bytes");
    assert!(own_grew < 64 << 20, "the dispatcher grew by {own_grew} bytes");
    assert_eq!(server.log().matches("dispatcher connected").count(), 2, "nobody was lost: {}", server.log());
    drop((endless, short));
}

fn print_to_nobody() {
    let dispatcher = started_as_part();
    let jobs: Vec<_> = (0..4).map(|_| dispatcher.submit(print_bytes, (3 << 20,))).collect();
    jobs.into_iter().for_each(|job| job.wait().expect("it prints"));
    dispatcher.submit(nothing, ()).wait().expect("it runs");
    std::fs::write(std::env::var("PP_TESTS_FILE").expect("it is told"), "ended").expect("a file");
}

/// Standard error is a pipe that nobody reads, and then one that is closed.
fn nobody_who_reads_holds_up_no_job() {
    let home = tempfile::tempdir().expect("a directory");
    for closed in [false, true] {
        let file = home.path().join(format!("{closed}"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = part("print to nobody", None);
        let mut program = command.env("PP_TESTS_FILE", &file).stderr(writer).spawn().expect("it starts");
        let kept = (!closed).then_some(reader);
        wait_until("the jobs to end", || file.exists());
        wait_until("the program to end", || program.try_wait().expect("it can be waited for").is_some());
        drop(kept);
    }
}

/// Numbers of jobs that fail, and of one that prints, in the test below.
const FAILING: [u64; 2] = [7, 30];
const PRINTING: u64 = 11;

#[job]
fn count(number: u64) -> u64 {
    if number == PRINTING {
        println!("from {number}");
    }
    assert!(!FAILING.contains(&number), "it is one of those");
    std::thread::sleep(Duration::from_millis(30));
    number
}

fn show_how_far_it_is() {
    let dispatcher = started_as_part();
    let counted = dispatcher.map(count, 0..40).with_progress().filter(Result::is_ok).count();
    println!("{counted} counted");
    let shown = dispatcher.show_progress();
    let jobs: Vec<_> =
        (100..110).map(|number| dispatcher.job(count, (number,)).group("ten").submit()).collect();
    let ten = dispatcher.show_group_progress("ten");
    dispatcher.wait();
    drop((shown, ten, jobs));
}

fn how_far_a_program_is_stands_below_what_its_jobs_print_and_is_silent_without_a_terminal() {
    let mut piped = part("show how far it is", None);
    let mut piped = Process::start(&mut piped);
    assert!(piped.wait().success(), "{}", piped.stderr());
    assert_eq!(piped.stdout(), "38 counted");
    assert!(!piped.stderr().contains(" of 40"), "{}", piped.stderr());
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("it is text");
    let side = || File::options().read(true).write(true).open(&name).expect("its other side");
    let size = Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("it has a size");
    let mut shown =
        part("show how far it is", None).stderr(side()).stdout(side()).spawn().expect("it starts");
    let reader = std::thread::spawn(move || {
        let (mut all, mut terminal) = (Vec::new(), File::from(terminal));
        // The end of the last process that has the other side is an error.
        let _ = terminal.read_to_end(&mut all);
        String::from_utf8(all).expect("it is text")
    });
    assert!(shown.wait().expect("it ends").success());
    let text = reader.join().expect("it is read");
    let drawn: Vec<_> = text.split(['\r', '\n']).filter(|line| line.contains(" of 40")).collect();
    assert!(drawn.len() >= 4, "{text:?}");
    assert!(drawn.iter().all(|line| line.trim_end_matches("\x1b[J").len() < 60), "{text:?}");
    assert!(drawn[0].starts_with('['), "{text:?}");
    assert!(text.contains("100%  40 of 40  2 failed"), "{text:?}");
    // Taken away before, drawn again after it.
    let printed = text.find("from 11\r\n\r[").expect("the job's line, and the bar below it");
    assert!(text[..printed].contains("\r\x1b[J["), "{text:?}");
    assert!(text.contains("38 counted\r\n") && text.contains("100%  10 of 10"), "{text:?}");
}

fn main() {
    pp_dispatcher::init();
    match std::env::var(PART).as_deref() {
        Ok("print and end") => return print_and_end(),
        Ok("print oddly") => return print_oddly(),
        Ok("print raw") => return print_raw(),
        Ok("print to nobody") => return print_to_nobody(),
        Ok("show how far it is") => return show_how_far_it_is(),
        _ => {}
    }
    // These wait most of the time.
    const WAITING: &[Test] = pp_tests::tests![
        every_line_arrives_before_the_program_ends,
        what_a_job_printed_is_told_before_its_outcome,
        control_characters_are_shown_as_text_and_a_long_line_says_that_it_was_cut,
        control_characters_are_left_alone_where_that_is_asked_for,
        a_progress_line_is_shown_as_it_comes,
        jobs_that_print_for_ever_over_a_slow_link_wait_and_cost_neither_memory_nor_others,
        nobody_who_reads_holds_up_no_job,
        how_far_a_program_is_stands_below_what_its_jobs_print_and_is_silent_without_a_terminal,
    ];
    // These measure, or want all of the machine.
    const MEASURING: &[Test] = pp_tests::tests![a_flood_slows_nobody_else_and_is_counted,];
    harness::run_some_side_by_side(3, WAITING, MEASURING)
}
