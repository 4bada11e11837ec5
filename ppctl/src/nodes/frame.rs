//! A text that is shown again and again, on a terminal in place of the one before. No mode of the terminal is changed, and no cursor
//! hidden: whatever ends this program leaves a terminal that works, with the last text on it.

use rustix::termios::tcgetwinsize;

/// Erases what is behind and below the cursor.
const ERASE: &str = "\x1b[J";
/// Size of a terminal that does not say, in columns and lines.
const USUAL_SIZE: [usize; 2] = [80, 24];

/// Where a text is shown.
#[derive(Debug)]
pub(super) struct Frame {
    is_terminal: bool,
    /// Lines of the one that is shown.
    lines: usize,
    is_first: bool,
}

impl Frame {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, lines: 0, is_first: true }
    }

    /// What is to be written so that this text is shown.
    pub(super) fn next(&mut self, text: &str) -> String {
        let is_first = std::mem::replace(&mut self.is_first, false);
        if !self.is_terminal {
            return if is_first { text.to_owned() } else { format!("\n{text}") };
        }
        self.in_place(text, size())
    }

    fn in_place(&mut self, text: &str, [columns, height]: [usize; 2]) -> String {
        // The cursor is below the last line. No line is as wide as the terminal, so that none goes on in the next one.
        let room = height.saturating_sub(1).max(1);
        let all: Vec<&str> = text.lines().collect();
        let shown = if all.len() > room { room - 1 } else { all.len() };
        let back = match self.lines {
            0 => String::new(),
            // A terminal that has become smaller has lost those at its top.
            lines => format!("\x1b[{}A", lines.min(room)),
        };
        let mut out = format!("{back}\r{ERASE}");
        for line in &all[..shown] {
            out += &cut(line, columns.saturating_sub(1));
            out.push('\n');
        }
        self.lines = shown;
        if shown < all.len() {
            let rest = format!("... and {} more lines; a larger terminal shows them", all.len() - shown);
            out += &cut(&rest, columns.saturating_sub(1));
            out.push('\n');
            self.lines += 1;
        }
        out
    }

    /// What is written at the end: a terminal shows the key that was pressed.
    pub(super) fn last(&self) -> &'static str {
        if self.is_terminal { "\n" } else { "" }
    }
}

/// As much of a line as takes no more columns. What is not ASCII may take two.
fn cut(line: &str, columns: usize) -> String {
    let width = |character: char| if character.is_ascii() { 1 } else { 2 };
    let mut taken = 0;
    let fits = |character: &char| {
        taken += width(*character);
        taken <= columns
    };
    line.chars().take_while(fits).collect()
}

/// Columns and lines of the terminal now.
fn size() -> [usize; 2] {
    let size = tcgetwinsize(std::io::stdout()).ok().map(|size| [size.ws_col.into(), size.ws_row.into()]);
    size.filter(|size| !size.contains(&0)).unwrap_or(USUAL_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_the_one_before_however_long_that_was() {
        let mut frame = Frame::new(true);
        assert_eq!(frame.in_place("a\nb\n", [80, 24]), "\r\x1b[Ja\nb\n");
        assert_eq!(frame.in_place("c\n", [80, 24]), "\x1b[2A\r\x1b[Jc\n");
        assert_eq!(frame.in_place("d\n", [80, 24]), "\x1b[1A\r\x1b[Jd\n");
        assert_eq!(frame.last(), "\n");
    }

    #[test]
    fn no_line_goes_on_in_the_next_and_no_text_is_higher_than_the_terminal() {
        let mut frame = Frame::new(true);
        assert_eq!(frame.in_place("0123456789\nü\u{65e5}\u{672c}\n", [6, 24]), "\r\x1b[J01234\nü\u{65e5}\n");
        let many = "x\n".repeat(9);
        let shown = "\x1b[2A\r\x1b[Jx\nx\nx\n... and 6 more lines; a larger terminal shows them\n";
        assert_eq!(frame.in_place(&many, [80, 5]), shown);
        assert_eq!(frame.in_place("x\n", [80, 4]), "\x1b[3A\r\x1b[Jx\n", "the terminal became smaller");
    }

    #[test]
    fn without_a_terminal_texts_are_below_each_other() {
        let mut frame = Frame::new(false);
        assert_eq!([frame.next("a\n"), frame.next("b\n")], ["a\n", "\nb\n"]);
        assert_eq!(frame.last(), "");
    }
}
