//! Handing over of the socket, the page and shared memory to a worker process.
//!
//! The worker's end of a socket pair is its standard input, so that nothing has to be inherited by number and no other
//! child can get hold of it. The other descriptors wait in the socket, attached to a few bytes (`SCM_RIGHTS`, see unix(7)):
//! the page; the node's process, by which its end is seen (`pidfd`, on Linux); where the system has such, the
//! [arenas](crate::lending) of node and worker; and the directory of [files](crate::kept) that the session's workers share, if
//! it has one. The environment names the
//! socket by its inode: a program that a job starts inherits the variable but not the socket, and so is never mistaken
//! for a worker. A worker that its [warden](super::warden) has started anew finds the warden's number behind the inode.

#[cfg(target_os = "linux")]
use std::io::Read;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use pp_protocol::worker::{WORKER_ENVIRONMENT, WORKER_VERSION};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, setrlimit};

use super::descriptors;
use crate::descriptors::limit_of_jobs;
use crate::lending::Arenas;
use crate::page::Page;

/// First byte of the message that the descriptors are attached to.
const HANDOVER_BYTE: u8 = b'P';
/// And goes on with how many descriptors a job may have: eight bytes of a number.
const HANDOVER_BYTES: usize = 1 + 8;
/// Most descriptors that are attached.
const ATTACHED: usize = 5;
/// In place of that number: as many as the node.
const UNCHANGED: u64 = u64::MAX;

/// What a [launcher](crate::launcher) is told begins with this, and with its length: four bytes of a number.
const ORDER_BYTE: u8 = b'L';
const ORDER_HEAD: usize = 1 + 4;

/// Node: the value of [`WORKER_ENVIRONMENT`] for the worker that gets `worker_end` as its standard input.
pub(crate) fn environment(worker_end: &UnixStream) -> io::Result<String> {
    Ok(format!("{WORKER_VERSION} {}", fstat(worker_end)?.st_ino))
}

/// Node: puts page, arenas and the directory of files into the socket.
pub(crate) fn give(
    node_end: impl AsFd,
    page: &OwnedFd,
    arenas: Option<(BorrowedFd<'_>, &OwnedFd)>,
    files: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let node = own_process()?;
    let mut descriptors = vec![page.as_fd()];
    descriptors.extend(node.as_ref().map(OwnedFd::as_fd));
    descriptors.extend(arenas.into_iter().flat_map(|(node, worker)| [node, worker.as_fd()]));
    descriptors.extend(files);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ATTACHED))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let descriptor_limit = limit_of_jobs().unwrap_or(UNCHANGED).to_le_bytes();
    let bytes = [IoSlice::new(&[HANDOVER_BYTE]), IoSlice::new(&descriptor_limit)];
    sendmsg(node_end, &bytes, &mut attached, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Node: puts what a launcher is told into the socket, and the program that it launches; before anything is
/// [given](give).
#[cfg(target_os = "linux")]
pub(crate) fn give_order(node_end: impl AsFd, told: &[u8], program: BorrowedFd<'_>) -> io::Result<()> {
    let length = u32::try_from(told.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    let program = [program];
    if !attached.push(SendAncillaryMessage::ScmRights(&program)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let head = [IoSlice::new(&[ORDER_BYTE]), IoSlice::new(&length)];
    sendmsg(&node_end, &head, &mut attached, SendFlags::NOSIGNAL)?;
    // The socket is empty, and holds far more.
    match rustix::net::send(node_end, told, SendFlags::NOSIGNAL)? {
        sent if sent == told.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Launcher: takes what it is told, and the program. `None` if this process [is](is_pending) a worker, or neither.
#[cfg(target_os = "linux")]
pub(crate) fn take_order() -> io::Result<Option<(Vec<u8>, OwnedFd)>> {
    if !is_pending() {
        return Ok(None);
    }
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0)?);
    let mut head = [0; ORDER_HEAD];
    rustix::net::recv(&socket, &mut head[..1], RecvFlags::PEEK)?;
    if head[0] != ORDER_BYTE {
        return Ok(None);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let count =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut head)], &mut attached, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let program = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let Some(program) = program.filter(|_| count == head.len()) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let [_, length @ ..] = head;
    let mut told = vec![0; u32::from_le_bytes(length) as usize];
    (&socket).read_exact(&mut told)?;
    Ok(Some((told, program)))
}

/// Whether this process is a worker that has not taken its socket yet.
pub(crate) fn is_pending() -> bool {
    let Some(inode) = std::env::var(WORKER_ENVIRONMENT).ok().and_then(|value| inode_in(&value)) else {
        return false;
    };
    fstat(io::stdin())
        .is_ok_and(|file| file.st_ino == inode && FileType::from_raw_mode(file.st_mode) == FileType::Socket)
}

/// Socket, page, shared memory and files, as a node hands them to a worker.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) socket: UnixStream,
    pub(crate) page: Page,
    /// The node's process, where the system has descriptors of such.
    pub(crate) node: Option<OwnedFd>,
    pub(crate) arenas: Option<Arenas>,
    /// The directory of files that the workers of its session share.
    pub(crate) files: Option<OwnedFd>,
}

/// Worker that [is pending](is_pending): takes it all, and leaves an empty standard input.
pub(crate) fn take() -> io::Result<Handed> {
    let socket = take_socket()?;
    let (attached, descriptor_limit) = receive(&socket, RecvFlags::empty())?;
    limit_descriptors(descriptor_limit);
    attached.with(socket)
}

/// Warden of a worker that is yet to be started, as `program`: how it is started, and what the warden needs. All stays in
/// the socket.
pub(crate) fn pass_on(program: &Path) -> io::Result<(Command, Handed)> {
    let socket = take_socket()?;
    let (attached, _) = receive(&socket, RecvFlags::PEEK)?;
    let value = std::env::var(WORKER_ENVIRONMENT).unwrap_or_default();
    let mut command = Command::new(program);
    command.env(WORKER_ENVIRONMENT, format!("{value} {}", getpid()));
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone()?)));
    Ok((command, attached.with(socket)?))
}

/// The warden that started this process, which is a worker, if one did.
pub(crate) fn warden() -> Option<Pid> {
    let value = std::env::var(WORKER_ENVIRONMENT).ok()?;
    Pid::from_raw(value.split(' ').nth(2)?.parse().ok()?)
}

fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(descriptors::duplicate(io::stdin())?);
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(nothing)?;
    Ok(socket)
}

/// The node has raised its own limit. Jobs have the one it was started with: programs that use select(2) break if a
/// descriptor has a large number, and some close every number up to the limit.
fn limit_descriptors(limit: u64) {
    if limit != UNCHANGED {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum });
    }
}

fn inode_in(value: &str) -> Option<u64> {
    value.split(' ').nth(1)?.parse().ok()
}

/// The process that calls this, as a descriptor.
#[cfg(target_os = "linux")]
fn own_process() -> io::Result<Option<OwnedFd>> {
    use rustix::process::{PidfdFlags, pidfd_open};
    Ok(Some(pidfd_open(getpid(), PidfdFlags::empty())?))
}

#[cfg(not(target_os = "linux"))]
fn own_process() -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

/// The descriptors that come with the socket.
struct Attached {
    page: OwnedFd,
    node: Option<OwnedFd>,
    arenas: Option<Arenas>,
    files: Option<OwnedFd>,
}

impl Attached {
    fn with(self, socket: UnixStream) -> io::Result<Handed> {
        let Self { page, node, arenas, files } = self;
        Ok(Handed { socket, page: Page::from_fd(page)?, node, arenas, files })
    }
}

/// The descriptors, and how many a job may have.
fn receive(socket: &UnixStream, flags: RecvFlags) -> io::Result<(Attached, u64)> {
    let mut bytes = [0; HANDOVER_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ATTACHED))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let count = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut attached, flags)?.bytes;
    let [first, descriptor_limit @ ..] = bytes;
    let descriptors = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.into_iter().flatten();
    match descriptors.next() {
        Some(page) if count == HANDOVER_BYTES && first == HANDOVER_BYTE => {
            let node = if cfg!(target_os = "linux") { descriptors.next() } else { None };
            // Arenas come in twos: of an odd number, the last one is the directory.
            let mut rest: Vec<_> = descriptors.map(descriptors::out_of_the_way).collect();
            let files = if rest.len() % 2 == 1 { rest.pop() } else { None };
            let arenas = rest.pop().zip(rest.pop()).map(|(worker, node)| Arenas { node, worker });
            Ok((Attached { page, node, arenas, files }, u64::from_le_bytes(descriptor_limit)))
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
        give(&node_end, &file, None, None).unwrap();
        let value = environment(&worker_end).unwrap();
        assert_eq!(inode_in(&value), Some(fstat(&worker_end).unwrap().st_ino));
        drop(receive(&worker_end, RecvFlags::PEEK).unwrap());
        let (received, _) = receive(&worker_end, RecvFlags::empty()).unwrap();
        assert!(received.arenas.is_none());
        let received = Page::from_fd(received.page).unwrap();
        page.raise(1);
        assert!(received.claim(0, 5));
        assert_eq!(page.progress().started_at_ns, 5);
    }

    #[test]
    fn arenas_and_the_directory_are_handed_over_with_the_page() {
        let (node_end, worker_end) = UnixStream::pair().unwrap();
        let given: Vec<_> = (0..4).map(|_| OwnedFd::from(tempfile::tempfile().unwrap())).collect();
        let inode = |file: &OwnedFd| fstat(file).unwrap().st_ino;
        for has_files in [false, true] {
            let directory = has_files.then(|| given[3].as_fd());
            give(&node_end, &given[0], Some((given[1].as_fd(), &given[2])), directory).unwrap();
            let (Attached { page, arenas, files, .. }, _) = receive(&worker_end, RecvFlags::empty()).unwrap();
            let arenas = arenas.unwrap();
            assert_eq!(
                [page, arenas.node, arenas.worker].each_ref().map(inode),
                [0, 1, 2].map(|n| inode(&given[n]))
            );
            assert_eq!(files.as_ref().map(inode), directory.map(|_| inode(&given[3])));
        }
        give(&node_end, &given[0], None, Some(given[3].as_fd())).unwrap();
        let (Attached { arenas, files, .. }, _) = receive(&worker_end, RecvFlags::empty()).unwrap();
        assert!(arenas.is_none() && files.is_some());
    }

    #[test]
    fn a_process_that_no_node_started_is_no_worker() {
        assert!(!is_pending());
    }
}
