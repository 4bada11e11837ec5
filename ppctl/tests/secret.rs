//! `ppctl secret`: made, shown, found, replaced.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pp_protocol::secret::Secrets;
use pp_tests::process::{OTHER_SECRET, Process, SECRET, command};

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
    let file = home.join(".config/ppserver/secret");
    let secrets = || Secrets::read(&file).expect("they are secrets");
    let texts = || secrets().iter().map(|secret| secret.text().to_owned()).collect::<Vec<_>>();
    assert!(said(home, &["rotate"]).contains("rotate add"));
    fails(home, &["rotate", "first"], &["holds one secret only", "rotate add"]);
    fails(home, &["rotate", "drop"], &["holds one secret only", "rotate add"]);

    let next = said(home, &["rotate", "add"]);
    assert!(next.contains("pkill -HUP ppserver") && next.contains("rotate first"), "{next}");
    let new = secrets()[1].text().to_owned();
    assert_eq!(texts(), [&*old, &new]);
    assert!(!next.contains(&old) && !next.contains(&new), "neither is shown");
    fails(home, &["rotate", "add"], &["a rotation is under way", "rotate first"]);
    fails(
        home,
        &["rotate", "drop"],
        &["the new secret", "first", "`ppctl secret rotate first` comes before"],
    );
    assert_eq!(texts(), [&*old, &new], "a step out of turn changes nothing");
    assert!(said(home, &["rotate"]).contains("Step 1 of 3 is done here"));

    for _ in 0..2 {
        assert!(said(home, &["rotate", "first"]).contains("rotate drop"));
        assert_eq!(texts(), [&*new, &old], "taken twice, it is as taken once");
    }
    fails(home, &["rotate", "add"], &["a rotation is under way", "rotate drop"]);

    assert!(said(home, &["rotate", "drop"]).contains("All 3 steps are done"));
    assert_eq!(texts(), [&*new]);
    assert_eq!(
        std::fs::read_to_string(&file).expect("it is there"),
        format!("{new}\n"),
        "no comment is left"
    );
    fails(home, &["rotate", "drop"], &["none to remove"]);
    assert_eq!(said(home, &["show"]), new);
}

#[test]
fn of_secrets_that_somebody_wrote_by_hand_it_is_to_be_said_which_is_new() {
    let home = tempfile::tempdir().expect("a home directory");
    let file = home.path().join("secret");
    let write = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its mode is set");
    };
    let rotate = |step: &[&str]| {
        let named = ["--secret-file", file.to_str().expect("paths here are text")];
        run(home.path(), &[&["rotate"], step, &named].concat(), &[])
    };
    let kept = "# this is ours";
    write(&format!("{kept}\r\n{SECRET}\r\n  {OTHER_SECRET}  \r\n"));
    let (code, told, _) = rotate(&[]);
    assert!(code == Some(0) && told.contains("`# new: NAME`"), "{told}");
    for step in ["add", "first", "drop"] {
        let (code, _, stderr) = rotate(&[step]);
        assert!(code == Some(1) && stderr.contains("`# new: NAME`"), "{stderr}");
    }
    let (_, json, _) = rotate(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["new"], &json["next"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    write(&format!(
        "{kept}\n{SECRET}\n# new: {}\n{OTHER_SECRET}",
        json["secrets"][1].as_str().expect("a name")
    ));
    assert_eq!(rotate(&["first"]).0, Some(0));
    assert_eq!(Secrets::read(&file).expect("they are secrets").first().text(), OTHER_SECRET);
    assert_eq!(rotate(&["drop"]).0, Some(0));
    let left = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(left, format!("{kept}\n{OTHER_SECRET}\n"), "comments of people stay");
    write(&format!("{SECRET}\n{SECRET}\n"));
    for step in [&[][..], &["first"], &["drop"]] {
        let (code, _, stderr) = rotate(step);
        let said = "line 2 of ";
        assert!(
            code == Some(1) && stderr.contains(said) && stderr.contains("the same as the one in line 1"),
            "{stderr}"
        );
    }
}

#[test]
fn of_two_who_begin_a_rotation_at_the_same_time_one_does() {
    let home = tempfile::tempdir().expect("a home directory");
    said(home.path(), &["new"]);
    let add = || run(home.path(), &["rotate", "add"], &[]).0;
    let codes: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(add)).collect();
        all.into_iter().map(|one| one.join().expect("it ran")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    let secrets = Secrets::read(&home.path().join(".config/ppserver/secret")).expect("they are secrets");
    assert_eq!(secrets.len(), 2);
}

#[test]
fn what_is_in_the_way_of_a_secret_or_a_key_is_said_and_not_to_make_another_one() {
    let home = tempfile::tempdir().expect("a home directory");
    let home = home.path();
    let directory = home.join(".config/ppserver");
    std::fs::create_dir_all(&directory).expect("a directory");
    let ppctl = |arguments: &[&str]| {
        let mut process = Process::start(command(env!("CARGO_BIN_EXE_ppctl"), home).args(arguments));
        let code = process.wait().code();
        (code, process.stderr())
    };
    let fails_alike = |name: &str, parts: &[&str]| {
        for command in ["new", "show"] {
            let (code, stderr) = ppctl(&[name, command]);
            assert!(code == Some(1), "{name} {command}: {stderr}");
            assert!(parts.iter().all(|part| stderr.contains(part)), "{name} {command}: {stderr}");
        }
    };
    for (name, file, empty) in
        [("secret", "secret", "is empty"), ("key", "machine_key", "it is empty; if it is to be")]
    {
        let path = directory.join(file);
        std::fs::write(&path, "\n").expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode is set");
        fails_alike(name, &[empty]);
        std::fs::remove_file(&path).expect("it was there");
        std::os::unix::fs::symlink("nowhere", &path).expect("a link");
        fails_alike(name, &["is a link to nowhere, which is not there", "remove the link"]);
        std::fs::remove_file(&path).expect("it was there");
        std::fs::create_dir(&path).expect("a directory");
        fails_alike(name, &["is no file but a directory"]);
    }
}

#[test]
fn where_secrets_are_looked_for_is_said_once() {
    let home = tempfile::tempdir().expect("a home directory");
    let (code, stdout, stderr) = run(home.path(), &["path"], &[("PP_SECRET", SECRET)]);
    assert!(code == Some(0) && stdout.ends_with(".config/ppserver/secret"), "{stdout}");
    assert_eq!(stderr.matches("PP_SECRET is set").count(), 1, "{stderr}");
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
