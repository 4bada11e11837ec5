//! Times on the command line: `--delay`, `--timeout`.

use std::collections::VecDeque;
use std::time::Duration;

/// A time that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no time: write seconds, or numbers with s, m, h or d, as in 1.5, 2m or 1h30m")]
pub struct TimeError {
    given: String,
}

/// Reads a time: seconds, or numbers with `s`, `m`, `h`, `d` behind them.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(pp_run::times::parse_time("1m30s"), Ok(Duration::from_secs(90)));
/// ```
pub fn parse_time(text: &str) -> Result<Duration, TimeError> {
    let error = || TimeError { given: text.into() };
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| error())?;
        let unit = rest[end..].chars().next();
        seconds += number
            * match unit.map(|unit| unit.to_ascii_lowercase()) {
                None | Some('s') => 1.0,
                Some('m') => 60.0,
                Some('h') => 3_600.0,
                Some('d') => 86_400.0,
                Some(_) => return Err(error()),
            };
        rest = &rest[end + unit.map_or(0, char::len_utf8)..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| error())
}

/// How long a job may run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timeout {
    /// So long.
    After(Duration),
    /// So many hundredths of what jobs took so far, their median.
    Percent(f64),
}

impl Timeout {
    /// Reads the argument of `--timeout`; none where it is 0.
    pub fn parse(text: &str) -> Result<Option<Self>, TimeError> {
        let Some(percent) = text.strip_suffix('%') else {
            return Ok(Some(parse_time(text)?).filter(|time| !time.is_zero()).map(Self::After));
        };
        let is_number = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent: f64 =
            percent.parse().ok().filter(|_| is_number).ok_or_else(|| TimeError { given: text.into() })?;
        Ok((percent > 0.0).then_some(Self::Percent(percent)))
    }
}

/// Times that are remembered for their median: those of the last jobs.
pub const RUNTIMES: usize = 1_024;

/// Fewer times than this have no median worth the name.
pub const RUNTIMES_LEAST: usize = 3;

/// How long jobs took that ended well.
#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    last: VecDeque<Duration>,
}

impl Runtimes {
    /// A job ended well.
    pub fn ended(&mut self, runtime: Duration) {
        if self.last.len() == RUNTIMES {
            self.last.pop_front();
        }
        self.last.push_back(runtime);
    }

    /// How long a job may run now; none while too few have ended for a percentage.
    pub fn limit(&self, timeout: Timeout) -> Option<Duration> {
        let percent = match timeout {
            Timeout::After(time) => return Some(time),
            Timeout::Percent(percent) => percent,
        };
        if self.last.len() < RUNTIMES_LEAST {
            return None;
        }
        let mut times: Vec<Duration> = self.last.iter().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        Duration::try_from_secs_f64(median.as_secs_f64() * percent / 100.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("10", 10.0),
            ("1.5", 1.5),
            ("2m", 120.0),
            ("1d", 86_400.0),
            ("1m30s", 90.0),
            ("1m30", 90.0),
            ("1d2h3m4s", 93_784.0),
            ("1.5M", 90.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "x", "1w", "-1", "1 m", "m", "1e3", "inf", ".", "1ä", "9999999999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_may_be_a_percentage() {
        assert_eq!(Timeout::parse("150.5%"), Ok(Some(Timeout::Percent(150.5))));
        assert_eq!(Timeout::parse("2m"), Ok(Some(Timeout::After(Duration::from_secs(120)))));
        assert_eq!(Timeout::parse("0"), Ok(None));
        assert!(
            Timeout::parse("x%").is_err() && Timeout::parse("%").is_err() && Timeout::parse("nan%").is_err()
        );
    }

    #[test]
    fn a_percentage_is_of_the_median() {
        let mut runtimes = Runtimes::default();
        let limit = |runtimes: &Runtimes| runtimes.limit(Timeout::Percent(200.0));
        for seconds in [1, 100] {
            runtimes.ended(Duration::from_secs(seconds));
            assert_eq!(limit(&runtimes), None);
        }
        runtimes.ended(Duration::from_secs(3));
        assert_eq!(limit(&runtimes), Some(Duration::from_secs(6)));
        (0..2 * RUNTIMES).for_each(|_| runtimes.ended(Duration::from_secs(5)));
        assert_eq!(limit(&runtimes), Some(Duration::from_secs(10)));
        assert_eq!(runtimes.last.len(), RUNTIMES);
    }
}
