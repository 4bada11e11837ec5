//! Announcements of nodes over mDNS: a hint where to dial, never a reason to trust.

use crate::limits::cut;
use crate::{NodeId, Version, VersionRange, shown_name};

/// The DNS-SD service type of a node.
pub const SERVICE: &str = "_ppserver._tcp.local.";

/// Bytes that a string of a TXT record holds, less `name=` (RFC 6763, section 6.1).
const TXT_NAME_BYTES: usize = 255 - 5;
/// Length of the part of a label that a node's name is made into. The label of a service has up to 63 bytes
/// (RFC 1035, section 2.3.4) with a port behind the name, that of a host with a digest; responders add a number to either
/// where a name is taken: `-65535 (99)`.
const LABEL_BYTES: usize = 48;
/// Digits that tell apart names which are shortened or changed into the same.
const DIGITS: usize = 8;

/// A node's name as the beginning of a DNS label. What does not fit or has a meaning in DNS is left out, and a digest of
/// the name tells the result apart from others.
///
/// ```
/// use pp_protocol::advert::label;
///
/// assert_eq!(label("render1"), "render1");
/// assert!(label("render1.example.org").starts_with("render1-example-org~"));
/// assert!(label(&"long".repeat(60)).len() <= 48);
/// ```
pub fn label(name: &str) -> String {
    let plain: String =
        name.trim().chars().map(|c| if c.is_control() || ".\\".contains(c) { '-' } else { c }).collect();
    if plain == name && plain.len() <= LABEL_BYTES && !plain.is_empty() {
        return plain;
    }
    let digest = fnv_1a(name.as_bytes()) as u32;
    format!("{}~{digest:0DIGITS$x}", cut(&plain, LABEL_BYTES - DIGITS - 1))
}

/// FNV-1a: no secret is in it, only accidents are to be told apart.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The contents of a node's TXT record (RFC 6763, section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// This life of the node.
    pub id: NodeId,
    /// Number of its slots.
    pub slots: u32,
    /// The protocol versions it speaks.
    pub versions: VersionRange,
    /// Its name, if it says so: names of services are shortened.
    pub name: Option<String>,
}

impl Advert {
    /// Version of this record's layout.
    const TXT_VERSION: &str = "1";

    /// The record as key-value pairs.
    pub fn to_txt(&self) -> Vec<(&'static str, String)> {
        let mut txt = vec![
            ("txtvers", Self::TXT_VERSION.into()),
            ("proto", format!("{}-{}", self.versions.oldest, self.versions.newest)),
            ("slots", self.slots.to_string()),
            ("id", format!("{:032x}", self.id.0)),
        ];
        txt.extend(self.name.as_ref().map(|name| ("name", cut(name, TXT_NAME_BYTES).to_owned())));
        txt
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
            name: value("name").map(shown_name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advert_survives_its_txt_record() {
        let name = Some("a \"name\" = grün.example".to_owned());
        let advert = Advert { id: NodeId(0xfeed), slots: 8, versions: VersionRange::SPOKEN, name };
        let txt = advert.to_txt();
        let find = |key: &str| txt.iter().find(|pair| pair.0 == key).map(|pair| pair.1.as_str());
        assert_eq!(Advert::from_txt(find), Some(advert));
        assert_eq!(Advert::from_txt(|_| Some("nonsense")), None);
        assert_eq!(Advert::from_txt(|_| None), None);
    }

    #[test]
    fn every_name_makes_a_label_that_fits_and_is_told_apart_from_others() {
        let long = |end: &str| format!("{}{end}", "ü".repeat(126));
        let names = [
            "render1".to_owned(),
            "a.b".to_owned(),
            "a-b".to_owned(),
            "a\\b".to_owned(),
            String::new(),
            " ".to_owned(),
            "tab\there".to_owned(),
            "日本語のホスト名".to_owned(),
            "x".repeat(48),
            "x".repeat(49),
            long("1"),
            long("2"),
        ];
        let labels = names.each_ref().map(|name| label(name));
        for (name, label) in names.iter().zip(&labels) {
            assert!(!label.is_empty() && label.len() <= LABEL_BYTES, "{name:?}: {label}");
            assert!(!label.contains(|c: char| c.is_control() || ".\\".contains(c)), "{name:?}: {label}");
        }
        let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{labels:?}");
    }

    #[test]
    fn a_name_too_long_for_its_record_is_cut_and_one_with_control_characters_cannot_move_a_cursor() {
        let advert = |name: &str| {
            let advert = Advert {
                id: NodeId(1),
                slots: 8,
                versions: VersionRange::SPOKEN,
                name: Some(name.to_owned()),
            };
            let txt = advert.to_txt();
            assert!(txt.iter().all(|(key, value)| key.len() + 1 + value.len() <= 255), "{txt:?}");
            Advert::from_txt(|key| txt.iter().find(|pair| pair.0 == key).map(|pair| pair.1.as_str()))
        };
        assert_eq!(advert(&"ü".repeat(200)).and_then(|advert| advert.name), Some("ü".repeat(125)));
        assert_eq!(advert("\u{1b}[2J").and_then(|advert| advert.name).as_deref(), Some("\\x1b[2J"));
        let reordered = advert("\u{202e}resu").and_then(|advert| advert.name);
        assert_eq!(reordered.as_deref(), Some("\\u{202e}resu"));
    }
}
