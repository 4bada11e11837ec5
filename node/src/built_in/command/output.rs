//! Output of a command on its way: what is sent ahead, and what is left for the result.

use std::io;
use std::ops::Range;

use pp_protocol::Stream;
use pp_protocol::limits::PART_BYTES;

use super::Ahead;
use crate::worker::parts::Parts;

/// Output of a stream that may be held back: for the result, or until a line is whole.
const HELD_BYTES: usize = 1 << 20;

/// One stream of a command.
#[derive(Debug)]
pub(super) struct Output {
    stream: Stream,
    ahead: Option<(Ahead, Parts)>,
    /// What was not sent.
    pub(super) held: Vec<u8>,
    /// Number of bytes that were.
    pub(super) sent: u64,
}

impl Output {
    pub(super) fn new(stream: Stream, ahead: Option<(Ahead, Parts)>) -> Self {
        Self { stream, ahead, held: Vec::new(), sent: 0 }
    }

    /// Sends what is to go ahead now that more was read.
    pub(super) fn send_some(&mut self) -> io::Result<()> {
        let Some((ahead, parts)) = &self.ahead else { return Ok(()) };
        let ready = ready(*ahead, &self.held);
        if ready == 0 {
            return Ok(());
        }
        for piece in pieces(*ahead, &self.held[..ready]) {
            parts.send(self.stream, &self.held[piece])?;
        }
        self.held.drain(..ready);
        self.sent += ready as u64;
        Ok(())
    }

    /// The command has ended: where all goes ahead, so does what was held back for a line that is not whole.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some((Ahead::Lines | Ahead::AtOnce, parts)) = &self.ahead {
            parts.send(self.stream, &self.held)?;
            self.sent += self.held.len() as u64;
            self.held.clear();
        }
        Ok(())
    }
}

/// How much of what is held goes ahead.
fn ready(ahead: Ahead, held: &[u8]) -> usize {
    match ahead {
        Ahead::AtOnce => held.len(),
        _ if held.len() > HELD_BYTES => held.len(),
        Ahead::Large => 0,
        Ahead::Lines => held.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1),
    }
}

/// Where to cut it: as far as that can be, where lines end if it is sent by lines.
fn pieces(ahead: Ahead, bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[start..];
        let most = rest.len().min(PART_BYTES);
        let whole = || rest[..most].iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
        let length = if ahead == Ahead::Lines { whole().unwrap_or(most) } else { most };
        let piece = start..start + length;
        start = piece.end;
        (length > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_ahead_is_what_was_asked_for() {
        let lines = b"one\ntwo\nthr";
        assert_eq!([Ahead::Large, Ahead::Lines, Ahead::AtOnce].map(|ahead| ready(ahead, lines)), [0, 8, 11]);
        let long = vec![b'x'; HELD_BYTES + 1];
        assert_eq!([Ahead::Large, Ahead::Lines].map(|ahead| ready(ahead, &long)), [long.len(); 2]);
        assert_eq!([Ahead::Large, Ahead::Lines].map(|ahead| ready(ahead, &long[1..])), [0; 2]);
    }

    #[test]
    fn lines_are_cut_where_they_end_unless_they_are_long() {
        let mut bytes = vec![b'x'; PART_BYTES - 1];
        bytes.extend(b"\nshort\n");
        bytes.extend(vec![b'y'; PART_BYTES + 1]);
        bytes.push(b'\n');
        let cut = |ahead| pieces(ahead, &bytes).map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(cut(Ahead::Lines), [PART_BYTES, 6, PART_BYTES, 2]);
        assert_eq!(cut(Ahead::AtOnce), [PART_BYTES, PART_BYTES, 8]);
        assert_eq!(pieces(Ahead::Lines, b"").count(), 0);
    }
}
