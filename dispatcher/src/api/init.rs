//! The first line of a program's `main`, where it becomes a worker if a node started it as one.

mod reached;

use pp_node::worker;

pub(crate) use self::reached::is_reached;

/// Call this as the first line of `main`.
///
/// Nodes start this program as a worker; then this call serves jobs and does not return. Everywhere else it returns
/// at once. In a `#[test]`, which has no `main` of its own, use [`in_process`](crate::Builder::in_process) instead. Jobs run on a thread of their own with 8 MiB of stack; [`Init`] changes that.
///
/// ```
/// use pp_dispatcher::Dispatcher;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pp_dispatcher::init();
///     let dispatcher = Dispatcher::builder().in_process(true).start()?;
///     // ...
///     Ok(())
/// }
/// ```
pub fn init() {
    Init::new().run();
}

/// As [`init`], for programs whose workers need something else than the usual.
///
/// It is said here and not when a dispatcher is set up because this is what every worker of the program comes by,
/// on whichever node.
///
/// ```
/// // Jobs of this program recurse deeply.
/// pp_dispatcher::Init::new().stack_bytes(64 << 20).run();
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before run() is called"]
pub struct Init {
    stack_bytes: usize,
}

impl Init {
    /// The usual.
    pub fn new() -> Self {
        Self { stack_bytes: worker::STACK_BYTES }
    }

    /// Stack of jobs: 8 MiB unless set, 256 KiB at least. Unused stack costs address space only.
    /// The same in worker processes and in the threads of [`in_process`](crate::Builder::in_process).
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// To be called as the first line of `main`, as [`init`] is.
    pub fn run(self) {
        worker::set_stack_bytes(self.stack_bytes);
        worker::serve_if_worker();
        reached::note();
    }
}

impl Default for Init {
    fn default() -> Self {
        Self::new()
    }
}
