//! When a run stops early (`--halt`), and the exit code of all of it.

/// How a job ended, as the job log has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; -1 where it was ended from here, at a time limit for instance.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
}

impl Exit {
    /// Whether it ended well.
    pub fn is_success(self) -> bool {
        self.code == 0 && self.signal == 0
    }

    /// What a shell would say of it.
    fn as_code(self) -> u8 {
        match self {
            Self { code, signal: 0 } => u8::try_from(code).unwrap_or(u8::MAX),
            Self { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// A reason to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Halt {
    /// What becomes of jobs that run.
    pub when: When,
    /// What is counted.
    pub why: Why,
    /// How many, or which part of all.
    pub share: Share,
}

/// How a run stops; either way no more jobs start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Jobs that run are killed.
    Now,
    /// They end by themselves.
    Soon,
}

/// What stops a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Jobs that failed.
    Fail,
    /// Jobs that ended well.
    Success,
    /// Jobs that ended.
    Done,
}

/// How much stops a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many jobs.
    Count(u64),
    /// So many in a hundred of all jobs.
    Percent(f64),
}

/// An argument of `--halt` that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--halt {given}: write never, or 'now' or 'soon', a comma, and fail=N, success=N or done=N; N may be N%"
)]
pub struct HaltError {
    given: String,
}

impl Halt {
    /// Reads the argument of `--halt`; none stands for `never`. The short forms `0`, `1`, `2`, `-1`, `-2`, `N%` are known.
    pub fn parse(text: &str) -> Result<Option<Self>, HaltError> {
        let count = |when, why| Some(Self { when, why, share: Share::Count(1) });
        Ok(match text {
            "never" | "0" => None,
            "1" => count(When::Soon, Why::Fail),
            "2" => count(When::Now, Why::Fail),
            "-1" => count(When::Soon, Why::Success),
            "-2" => count(When::Now, Why::Success),
            _ => Some(Self::long(text).ok_or_else(|| HaltError { given: text.into() })?),
        })
    }

    fn long(text: &str) -> Option<Self> {
        let Some((when, condition)) = text.split_once(',') else {
            let share = share(text).filter(|_| text.ends_with('%'))?;
            return Some(Self { when: When::Soon, why: Why::Fail, share });
        };
        let when = match when {
            "now" => When::Now,
            "soon" => When::Soon,
            _ => return None,
        };
        let (why, number) = condition.split_once('=')?;
        let why = match why {
            "fail" => Why::Fail,
            "success" => Why::Success,
            "done" => Why::Done,
            _ => return None,
        };
        Some(Self { when, why, share: share(number)? })
    }
}

/// Reads `N` or `N%`; nothing is not a share.
fn share(text: &str) -> Option<Share> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let is_number = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            percent.parse().ok().filter(|percent| is_number && *percent > 0.0).map(Share::Percent)
        }
        None => text.parse().ok().filter(|count| *count > 0).map(Share::Count),
    }
}

/// How jobs ended, counted: says when to stop, and the exit code.
///
/// ```
/// use pp_run::halt::{Exit, Halt, Tally, When};
///
/// let mut tally = Tally::new(Halt::parse("now,fail=1")?);
/// assert_eq!(tally.ended(Exit::default(), None), None);
/// assert_eq!(tally.ended(Exit { code: 3, signal: 0 }, None), Some(When::Now));
/// assert_eq!(tally.exit_code(None), 3);
/// # Ok::<(), pp_run::halt::HaltError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tally {
    halt: Option<Halt>,
    failed: u64,
    succeeded: u64,
    /// The last job that failed.
    last_failure: Exit,
    is_reached: bool,
}

impl Tally {
    /// Nothing has ended.
    pub fn new(halt: Option<Halt>) -> Self {
        Self { halt, failed: 0, succeeded: 0, last_failure: Exit::default(), is_reached: false }
    }

    /// Jobs that failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Jobs that ended well.
    pub fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Whether it depends on how many jobs there are, so that all have to be composed before the first is run.
    pub fn needs_total(&self) -> bool {
        matches!(self.halt, Some(Halt { share: Share::Percent(_), .. }))
    }

    /// A job has ended, of `total` if that is known. Says whether the run is to stop.
    pub fn ended(&mut self, exit: Exit, total: Option<u64>) -> Option<When> {
        if exit.is_success() {
            self.succeeded += 1;
        } else {
            self.failed += 1;
            self.last_failure = exit;
        }
        let Halt { when, why, share } = self.halt?;
        let counted = match why {
            Why::Fail => self.failed,
            Why::Success => self.succeeded,
            Why::Done => self.failed + self.succeeded,
        };
        self.is_reached |= match share {
            Share::Count(count) => counted >= count,
            Share::Percent(percent) => {
                total.is_some_and(|total| counted as f64 * 100.0 >= percent * total as f64)
            }
        };
        self.is_reached.then_some(when)
    }

    /// The exit code of the run, which had `total` jobs if that is known.
    ///
    /// It is the number of jobs that failed, 101 where that is over 100; with `fail=1` what the job says that failed; with
    /// percentages how many in a hundred failed; and 0 where so many succeeded as were asked for.
    pub fn exit_code(&self, total: Option<u64>) -> u8 {
        match self.halt {
            Some(Halt { why: Why::Success, .. }) if self.is_reached => 0,
            Some(Halt { why: Why::Fail, share: Share::Count(1), .. }) if self.is_reached => {
                self.last_failure.as_code()
            }
            Some(Halt { share: Share::Percent(_), .. }) => {
                let total = total.unwrap_or(self.failed + self.succeeded).max(1);
                self.failed.saturating_mul(100).div_ceil(total).min(100) as u8
            }
            _ => self.failed.min(101) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the jobs end before the run stops, and its exit code.
    fn run(halt: &str, codes: &[i32]) -> (usize, u8) {
        let mut tally = Tally::new(Halt::parse(halt).unwrap());
        let total = Some(codes.len() as u64);
        let stopped =
            codes.iter().position(|code| tally.ended(Exit { code: *code, signal: 0 }, total).is_some());
        (stopped.map_or(codes.len(), |last| last + 1), tally.exit_code(total))
    }

    #[test]
    fn runs_stop_where_those_of_parallel_do() {
        let codes = [0, 3, 0, 4, 5, 0, 0, 0];
        for (halt, expected) in [
            ("never", (8, 3)),
            ("0", (8, 3)),
            ("1", (2, 3)),
            ("2", (2, 3)),
            ("-1", (1, 0)),
            ("-2", (1, 0)),
            ("10%", (2, 13)),
            ("now,fail=2", (4, 2)),
            ("soon,done=2", (2, 1)),
            ("now,fail=30%", (5, 38)),
            ("soon,success=30%", (6, 0)),
            ("now,success=50%", (7, 0)),
            ("now,done=50%", (4, 25)),
            ("soon,fail=100%", (8, 38)),
            ("now,success=6", (8, 3)),
            ("soon,done=9", (8, 3)),
        ] {
            assert_eq!(run(halt, &codes), expected, "--halt {halt}");
        }
        assert_eq!(run("soon,fail=90%", &[1, 0, 0]).1, 34);
        assert_eq!(run("soon,success=90%", &[1, 1, 0, 0]).1, 50);
    }

    #[test]
    fn the_exit_code_counts_failures_up_to_a_hundred() {
        assert_eq!(run("never", &[1; 100]).1, 100);
        assert_eq!(run("never", &[1; 150]).1, 101);
        assert_eq!(run("never", &[0; 150]).1, 0);
    }

    #[test]
    fn a_job_that_was_killed_says_so() {
        let mut tally = Tally::new(Halt::parse("now,fail=1").unwrap());
        assert_eq!(tally.ended(Exit { code: 0, signal: 9 }, None), Some(When::Now));
        assert_eq!(tally.exit_code(None), 137);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "now",
            "soon,",
            "foo,fail=1",
            "now,foo=1",
            "now,fail=0",
            "now,fail=1,x",
            "fail=1",
            "-3",
            "x%",
            "5",
        ] {
            assert!(Halt::parse(text).is_err(), "{text}");
        }
    }
}
