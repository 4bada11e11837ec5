//! Commands as jobs.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use pp_node::built_in::{self, CommandLine, CommandOutput};

use super::job::Job;
use super::submit::JobBuilder;
use crate::client::Handle;

/// A command about to be submitted: a program that the node's machine has, beside which nothing has to be sent there.
#[derive(Debug)]
#[must_use = "nothing happens before submit() is called"]
pub struct CommandBuilder {
    handle: Arc<Handle>,
    line: CommandLine,
}

impl CommandBuilder {
    pub(super) fn new(handle: Arc<Handle>, program: OsString) -> Self {
        Self { handle, line: CommandLine { program, ..CommandLine::default() } }
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

    /// Sets the directory of the node's machine that it runs in. Without it, it runs where the node's jobs do: on a `ppserver`
    /// in an empty directory of its worker, on the local cores where this program does.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("pwd").current_dir("/usr").submit();
    /// assert_eq!(job.wait()?.stdout, "/usr\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn current_dir(mut self, directory: impl Into<OsString>) -> Self {
        self.line.directory = Some(directory.into());
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

    /// The job, for a callback, a group, a time limit or anything else that differs from the usual.
    ///
    /// ```
    /// # use pp_dispatcher::Dispatcher;
    /// # let dispatcher = Dispatcher::builder().in_process(true).local_workers(1).start()?;
    /// let job = dispatcher.command("true").job().priority(1).max_attempts(1).submit();
    /// assert!(job.wait()?.status.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn job(self) -> JobBuilder<CommandOutput> {
        JobBuilder::new(self.handle, built_in::command, &(self.line,))
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
