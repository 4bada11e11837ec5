//! Rows of arguments dealt out to jobs.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::blocks::BlockError;
use crate::job::{Composed, Row, Shape, Start};
use crate::sources::Combined;
use crate::template::TemplateError;

/// Longest command line: what Linux takes as one argument of a program, its final zero not counted.
pub const COMMAND_BYTES: usize = 128 * 1024 - 1;

/// Why no job could be composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file of arguments cannot be opened.
    #[error("cannot read arguments from {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Arguments cannot be read.
    #[error("cannot read arguments")]
    Read(#[from] io::Error),
    /// A command line is too long even with one argument.
    #[error(
        "the command line of job {sequence} would have {length} bytes, which is over the limit of {limit}; its argument begins {argument:?}"
    )]
    TooLong {
        /// The number of the job.
        sequence: u64,
        /// How long it would be.
        length: usize,
        /// How long it may be.
        limit: usize,
        /// Its first argument, or the beginning of it.
        argument: String,
    },
    /// Too much would have to be kept in memory.
    #[error(
        "more than {} MiB of arguments would have to be kept in memory; give the source with most of them first, which is \
         read as it is needed, and do without --shuf and --link",
        crate::sources::KEPT_BYTES / (1024 * 1024)
    )]
    TooMuchToKeep,
    /// Standard input cannot be cut into blocks (`--pipe`).
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A text with placeholders cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// How many arguments a job is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dealing {
    /// Rows of arguments, at most. With 0 each job takes one and shows none.
    pub(crate) most: usize,
    /// Bytes of a command line, at most.
    pub(crate) most_bytes: usize,
    /// Over how many jobs the last arguments are spread.
    pub(crate) spread_over: Option<usize>,
}

/// Jobs, in the order of their arguments. After an error there are no more.
pub struct Jobs<'a> {
    rows: Combined<'a>,
    shape: Arc<Shape>,
    dealing: Dealing,
    /// Rows that were read and not dealt out, and their bytes.
    waiting: VecDeque<Row>,
    waiting_bytes: usize,
    has_ended: bool,
    /// Rows a job takes, now that the last are spread.
    portion: Option<usize>,
    sequence: u64,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(rows: Combined<'a>, shape: Arc<Shape>, dealing: Dealing) -> Self {
        Self {
            rows,
            shape,
            dealing,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            has_ended: false,
            portion: None,
            sequence: 0,
        }
    }

    fn deal(&mut self) -> Result<Option<Composed>, ComposeError> {
        self.fill(1)?;
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let taken = self.fitting(self.portion.unwrap_or(self.dealing.most).max(1))?;
        let taken = self.spread(taken)?;
        let mut rows: Vec<Row> = self.waiting.drain(..taken).collect();
        self.waiting_bytes -= rows.iter().map(bytes).sum::<usize>();
        if self.dealing.most == 0 {
            rows.clear();
        }
        self.sequence += 1;
        Ok(Some(Composed { sequence: self.sequence, rows, shape: self.shape.clone() }))
    }

    /// Reads until so many rows wait, if there are that many and they could be in one command line.
    fn fill(&mut self, count: usize) -> Result<(), ComposeError> {
        while self.waiting.len() < count
            && !self.has_ended
            && (self.waiting.is_empty() || self.waiting_bytes < COMMAND_BYTES)
        {
            match self.rows.next().transpose()? {
                Some(row) => {
                    self.waiting_bytes += bytes(&row);
                    self.waiting.push_back(row);
                }
                None => self.has_ended = true,
            }
        }
        Ok(())
    }

    /// How many of the rows, of `most`, fit into the next job.
    fn fitting(&mut self, most: usize) -> Result<usize, ComposeError> {
        let (mut fits, mut step) = (0, 1);
        loop {
            let wanted = most.min(fits + step);
            self.fill(wanted)?;
            let tried = wanted.min(self.waiting.len());
            if tried == fits {
                return Ok(fits);
            }
            if self.length(tried) <= self.dealing.most_bytes {
                fits = tried;
                step *= 2;
                continue;
            }
            // So many fit, so many do not.
            let mut over = tried;
            while over - fits > 1 {
                let middle = fits + (over - fits) / 2;
                if self.length(middle) <= self.dealing.most_bytes { fits = middle } else { over = middle }
            }
            return if fits == 0 { Err(self.too_long()) } else { Ok(fits) };
        }
    }

    /// How long the command of the next job is with so many rows.
    fn length(&self, count: usize) -> usize {
        let shown = if self.dealing.most == 0 { 0 } else { count };
        let arguments: Vec<&[u8]> = self.waiting.iter().take(shown).flatten().map(Vec::as_slice).collect();
        let start = Start { slot: 1, total: 1 };
        self.shape.command.fill(&self.shape.filling(&arguments, self.sequence + 1, start)).len()
    }

    /// How many of `taken` rows a job takes so that the last are spread evenly.
    fn spread(&mut self, taken: usize) -> Result<usize, ComposeError> {
        let Some(over) = self.dealing.spread_over.filter(|_| self.portion.is_none()) else {
            return Ok(taken);
        };
        self.fill(taken + 1)?;
        if !self.has_ended || self.waiting.len() > taken {
            return Ok(taken);
        }
        let portion = taken.div_ceil(over.max(1));
        self.portion = Some(portion);
        Ok(portion)
    }

    fn too_long(&self) -> ComposeError {
        let argument = self.waiting.iter().flatten().next().map(Vec::as_slice).unwrap_or_default();
        ComposeError::TooLong {
            sequence: self.sequence + 1,
            length: self.length(1),
            limit: self.dealing.most_bytes,
            argument: String::from_utf8_lossy(&argument[..argument.len().min(40)]).into_owned(),
        }
    }
}

fn bytes(row: &Row) -> usize {
    row.iter().map(|value| value.len() + 1).sum()
}

impl Iterator for Jobs<'_> {
    type Item = Result<Composed, ComposeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.deal().transpose()? {
                Ok(job) if job.is_left_out() => {}
                Err(error) => {
                    self.has_ended = true;
                    self.waiting.clear();
                    return Some(Err(error));
                }
                job => return Some(job),
            }
        }
    }
}

impl fmt::Debug for Jobs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
