//! Base files: those that each node is sent once, when a job there lacks them.
//!
//! A job names them by what is in them. A node that has not got one says so; then it is sent there, while the jobs that lack
//! it wait, and they are submitted again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use pp_dispatcher::{BaseFile, CommandFile};
use pp_protocol::Digest;
use pp_protocol::limits::{BASE_FILE_BYTES, BASE_FILES, COMMAND_FILE_BYTES};
use pp_run::NamedFile;

use super::files::directory_of;

/// Base files of a run, and jobs that wait until a node has them.
#[derive(Debug)]
pub(super) struct BaseFiles<J> {
    files: Vec<Source>,
    /// By the name of the node.
    sending: BTreeMap<String, Sending<J>>,
}

/// A base file where it is on this machine.
#[derive(Clone, Debug)]
pub(super) struct Source {
    directory: PathBuf,
    file: BaseFile,
}

/// What is being sent to a node.
#[derive(Debug)]
struct Sending<J> {
    left: usize,
    failure: Option<String>,
    waiting: Vec<J>,
}

/// What comes of what was sent to a node: jobs that waited for it, and why it does not have it, if so.
pub(super) type Sent<J> = (Vec<J>, Option<String>);

impl<J> BaseFiles<J> {
    /// Looks at the files with these names.
    ///
    /// # Errors
    /// When one is not there, or they are more than a node keeps.
    pub(super) fn look_at(names: &[OsString]) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let mut bytes = 0;
        for name in names {
            let named = NamedFile::parse(name.as_encoded_bytes());
            let directory = directory_of(&named);
            let file = CommandFile::read(&directory, OsString::from_vec(named.path), COMMAND_FILE_BYTES)
                .with_context(|| format!("--basefile {}", name.display()))?;
            let at_home = std::path::absolute(directory.join(&file.path))?;
            files.push(Source { file: BaseFile::of(&file, at_home), directory });
            bytes += file.contents.len() as u64;
        }
        if files.len() > BASE_FILES || bytes > BASE_FILE_BYTES {
            let limit = BASE_FILE_BYTES >> 20;
            bail!("--basefile: a node keeps up to {BASE_FILES} files of up to {limit} MiB together");
        }
        Ok(Self { files, sending: BTreeMap::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What jobs name.
    pub(super) fn named(&self) -> Vec<BaseFile> {
        self.files.iter().map(|source| source.file.clone()).collect()
    }

    /// Whether one of these is a base file of the run.
    pub(super) fn has_one_of(&self, digests: &[Digest]) -> bool {
        self.files.iter().any(|source| digests.contains(&source.file.digest))
    }

    /// Has a job wait that lacks files on a node, of which there are so many with that name. Yields what is to be sent to each,
    /// if that is not being done.
    pub(super) fn lack(&mut self, node: &str, digests: &[Digest], alike: usize, job: J) -> Vec<Source> {
        if let Some(sending) = self.sending.get_mut(node) {
            sending.waiting.push(job);
            return Vec::new();
        }
        let is_lacking = |source: &&Source| digests.contains(&source.file.digest);
        let mut sources: Vec<_> = self.files.iter().filter(is_lacking).cloned().collect();
        // Two of the same contents are one there.
        sources.sort_by_key(|source| source.file.digest);
        sources.dedup_by_key(|source| source.file.digest);
        let sending = Sending { left: sources.len() * alike, failure: None, waiting: vec![job] };
        self.sending.insert(node.to_owned(), sending);
        sources
    }

    /// A file has been sent to a node, or not. Yields what comes of it when that was the last one.
    pub(super) fn sent(&mut self, node: &str, result: Result<(), String>) -> Option<Sent<J>> {
        let sending = self.sending.get_mut(node)?;
        sending.left = sending.left.saturating_sub(1);
        if let Err(reason) = result {
            sending.failure.get_or_insert(reason);
        }
        if sending.left > 0 {
            return None;
        }
        self.sending.remove(node).map(|sending| (sending.waiting, sending.failure))
    }
}

impl Source {
    /// Reads it again, for a node.
    pub(super) fn read(&self) -> Result<(Bytes, usize), String> {
        let read = CommandFile::read(&self.directory, &self.file.path, COMMAND_FILE_BYTES);
        let read = read.map_err(|error| format!("the base file cannot be sent: {error}"))?;
        if BaseFile::of(&read, "").digest != self.file.digest {
            return Err(format!(
                "the base file {} has changed since the run began",
                self.file.path.display()
            ));
        }
        let bytes = read.contents.len();
        Ok((read.contents, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_node_is_sent_what_it_lacks_once_and_jobs_wait_until_it_has_all() {
        let home = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c"].map(|name| home.path().join(format!("./{name}")).into_os_string());
        for (name, contents) in ["a", "b", "c"].iter().zip(["1", "2", "1"]) {
            fs::write(home.path().join(name), contents).unwrap();
        }
        let mut base = BaseFiles::look_at(&names).unwrap();
        let digests: Vec<_> = base.named().iter().map(|file| file.digest).collect();
        assert_eq!(base.lack("x", &digests, 1, 1).len(), 2, "two are the same");
        assert!(base.lack("x", &digests[..1], 1, 2).is_empty());
        assert_eq!(base.lack("y", &digests[..1], 2, 3).len(), 1);
        assert!(base.sent("y", Ok(())).is_none(), "there are two of them");
        assert!(base.sent("x", Ok(())).is_none());
        assert_eq!(base.sent("x", Ok(())), Some((vec![1, 2], None)));
        assert_eq!(base.sent("y", Err("full".into())), Some((vec![3], Some("full".into()))));
        assert_eq!(base.lack("x", &digests, 1, 4).len(), 2, "it has lost them");
        let sources = base.lack("z", &digests[..1], 1, 5);
        assert_eq!(sources[0].read().unwrap(), (Bytes::from_static(b"1"), 1));
        fs::write(home.path().join("a"), "3").unwrap();
        fs::write(home.path().join("c"), "3").unwrap();
        assert!(sources[0].read().unwrap_err().contains("changed"));
        assert!(
            BaseFiles::<u8>::look_at(&["/no/./such".into()]).unwrap_err().to_string().contains("--basefile")
        );
    }
}
