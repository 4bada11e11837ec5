//! What of a node's confinement is in force: what was asked for, as far as the system has the means. What is not is said, never
//! passed over: in the log at the start, and to whoever asks what the node confines jobs to.

use std::io;
use std::sync::Arc;

use super::groups::{GroupLimits, Groups};
use super::{landlock, seccomp};
use crate::confinement::{Confinement, Level, User};

/// What is in force for the workers of a node, besides what always is.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) level: Level,
    /// A group for each worker, if limits were asked for and the node may make groups.
    pub(super) groups: Option<Arc<Groups>>,
    /// Bytes of memory of each process, where groups limit none.
    pub(super) data: Option<u64>,
    /// Processes and threads of the user that jobs run as, where groups limit none.
    pub(super) processes_of_user: Option<u64>,
    /// The same, for people.
    pub(super) words: String,
}

/// What was asked for cannot be put into force.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel does not confine workers as strictly as was asked for: {0}; choose --confine secrets or none"
)]
pub struct NotConfined(String);

/// Whether the kernel can do what is asked for.
///
/// # Errors
/// When it cannot, though nothing less was to do.
pub(crate) fn check(confinement: &Confinement) -> Result<(), NotConfined> {
    match (confinement.level, lack_of(landlock::abi())) {
        (Level::Strict, Some(lack)) => Err(NotConfined(lack)),
        _ => Ok(()),
    }
}

impl InForce {
    /// Finds out what can be in force of what is asked for, and moves this process into a group of its own if groups are to
    /// limit its workers, of which there are to be `slots`.
    pub(super) fn of(confinement: &Confinement, slots: u32) -> Self {
        let abi = landlock::abi();
        let partial = abi.as_ref().ok().and_then(|abi| part_of(*abi));
        let mut level = confinement.level;
        let lack = lack_of(abi).filter(|_| level != Level::None);
        let mut words = match (level, &lack, partial) {
            (Level::None, _, _) => "none".to_owned(),
            (_, Some(lack), _) => {
                tracing::warn!("jobs can reach the secret, other programs and the node itself: {lack}");
                level = Level::None;
                format!("none ({lack})")
            }
            (_, None, Some((part, lack))) => {
                tracing::warn!("jobs can use {part} against others: {lack}");
                format!("{} but for {part} ({lack})", level.name())
            }
            (_, None, None) => level.name().to_owned(),
        };
        let wanted = GroupLimits { memory: confinement.memory, processes: confinement.processes };
        let (groups, reason) = match wanted {
            GroupLimits { memory: None, processes: None } => (None, None),
            _ => match Groups::create(wanted) {
                Ok((groups, reason)) => (Some(Arc::new(groups)), reason),
                Err(reason) => (None, Some(reason.to_string())),
            },
        };
        let grouped = groups.as_ref().map(|groups| groups.limits()).unwrap_or_default();
        let limits = Limits::of(confinement, slots, grouped, &reason.unwrap_or_default());
        for word in limits.words {
            words.push_str(", ");
            words.push_str(&word);
        }
        limits.lacks.iter().for_each(|lack| tracing::warn!("{lack}"));
        Self { level, groups, data: limits.data, processes_of_user: limits.processes_of_user, words }
    }
}

/// Limits of numbers, and by what they are kept.
#[derive(Debug, Default)]
struct Limits {
    data: Option<u64>,
    processes_of_user: Option<u64>,
    words: Vec<String>,
    lacks: Vec<String>,
}

impl Limits {
    /// Those that are `grouped` are kept by groups; others are not for this `reason`.
    fn of(confinement: &Confinement, slots: u32, grouped: GroupLimits, reason: &str) -> Self {
        let mut limits = Self::default();
        let words = &mut limits.words;
        let user = confinement.user.as_ref();
        words.extend(user.map(|user| format!("user {}", user.name)));
        words.extend(confinement.descriptors.map(|limit| format!("{limit} descriptors")));
        match (confinement.memory, grouped.memory) {
            (None, _) => {}
            (Some(bytes), Some(_)) => words.push(format!("{} MiB a worker", bytes >> 20)),
            (Some(bytes), None) => {
                limits.data = Some(bytes);
                words.push(format!("{} MiB a process", bytes >> 20));
                limits.lacks.push(format!(
                    "--worker-memory limits each process of a job by itself, not all of them together: {reason}; {REMEDY}"
                ));
            }
        }
        match (confinement.processes, grouped.processes, user.filter(|user| is_dedicated(user))) {
            (None, _, _) => {}
            (Some(number), Some(_), _) => words.push(format!("{number} processes a worker")),
            (Some(number), None, Some(user)) => {
                let all = u64::from(number) * u64::from(slots.max(1));
                limits.processes_of_user = Some(all);
                words.push(format!("{all} processes of {}", user.name));
                limits.lacks.push(format!(
                    "--worker-processes limits all that {} runs to {all}, for {slots} workers, not each: {reason}; {REMEDY}",
                    user.name
                ));
            }
            (Some(_), None, None) => {
                words.push(format!("processes not in force ({reason})"));
                limits.lacks.push(format!(
                    "--worker-processes is not in force: {reason}; {REMEDY}, or as root give jobs a user of their own with \
                     --user"
                ));
            }
        }
        limits
    }
}

/// How a node comes by groups.
const REMEDY: &str = "Delegate=yes in its service gives it groups";

/// The system counts what each user runs, and lets root run any number.
fn is_dedicated(user: &User) -> bool {
    !user.is_root()
}

/// What the kernel lacks to keep anything from jobs.
fn lack_of(abi: io::Result<i64>) -> Option<String> {
    match abi {
        Ok(landlock::LEAST_ABI..) => None,
        Ok(abi) => Some(format!("its Landlock is version {abi}, {} is needed (Linux 5.19)", landlock::LEAST_ABI)),
        Err(error) => Some(match error.raw_os_error() {
            Some(libc::ENOSYS) => "it has no Landlock (Linux 5.13)".into(),
            Some(libc::EOPNOTSUPP) => "its Landlock is switched off (lsm= on its command line)".into(),
            Some(libc::EPERM) => {
                "a filter of system calls refuses Landlock; let it pass landlock_* (SystemCallFilter= of the service)".into()
            }
            _ => format!("its Landlock fails: {error}"),
        }),
    }
}

/// What a kernel does not keep from jobs that keeps the contents of files from them, and why.
fn part_of(abi: i64) -> Option<(&'static str, String)> {
    let part = if abi < landlock::TRUNCATION_ABI {
        "signals and truncation"
    } else if abi < landlock::SIGNALS_ABI {
        "signals"
    } else if seccomp::is_there() {
        return None;
    } else {
        return Some(("limits", "it has no filters of system calls here".into()));
    };
    Some((part, format!("its Landlock is version {abi}, {} is needed (Linux 6.12)", landlock::SIGNALS_ABI)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_said_as_what_keeps_it_or_as_not_in_force() {
        let jobs = User::named("nobody").ok();
        let confinement = |user: Option<User>| Confinement {
            user,
            memory: Some(512 << 20),
            processes: Some(40),
            ..Confinement::default()
        };
        let both = GroupLimits { memory: Some(1), processes: Some(1) };
        let said = |user: &Option<User>, grouped| {
            let limits = Limits::of(&confinement(user.clone()), 4, grouped, "no groups");
            (limits.words.join(", "), limits.data, limits.processes_of_user, limits.lacks.len())
        };
        assert_eq!(said(&None, both), ("512 MiB a worker, 40 processes a worker".into(), None, None, 0));
        let none = GroupLimits::default();
        let words = "512 MiB a process, processes not in force (no groups)".to_owned();
        assert_eq!(said(&None, none), (words, Some(512 << 20), None, 2));
        let Some(user) = jobs else { return };
        let words = format!("user {0}, 512 MiB a process, 160 processes of {0}", user.name);
        assert_eq!(said(&Some(user), none), (words, Some(512 << 20), Some(160), 2));
        assert_eq!(Limits::of(&Confinement::default(), 4, none, "").words.len(), 0);
    }

    #[test]
    fn what_a_kernel_lacks_is_told_apart() {
        let lack = |error| lack_of(Err(io::Error::from_raw_os_error(error))).unwrap();
        assert!(lack(libc::ENOSYS).contains("no Landlock") && lack(libc::EPERM).contains("a filter"));
        assert!(lack(libc::EOPNOTSUPP).contains("switched off"));
        assert!(lack_of(Ok(1)).is_some() && lack_of(Ok(2)).is_none());
        assert_eq!(part_of(2).unwrap().0, "signals and truncation");
        assert!(part_of(5).unwrap().0 == "signals" && part_of(6).is_none());
    }
}
