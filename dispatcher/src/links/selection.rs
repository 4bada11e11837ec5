//! Which nodes are used: some of those that are found on the network, and none that are left out.
//!
//! A node is judged by what is said of it as it is found, before it is dialled, and by its own name once it has proved that
//! it knows the secret.

use std::net::SocketAddr;

use pp_protocol::address::HostIp;

use super::address::Address;
use super::discovery::Addresses;
use crate::core::NodeKind;

/// Name of a node, or a pattern that names fit: `*` stands for any characters, `?` for one. Upper and lower case are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamePattern(Vec<char>);

impl NamePattern {
    /// Reads a pattern. Whatever else is in it stands for itself.
    fn new(text: &str) -> Self {
        Self(folded(text))
    }

    /// Whether a name fits.
    fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (&self.0[..], &folded(name)[..]);
        let (mut at, mut seen) = (0, 0);
        // The last `*`, and how much of the name it stands for.
        let mut star = None;
        while seen < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == name[seen] => (at, seen) = (at + 1, seen + 1),
                _ => {
                    let Some((place, stands_until)) = star else { return false };
                    star = Some((place, stands_until + 1));
                    (at, seen) = (place + 1, stands_until + 1);
                }
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Nodes that are meant by a text: their name, a pattern that names fit (`*` stands for any characters, `?` for one; upper and
/// lower case are the same), or their address, with or without a port.
///
/// ```
/// use pp_dispatcher::NodePattern;
///
/// let gpus = NodePattern::new("gpu*");
/// assert!(gpus.is_of_several() && gpus.fits("GPU1", "10.0.0.2:60000"));
/// assert!(NodePattern::new("10.0.0.2").fits("gpu1", "10.0.0.2:60000"));
/// ```
#[derive(Clone, Debug)]
pub struct NodePattern {
    name: NamePattern,
    address: Option<Address>,
    /// No port was said: whichever the node has.
    any_port: bool,
}

impl NodePattern {
    /// Reads a text. Whatever is in it that means nothing else stands for itself.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let address = Address::parse(text).ok();
        // With a port that makes no sense behind it, what says one already is no address any more.
        let any_port = Address::parse(&format!("{text}:1")).is_ok() || text.parse::<HostIp>().is_ok();
        Self { name: NamePattern::new(text), address, any_port }
    }

    /// Whether a node of this name is meant, or one at this address, as [`NodeInfo`](crate::NodeInfo) has it.
    pub fn fits(&self, name: &str, address: &str) -> bool {
        self.name.fits(name) || Address::parse(address).is_ok_and(|at| self.is_at(&at))
    }

    /// Whether names of several nodes may fit: there is a `*` or `?` in it.
    pub fn is_of_several(&self) -> bool {
        self.name.0.iter().any(|c| ['*', '?'].contains(c))
    }

    fn is_at(&self, at: &Address) -> bool {
        let is_same =
            |own: &Address| own.host.eq_ignore_ascii_case(&at.host) && (self.any_port || own.port == at.port);
        self.address.as_ref().is_some_and(is_same)
    }
}

/// Which nodes are used. All, unless told.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    found: Vec<NamePattern>,
    left_out: Vec<NodePattern>,
}

impl Selection {
    /// Of the nodes that are found on the network, those whose names fit one of these.
    pub fn add_found(&mut self, pattern: &str) {
        self.found.push(NamePattern::new(pattern));
    }

    /// None of these: by name, pattern or address.
    pub fn leave_out(&mut self, node: &str) {
        self.left_out.push(NodePattern::new(node));
    }

    /// Whether a node of this name is used, which has not been dialled or has just been welcomed from there.
    pub(crate) fn takes(&self, kind: NodeKind, name: &str, addresses: &Addresses) -> bool {
        let is_wanted = kind != NodeKind::Discovered
            || self.found.is_empty()
            || self.found.iter().any(|pattern| pattern.fits(name));
        kind == NodeKind::Local || is_wanted && !self.left_out.iter().any(|it| it.is_meant(name, addresses))
    }
}

impl NodePattern {
    fn is_meant(&self, name: &str, addresses: &Addresses) -> bool {
        let is_there = match addresses {
            Addresses::Local => false,
            Addresses::Named(address) => self.is_at(address),
            Addresses::Announced(all) => all.iter().any(|at: &SocketAddr| self.is_at(&Address::from(*at))),
        };
        is_there || self.name.fits(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names_in_any_case() {
        for (pattern, fitting, others) in [
            ("gpu*", &["gpu", "gpu1", "GPU-Ä"][..], &["xgpu", "gp"][..]),
            ("*gpu*", &["gpu", "a gpu b"], &["gp u"]),
            ("gpu?", &["gpu1", "gpuÄ"], &["gpu", "gpu12"]),
            ("a*b*c", &["abc", "axxbbxbc"], &["ab", "acb", "abcd"]),
            ("*", &["", "$(reboot)"], &[]),
            ("$(reboot) [a-z] 'x'", &["$(REBOOT) [A-Z] 'X'"], &["$(reboot) b 'x'"]),
            ("", &[""], &["a"]),
        ] {
            let it = NamePattern::new(pattern);
            assert!(fitting.iter().all(|name| it.fits(name)), "{pattern} fits {fitting:?}");
            assert!(!others.iter().any(|name| it.fits(name)), "{pattern} does not fit {others:?}");
        }
    }

    #[test]
    fn a_pattern_that_is_made_to_take_long_does_not() {
        let pattern = NamePattern::new(&"*a".repeat(60));
        assert!(!pattern.fits(&"a".repeat(59)));
        assert!(!NamePattern::new(&format!("{}b", "*a".repeat(60))).fits(&"a".repeat(200)));
    }

    #[test]
    fn nodes_are_left_out_by_name_or_address_with_or_without_a_port() {
        let named = |text| Addresses::Named(Address::parse(text).expect("it is one"));
        let announced = |text: &str| Addresses::Announced(vec![text.parse().expect("it is one")]);
        let takes = |left_out: &str, name, addresses: &Addresses| {
            let mut selection = Selection::default();
            selection.leave_out(left_out);
            selection.takes(NodeKind::Configured, name, addresses)
        };
        for left_out in ["Render1", "render1:60000", "10.0.0.1", "10.0.0.1:60000", "rend*"] {
            let at_ip = left_out.starts_with("10");
            let addresses = if at_ip { named("10.0.0.1") } else { named("render1") };
            assert!(!takes(left_out, "render1", &addresses), "{left_out}");
            assert!(takes(left_out, "other", &named("other:60000")), "{left_out}");
        }
        assert!(takes("10.0.0.1:7", "a", &named("10.0.0.1")));
        assert!(!takes("10.0.0.1", "a", &announced("10.0.0.1:7")));
        assert!(!takes("fd00::1", "a", &announced("[fd00::1]:7")));
        assert!(!takes("[fd00::1]:7", "a", &announced("[fd00::1]:7")));
        assert!(takes("[fd00::1]:8", "a", &announced("[fd00::1]:7")));
    }

    #[test]
    fn only_of_nodes_that_are_found_are_some_picked() {
        let mut selection = Selection::default();
        selection.add_found("gpu*");
        let at = Addresses::Announced(Vec::new());
        assert!(selection.takes(NodeKind::Discovered, "gpu1", &at));
        assert!(!selection.takes(NodeKind::Discovered, "cpu1", &at));
        assert!(selection.takes(NodeKind::Configured, "cpu1", &at));
        selection.leave_out("gpu1");
        selection.leave_out("*");
        assert!(!selection.takes(NodeKind::Discovered, "gpu1", &at));
        assert!(selection.takes(NodeKind::Local, "local", &Addresses::Local));
    }
}
