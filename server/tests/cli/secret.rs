//! The secret: found, refused, made.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pp_protocol::handshake::HandshakeError;
use pp_tests::process::{OTHER_SECRET, SECRET, Signal};

use crate::files::{NOBODY, as_nobody, is_root};
use crate::{Daemon, Ended, home, ppserver, text};

fn write_with_mode(path: &Path, secret: &str, mode: u32) {
    std::fs::write(path, secret).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode is set");
}

#[test]
fn a_secret_file_that_others_can_read_is_refused_wherever_it_was_named() {
    let home = home();
    let file = home.path().join("secret of all");
    write_with_mode(&file, SECRET, 0o644);
    let parts = [text(&file), "can be read by others (mode 644)", "chmod 600"];
    Ended::failing(&mut ppserver(home.path(), &["--secret-file", text(&file)]), &parts);
    Ended::failing(ppserver(home.path(), &[]).env("PP_SECRET_FILE", &file), &parts);
    let config = home.path().join("ppserver.toml");
    std::fs::write(&config, format!("secret_file = {:?}\n", text(&file))).expect("a file");
    Ended::failing(&mut ppserver(home.path(), &["-c", text(&config)]), &parts);
}

#[test]
fn a_secret_file_that_is_missing_is_an_error_and_no_other_secret_is_used_instead() {
    let home = home();
    let missing = home.path().join("missing");
    let mut command = ppserver(home.path(), &["--secret-file", text(&missing)]);
    Ended::failing(
        command.env("PP_SECRET", SECRET),
        &["cannot use the secret file", text(&missing), "is not there", "ppctl secret new --secret-file"],
    );
}

#[test]
fn a_secret_file_of_ones_own_is_used() {
    let home = home();
    let file = home.path().join("mine");
    write_with_mode(&file, &format!("{SECRET}\n"), 0o600);
    let daemon = Daemon::start_as(&mut ppserver(home.path(), &["--secret-file", text(&file)]));
    assert!(daemon.authenticate(SECRET).is_ok());
    assert!(matches!(daemon.authenticate(OTHER_SECRET), Err(HandshakeError::SecretMismatch)));
}

#[test]
fn a_secret_on_the_command_line_is_used_with_a_warning() {
    let home = home();
    let daemon = Daemon::start_as(&mut ppserver(home.path(), &["-s", SECRET]));
    daemon.process.wait_for_stderr("other users can see the secret in the process list");
    assert!(daemon.authenticate(SECRET).is_ok());
    assert!(!daemon.process.stderr().contains(SECRET), "it is not logged");
}

#[test]
fn passphrases_are_warned_of_and_what_is_guessed_at_once_is_refused() {
    let home = home();
    let started = |secret| Daemon::start_as(ppserver(home.path(), &[]).env("PP_SECRET", secret));
    let words = started("correct horse battery staple");
    words.process.wait_for_stderr("the secret is a passphrase");
    words.process.wait_for_stderr("ppctl secret new");
    assert!(words.authenticate(" correct horse battery staple\n").is_ok());
    let short = started("twelve chars");
    short.process.wait_for_stderr("do not dial nodes that only announce themselves");
    started("aaaaaaaaaaaaaaaa")
        .process
        .wait_for_stderr("so few different characters that it is guessed soon");
    let made = started(SECRET);
    let warned = made.process.stderr();
    assert!(!warned.lines().any(|line| line.contains("WARN") && line.contains("secret")), "{warned}");
    let short = ["the secret from PP_SECRET has 11 characters", "12 at least", "ppctl secret new"];
    Ended::failing(ppserver(home.path(), &[]).env("PP_SECRET", "elevenchars"), &short);
    let (typed, last) = SECRET.split_at(SECRET.len() - 1);
    let typed = format!("{typed}{}", if last == "0" { "1" } else { "0" });
    let mistyped = ["the secret from PP_SECRET", "was not copied as it was", "checksum", "copy it once more"];
    Ended::failing(ppserver(home.path(), &[]).env("PP_SECRET", typed), &mistyped);
    let prefix = ["the secret from PP_SECRET", "those begin with `pp1-`", "copy it once more"];
    Ended::failing(ppserver(home.path(), &[]).env("PP_SECRET", SECRET.replace("pp1-", "ppl-")), &prefix);
}

#[test]
fn a_secret_that_is_empty_is_refused_where_one_was_given() {
    let home = home();
    Ended::failing(
        &mut ppserver(home.path(), &["-s", " "]),
        &["the secret from the command line or code is empty"],
    );
    let file = home.path().join("blank");
    write_with_mode(&file, " \n", 0o600);
    let empty = format!("the secret from {} is empty", text(&file));
    Ended::failing(ppserver(home.path(), &[]).env("PP_SECRET_FILE", &file), &[&empty]);
}

#[test]
fn the_first_daemon_makes_a_secret_and_says_how_to_bring_it_and_the_next_ones_find_it() {
    let home = home();
    let first = Daemon::start_as(&mut ppserver(home.path(), &["-d"]));
    let file = home.path().join(".config/ppserver/secret");
    let secret = std::fs::read_to_string(&file).expect("the secret was written");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert!(secret.starts_with("pp1-"), "one that tells typing errors");
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");

    let bring = first.process.wait_for_stderr("ssh OTHER");
    assert!(bring.contains("umask 077") && bring.ends_with(&format!("< {}", file.display())), "{bring}");
    assert!(!first.process.stderr().contains(secret.trim()), "the secret itself is not logged");

    let second = Daemon::start_as(&mut ppserver(home.path(), &["-d"]));
    second.process.wait_for_stderr("secret read");
    assert!(!second.process.stderr().contains("new secret"), "{}", second.process.stderr());
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), secret);
    for daemon in [&first, &second] {
        assert!(daemon.authenticate(secret.trim()).is_ok());
        assert!(matches!(daemon.authenticate(SECRET), Err(HandshakeError::SecretMismatch)));
    }
}

#[test]
fn the_line_that_brings_the_secret_does_bring_it() {
    let (here, there) = (home(), home());
    let daemon = Daemon::start_as(&mut ppserver(here.path(), &[]));
    let line = daemon.process.wait_for_stderr("ssh OTHER");
    // A shell with the other machine's home directory stands in for ssh.
    let line = line.replace("ssh OTHER", &format!("HOME={} sh -c", there.path().display()));
    let brought = std::process::Command::new("sh").args(["-c", &line]).env("HOME", here.path()).status();
    assert!(brought.expect("there is a shell").success());
    let other = Daemon::start_as(&mut ppserver(there.path(), &[]));
    assert!(!other.process.stderr().contains("new secret"), "{}", other.process.stderr());
    let secret = std::fs::read_to_string(here.path().join(".config/ppserver/secret")).expect("it is there");
    assert!(other.authenticate(secret.trim()).is_ok());
}

#[test]
fn a_secret_that_is_out_of_reach_is_not_taken_for_one_that_is_missing() {
    if !is_root() {
        return;
    }
    let home = home();
    let closed = home.path().join("closed");
    std::fs::create_dir_all(closed.join(".config/ppserver")).expect("a directory");
    write_with_mode(&closed.join(".config/ppserver/secret"), SECRET, 0o600);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("it is closed");
    let mut command = as_nobody(home.path());
    let refused =
        format!("user {NOBODY}: the directory {} is closed, of user 0, with mode 700", text(&closed));
    Ended::failing(command.env("HOME", &closed), &["cannot use the secret file", &refused, "run as user 0"]);
}

#[test]
fn a_secret_in_the_home_directory_that_others_can_read_is_refused() {
    let home = home();
    std::fs::create_dir_all(home.path().join(".config/ppserver")).expect("a directory");
    let file = home.path().join(".config/ppserver/secret");
    write_with_mode(&file, SECRET, 0o644);
    Ended::failing(&mut ppserver(home.path(), &["-p", "0"]), &["mode 644", "chmod 600", text(&file)]);
}

#[test]
fn a_home_that_is_no_absolute_path_is_refused_and_nothing_is_made_below_it() {
    let home = home();
    let secret = ("PP_SECRET", SECRET);
    for (set, name) in [
        (&[("HOME", "here")][..], "HOME"),
        (&[("XDG_CONFIG_HOME", "./here")], "XDG_CONFIG_HOME"),
        (&[("HOME", "here"), secret], "HOME"),
        (&[("XDG_CACHE_HOME", "here"), secret], "XDG_CACHE_HOME"),
    ] {
        let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1"]);
        command.envs(set.iter().copied()).current_dir(home.path());
        let message = format!("the environment variable {name} is");
        Ended::failing(&mut command, &[&message, "here\"", "not an absolute path"]);
        assert!(!home.path().join("here").exists());
    }
}

#[test]
fn without_a_home_there_is_no_place_for_a_secret_and_none_is_made_up() {
    let home = home();
    let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1"]);
    Ended::failing(
        command.env_remove("HOME"),
        &["neither XDG_CONFIG_HOME nor HOME is set", "--secret-file", "PP_SECRET"],
    );
}

/// What the daemon says at the signal to read its secrets again; `part` is in it.
fn reload(daemon: &Daemon, part: &str) {
    daemon.process.signal(Signal::HUP);
    daemon.process.wait_for_stderr(part);
}

#[test]
fn secrets_are_read_again_at_a_signal_and_what_is_bad_keeps_those_of_before_and_says_why() {
    let home = home();
    let file = home.path().join("secret");
    write_with_mode(&file, SECRET, 0o600);
    let daemon = Daemon::start_as(&mut ppserver(home.path(), &["--secret-file", text(&file)]));
    let is_known = |secret| daemon.authenticate(secret).is_ok();
    let several = [SECRET; 5].join("\n");
    let twice = [SECRET; 2].join("\n");
    for (content, mode, part) in [
        (&*twice, 0o600, "the same as the one in line 1"),
        (SECRET, 0o644, "mode 644"),
        ("", 0o600, "is empty"),
        ("hello", 0o600, "has 5 characters"),
        (&several, 0o600, "has 5 lines"),
    ] {
        write_with_mode(&file, content, mode);
        reload(&daemon, part);
        assert!(daemon.process.stderr().contains("those of before stay"), "{}", daemon.process.stderr());
        assert!(is_known(SECRET), "{part}");
    }
    std::fs::remove_file(&file).expect("it was there");
    reload(&daemon, "is not there");
    assert!(is_known(SECRET) && !is_known(OTHER_SECRET));
    write_with_mode(&file, &format!("{OTHER_SECRET}\n{SECRET}\n"), 0o600);
    reload(&daemon, "again accepted=2");
    assert!(is_known(SECRET) && is_known(OTHER_SECRET));
    write_with_mode(&file, OTHER_SECRET, 0o600);
    reload(&daemon, "again accepted=1");
    assert!(!is_known(SECRET) && is_known(OTHER_SECRET));
    assert!(!daemon.process.stderr().contains(OTHER_SECRET), "none is logged");
}

#[test]
fn a_secret_in_the_configuration_file_is_read_again_too_and_one_that_cannot_change_says_so() {
    let home = home();
    let config = home.path().join("ppserver.toml");
    write_with_mode(&config, &format!("secret = {SECRET:?}\n"), 0o600);
    let daemon = Daemon::start_as(&mut ppserver(home.path(), &["-c", text(&config)]));
    write_with_mode(&config, "workers = 1\n", 0o600);
    reload(&daemon, "says nothing of them any more");
    write_with_mode(&config, &format!("secret = \"\"\"\n{OTHER_SECRET}\n{SECRET}\"\"\"\n"), 0o600);
    reload(&daemon, "again accepted=2");
    assert!(daemon.authenticate(SECRET).is_ok() && daemon.authenticate(OTHER_SECRET).is_ok());
    let fixed = Daemon::start(home.path(), &[]);
    reload(&fixed, "start ppserver with --secret-file");
    assert!(fixed.authenticate(SECRET).is_ok());
}
