//! Workers as processes: this program starts itself as a worker, so it has a main function of its own instead of the
//! usual harness. `cargo test --test worker NAME` runs the cases whose names contain `NAME`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a test, which the compiler does not know because of its own main function"
)]

mod cases;
mod fixture;
mod jobs;

use std::io::Write;
use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(jobs::WITH_THREAD).is_some() {
        std::thread::spawn(std::thread::park);
    }
    pp_node::worker::serve_if_worker();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(jobs::TELL_WHETHER_WORKER) => {
            print!("{}", pp_node::worker::started_as_worker());
            return ExitCode::SUCCESS;
        }
        Some(cases::BE_A_NODE) => cases::be_a_node(false),
        Some(cases::BE_A_NODE_WITH_A_CHILD) => cases::be_a_node(true),
        Some("--list") => {
            cases::ALL.iter().for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases::ALL.iter().filter(|(name, _)| is_chosen(name)) {
        print!("test {name} ... ");
        let _ = std::io::stdout().flush();
        if catch_unwind(case).is_ok() {
            passed += 1;
            println!("ok");
        } else {
            failed += 1;
            println!("FAILED");
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = cases::ALL.len() - passed - failed;
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
