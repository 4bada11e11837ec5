//! Output that waits until its job has its turn: in memory while it is little, then in a file without a name.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// Output of a stream that is kept in memory.
const MEMORY_BYTES: usize = 64 * 1024;
/// What a file counts for where memory is counted: descriptors are few.
const FILE_WEIGHT: usize = 1024 * 1024;
/// Bytes read from a file at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Output of one stream of a job.
#[derive(Debug, Default)]
pub(super) struct Spool {
    memory: Vec<u8>,
    /// What came before that, once there was too much.
    file: Option<File>,
}

impl Spool {
    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY_BYTES {
            let file = match &mut self.file {
                Some(file) => file,
                // Nobody else can open it, and it is gone when this process is.
                None => self.file.insert(tempfile::tempfile()?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }

    /// What it takes, as far as that is limited.
    pub(super) fn weight(&self) -> usize {
        self.memory.len() + self.file.as_ref().map_or(0, |_| FILE_WEIGHT)
    }

    /// Takes everything out, piece by piece. What cannot be read is the outer error, what `take` says the inner one.
    pub(super) fn take<E>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> io::Result<Result<(), E>> {
        let Self { memory, file } = std::mem::take(self);
        if let Some(mut file) = file {
            file.rewind()?;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let count = file.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                if let Err(error) = take(&piece[..count]) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(if memory.is_empty() { Ok(()) } else { take(&memory) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_once_however_much_it_is() {
        for bytes in [0, 1, MEMORY_BYTES, 3 * MEMORY_BYTES + 5] {
            let sent: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let mut spool = Spool::default();
            sent.chunks(9_999).for_each(|piece| spool.push(piece).expect("there is room"));
            assert!(spool.weight() <= FILE_WEIGHT + MEMORY_BYTES);
            let mut taken = Vec::new();
            let mut take = |piece: &[u8]| {
                taken.extend_from_slice(piece);
                Ok::<_, io::Error>(())
            };
            spool.take(&mut take).expect("it can be read").expect("it is taken");
            assert_eq!(spool.weight(), 0);
            spool.take(&mut take).expect("it can be read").expect("it is taken");
            assert!(taken == sent, "{bytes}");
        }
    }
}
