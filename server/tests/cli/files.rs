//! Files and directories that hold what nobody else may read or change.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use pp_tests::process::SECRET;

use crate::{Daemon, Ended, home, ppserver, text};

/// A user who owns nothing.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can act as somebody else");
    }
    is_root
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode is set");
}

/// `ppserver` as a user who owns nothing but `home`, from a copy that this user can reach.
pub(crate) fn as_nobody(home: &Path) -> Command {
    let program = home.join("ppserver");
    pp_tests::process::copy_program(env!("CARGO_BIN_EXE_ppserver"), &program);
    chown(home, Some(NOBODY), Some(NOBODY)).expect("it is given away");
    let mut command = pp_tests::process::command(program, home);
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn a_configuration_file_with_the_secret_in_it_is_as_private_as_one_that_is_the_secret() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    let start = || ppserver(home.path(), &["-c", text(&file)]);
    write(&file, &format!("secret = {SECRET:?}\n"), 0o644);
    let parts = ["the configuration file holds the secret", text(&file), "mode 644", "chmod 600"];
    Ended::failing(&mut start(), &parts);
    write(&file, &format!("secret = {SECRET:?}\n"), 0o600);
    assert!(Daemon::start_as(&mut start()).authenticate(SECRET).is_ok());
    fs::hard_link(&file, home.path().join("second")).expect("a second name");
    Ended::failing(&mut start(), &[text(&file), "has 2 names"]);
    let public = home.path().join("public.toml");
    write(&public, "workers = 1\n", 0o644);
    Daemon::start(home.path(), &["-c", text(&public)]);
}

#[test]
fn what_is_wrong_in_a_configuration_file_is_said_without_its_secret() {
    let home = home();
    let file = home.path().join("ppserver.toml");
    for wrong in [
        format!("secret = {SECRET}\n"),
        format!("port = 1\n secret = \"{SECRET}\nworkers = 2\n"),
        "secret = 123456789\n".into(),
    ] {
        write(&file, &wrong, 0o600);
        let ended = Ended::of(&mut ppserver(home.path(), &["-c", text(&file)]));
        let told = ended.stderr;
        assert!(ended.code == Some(1) && told.contains("line ") && told.contains("not shown"), "{told}");
        assert!(!told.contains(&SECRET[..12]) && !told.contains("123456789"), "{told}");
    }
}

#[test]
fn a_file_of_the_administrator_may_be_for_the_group_of_a_service() {
    if !is_root() {
        return;
    }
    let home = home();
    let file = home.path().join("secret");
    let mut command = as_nobody(home.path());
    command.args(["--secret-file", text(&file)]);
    write(&file, SECRET, 0o640);
    chown(&file, Some(0), Some(NOBODY)).expect("it is the group's");
    assert!(Daemon::start_as(&mut command).authenticate(SECRET).is_ok());
    for mode in [0o660, 0o644] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("its mode is set");
        Ended::failing(&mut command, &["can be read by others", &format!("mode {mode:o}")]);
    }
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its mode is set");
    chown(&file, Some(NOBODY), Some(NOBODY)).expect("it is given away");
    Ended::failing(&mut command, &["can be read by others (mode 640)", "chmod 600"]);
    chown(&file, Some(NOBODY - 1), Some(NOBODY)).expect("it is given away");
    Ended::failing(&mut command, &["belongs to another user (65533)"]);
}

#[test]
fn without_a_home_no_place_for_programs_is_made_up_that_anybody_could_have_made_before() {
    let home = home();
    let mut command = ppserver(home.path(), &["-p", "0", "-i", "127.0.0.1"]);
    command.env("PP_SECRET", SECRET).env_remove("HOME").env("TMPDIR", home.path());
    Ended::failing(&mut command, &["no place for the programs", "--store", "PP_STORE"]);
    assert_eq!(fs::read_dir(home.path()).expect("it is there").count(), 0, "nothing was made");
    Daemon::start_as(command.env("PP_STORE", home.path().join("store")));
}

#[test]
fn a_store_of_somebody_else_is_refused_and_nothing_in_it_is_run() {
    if !is_root() {
        return;
    }
    let home = home();
    let store = home.path().join("store");
    fs::create_dir(&store).expect("a directory");
    chown(&store, Some(NOBODY), None).expect("it is given away");
    let parts = [text(&store), "belongs to user 65534", "choose another directory"];
    Ended::failing(ppserver(home.path(), &["--store", text(&store)]).env("PP_SECRET", SECRET), &parts);
}

#[test]
fn a_store_that_cannot_be_written_to_is_told_at_the_start() {
    if !is_root() {
        return;
    }
    let home = home();
    let store = home.path().join("store");
    fs::create_dir(&store).expect("a directory");
    let mut command = as_nobody(home.path());
    command.args(["-p", "0", "-i", "127.0.0.1", "--store", text(&store)]).env("PP_SECRET", SECRET);
    Ended::failing(&mut command, &[text(&store), "Permission denied", "may write to", "--store"]);
}

#[test]
fn directories_that_are_made_for_private_files_are_private() {
    let home = home();
    Daemon::start_as(&mut ppserver(home.path(), &[]));
    for made in [".config", ".config/ppserver", ".cache", ".cache/ppserver"] {
        let mode = fs::metadata(home.path().join(made)).expect("it was made").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{made}");
    }
}
