//! Protocol versions: a range on each side, the highest common one is spoken.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A protocol version, with what changed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u16);

impl Version {
    /// The first version: sessions, attempts, programs, heartbeats, resize, recall, resume.
    pub const V1: Self = Self(1);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions one side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest version spoken.
    pub oldest: Version,
    /// The newest version spoken.
    pub newest: Version,
}

impl VersionRange {
    /// Versions that this build speaks.
    pub const SPOKEN: Self = Self { oldest: Version::V1, newest: Version::V1 };

    /// The newest version both ranges hold, if there is one.
    ///
    /// ```
    /// use pp_protocol::{Version, VersionRange};
    /// let old = VersionRange { oldest: Version(1), newest: Version(2) };
    /// let new = VersionRange { oldest: Version(2), newest: Version(5) };
    /// assert_eq!(old.highest_common(new), Some(Version(2)));
    /// ```
    pub fn highest_common(self, other: Self) -> Option<Version> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_overlap_have_no_common_version() {
        let old = VersionRange { oldest: Version(1), newest: Version(2) };
        let new = VersionRange { oldest: Version(3), newest: Version(4) };
        assert_eq!(old.highest_common(new), None);
        assert_eq!(new.highest_common(old), None);
    }
}
