//! Commands as jobs.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pp_node::built_in::{
    self, Ahead, CommandDirectory, CommandFile, CommandFiles, CommandLine, CommandOutput,
};

use super::error::JobError;
use super::job::Job;
use super::submit::{JobBuilder, OutputPiece, OutputTaker};
use crate::client::Handle;

/// A command about to be submitted: a program that the node's machine has, beside which nothing has to be sent there.
#[must_use = "nothing happens before submit() is called"]
pub struct CommandBuilder {
    handle: Arc<Handle>,
    line: CommandLine,
    taker: Option<OutputTaker>,
}

impl CommandBuilder {
    pub(super) fn new(handle: Arc<Handle>, program: OsString) -> Self {
        Self { handle, line: CommandLine { program, ..CommandLine::default() }, taker: None }
    }

    /// Adds an argument, which no shell looks at.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("printf").arg("%s").arg("a  *").submit();
    /// assert_eq!(job.wait()?.stdout, "a  *");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.line.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("/bin/sh").args(["-c", "exit 3"]).submit();
    /// assert_eq!(job.wait()?.status.to_string(), "exit code 3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.line.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, which is otherwise that of the node's jobs.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("/bin/sh").args(["-c", "echo $SCENE"]).env("SCENE", "7").submit();
    /// assert_eq!(job.wait()?.stdout, "7\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.line.environment.push((name.into(), value.into()));
        self
    }

    /// Sets a variable to the name of the node that it runs on, or to `:` on the dispatcher's own cores.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("/bin/sh").args(["-c", "echo $WHERE"]).env_of_node("WHERE").submit();
    /// assert_eq!(job.wait()?.stdout, ":\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn env_of_node(mut self, name: impl Into<OsString>) -> Self {
        self.line.node_variable = Some(name.into());
        self
    }

    /// Sets the directory that it runs in, which the node's machine has to have. Without it, it runs on other machines in an empty
    /// directory that goes with it, and on the local cores where this program does.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("pwd").current_dir("/usr").submit();
    /// assert_eq!(job.wait()?.stdout, "/usr\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn current_dir(mut self, directory: impl Into<OsString>) -> Self {
        self.line.directory = CommandDirectory::At(directory.into());
        self
    }

    /// Has it run in an empty directory that goes with it, on the local cores, too.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("ls").fresh_dir().submit();
    /// assert_eq!(job.wait()?.stdout, "");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fresh_dir(mut self) -> Self {
        self.line.directory = CommandDirectory::Fresh;
        self
    }

    /// Gives it a file, which is at this path below the directory that it runs in: that is [an empty one](Self::fresh_dir)
    /// unless [another](Self::current_dir) is set. A path that leads elsewhere is refused. Nobody but the job's user may read
    /// the file; to have it run as a program, see [`files`](Self::files).
    ///
    /// All files of a command may have 512 MiB together. They stay in memory until the job has ended.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("sort").arg("in/words").file("in/words", "pear\nfig\n").submit();
    /// assert_eq!(job.wait()?.stdout, "fig\npear\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file(mut self, path: impl Into<OsString>, contents: impl Into<Bytes>) -> Self {
        let (path, contents) = (path.into(), contents.into());
        self.line.files.sent.push(CommandFile { path, permissions: 0o600, contents });
        self
    }

    /// Has a file come back when the command has ended. If it is not there then, the command has [failed](
    /// crate::CommandStatus::FileTrouble). See [`file`](Self::file) for paths and limits.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("cp").args(["in.txt", "out.txt"]).file("in.txt", "abc").return_file("out.txt").submit();
    /// assert_eq!(job.wait()?.file("out.txt").map(|contents| &contents[..]), Some(&b"abc"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn return_file(mut self, path: impl Into<OsString>) -> Self {
        self.line.files.returned.push(path.into());
        self
    }

    /// Sets all that concerns files, in place of what was set before.
    ///
    /// ```
    /// # use pp_dispatcher::{Dispatcher, CommandFile, CommandFiles};
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let script = CommandFile { path: "hello".into(), permissions: 0o755, contents: "#!/bin/sh\necho hello\n".into() };
    /// let files = CommandFiles { sent: vec![script], ..CommandFiles::default() };
    /// assert_eq!(dispatcher.command("./hello").files(files).submit().wait()?.stdout, "hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn files(mut self, files: CommandFiles) -> Self {
        self.line.files = files;
        self
    }

    /// Sets how long it may run. Then it and what it has started are sent SIGTERM, and a fifth of a second later SIGKILL; what
    /// it wrote until then is told.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # use std::time::Duration;
    /// use pp_dispatcher::CommandStatus;
    ///
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let limit = Duration::from_millis(100);
    /// let output = dispatcher.command("/bin/sh").args(["-c", "echo a; sleep 60"]).timeout(limit).submit().wait()?;
    /// assert_eq!((output.status, &output.stdout[..]), (CommandStatus::TimedOut(limit), &b"a\n"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.line.time_limit = Some(limit);
        self
    }

    /// Sets what it reads from its standard input, which is empty otherwise.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("tr").args(["a-z", "A-Z"]).stdin("abc").submit();
    /// assert_eq!(job.wait()?.stdout, "ABC");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.line.stdin = bytes.into();
        self
    }

    /// Has `taker` called with output as it comes from the node: `ahead` says which. It is called on the thread of callbacks, and
    /// before the job's own [callback](JobBuilder::callback). While it is busy the command may have to wait before it writes
    /// more, since no more than 1 MiB is under way from each node; nothing is dropped.
    ///
    /// The command's result has only the rest of its output. It may be there before the last pieces are taken; the callback, and
    /// [`Dispatcher::wait`](crate::Dispatcher::wait), come after all of them. If the command has to be started anew, because its
    /// node died, say, the [number of the try](OutputPiece::attempt) tells.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// use std::sync::mpsc::channel;
    ///
    /// use pp_dispatcher::Ahead;
    ///
    /// let (tell, told) = channel();
    /// let script = "echo first; read go; echo second";
    /// let command = dispatcher.command("/bin/sh").args(["-c", script]).stdin("go\n");
    /// command.on_output(Ahead::Lines, move |piece| tell.send(piece.bytes).unwrap()).job().submit();
    /// dispatcher.wait();
    /// assert_eq!(told.iter().collect::<Vec<_>>().concat(), b"first\nsecond\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_output(mut self, ahead: Ahead, taker: impl FnMut(OutputPiece) + Send + 'static) -> Self {
        self.line.ahead = Some(ahead);
        self.taker = Some(Box::new(taker));
        self
    }

    /// The job, for a callback, a group, a time limit or anything else that differs from the usual.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("true").job().priority(1).max_attempts(1).submit();
    /// assert!(job.wait()?.status.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn job(mut self) -> JobBuilder<CommandOutput> {
        let files = &self.line.files;
        let wrong = files.check().err();
        if wrong.is_some() {
            self.line.files = CommandFiles::default();
        } else if !files.is_empty() && !files.are_at_home && self.line.directory == CommandDirectory::Usual {
            self.line.directory = CommandDirectory::Fresh;
        }
        let mut job = JobBuilder::new(self.handle, built_in::command, &(self.line,));
        if let Some(taker) = self.taker {
            job = job.on_output(taker);
        }
        match wrong {
            None => job,
            Some(error) => job.refuse_as(JobError::File(error.to_string())),
        }
    }

    /// Submits the command. Its output is the job's, however it ends: an exit code is no error.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// assert!(dispatcher.command("true").submit().wait()?.status.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the output is lost unless the job is waited for; with a callback use CommandBuilder::job"]
    pub fn submit(self) -> Job<CommandOutput> {
        self.job().submit()
    }
}

impl fmt::Debug for CommandBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandBuilder").field("line", &self.line).finish_non_exhaustive()
    }
}
