//! Output of jobs: tags before its lines (`--tag`), and whole lines of it (`--line-buffer`).

/// A line longer than this is handed on in pieces, between which lines of other jobs may come.
pub const LINE_BYTES: usize = 1024 * 1024;

/// Puts a tag before each line of a stream of output, and behind each carriage return in it: a line that is drawn anew on a
/// terminal still says whose it is.
#[derive(Clone, Debug)]
pub struct Tagging {
    tag: Vec<u8>,
    is_within_line: bool,
}

impl Tagging {
    /// With this before each line, for instance [`Composed::tag`](crate::Composed::tag).
    pub fn new(tag: Vec<u8>) -> Self {
        Self { tag, is_within_line: false }
    }

    /// Appends `bytes` with tags to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if !self.is_within_line {
                out.extend_from_slice(&self.tag);
            }
            out.extend_from_slice(line);
            self.is_within_line = !line.ends_with(b"\n") && !line.ends_with(b"\r");
        }
    }
}

/// Holds back the last line of a stream of output until its end has come.
#[derive(Clone, Debug, Default)]
pub struct LineBuffer {
    held: Vec<u8>,
}

impl LineBuffer {
    /// Appends what can be printed now to `out`: all whole lines.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole > 0 {
            out.append(&mut self.held);
            out.extend_from_slice(&bytes[..whole]);
        }
        self.held.extend_from_slice(&bytes[whole..]);
        if self.held.len() > LINE_BYTES {
            out.append(&mut self.held);
        }
    }

    /// Appends what is left to `out`: the job has ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_tag_however_it_is_cut() {
        let output = b"l1\n\n1%\r2%\r\nrest\r";
        for cut in 0..=output.len() {
            let mut tagging = Tagging::new(b"a\t".to_vec());
            let mut out = Vec::new();
            tagging.push(&output[..cut], &mut out);
            tagging.push(&output[cut..], &mut out);
            assert_eq!(out, b"a\tl1\na\t\na\t1%\ra\t2%\ra\t\na\trest\r", "cut at {cut}");
        }
    }

    #[test]
    fn only_whole_lines_are_printed_before_the_end() {
        let output = b"l1\n\nl2\nrest";
        for cut in 0..=output.len() {
            let mut buffer = LineBuffer::default();
            let mut out = Vec::new();
            buffer.push(&output[..cut], &mut out);
            assert!(out.is_empty() || out.ends_with(b"\n"));
            buffer.push(&output[cut..], &mut out);
            assert_eq!(out, b"l1\n\nl2\n");
            buffer.finish(&mut out);
            assert_eq!(out, output);
        }
    }

    #[test]
    fn a_line_without_end_is_not_held_for_ever() {
        let mut buffer = LineBuffer::default();
        let mut out = Vec::new();
        for _ in 0..=LINE_BYTES / 1024 {
            buffer.push(&[b'x'; 1024], &mut out);
        }
        assert_eq!(out.len(), LINE_BYTES + 1024);
    }
}
