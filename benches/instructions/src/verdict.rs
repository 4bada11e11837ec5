//! Whether what was counted is what was recorded, in words.

use std::fmt::Write;

use crate::record::Record;

/// A count may differ by this part of what is recorded: code that was not touched may be laid out differently.
const TOLERANCE: f64 = 0.05;
/// Command that records counts.
const RECORD: &str = "cargo run --release -p pp-instructions -- --record";

pub(crate) struct Verdict {
    pub(crate) passed: bool,
    /// The table, and what to do next.
    pub(crate) text: String,
}

pub(crate) fn compare(recorded: &Record, counted: &Record) -> Verdict {
    let mut text = table(recorded, counted);
    if recorded.made_with != counted.made_with {
        let _ = write!(
            text,
            "\nNOT COMPARED. The recorded counts were made with\n  {}\nand these with\n  {}\nwhich count differently. \
             Use the former; or record the commit before yours here ({RECORD}) and then count again with your change.\n",
            recorded.made_with, counted.made_with
        );
        return Verdict { passed: true, text };
    }
    let mut passed = true;
    for (piece, count) in &counted.counts {
        let known = recorded.counts.get(piece).copied();
        match known.map(|known| (known, count / known - 1.0)) {
            None => {
                passed = false;
                let _ = write!(text, "\nFAILED: {piece} is not recorded. Record it: {RECORD}\n");
            }
            Some((known, change)) if change > TOLERANCE => {
                passed = false;
                text.push_str(&more_expensive(piece, known, *count, change));
            }
            Some((_, change)) if change < -TOLERANCE => {
                let percent = -change * 100.0;
                let _ = write!(
                    text,
                    "\n{piece} takes {percent:.1} % less than recorded. Record the gain, so that it is kept: {RECORD}\n"
                );
            }
            Some(_) => {}
        }
    }
    for piece in recorded.counts.keys().filter(|piece| !counted.counts.contains_key(*piece)) {
        passed = false;
        let _ = write!(
            text,
            "\nFAILED: {piece} is recorded, but there is no such piece. Record anew: {RECORD}\n"
        );
    }
    if passed {
        let _ = write!(text, "\nno piece takes more than {:.0} % more than recorded\n", TOLERANCE * 100.0);
    }
    Verdict { passed, text }
}

fn more_expensive(piece: &str, recorded: f64, counted: f64, change: f64) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "target/release/pp-instructions".into());
    format!(
        "\nFAILED: {piece} takes {counted:.1} instructions a job; recorded are {recorded:.1}. That is {:.1} % more, and \
         {:.0} % are tolerated.\n  To see where they are, here and at the commit before:\n    valgrind \
         --tool=callgrind --callgrind-out-file=callgrind.out {} measure {piece} 12000\n    \
         callgrind_annotate callgrind.out\n  Make it cheaper. If what it does now is worth that, record it and say why \
         in the commit:\n    {RECORD}\n",
        change * 100.0,
        TOLERANCE * 100.0,
        program.display(),
    )
}

/// Every piece with both counts.
pub(crate) fn table(recorded: &Record, counted: &Record) -> String {
    let mut text =
        format!("{:24} {:>10} {:>10} {:>8}\n", "instructions a job", "recorded", "counted", "change");
    for (piece, count) in &counted.counts {
        let (known, change) = match recorded.counts.get(piece) {
            Some(known) => (format!("{known:.1}"), format!("{:+.1} %", (count / known - 1.0) * 100.0)),
            None => ("-".into(), "-".into()),
        };
        let _ = writeln!(text, "{piece:24} {known:>10} {count:>10.1} {change:>8}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(counts: &[(&str, f64)]) -> Record {
        let counts = counts.iter().map(|(piece, count)| ((*piece).to_owned(), *count));
        Record { made_with: "rustc 1".into(), counts: counts.collect() }
    }

    fn verdict(recorded: &[(&str, f64)], counted: &[(&str, f64)]) -> (bool, String) {
        let Verdict { passed, text } = compare(&record(recorded), &record(counted));
        (passed, text)
    }

    #[test]
    fn what_is_within_the_tolerance_passes_either_way() {
        for count in [100.0, 104.9, 95.1] {
            let (passed, text) = verdict(&[("node", 100.0)], &[("node", count)]);
            assert!(passed && !text.contains("FAILED") && !text.contains("gain"), "{text}");
        }
    }

    #[test]
    fn more_than_tolerated_fails_and_names_the_piece_both_counts_and_what_to_do() {
        let counted = [("node", 100.0), ("wire", 212.0)];
        let (passed, text) = verdict(&[("node", 100.0), ("wire", 200.0)], &counted);
        assert!(!passed);
        assert!(text.contains("FAILED: wire takes 212.0 instructions a job; recorded are 200.0"), "{text}");
        assert!(text.contains("6.0 % more") && text.contains("--record"), "{text}");
        assert!(!text.contains("FAILED: node"), "{text}");
    }

    #[test]
    fn much_less_passes_and_asks_to_be_recorded() {
        let (passed, text) = verdict(&[("node", 100.0)], &[("node", 80.0)]);
        assert!(passed && text.contains("node takes 20.0 % less"), "{text}");
    }

    #[test]
    fn pieces_that_only_one_side_knows_fail() {
        let (passed, text) = verdict(&[("old", 1.0)], &[("new", 1.0)]);
        assert!(!passed);
        assert!(text.contains("new is not recorded") && text.contains("old is recorded"), "{text}");
    }

    #[test]
    fn with_another_compiler_nothing_is_compared_and_that_is_said() {
        let mut counted = record(&[("node", 300.0)]);
        counted.made_with = "rustc 2".into();
        let Verdict { passed, text } = compare(&record(&[("node", 100.0)]), &counted);
        assert!(passed && text.contains("NOT COMPARED") && text.contains("rustc 2"), "{text}");
    }
}
