//! The last words of a worker: what the job that runs has written to standard error, kept for the story of its death.

use std::collections::VecDeque;

use pp_protocol::limits::LAST_STDERR_LINES;
use pp_protocol::shown;

/// The line with which a backtrace begins (`RUST_BACKTRACE=1`).
const BACKTRACE: &str = "stack backtrace:";

/// The last lines of standard error, [`LAST_STDERR_LINES`] at most, without the frames of backtraces: there are so many of
/// them that the panic's own words would be lost.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    lines: VecDeque<String>,
    /// Number of jobs that had been started when the first of them was written.
    started: u32,
    within_backtrace: bool,
}

impl LastWords {
    /// So many jobs have been started: what those before the last one wrote says nothing about its end.
    pub(super) fn began(&mut self, started: u32) {
        if std::mem::replace(&mut self.started, started) != started {
            self.lines.clear();
            self.within_backtrace = false;
        }
    }

    pub(super) fn add(&mut self, lines: &[String]) {
        for line in lines {
            self.within_backtrace &= is_frame(line);
            if self.within_backtrace {
                continue;
            }
            self.within_backtrace = line == BACKTRACE;
            if self.within_backtrace {
                self.lines.push_back(format!("{BACKTRACE} (left out here)"));
            } else {
                self.lines.push_back(shown(line).into_owned());
            }
        }
        let surplus = self.lines.len().saturating_sub(LAST_STDERR_LINES);
        self.lines.drain(..surplus);
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines).into()
    }
}

/// `   4: name::of::a::function` and `             at ./src/main.rs:4:5`.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let after_number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text != line
        && (text.starts_with("at ") || after_number != text && after_number.starts_with(':'))
        // From a thousand frames on, there is no room for a space before the number.
        || after_number != line && after_number.starts_with(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(Into::into).collect()
    }

    #[test]
    fn the_words_of_a_panic_are_kept_and_its_frames_are_not() {
        let mut words = LastWords::default();
        let frames: String =
            (0..1_200).map(|n| format!("{n:>4}: some::function\n             at ./src:{n}\n")).collect();
        let begin = "thread 'main' panicked at src/main.rs:1:1:\nno cheese\nstack backtrace:";
        let end = "note: Some details are omitted\nlast";
        words.add(&lines(begin));
        lines(&frames).chunks(7).for_each(|chunk| words.add(chunk));
        words.add(&lines(end));
        let expected = begin.to_owned() + " (left out here)\n" + end;
        assert_eq!(words.take(), lines(&expected));
    }

    #[test]
    fn only_so_many_lines_of_the_last_job_are_kept() {
        let mut words = LastWords::default();
        words.began(1);
        words.add(&lines("of the first"));
        words.began(2);
        words.add(&(0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        words.began(2);
        let kept = words.take();
        assert_eq!((kept.len(), kept[0].as_str(), kept[19].as_str()), (LAST_STDERR_LINES, "80", "99"));
    }
}
