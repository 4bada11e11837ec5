//! Standard streams of a command, and its end, looked after together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_protocol::Stream;
use pp_protocol::limits::PAYLOAD_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::output::Output;
use super::{Ahead, CommandStatus};
use crate::worker::parts::Parts;

/// Bytes read from a command, or written to it, at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces read before the other direction has its turn: as much as a pipe holds, at most.
const PIECES_AT_ONCE: usize = 16;
/// Time between two looks whether a command has ended whose end is not seen otherwise.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time that a command has to end by itself once it has taken too long.
const GRACE: Duration = Duration::from_millis(200);

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

    /// Passes on what is written and read until the command has ended, which it is told to do after this time.
    pub(super) fn serve(
        &mut self,
        mut child: Child,
        time_limit: Option<Duration>,
    ) -> io::Result<CommandStatus> {
        let served = self.serve_running(&mut child, time_limit);
        if served.is_err() {
            // Nobody would see to it any more.
            signal(&mut child, Signal::KILL)?;
            child.wait()?;
        }
        served
    }

    fn serve_running(
        &mut self,
        child: &mut Child,
        time_limit: Option<Duration>,
    ) -> io::Result<CommandStatus> {
        let mut input = child.stdin.take().map(OwnedFd::from);
        let mut output = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for pipe in input.iter().chain(output.iter().flatten()) {
            ioctl_fionbio(pipe, true)?;
        }
        let end = End::of(child);
        let mut limit = time_limit.and_then(Limit::new);
        loop {
            if let Some(status) = self.ended(child, &output, limit.as_ref())? {
                // Whatever it has started may go on writing: of that nothing is taken.
                self.read(&mut output)?;
                self.output.iter_mut().try_for_each(Output::finish)?;
                return Ok(match limit.and_then(Limit::is_over) {
                    Some(limit) => CommandStatus::TimedOut(limit),
                    None => status.into(),
                });
            }
            if self.output.iter().map(|output| output.held.len()).sum::<usize>() > PAYLOAD_BYTES {
                signal(child, Signal::KILL)?;
                return Ok(child.wait()?.into());
            }
            if let Some(limit) = &mut limit {
                limit.enforce(child)?;
            }
            let patience = limit.as_ref().and_then(Limit::patience);
            end.wait(input.iter(), output.iter().flatten(), patience)?;
            self.write(&mut input)?;
            self.read(&mut output)?;
        }
    }

    /// How the command ended, if it has. What it started in its group ends with it if it was told to end: it has the same time
    /// for that, as long as it can still be heard. Until then the command is kept as it is, as the group has its number.
    fn ended(
        &self,
        child: &mut Child,
        output: &[Option<OwnedFd>; 2],
        limit: Option<&Limit>,
    ) -> io::Result<Option<ExitStatus>> {
        if let Some(limit) = limit.filter(|limit| limit.is_over().is_some()) {
            if !has_ended(child)? || (limit.waits() && output.iter().any(Option::is_some)) {
                return Ok(None);
            }
            signal(child, Signal::KILL)?;
        }
        child.try_wait()
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

/// Time that a command may take, and what has been done about it.
#[derive(Clone, Copy, Debug)]
struct Limit {
    time: Duration,
    next: Next,
}

/// Next step against a command that takes too long.
#[derive(Clone, Copy, Debug)]
enum Next {
    TellToEnd { at: Instant },
    Kill { at: Instant },
    Nothing,
}

impl Limit {
    /// None if it is beyond all time.
    fn new(time: Duration) -> Option<Self> {
        Some(Self { time, next: Next::TellToEnd { at: Instant::now().checked_add(time)? } })
    }

    /// Does what is due.
    fn enforce(&mut self, child: &mut Child) -> io::Result<()> {
        let now = Instant::now();
        match self.next {
            Next::TellToEnd { at } if at <= now => {
                signal(child, Signal::TERM)?;
                self.next = Next::Kill { at: now + GRACE };
            }
            Next::Kill { at } if at <= now => {
                signal(child, Signal::KILL)?;
                self.next = Next::Nothing;
            }
            _ => {}
        }
        Ok(())
    }

    /// Time until something is due.
    fn patience(&self) -> Option<Duration> {
        match self.next {
            Next::TellToEnd { at } | Next::Kill { at } => Some(at.saturating_duration_since(Instant::now())),
            Next::Nothing => None,
        }
    }

    /// Whether there is still time to end by itself.
    fn waits(&self) -> bool {
        matches!(self.next, Next::Kill { at } if Instant::now() < at)
    }

    /// The time, if the command was told to end.
    fn is_over(self) -> Option<Duration> {
        match self.next {
            Next::TellToEnd { .. } => None,
            Next::Kill { .. } | Next::Nothing => Some(self.time),
        }
    }
}

/// Whether a command has ended, which is left to be waited for.
fn has_ended(child: &mut Child) -> io::Result<bool> {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return Ok(true) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Sends a signal to a command and all that it has started in its group.
fn signal(child: &mut Child, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(child.id().cast_signed()).filter(|_| cfg!(target_os = "linux"));
    match pid {
        Some(pid) => match kill_process_group(pid, signal) {
            // It has ended, and waits to be looked at.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        },
        None => child.kill(),
    }
}

/// End of a command, as something that can be waited for together with its pipes.
struct End(#[cfg(target_os = "linux")] Option<OwnedFd>);

impl End {
    #[cfg(target_os = "linux")]
    fn of(child: &Child) -> Self {
        use rustix::process::{PidfdFlags, pidfd_open};
        let pid = Pid::from_raw(child.id().cast_signed());
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_child: &Child) -> Self {
        Self()
    }

    /// Waits until the command has ended, takes input, or has written something, or for so long.
    fn wait<'a>(
        &'a self,
        input: impl Iterator<Item = &'a OwnedFd>,
        output: impl Iterator<Item = &'a OwnedFd>,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        let mut watched: Vec<_> = input.map(|pipe| PollFd::new(pipe, PollFlags::OUT)).collect();
        watched.extend(output.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let end = self.descriptor();
        watched.extend(end.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        let look_after = if end.is_some() { None } else { Some(LOOK_EVERY) };
        let patience = patience.into_iter().chain(look_after).min();
        let patience = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
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
