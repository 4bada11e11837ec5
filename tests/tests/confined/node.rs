//! Daemons that are attacked, and dispatchers that send them jobs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use pp_dispatcher::{Dispatcher, NodeKind, Output};
use pp_tests::process::{SECRET, Server, ServerOptions, Signal};
use pp_tests::wait::PATIENCE;
use rustix::process::geteuid;

/// A user that nothing belongs to.
pub(crate) const NOBODY: u32 = 65_534;

/// A daemon with files of its user's: a secret, a store, and data that is nobody's business to hide.
pub(crate) struct Node {
    pub(crate) server: Server,
    files: tempfile::TempDir,
}

/// How a daemon is started.
#[derive(Default)]
pub(crate) struct Setting<'a> {
    pub(crate) workers: usize,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// What the daemon is started by.
    pub(crate) wrapper: &'a [String],
    /// Whether it is root's; or else it is [`NOBODY`]'s, or whoever's the tests are.
    pub(crate) is_roots: bool,
}

impl Node {
    pub(crate) fn start(workers: usize, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(Setting { workers, arguments, environment, ..Setting::default() })
    }

    /// `None` if the tests do not run as root.
    pub(crate) fn start_by_root(workers: usize, arguments: &[&str]) -> Option<Self> {
        if !geteuid().is_root() {
            println!("skipped: only root can start a daemon of root's");
            return None;
        }
        Some(Self::start_as(Setting { workers, arguments, is_roots: true, ..Setting::default() }))
    }

    pub(crate) fn start_as(setting: Setting<'_>) -> Self {
        // What is on the way to the secret is closed to new files: it is in another place than what jobs write.
        let files = files(if setting.is_roots { 0 } else { NOBODY });
        let mut wrapper = Vec::new();
        if geteuid().is_root() && !setting.is_roots {
            wrapper =
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from).into();
        }
        wrapper.extend_from_slice(setting.wrapper);
        let own = |text: &str| text.to_owned();
        let mut arguments = arguments(files.path());
        arguments.extend(setting.arguments.iter().copied().map(own));
        let server = Server::start_with(ServerOptions {
            wrapper,
            arguments,
            secret: None,
            workers: setting.workers,
            environment: setting.environment.iter().map(|(name, value)| (own(name), own(value))).collect(),
            ..ServerOptions::default()
        });
        Self { server, files }
    }

    pub(crate) fn dispatcher(&self) -> Dispatcher {
        let builder = Dispatcher::builder().local_workers(0).discover(false).secret(SECRET);
        let builder = builder.output(Output::EventsOnly).nodes([self.server.address()]);
        let dispatcher = builder.start().expect("it starts");
        assert_eq!(dispatcher.wait_for_nodes(1, PATIENCE), 1, "{:?}", dispatcher.nodes());
        dispatcher
    }

    /// Ends the daemon in order: one that is killed leaves its control groups to the next.
    pub(crate) fn end(mut self) {
        self.server.process().signal(Signal::TERM);
        assert!(self.server.process().wait().success());
    }

    pub(crate) fn pid(&mut self) -> i32 {
        self.server.process().id().as_raw_pid()
    }

    /// Whether the kernel has the means to keep files from jobs; if not, the node says so.
    pub(crate) fn keeps_secrets(&self, dispatcher: &Dispatcher) -> bool {
        let said = confinement(dispatcher);
        let keeps = said.starts_with("secrets") || said.starts_with("strict");
        assert!(keeps || said.contains("Landlock"), "{said}");
        if !keeps {
            println!("skipped in part: {said}");
        }
        keeps
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

/// Files of a daemon of this user, as far as whoever runs the tests may give them away.
pub(crate) fn files(owner: u32) -> tempfile::TempDir {
    let files = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    fs::write(files.path().join("secret"), SECRET).expect("a file");
    fs::create_dir_all(files.path().join("data/a")).expect("a directory");
    fs::create_dir_all(files.path().join("data/b")).expect("a directory");
    for (name, bits) in
        [("", 0o777), ("secret", 0o600), ("data", 0o777), ("data/a", 0o777), ("data/b", 0o777)]
    {
        let path = files.path().join(name);
        mode(&path, bits);
        if geteuid().is_root() {
            chown(path, Some(owner), Some(owner)).expect("root may");
        }
    }
    files
}

/// Arguments of a daemon with these files.
pub(crate) fn arguments(files: &Path) -> Vec<String> {
    let text = |name: &str| files.join(name).to_str().expect("paths here are text").to_owned();
    ["-i".into(), "127.0.0.1".into(), "--secret-file".into(), text("secret"), "--store".into(), text("store")]
        .into()
}

/// What the node says that it confines jobs to.
pub(crate) fn confinement(dispatcher: &Dispatcher) -> String {
    let mut nodes = dispatcher.nodes().into_iter().filter(|node| node.kind != NodeKind::Local);
    nodes.next().expect("a node was named").confinement
}
