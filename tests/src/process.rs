//! Processes that end with the test that started them, and what they write.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use pp_protocol::worker::WORKER_ENVIRONMENT;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use crate::wait::{PATIENCE, wait_until, wait_within};

/// A binary of this workspace, built by the same `cargo` call as the test that runs.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let path = target_directory().join(name);
    assert!(path.exists(), "{} is missing; run `cargo build --workspace --bins` first", path.display());
    path
}

/// An example of this workspace, built by the same `cargo` call as the test that runs.
///
/// # Panics
/// When it is not there.
pub fn example(name: &str) -> PathBuf {
    let path = target_directory().join("examples").join(name);
    assert!(path.exists(), "{} is missing; run `cargo build --workspace --examples` first", path.display());
    path
}

/// Test programs are in `deps`, below the directory of what is built.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test program has a path");
    let directory = test.parent().and_then(Path::parent);
    directory.expect("a test program is in a directory below that of the binaries").to_path_buf()
}

/// Copies a program to where it is to be started from. Another process does so: what this one holds open for writing, whatever
/// another test starts at that moment has for an instant, too, and a program that is open for writing cannot be started.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_program(program: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp").arg("--").arg(program.as_ref()).arg(to.as_ref()).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is copied", program.as_ref().display());
}

/// A command that knows nothing of the user who runs the tests: no settings, no secret, `home` for a home directory.
pub fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PP_") || name.to_string_lossy().starts_with("XDG_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A process that is killed when this is dropped, and the lines it has written so far.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts `command`, collecting what it writes.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Lines::collect(child.stdout.take().expect("it is piped"));
        let stderr = Lines::collect(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// Starts `command`, whose standard output goes elsewhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_writing_to(command: &mut Command, stdout: impl Into<Stdio>) -> Self {
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = Lines::collect(child.stderr.take().expect("it is piped"));
        Self { child, stdout: Lines::collect(std::io::empty()), stderr }
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("the process is there");
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_within(PATIENCE, "a process to end", || {
            self.child.try_wait().expect("it can be waited for")
        });
        wait_until("the end of what it wrote", || self.stdout.ended() && self.stderr.ended());
        status
    }

    /// Text it has written to standard output.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Text it has written to standard error.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a line on standard error that contains `part`, and yields it.
    ///
    /// # Panics
    /// When none comes, with what came instead.
    pub fn wait_for_stderr(&self, part: &str) -> String {
        self.stderr.wait_for(part)
    }

    /// Waits for a line on standard output that contains `part`, and yields it.
    ///
    /// # Panics
    /// When none comes, with what came instead.
    pub fn wait_for_stdout(&self, part: &str) -> String {
        self.stdout.wait_for(part)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines of a pipe, collected by a thread of their own.
#[derive(Debug)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self(lines)
    }

    fn find(&self, part: &str) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| line.contains(part)).cloned()
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn wait_for(&self, part: &str) -> String {
        wait_within(PATIENCE, part, || {
            let ended = self.ended();
            let found = self.find(part);
            assert!(found.is_some() || !ended, "{part:?} was never written, but:\n{}", self.text());
            found
        })
    }

    /// Whether the pipe was closed: the thread has let go of the lines.
    fn ended(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Options of a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Command before the program: `ip netns exec NAME`, say.
    pub wrapper: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The secret. `None` leaves it to `PP_SECRET_FILE` or the home directory.
    pub secret: Option<String>,
    /// Number of workers.
    pub workers: usize,
    /// The port; 0 for any.
    pub port: u16,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

/// The secret of servers in tests.
pub const SECRET: &str = "pp1-wjrs1s1ky63f5datde0b85s2z9sv5azdxy0eky65es372qt3r606why2";
/// A secret that none of them knows.
pub const OTHER_SECRET: &str = "pp1-fwkam6a5nn2eyj91c6rsypkypt3ztqs08jweregp9113gxvzs88d6hb8";

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            wrapper: Vec::new(),
            arguments: vec!["-i".into(), "127.0.0.1".into()],
            secret: Some(SECRET.into()),
            workers: 2,
            port: 0,
            environment: Vec::new(),
        }
    }
}

/// A `ppserver` with a home directory of its own, killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    options: ServerOptions,
    home: TempDir,
}

impl Server {
    /// A server on loopback with this many workers.
    pub fn start(workers: usize) -> Self {
        Self::start_with(ServerOptions { workers, ..ServerOptions::default() })
    }

    /// A server as told; returns once it listens.
    ///
    /// # Panics
    /// When it does not come to listen.
    pub fn start_with(mut options: ServerOptions) -> Self {
        let home = tempfile::tempdir().expect("a home directory");
        let process = launch(&options, home.path());
        options.port = port_of(&process);
        Self { process, options, home }
    }

    /// Starts it again after its end, at the same port, with the same home directory.
    ///
    /// # Panics
    /// When it does not come to listen.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.options, self.home.path());
        port_of(&self.process);
    }

    /// Address at which it listens.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Its address on loopback.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Its home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

fn launch(options: &ServerOptions, home: &Path) -> Process {
    let server = binary("ppserver");
    let mut words = options.wrapper.iter().map(String::as_str).collect::<Vec<_>>();
    words.push(server.to_str().expect("paths here are text"));
    let mut command = command(words[0], home);
    command.args(&words[1..]).arg("-d").args(["-w", &options.workers.to_string()]);
    command.args(["-p", &options.port.to_string()]).args(&options.arguments);
    command.envs(options.secret.iter().map(|secret| ("PP_SECRET", secret)));
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    Process::start(&mut command)
}

fn port_of(process: &Process) -> u16 {
    let line = process.wait_for_stderr("listens on");
    let (_, rest) = line.split_once("listens on").expect("it was looked for");
    let address = rest.split_whitespace().next().expect("an address follows");
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port in {line:?}"))
}

/// Whether a process runs; one that has ended and waits to be collected does not.
pub fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ") && !status.contains(") X ")
}

/// Whether a process lives that called itself a worker of a node: numbers of processes, and of threads, are given anew.
pub fn is_worker(pid: i32) -> bool {
    let is_one = |environment: Vec<u8>| {
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(WORKER_ENVIRONMENT.as_bytes()))
    };
    is_alive(pid) && std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(is_one)
}

/// Memory of a process that is in use, in bytes; 0 if it is gone.
pub fn resident(pid: u32) -> u64 {
    status_of(pid, "VmRSS:") * 1024
}

/// Most memory that a process ever used, in bytes; 0 if it is gone.
pub fn most_resident(pid: u32) -> u64 {
    status_of(pid, "VmHWM:") * 1024
}

/// Number of threads of a process; 0 if it is gone.
pub fn threads(pid: u32) -> u64 {
    status_of(pid, "Threads:")
}

fn status_of(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Number of descriptors that a process has open; 0 if it is gone.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
