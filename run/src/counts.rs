//! Numbers on the command line: how many jobs run at once, and sizes.

/// How many jobs run at once (`-j`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobCount {
    /// As many as can (`0`).
    Unlimited,
    /// So many.
    Exactly(usize),
    /// So many more than there are processors (`+1`).
    More(usize),
    /// So many fewer (`-1`), but one.
    Fewer(usize),
    /// So many hundredths of the processors.
    Percent(f64),
}

/// A number that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Of jobs.
    #[error(
        "{0:?} is no number of jobs: write 8, 0 (as many as can), +2 or -1 (more or fewer than processors), or 50%"
    )]
    Jobs(String),
    /// A size.
    #[error(
        "{0:?} is no size: write a number, with k, m, g, t, p (of 1000) or K, M, G, T, P (of 1024) behind it if need be"
    )]
    Size(String),
}

impl JobCount {
    /// Reads the argument of `-j`.
    pub fn parse(text: &str) -> Result<Self, CountError> {
        // What is too large to be counted is as many as there can be.
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().unwrap_or(usize::MAX))
        };
        let count = if let Some(more) = text.strip_prefix('+') {
            number(more).map(Self::More)
        } else if let Some(fewer) = text.strip_prefix('-') {
            number(fewer).map(Self::Fewer)
        } else if let Some(percent) = text.strip_suffix('%') {
            let is_number = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            percent.parse().ok().filter(|percent| is_number && *percent > 0.0).map(Self::Percent)
        } else {
            number(text).map(|count| if count == 0 { Self::Unlimited } else { Self::Exactly(count) })
        };
        count.ok_or_else(|| CountError::Jobs(text.into()))
    }

    /// How many that is with so many processors, at least one; none where there is no limit.
    pub fn with_processors(self, processors: usize) -> Option<usize> {
        let count = match self {
            Self::Unlimited => return None,
            Self::Exactly(count) => count,
            Self::More(count) => processors.saturating_add(count),
            Self::Fewer(count) => processors.saturating_sub(count),
            Self::Percent(percent) => (processors as f64 * percent / 100.0).ceil() as usize,
        };
        Some(count.max(1))
    }
}

/// Reads a size or a count (`-s`, `-N`): `4k` is 4000, `4K` is 4096.
pub fn parse_size(text: &str) -> Result<usize, CountError> {
    let error = || CountError::Size(text.into());
    let (number, unit) = match text.char_indices().last() {
        Some((at, unit)) if !unit.is_ascii_digit() => (&text[..at], Some(unit)),
        _ => (text, None),
    };
    let factor: usize = match unit {
        None => 1,
        Some(unit) => {
            let power = "kmgtp".find(unit.to_ascii_lowercase()).ok_or_else(error)? as u32 + 1;
            if unit.is_ascii_uppercase() { 1 << (10 * power) } else { 1_000_usize.pow(power) }
        }
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: usize = number.parse().ok().filter(|_| is_number).ok_or_else(error)?;
    number.checked_mul(factor).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_jobs_depend_on_processors() {
        for (text, of_two) in [
            ("0", None),
            ("3", Some(3)),
            ("50%", Some(1)),
            ("200%", Some(4)),
            ("100.5%", Some(3)),
            ("+1", Some(3)),
            ("-1", Some(1)),
            ("-100", Some(1)),
            ("+0", Some(2)),
            ("99999999999999999999999", Some(usize::MAX)),
        ] {
            assert_eq!(JobCount::parse(text).unwrap().with_processors(2), of_two, "-j {text}");
        }
        for text in ["", "x", "1.5", "1e3", "+50%", "0%", "%", "+", "--1", "+-1", "inf%"] {
            assert!(JobCount::parse(text).is_err(), "-j {text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in
            [("0", 0), ("20", 20), ("4k", 4_000), ("4K", 4_096), ("1M", 1 << 20), ("2g", 2_000_000_000)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "k", "x", "1x", "-1", "+1", "1kk", "99999999P", "1ä"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
