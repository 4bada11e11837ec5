//! How far jobs have come, in one line that fits a terminal of any width.

use std::collections::VecDeque;
use std::time::Duration;

/// Ends that are remembered for how many jobs there are in a second: the last ones.
pub const RECENT: usize = 1_024;

/// Widest bar, with its frame and the blank behind it.
const BAR_MOST: usize = 63;
/// Narrowest bar worth the name, with its frame and the blank behind it.
const BAR_LEAST: usize = 13;

/// What stands between two parts of a line.
const GAP: &str = "  ";

/// How jobs of a run ended so far. Times are those since its start.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    total: Option<u64>,
    skipped: u64,
    ended: u64,
    failed: u64,
    recent: VecDeque<Ends>,
    /// The sum of these.
    recent_jobs: u64,
    recent_run_time: Duration,
    /// When those ended that were forgotten last.
    since: Duration,
}

/// Jobs that ended by the same time.
#[derive(Clone, Copy, Debug)]
struct Ends {
    at: Duration,
    jobs: u64,
    /// How long they ran, all together.
    run_time: Duration,
}

/// What jobs run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Nodes that run jobs.
    pub nodes: usize,
    /// Jobs that they run at once.
    pub slots: usize,
}

/// How a line shows what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As numbers.
    Text,
    /// As a bar, and numbers behind it.
    Bar,
}

impl Progress {
    /// It is known how many jobs there are, with those that are skipped.
    pub fn counted(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// A job was done in an earlier run.
    pub fn skipped(&mut self) {
        self.skipped += 1;
    }

    /// Jobs that are done, here or in an earlier run.
    pub fn done(&self) -> u64 {
        self.skipped + self.ended
    }

    /// A job that ran for so long has ended.
    pub fn ended(&mut self, at: Duration, run_time: Duration, is_success: bool) {
        self.several_ended(at, 1, run_time, u64::from(!is_success));
    }

    /// Several jobs have ended by that time, which ran for so long all together, and of which so many failed.
    pub fn several_ended(&mut self, at: Duration, jobs: u64, run_time: Duration, failed: u64) {
        self.ended += jobs;
        self.failed += failed;
        self.recent.push_back(Ends { at, jobs, run_time });
        self.recent_jobs += jobs;
        self.recent_run_time += run_time;
        if self.recent.len() > RECENT
            && let Some(Ends { at, jobs, run_time }) = self.recent.pop_front()
        {
            self.recent_jobs -= jobs;
            self.recent_run_time = self.recent_run_time.saturating_sub(run_time);
            self.since = at;
        }
    }

    /// How long the run goes on, judged by the jobs that have ended: none while none has, or once it should be over.
    pub fn left(&self, at: Duration, means: Means) -> Option<Duration> {
        let remaining = self.total?.saturating_sub(self.done());
        let Ends { at: last, .. } = self.recent.back()?;
        let count = self.recent_jobs as f64;
        // The first jobs of all slots end together: before, how many there are in a second says nothing.
        let for_each = if self.ended < 2 * means.slots as u64 {
            self.recent_run_time.as_secs_f64() / count / means.slots.min(remaining as usize).max(1) as f64
        } else {
            last.saturating_sub(self.since).as_secs_f64() / count
        };
        let left = Duration::try_from_secs_f64(for_each * remaining as f64).ok()?;
        left.checked_sub(at.saturating_sub(*last)).filter(|left| !left.is_zero())
    }

    /// Jobs that ended in a second, of late.
    fn rate(&self, at: Duration) -> Option<f64> {
        let time = at.checked_sub(self.since)?.as_secs_f64();
        Some(self.recent_jobs as f64 / time).filter(|rate| rate.is_finite() && *rate > 0.0)
    }

    /// A line of at most so many columns, all of which are ASCII. What matters least is left out first.
    pub fn line(&self, at: Duration, means: Means, form: Form, columns: usize) -> String {
        let done = self.done();
        let share = self.total.map(|total| done as f64 / total.max(1) as f64);
        let parts = [
            share.map(|share| format!("{}%", (share * 100.0) as u64)),
            Some(self.total.map_or(format!("{done} done"), |total| format!("{done} of {total}"))),
            (self.failed > 0).then(|| format!("{} failed", self.failed)),
            self.rate(at).map(rate_text),
            self.left(at, means).map(|left| format!("{} left", time_text(left))),
            Some(means.text()),
        ];
        // By their weight, which is not their order.
        let mut shown = [false; 6];
        let (mut taken, mut bar) = (0, 0);
        for part in [Some(0), Some(1), Some(2), Some(4), None, Some(3), Some(5)] {
            let length = match part {
                Some(part) => parts[part].as_ref().map_or(0, |text| text.len() + GAP.len()),
                None if form == Form::Bar && share.is_some() => BAR_LEAST,
                None => 0,
            };
            // The last gap is not shown.
            if length == 0 || taken + length > columns.saturating_add(GAP.len()) {
                continue;
            }
            taken += length;
            match part {
                Some(part) => shown[part] = true,
                None => bar = BAR_LEAST,
            }
        }
        let texts: Vec<String> =
            parts.into_iter().zip(shown).filter_map(|(part, is_shown)| part.filter(|_| is_shown)).collect();
        let text = texts.join(GAP);
        match share {
            Some(share) if bar > 0 => bar_text(share, columns.saturating_sub(text.len())) + &text,
            _ => text,
        }
    }
}

impl Means {
    fn text(self) -> String {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        format!("{}, {}", counted(self.nodes, "node"), counted(self.slots, "slot"))
    }
}

/// A bar that is filled as far as so many jobs are done, and the blank behind it.
fn bar_text(share: f64, columns: usize) -> String {
    let inside = columns.min(BAR_MOST) - "[] ".len();
    let filled = ((inside as f64 * share) as usize).min(inside);
    format!("[{}{}] ", "#".repeat(filled), "-".repeat(inside - filled))
}

fn rate_text(rate: f64) -> String {
    let (number, of) = match rate {
        rate if rate >= 0.1 => (rate, "s"),
        rate if rate >= 0.1 / 60.0 => (rate * 60.0, "min"),
        rate => (rate * 3_600.0, "h"),
    };
    if number < 10.0 { format!("{number:.1}/{of}") } else { format!("{number:.0}/{of}") }
}

/// A time for people: two units at most.
pub fn time_text(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    let two = |large: u64, unit: char, small: u64, rest: char| format!("{large}{unit}{small:02}{rest}");
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => two(seconds / 3_600, 'h', seconds / 60 % 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds / 3_600 % 24, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANS: Means = Means { nodes: 3, slots: 4 };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A run of so many jobs that take a second each, of which so many have ended, the first with a failure.
    fn run(total: Option<u64>, ended: u64) -> (Progress, Duration) {
        let mut progress = Progress { total, ..Progress::default() };
        let end_of = |number: u64| seconds((number / 4 + 1) as f64);
        (0..ended).for_each(|number| progress.ended(end_of(number), seconds(1.0), number != 0));
        (progress, if ended == 0 { Duration::ZERO } else { end_of(ended - 1) })
    }

    #[test]
    fn the_line_tells_less_where_there_is_less_room() {
        let (progress, at) = run(Some(100), 50);
        let line = |form, columns| progress.line(at, MEANS, form, columns);
        let all = "50%  50 of 100  1 failed  3.8/s  13s left  3 nodes, 4 slots";
        assert_eq!(line(Form::Text, usize::MAX), all);
        assert_eq!(line(Form::Text, all.len()), all);
        assert_eq!(line(Form::Text, 41), "50%  50 of 100  1 failed  3.8/s  13s left");
        assert_eq!(line(Form::Text, 40), "50%  50 of 100  1 failed  13s left");
        assert_eq!(line(Form::Text, 24), "50%  50 of 100  1 failed");
        assert_eq!(line(Form::Text, 14), "50%  50 of 100");
        assert_eq!(line(Form::Text, 3), "50%");
        assert_eq!(line(Form::Text, 2), "");
        assert_eq!(line(Form::Bar, 39), "50%  50 of 100  1 failed  13s left");
        assert_eq!(line(Form::Bar, 47), "[#####-----] 50%  50 of 100  1 failed  13s left");
        assert!(line(Form::Bar, 79).starts_with("[########---------] 50%"), "{}", line(Form::Bar, 79));
    }

    #[test]
    fn no_line_is_wider_than_it_may_be() {
        for ended in [0, 1, 50, 100, 3_000] {
            let (progress, at) = run((ended != 3_000).then_some(100), ended);
            for columns in 0..300 {
                for form in [Form::Text, Form::Bar] {
                    let line = progress.line(at, MEANS, form, columns);
                    assert!(line.len() <= columns && line.is_ascii(), "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn without_a_total_there_is_no_share_and_no_time_left() {
        let (progress, at) = run(None, 8);
        assert_eq!(progress.line(at, MEANS, Form::Bar, 79), "8 done  1 failed  4.0/s  3 nodes, 4 slots");
        let (progress, at) = run(Some(0), 0);
        assert_eq!(progress.line(at, MEANS, Form::Text, 79), "0%  0 of 0  3 nodes, 4 slots");
    }

    #[test]
    fn the_time_left_follows_from_how_long_jobs_took() {
        let left = |total, ended, later: f64| {
            let (progress, at) = run(Some(total), ended);
            progress.left(at + seconds(later), MEANS).map(|left| left.as_secs_f64().round())
        };
        assert_eq!(left(8, 0, 0.0), None);
        assert_eq!(left(8, 4, 0.0), Some(1.0));
        assert_eq!(left(9, 1, 0.0), Some(2.0));
        assert_eq!(left(104, 4, 0.0), Some(25.0));
        assert_eq!(left(1_100, 100, 0.0), Some(250.0));
        assert_eq!(left(1_100, 100, 100.0), Some(150.0));
        assert_eq!(left(1_100, 100, 300.0), None);
        assert_eq!(left(100_000, 50_000, 0.0), Some(12_500.0));
        assert_eq!(left(8, 8, 0.0), None);
    }

    #[test]
    fn jobs_of_an_earlier_run_are_done_but_say_nothing_of_speed() {
        let (mut progress, at) = run(Some(100), 4);
        (0..90).for_each(|_| progress.skipped());
        assert_eq!(progress.line(at, MEANS, Form::Text, 50), "94%  94 of 100  1 failed  4.0/s  2s left");
    }

    #[test]
    fn rates_and_times_have_units() {
        for (rate, text) in [(1234.5, "1234/s"), (9.99, "10.0/s"), (0.1, "0.1/s"), (0.05, "3.0/min")] {
            assert_eq!(rate_text(rate), text);
        }
        assert_eq!(rate_text(0.001), "3.6/h");
        for (time, text) in [
            (0.1, "1s"),
            (59.0, "59s"),
            (60.0, "1m00s"),
            (3_599.5, "1h00m"),
            (7_380.0, "2h03m"),
            (1e5, "1d03h"),
        ] {
            assert_eq!(time_text(seconds(time)), text);
        }
    }
}
