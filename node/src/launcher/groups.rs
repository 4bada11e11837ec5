//! Control groups (cgroups(7), the second version): what limits a worker together with all that it starts, and ends it
//! without leaving anything.
//!
//! ```text
//! the group that the node was started in
//! └── ppserver-group-XXXXXX
//!     ├── node                  the node itself, launchers and wardens
//!     └── 0, 1, …               a worker each, with all that its jobs start
//! ```
//!
//! A group whose groups are limited has no processes of its own (the rule of "no internal processes"): hence the node moves
//! into one of its own. Nothing is here of the first version, whose groups nobody but root may make.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::locked;

/// Names of the groups of nodes begin so.
const PREFIX: &str = "ppserver-group-";
/// The group of the node itself.
const NODE: &str = "node";
/// The file that lists the processes of a group, and takes in others.
pub(super) const PROCESSES: &str = "cgroup.procs";
const CONTROLLERS: &str = "cgroup.controllers";
const CONTROLLED_BELOW: &str = "cgroup.subtree_control";

/// How long processes that are killed may take to be gone. Those that hang in the kernel are left, and their group with them.
const END_TIME: Duration = Duration::from_secs(2);
/// Time between two looks whether they are.
const LOOK: Duration = Duration::from_millis(5);

/// Which limits the groups of workers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupLimits {
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// Processes and threads.
    pub(super) processes: Option<u32>,
}

/// The groups of a node.
#[derive(Debug)]
pub(super) struct Groups {
    mount: PathBuf,
    /// The group that the node was started in.
    parent: PathBuf,
    directory: PathBuf,
    limits: GroupLimits,
    next: AtomicU64,
    _lock: File,
}

/// The group of a worker. Ended and removed when dropped.
#[derive(Debug)]
pub(super) struct WorkerGroup {
    directory: PathBuf,
    _node: Arc<Groups>,
}

/// There are no groups to be had, and why.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoGroups {
    #[error("no control groups of version 2 are mounted here")]
    NotMounted,
    #[error("its control group is not its own: {}", .0.kind())]
    NotOurs(io::Error),
}

impl Groups {
    /// Makes groups below that of this process, which moves into one of them. If not all that is `wanted` can be limited
    /// there, a reason is told.
    ///
    /// # Errors
    /// When this process may not do that.
    pub(super) fn create(wanted: GroupLimits) -> Result<(Self, Option<String>), NoGroups> {
        let (mount, parent) = own_group().ok_or(NoGroups::NotMounted)?;
        Self::create_in(mount, parent, wanted).map_err(NoGroups::NotOurs)
    }

    fn create_in(mount: PathBuf, parent: PathBuf, wanted: GroupLimits) -> io::Result<(Self, Option<String>)> {
        let (directory, lock) = locked::make(&parent, PREFIX, |left| _ = remove_tree(left))?;
        let none = GroupLimits::default();
        let mut groups =
            Self { mount, parent, directory, limits: none, next: AtomicU64::new(0), _lock: lock };
        // What runs in it may read what it is limited to.
        fs::set_permissions(&groups.directory, Permissions::from_mode(0o755))?;
        let node = groups.directory.join(NODE);
        fs::create_dir(&node)?;
        fs::write(node.join(PROCESSES), "0")?;
        groups.limits = wanted;
        let memory = wanted.memory.and_then(|_| groups.control("memory").err());
        let processes = wanted.processes.and_then(|_| groups.control("pids").err());
        groups.limits.memory.take_if(|_| memory.is_some());
        groups.limits.processes.take_if(|_| processes.is_some());
        Ok((groups, memory.or(processes)))
    }

    /// Where all groups are, those of others, too.
    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Which limits are in force.
    pub(super) fn limits(&self) -> GroupLimits {
        self.limits
    }

    /// Has this limited in the groups of workers.
    fn control(&self, what: &str) -> Result<(), String> {
        for group in [&self.parent, &self.directory] {
            let there = fs::read_to_string(group.join(CONTROLLERS)).unwrap_or_default();
            if !there.split_whitespace().any(|controller| controller == what) {
                return Err(format!("its control group has no {what} controller"));
            }
            fs::write(group.join(CONTROLLED_BELOW), format!("+{what}")).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::ResourceBusy => "other processes are in its control group".to_owned(),
                    _ => format!("its control group is not its own: {}", error.kind()),
                }
            })?;
        }
        Ok(())
    }

    /// A group for a worker.
    ///
    /// # Errors
    /// When it cannot be made, or limited.
    pub(super) fn for_worker(self: &Arc<Self>) -> io::Result<WorkerGroup> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        fs::create_dir(&directory)?;
        let group = WorkerGroup { directory, _node: Arc::clone(self) };
        let write = |file: &str, text: &str| fs::write(group.path().join(file), text);
        if let Some(bytes) = self.limits.memory {
            write("memory.max", &bytes.to_string())?;
            // All of it is killed, or whatever is left would wait for what is not there any more.
            write("memory.oom.group", "1")?;
            // A kernel that does not count what is swapped has no such file.
            let _ = write("memory.swap.max", "0");
        }
        if let Some(processes) = self.limits.processes {
            write("pids.max", &processes.to_string())?;
        }
        Ok(group)
    }
}

impl Drop for Groups {
    /// The group that the node was started in is left as it was.
    fn drop(&mut self) {
        for group in [&self.directory, &self.parent] {
            let memory = self.limits.memory.map(|_| "-memory");
            let processes = self.limits.processes.map(|_| "-pids");
            for word in memory.into_iter().chain(processes) {
                // Others may be limited below it by now.
                let _ = fs::write(group.join(CONTROLLED_BELOW), word);
            }
        }
        let _ = fs::write(self.parent.join(PROCESSES), "0");
        remove_tree(&self.directory);
    }
}

impl WorkerGroup {
    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// Whether something in it was killed because it had used up its memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        fs::read_to_string(self.directory.join("memory.events")).is_ok_and(|events| counts_kills(&events))
    }

    /// Kills all that is in it, where the kernel can do that (Linux 5.14).
    pub(super) fn end_all(&self) {
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
    }
}

impl Drop for WorkerGroup {
    fn drop(&mut self) {
        let until = Instant::now() + END_TIME;
        while !remove_tree(&self.directory) && Instant::now() < until {
            self.end_all();
            thread::sleep(LOOK);
        }
    }
}

/// The text of `memory.events`.
fn counts_kills(events: &str) -> bool {
    let counts = events.lines().filter_map(|line| line.strip_prefix("oom_kill "));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).any(|count| count > 0)
}

/// Where the groups are mounted, and that of this process.
fn own_group() -> Option<(PathBuf, PathBuf)> {
    let read = |path| fs::read_to_string(path).ok();
    own_group_in(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// From the texts of cgroup(7) and proc_pid_mountinfo(5).
fn own_group_in(groups: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = |line: &str| {
        let (here, kind) = line.split_once(" - ")?;
        let mut fields = here.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| (PathBuf::from(place), Path::new(place).join(below)))
    };
    mounts.lines().find_map(mount)
}

/// Removes a group and those below it. Tells whether none is left.
fn remove_tree(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_process_is_found_wherever_groups_are_mounted() {
        let found = |groups, mounts| {
            own_group_in(groups, mounts).map(|(mount, own)| format!("{} {}", mount.display(), own.display()))
        };
        let unified = "24 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            found("0::/system.slice/ppserver.service\n", unified).as_deref(),
            Some("/sys/fs/cgroup /sys/fs/cgroup/system.slice/ppserver.service")
        );
        let hybrid = "30 24 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            found("8:pids:/a\n0::/\n", hybrid).as_deref(),
            Some("/sys/fs/cgroup/unified /sys/fs/cgroup/unified/")
        );
        let part = "31 24 0:27 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found("0::/docker/1/a\n", part).as_deref(), Some("/sys/fs/cgroup /sys/fs/cgroup/a"));
        assert_eq!(found("0::/another\n", part), None);
        assert_eq!(found("8:pids:/a\n", hybrid), None);
        assert_eq!(found("0::/\n", "30 24 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"), None);
    }

    #[test]
    fn a_kill_for_lack_of_memory_is_told_from_a_limit_that_was_only_reached() {
        assert!(!counts_kills("low 0\nhigh 0\nmax 17\noom 0\noom_kill 0\noom_group_kill 0\n"));
        assert!(counts_kills("low 0\nhigh 0\nmax 17\noom 1\noom_kill 2\noom_group_kill 1\n"));
    }
}
