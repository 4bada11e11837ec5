//! How a node hands its socket, its page and shared memory to a worker process.
//!
//! The worker's end of a socket pair is its standard input, so that nothing has to be inherited by number and no other
//! child can get hold of it. The other descriptors wait in the socket, attached to one byte (`SCM_RIGHTS`, see unix(7)):
//! the page, and, where the system has such, the [arenas](crate::lending) of node and worker. The environment names the
//! socket by its inode: a program that a job starts inherits the variable but not the socket, and so is never mistaken
//! for a worker.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use pp_protocol::worker::{WORKER_ENVIRONMENT, WORKER_VERSION};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::descriptors;
use crate::lending::Arenas;
use crate::page::Page;

/// The byte that the descriptors are attached to.
const HANDOVER_BYTE: u8 = b'P';

/// Node: puts page and arenas into the socket and yields the value of [`WORKER_ENVIRONMENT`] for the worker that gets
/// `worker_end` as its standard input.
pub(crate) fn give(
    node_end: &UnixStream,
    worker_end: &UnixStream,
    page: &OwnedFd,
    arenas: Option<(BorrowedFd<'_>, &OwnedFd)>,
) -> io::Result<String> {
    let mut descriptors = vec![page.as_fd()];
    descriptors.extend(arenas.into_iter().flat_map(|(node, worker)| [node, worker.as_fd()]));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(node_end, &[IoSlice::new(&[HANDOVER_BYTE])], &mut attached, SendFlags::NOSIGNAL)?;
    Ok(format!("{WORKER_VERSION} {}", fstat(worker_end)?.st_ino))
}

/// Whether this process is a worker that has not taken its socket yet.
pub(crate) fn is_pending() -> bool {
    let Some(inode) = std::env::var(WORKER_ENVIRONMENT).ok().and_then(|value| inode_in(&value)) else {
        return false;
    };
    fstat(io::stdin())
        .is_ok_and(|file| file.st_ino == inode && FileType::from_raw_mode(file.st_mode) == FileType::Socket)
}

/// What a node hands to a worker.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) socket: UnixStream,
    pub(crate) page: Page,
    pub(crate) arenas: Option<Arenas>,
}

/// Worker: takes it all, and leaves an empty standard input. `None` if this process is no worker.
pub(crate) fn take() -> Option<io::Result<Handed>> {
    is_pending().then(|| {
        let socket = UnixStream::from(descriptors::duplicate(io::stdin())?);
        let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(nothing)?;
        let (page, arenas) = receive(&socket)?;
        Ok(Handed { socket, page: Page::from_fd(page)?, arenas })
    })
}

fn inode_in(value: &str) -> Option<u64> {
    value.split_once(' ')?.1.parse().ok()
}

fn receive(socket: &UnixStream) -> io::Result<(OwnedFd, Option<Arenas>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut attached, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.into_iter().flatten();
    match descriptors.next() {
        Some(page) if byte == [HANDOVER_BYTE] => {
            let arenas = descriptors.next().zip(descriptors.next());
            let arenas = arenas.map(|(node, worker)| Arenas {
                node: descriptors::out_of_the_way(node),
                worker: descriptors::out_of_the_way(worker),
            });
            Ok((page, arenas))
        }
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node did not hand over its page")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_given_is_the_page_received() {
        let (node_end, worker_end) = UnixStream::pair().unwrap();
        let (page, file) = Page::shared().unwrap();
        let value = give(&node_end, &worker_end, &file, None).unwrap();
        assert_eq!(inode_in(&value), Some(fstat(&worker_end).unwrap().st_ino));
        let (received, arenas) = receive(&worker_end).unwrap();
        assert!(arenas.is_none());
        let received = Page::from_fd(received).unwrap();
        page.raise(1);
        assert!(received.claim(0, 5));
        assert_eq!(page.progress().started_at_ns, 5);
    }

    #[test]
    fn arenas_are_handed_over_with_the_page() {
        let (node_end, worker_end) = UnixStream::pair().unwrap();
        let files: Vec<_> = (0..3).map(|_| OwnedFd::from(tempfile::tempfile().unwrap())).collect();
        give(&node_end, &worker_end, &files[0], Some((files[1].as_fd(), &files[2]))).unwrap();
        let (page, arenas) = receive(&worker_end).unwrap();
        let arenas = arenas.unwrap();
        let inode = |file: &OwnedFd| fstat(file).unwrap().st_ino;
        assert_eq!(
            [page, arenas.node, arenas.worker].each_ref().map(inode),
            [0, 1, 2].map(|n| inode(&files[n]))
        );
    }

    #[test]
    fn a_process_that_no_node_started_is_no_worker() {
        assert!(!is_pending());
        assert!(take().is_none());
    }
}
