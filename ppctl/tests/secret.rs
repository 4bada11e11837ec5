//! `ppctl secret`: made, shown, found, replaced.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pp_protocol::secret::Secrets;
use pp_tests::process::{Process, SECRET, command};

/// Standard output of a `ppctl` that succeeds, without the last line end.
fn said(home: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(home, arguments, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    stdout.trim_end().to_owned()
}

fn run(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home);
    let mut process = Process::start(command.arg("secret").args(arguments).envs(environment.iter().copied()));
    (process.wait().code(), process.stdout(), process.stderr())
}

fn fails(home: &Path, arguments: &[&str], parts: &[&str]) {
    let (code, _, stderr) = run(home, arguments, &[]);
    assert!(code == Some(1) && parts.iter().all(|part| stderr.contains(part)), "{arguments:?}: {stderr}");
}

#[test]
fn a_secret_is_made_once_for_its_owner_alone_and_shown() {
    let home = tempfile::tempdir().expect("a home directory");
    let home = home.path();
    let file = home.join(".config/ppserver/secret");
    let file_text = file.to_str().expect("paths here are text");
    assert_eq!(said(home, &["path"]), file_text, "where it is to be");
    for command in ["show", "rotate"] {
        fails(home, &[command], &["no secret here yet", "ppctl secret new"]);
    }
    let made = said(home, &["new"]);
    assert!(made.contains(file_text) && made.contains("ssh OTHER"), "{made}");
    let mode = std::fs::metadata(&file).expect("it was made").permissions().mode() & 0o777;
    let secret = said(home, &["show"]);
    assert!(mode == 0o600 && secret.starts_with("pp1-"), "{mode:o} {secret}");
    assert_eq!(Secrets::read(&file).expect("it is one").first().text(), secret);
    fails(home, &["new"], &[file_text, "holds a secret already", "ppctl secret rotate"]);
    assert_eq!(said(home, &["show"]), secret, "it is still that one");
    assert_ne!(said(home, &["new", "--print"]), secret);
}

#[test]
fn a_secret_is_replaced_in_three_steps_each_of_which_says_what_is_next() {
    let home = tempfile::tempdir().expect("a home directory");
    let home = home.path();
    said(home, &["new"]);
    let old = said(home, &["show"]);
    let secrets = || Secrets::read(&home.join(".config/ppserver/secret")).expect("they are secrets");
    fails(home, &["rotate", "first"], &["holds one secret only", "rotate add"]);
    fails(home, &["rotate", "drop"], &["holds one secret only", "rotate add"]);
    let next = said(home, &["rotate", "add"]);
    assert!(next.contains("pkill -HUP ppserver") && next.contains("rotate first"), "{next}");
    assert!(secrets().len() == 2 && secrets().first().text() == old);
    let new = secrets()[1].text().to_owned();
    assert!(!next.contains(&old) && !next.contains(&new), "neither is shown");
    fails(home, &["rotate", "add"], &["a rotation is under way"]);
    assert!(said(home, &["rotate", "first"]).contains("rotate drop"));
    assert_eq!([secrets()[0].text(), secrets()[1].text()], [&*new, &*old]);
    assert!(said(home, &["rotate", "drop"]).contains("rotate add"));
    assert!(secrets().len() == 1 && secrets().first().text() == new);
    assert_eq!(said(home, &["show"]), new);
}

#[test]
fn a_secret_in_the_environment_is_shown_and_not_replaced() {
    let home = tempfile::tempdir().expect("a home directory");
    let with = |arguments: &[&str]| run(home.path(), arguments, &[("PP_SECRET", SECRET)]);
    assert_eq!(with(&["show"]).1, SECRET);
    let (code, _, stderr) = with(&["rotate", "add"]);
    assert!(
        code == Some(1) && stderr.contains("the secret is in PP_SECRET") && stderr.contains("unset"),
        "{stderr}"
    );
    let weak = [("PP_SECRET", "aaaaaaaaaaaaaaaa")];
    let (_, _, stderr) = run(home.path(), &["show"], &weak);
    assert!(stderr.contains("guessed soon"), "{stderr}");
}
