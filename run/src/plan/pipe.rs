//! Blocks of standard input instead of arguments (`--pipe`).

use std::io::BufRead;
use std::num::NonZeroUsize;

use super::{Options, Plan, PlanError};
use crate::blocks::{BLOCK_BYTES, Blocks, Cutting, Portion, Separator};
use crate::job::Composed;
use crate::jobs::ComposeError;

/// Jobs are given blocks of standard input instead of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piping {
    /// `--block`
    pub block_bytes: usize,
    /// `--recend` and `--recstart`
    pub separator: Separator,
    /// `--remove-rec-sep`
    pub removes_separators: bool,
}

impl Plan {
    /// Judges what goes together with `--pipe`.
    pub(super) fn check_pipe(&self, piping: &Piping) -> Result<(), PlanError> {
        let limits = [self.options.max_args, self.options.max_replace_args, self.options.max_lines];
        if self.words.command.is_empty() {
            Err(PlanError::NoReader)
        } else if !self.words.are_without_source() {
            Err(PlanError::PipedArguments)
        } else if self.needs_total() {
            Err(PlanError::PipedTotal)
        } else if limits.contains(&Some(0)) {
            Err(PlanError::NoRecords)
        } else if !(1..=BLOCK_BYTES).contains(&piping.block_bytes) {
            Err(PlanError::Block { given: piping.block_bytes })
        } else {
            Ok(())
        }
    }

    /// Jobs that are given blocks of `input`, each with its block, which is read as it is needed; none without
    /// [`Options::pipe`]. Each has an empty argument.
    pub fn blocks<R: BufRead>(
        &self,
        input: R,
    ) -> Option<impl Iterator<Item = Result<(Composed, Vec<u8>), ComposeError>> + use<R>> {
        let blocks = Blocks::new(input, self.cutting()?);
        let shape = self.shape.clone();
        let nothing = vec![vec![Vec::new()]];
        Some((1..).zip(blocks).map(move |(sequence, block)| {
            Ok((Composed { sequence, rows: nothing.clone(), shape: shape.clone() }, block?))
        }))
    }

    fn cutting(&self) -> Option<Cutting> {
        let Piping { block_bytes, separator, removes_separators } = self.options.pipe.clone()?;
        let Options { max_args, max_replace_args, max_lines, header, .. } = self.options;
        let lines = max_lines.and_then(NonZeroUsize::new);
        let portion = match (max_replace_args.or(max_args).and_then(NonZeroUsize::new), lines) {
            (Some(records), lines) => {
                Portion::Records(records.saturating_mul(lines.unwrap_or(NonZeroUsize::MIN)))
            }
            (None, Some(lines)) => Portion::Lines(lines),
            (None, None) => Portion::Fitting,
        };
        Some(Cutting { block_bytes, separator, portion, repeats_header: header, removes_separators })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Start;

    const START: Start = Start { slot: 3, total: 20 };

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn jobs_are_given_blocks_instead_of_arguments() {
        let separator = Separator::parse(None, None).unwrap();
        let piping = |block_bytes| {
            let pipe = Piping { block_bytes, separator: separator.clone(), removes_separators: false };
            Options { pipe: Some(pipe), tagstring: Some(b"{#}".to_vec()), ..Options::default() }
        };
        let shown = |options: Options, line| {
            let plan = Plan::new(options, words(line))?;
            let jobs = plan.blocks(&b"a\nb\nc\n"[..]).expect("it is piped");
            let shown = |(job, block): (Composed, Vec<u8>)| {
                let parts = [job.tag(START).unwrap(), job.command(START), b"|".to_vec(), block];
                String::from_utf8(parts.concat()).unwrap()
            };
            Ok::<_, PlanError>(jobs.map(|job| shown(job.unwrap())).collect::<Vec<_>>())
        };
        assert_eq!(shown(piping(4), "cat -n").unwrap(), ["1\tcat -n|a\nb\n", "2\tcat -n|c\n"]);
        let two = |options| Options { max_replace_args: Some(2), ..options };
        assert_eq!(shown(two(piping(9)), "cat {#}{}").unwrap(), ["1\tcat 1''|a\nb\n", "2\tcat 2''|c\n"]);
        let refused = |options, line| shown(options, line).unwrap_err();
        assert_eq!(refused(piping(9), ":::"), PlanError::NoReader);
        assert_eq!(refused(piping(9), "cat ::: a"), PlanError::PipedArguments);
        assert_eq!(refused(Options { plus: true, ..piping(9) }, "cat {##}"), PlanError::PipedTotal);
        assert_eq!(refused(Options { max_args: Some(0), ..piping(9) }, "cat"), PlanError::NoRecords);
        assert_eq!(refused(piping(0), "cat"), PlanError::Block { given: 0 });
        let plan = Plan::new(Options::default(), words("cat")).unwrap();
        assert!(plan.blocks(&b""[..]).is_none());
    }
}
