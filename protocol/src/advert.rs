//! What a node says of itself over mDNS: a hint where to dial, never a reason to trust.

use crate::{NodeId, Version, VersionRange};

/// The DNS-SD service type of a node.
pub const SERVICE: &str = "_ppserver._tcp.local.";

/// The contents of a node's TXT record (RFC 6763, section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// This life of the node.
    pub id: NodeId,
    /// How many slots it has.
    pub slots: u32,
    /// The protocol versions it speaks.
    pub versions: VersionRange,
}

impl Advert {
    /// Version of this record's layout.
    const TXT_VERSION: &str = "1";

    /// The record as key-value pairs.
    pub fn to_txt(&self) -> [(&'static str, String); 4] {
        [
            ("txtvers", Self::TXT_VERSION.into()),
            ("proto", format!("{}-{}", self.versions.oldest, self.versions.newest)),
            ("slots", self.slots.to_string()),
            ("id", format!("{:032x}", self.id.0)),
        ]
    }

    /// Reads a record through `value`, which yields the value of a key. `None` if it is not one of ours.
    pub fn from_txt<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        if value("txtvers")? != Self::TXT_VERSION {
            return None;
        }
        let (oldest, newest) = value("proto")?.split_once('-')?;
        Some(Self {
            id: NodeId(u128::from_str_radix(value("id")?, 16).ok()?),
            slots: value("slots")?.parse().ok()?,
            versions: VersionRange {
                oldest: Version(oldest.parse().ok()?),
                newest: Version(newest.parse().ok()?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advert_survives_its_txt_record() {
        let advert = Advert { id: NodeId(0xfeed), slots: 8, versions: VersionRange::SPOKEN };
        let txt = advert.to_txt();
        let find = |key: &str| txt.iter().find(|pair| pair.0 == key).map(|pair| pair.1.as_str());
        assert_eq!(Advert::from_txt(find), Some(advert));
        assert_eq!(Advert::from_txt(|_| Some("nonsense")), None);
        assert_eq!(Advert::from_txt(|_| None), None);
    }
}
