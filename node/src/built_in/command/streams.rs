//! Standard streams of a command, and its end, looked after together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use bytes::Bytes;
use pp_protocol::Stream;
use pp_protocol::limits::PAYLOAD_BYTES;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::Ahead;
use super::output::Output;
use crate::worker::parts::Parts;

/// Bytes read from a command, or written to it, at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces read before the other direction has its turn: as much as a pipe holds, at most.
const PIECES_AT_ONCE: usize = 16;
/// Time between two looks whether a command has ended whose end is not seen otherwise.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What goes in and comes out of a command.
#[derive(Debug)]
pub(super) struct Streams {
    /// Bytes not written yet.
    stdin: Bytes,
    output: [Output; 2],
}

impl Streams {
    pub(super) fn new(stdin: Bytes, ahead: Option<(Ahead, Parts)>) -> Self {
        let output = [Stream::Stdout, Stream::Stderr].map(|stream| Output::new(stream, ahead.clone()));
        Self { stdin, output }
    }

    /// Number of bytes that were sent ahead.
    pub(super) fn ahead_bytes(&self) -> u64 {
        self.output.iter().map(|output| output.sent).sum()
    }

    /// What was not sent ahead of standard output and of standard error.
    pub(super) fn into_rest(self) -> [Bytes; 2] {
        self.output.map(|output| output.held.into())
    }

    /// Passes on what is written and read until the command has ended.
    pub(super) fn serve(&mut self, mut child: Child) -> io::Result<ExitStatus> {
        let served = self.serve_running(&mut child);
        if served.is_err() {
            // Nobody would see to it any more.
            child.kill()?;
            child.wait()?;
        }
        served
    }

    fn serve_running(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut input = child.stdin.take().map(OwnedFd::from);
        let mut output = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for pipe in input.iter().chain(output.iter().flatten()) {
            ioctl_fionbio(pipe, true)?;
        }
        let end = End::of(child);
        loop {
            if let Some(status) = child.try_wait()? {
                // Whatever it has started may go on writing: of that nothing is taken.
                self.read(&mut output)?;
                self.output.iter_mut().try_for_each(Output::finish)?;
                return Ok(status);
            }
            if self.output.iter().map(|output| output.held.len()).sum::<usize>() > PAYLOAD_BYTES {
                child.kill()?;
                return child.wait();
            }
            end.wait(input.iter(), output.iter().flatten())?;
            self.write(&mut input)?;
            self.read(&mut output)?;
        }
    }

    /// Writes as much as the command takes now.
    fn write(&mut self, input: &mut Option<OwnedFd>) -> io::Result<()> {
        let Some(pipe) = input else { return Ok(()) };
        while !self.stdin.is_empty() {
            match rustix::io::write(&*pipe, &self.stdin[..self.stdin.len().min(PIECE_BYTES)]) {
                Ok(count) => drop(self.stdin.split_to(count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // It need not read all of it.
                Err(Errno::PIPE) => break,
                Err(error) => return Err(error.into()),
            }
        }
        *input = None;
        Ok(())
    }

    /// Reads what there is now, and sends of it what goes ahead.
    fn read(&mut self, output: &mut [Option<OwnedFd>; 2]) -> io::Result<()> {
        for (pipe, output) in output.iter_mut().zip(&mut self.output) {
            for _ in 0..PIECES_AT_ONCE {
                let (Some(open), bytes) = (&mut *pipe, &mut output.held) else { break };
                bytes.reserve(PIECE_BYTES);
                match rustix::io::read(&*open, rustix::buffer::spare_capacity(bytes)) {
                    Ok(0) => *pipe = None,
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            output.send_some()?;
        }
        Ok(())
    }
}

/// End of a command, as something that can be waited for together with its pipes.
struct End(#[cfg(target_os = "linux")] Option<OwnedFd>);

impl End {
    #[cfg(target_os = "linux")]
    fn of(child: &Child) -> Self {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = Pid::from_raw(child.id().cast_signed());
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_child: &Child) -> Self {
        Self()
    }

    /// Waits until the command has ended, takes input, or has written something.
    fn wait<'a>(
        &'a self,
        input: impl Iterator<Item = &'a OwnedFd>,
        output: impl Iterator<Item = &'a OwnedFd>,
    ) -> io::Result<()> {
        let mut watched: Vec<_> = input.map(|pipe| PollFd::new(pipe, PollFlags::OUT)).collect();
        watched.extend(output.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let end = self.descriptor();
        watched.extend(end.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        let patience =
            if end.is_some() { None } else { Some(LOOK_EVERY.try_into().map_err(io::Error::other)?) };
        match poll(&mut watched, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    #[cfg(not(target_os = "linux"))]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
