//! How a node hands its socket and its page to a worker process.
//!
//! The worker's end of a socket pair is its standard input, so that nothing has to be inherited by number and no other
//! child can get hold of it. The page's descriptor waits in the socket, attached to one byte (`SCM_RIGHTS`, see
//! unix(7)). The environment names the socket by its inode: a program that a job starts inherits the variable but not
//! the socket, and so is never mistaken for a worker.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use pp_protocol::worker::{WORKER_ENVIRONMENT, WORKER_VERSION};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::page::Page;

/// The byte that the page's descriptor is attached to.
const HANDOVER_BYTE: u8 = b'P';
/// The lowest descriptor that is none of the standard streams.
const FIRST_FREE_DESCRIPTOR: i32 = 3;

/// Node: puts the page into the socket and yields the value of [`WORKER_ENVIRONMENT`] for the worker that gets
/// `worker_end` as its standard input.
pub(crate) fn give(node_end: &UnixStream, worker_end: &UnixStream, page: &OwnedFd) -> io::Result<String> {
    let descriptors = [page.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
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

/// Worker: takes socket and page, and leaves an empty standard input. `None` if this process is no worker.
pub(crate) fn take() -> Option<io::Result<(UnixStream, Page)>> {
    is_pending().then(|| {
        let socket = UnixStream::from(fcntl_dupfd_cloexec(io::stdin(), FIRST_FREE_DESCRIPTOR)?);
        let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(nothing)?;
        let page = receive_descriptor(&socket)?;
        Ok((socket, Page::from_fd(page)?))
    })
}

fn inode_in(value: &str) -> Option<u64> {
    value.split_once(' ')?.1.parse().ok()
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut attached, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match descriptor {
        Some(descriptor) if byte == [HANDOVER_BYTE] => Ok(descriptor),
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
        let value = give(&node_end, &worker_end, &file).unwrap();
        assert_eq!(inode_in(&value), Some(fstat(&worker_end).unwrap().st_ino));
        let received = Page::from_fd(receive_descriptor(&worker_end).unwrap()).unwrap();
        page.raise(1);
        assert!(received.claim(0, 5));
        assert_eq!(page.progress().started_at_ns, 5);
    }

    #[test]
    fn a_process_that_no_node_started_is_no_worker() {
        assert!(!is_pending());
        assert!(take().is_none());
    }
}
