//! The nodes that a dispatcher knows, by the key that each showed first.
//!
//! A file with a line for each node that has a key: `ppk1-... IDENTITY`. The identity is the name under which the node was
//! found on the network, or the address that it was given by. A node whose key is remembered is believed with that key only:
//! neither with another one, nor with the secret alone, which any other node knows as well.
//! Source: the idea of OpenSSH's `known_hosts`, sshd(8).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{MACHINE_KEY_VARIABLE, PublicKey, WrongKey};
use crate::limits::{KNOWN_NODES, KNOWN_NODES_BYTES, NAME_BYTES, cut};
use crate::private::{self, PrivateError};
use crate::shown;

/// The file that remembers the keys of nodes. It is read whenever it is asked, so that whoever mends it need not start
/// anything again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNodes {
    path: PathBuf,
}

/// The key of a node that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The key that it showed first.
    pub key: PublicKey,
    /// The line of the file that says so.
    pub line: usize,
}

/// The keys of nodes cannot be looked up, or not be remembered.
#[derive(Debug, thiserror::Error)]
pub enum KnownNodesError {
    /// The file cannot be read or written, or others can change it.
    #[error(
        "cannot use the file of known nodes: {}{}",
        .0,
        .0.or_elsewhere(&format!("{MACHINE_KEY_VARIABLE}, beside which the known nodes are"))
    )]
    File(#[from] PrivateError),
    /// A line makes no sense.
    #[error("line {line} of the known nodes in {}: {reason}; mend or remove it", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The number of the line.
        line: usize,
        /// The fault.
        reason: WrongKey,
    },
    /// Another key was remembered meanwhile.
    #[error("another program remembered another key of it in line {line} of {} just now", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// There are too many.
    #[error("{} knows {KNOWN_NODES} nodes, and there may be no more; remove lines of those that are gone", .0.display())]
    Full(PathBuf),
}

impl KnownNodes {
    /// Those that are remembered in the directory in which this file is: beside the machine's key.
    pub fn beside(machine_key: &Path) -> Self {
        Self { path: machine_key.with_file_name("known_nodes") }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that is remembered of the node of this identity.
    ///
    /// # Errors
    /// When the file cannot be read, others can change it, or a line makes no sense.
    pub fn find(&self, identity: &str) -> Result<Option<Pin>, KnownNodesError> {
        match private::read_unaltered(&self.path, KNOWN_NODES_BYTES) {
            Ok(text) => self.find_in(&text, &written(identity)).map(|(pin, _)| pin),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Remembers the key of a node that is not known yet.
    ///
    /// # Errors
    /// When the file cannot be written, is full, or somebody else has remembered another key.
    pub fn pin(&self, identity: &str, key: PublicKey) -> Result<(), KnownNodesError> {
        private::make_directory(&self.path)?;
        let unwritable = |source| private::unwritable(&self.path, source);
        let mut file = self.open().map_err(unwritable)?;
        // Several programs of a user may meet a node at the same time.
        private::lock(&file, &self.path)?;
        private::check_unaltered_at(&self.path, &file.metadata().map_err(unwritable)?)?;
        let text = private::text_of(&file, &self.path, KNOWN_NODES_BYTES)?;
        let identity = written(identity);
        match self.find_in(&text, &identity)? {
            (Some(pin), _) if pin.key == key => return Ok(()),
            (Some(pin), _) => return Err(KnownNodesError::Other { path: self.path.clone(), line: pin.line }),
            (None, count) if count >= KNOWN_NODES => return Err(KnownNodesError::Full(self.path.clone())),
            (None, _) => {}
        }
        // One write at the end of the file: whoever reads meanwhile sees the line or does not.
        let break_before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        Ok(file.write_all(format!("{break_before}{key} {identity}\n").as_bytes()).map_err(unwritable)?)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)
    }

    /// The node of this identity, as written, and how many nodes there are.
    fn find_in(&self, text: &str, identity: &str) -> Result<(Option<Pin>, usize), KnownNodesError> {
        let (mut found, mut count) = (None, 0);
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            count += 1;
            let (key, of) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let key = key.parse();
            let key =
                key.map_err(|reason| KnownNodesError::Wrong { path: self.path.clone(), line, reason })?;
            if of.trim() == identity && found.is_none() {
                found = Some(Pin { key, line });
            }
        }
        Ok((found, count))
    }
}

/// An identity in its line: one line, of bounded length, without blanks around it. Anybody on a network can announce any.
fn written(identity: &str) -> String {
    cut(shown(identity).trim(), NAME_BYTES).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::machine::MachineKey;

    fn file(home: &tempfile::TempDir) -> KnownNodes {
        KnownNodes::beside(&home.path().join("ppserver/machine_key"))
    }

    #[test]
    fn the_first_key_of_a_node_is_remembered_and_another_one_does_not_replace_it() {
        let home = tempfile::tempdir().unwrap();
        let known = file(&home);
        let [first, second] = [(); 2].map(|()| MachineKey::random().public());
        assert_eq!(known.find("render1:60000").unwrap(), None);
        known.pin("render1:60000", first).unwrap();
        known.pin("render1:60000", first).unwrap();
        known.pin("two words._ppserver._tcp.local.", second).unwrap();
        assert_eq!(known.find("render1:60000").unwrap(), Some(Pin { key: first, line: 1 }));
        assert_eq!(
            known.find("two words._ppserver._tcp.local.").unwrap(),
            Some(Pin { key: second, line: 2 })
        );
        assert_eq!(known.find("render1").unwrap(), None);
        let again = known.pin("render1:60000", second).unwrap_err();
        assert!(matches!(again, KnownNodesError::Other { line: 1, .. }), "{again}");
        assert_eq!(fs::read_to_string(known.path()).unwrap().lines().count(), 2);
    }

    #[test]
    fn no_identity_makes_a_line_of_another() {
        let home = tempfile::tempdir().unwrap();
        let known = file(&home);
        let [ours, theirs] = [(); 2].map(|()| MachineKey::random().public());
        let identities =
            [format!("a\n{theirs} render1:60000"), "#".into(), " ".into(), "x".repeat(NAME_BYTES * 2)];
        for identity in &identities {
            known.pin(identity, ours).unwrap();
            assert_eq!(known.find(identity).unwrap().map(|pin| pin.key), Some(ours), "{identity:?}");
        }
        assert_eq!(known.find("render1:60000").unwrap(), None);
        assert_eq!(fs::read_to_string(known.path()).unwrap().lines().count(), identities.len());
    }

    #[test]
    fn programs_that_meet_a_node_at_the_same_time_agree_on_its_key() {
        let home = tempfile::tempdir().unwrap();
        let known = file(&home);
        let pinned = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| known.pin("node", MachineKey::random().public()).is_ok()))
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|pinned| *pinned).count()
        });
        assert_eq!(pinned, 1);
        assert_eq!(fs::read_to_string(known.path()).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_a_line_without_end_is_not_run_into_another() {
        let home = tempfile::tempdir().unwrap();
        let known = file(&home);
        let key = MachineKey::random().public();
        known.pin("one", key).unwrap();
        let text = fs::read_to_string(known.path()).unwrap();
        fs::write(known.path(), text.trim_end()).unwrap();
        known.pin("two", key).unwrap();
        assert_eq!(known.find("two").unwrap(), Some(Pin { key, line: 2 }));
        fs::write(known.path(), format!("# ours\n{}x one\n", key)).unwrap();
        let error = known.find("two").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("mend or remove"), "{error}");
    }
}
