//! Jobs that are under way: how many, and how much memory their input takes.

/// Input of jobs that are under way. Once it is that much, another one is composed only when one has ended.
const INPUT_BYTES: usize = 256 * 1024 * 1024;

/// Jobs that were asked for and have not ended.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Those that were not composed yet.
    asked_for: usize,
    composed: usize,
    input_bytes: usize,
    /// The most that the input of one of them took, which is expected of those that come.
    largest_input: usize,
}

impl Ahead {
    /// None, where the input of one is expected to take so many bytes.
    pub(super) fn expecting(input_bytes: usize) -> Self {
        Self { largest_input: input_bytes, ..Self::default() }
    }

    /// Whether one more can be asked for, where `most` may be under way.
    pub(super) fn has_room(&self, most: usize) -> bool {
        let expected =
            self.input_bytes.saturating_add((self.asked_for + 1).saturating_mul(self.largest_input));
        self.is_empty() || (self.asked_for + self.composed < most && expected <= INPUT_BYTES)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked_for + self.composed == 0
    }

    pub(super) fn asked(&mut self) {
        self.asked_for += 1;
    }

    /// There is none any more where one was asked for.
    pub(super) fn none_left(&mut self) {
        self.asked_for -= 1;
    }

    /// One was composed, with so many bytes of input.
    pub(super) fn composed(&mut self, input_bytes: usize) {
        self.asked_for -= 1;
        self.composed += 1;
        self.input_bytes += input_bytes;
        self.largest_input = self.largest_input.max(input_bytes);
    }

    /// One with so many bytes of input has ended, or is not run.
    pub(super) fn ended(&mut self, input_bytes: usize) {
        self.composed -= 1;
        self.input_bytes -= input_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_limited_by_number_and_by_input() {
        let mut ahead = Ahead::default();
        let fill = |ahead: &mut Ahead, most| {
            let asked = std::iter::from_fn(|| ahead.has_room(most).then(|| ahead.asked()));
            asked.count()
        };
        assert_eq!(fill(&mut ahead, 10), 10);
        (0..10).for_each(|_| ahead.composed(INPUT_BYTES / 4));
        assert_eq!(fill(&mut ahead, 100), 0);
        (0..7).for_each(|_| ahead.ended(INPUT_BYTES / 4));
        assert_eq!(fill(&mut ahead, 100), 1);
        ahead.none_left();
        (0..3).for_each(|_| ahead.ended(INPUT_BYTES / 4));
        assert!(ahead.is_empty());
        assert_eq!(fill(&mut Ahead::expecting(INPUT_BYTES / 2), 100), 2);
        // One that takes more than all is not waited for without end.
        ahead.asked();
        ahead.composed(2 * INPUT_BYTES);
        ahead.ended(2 * INPUT_BYTES);
        assert_eq!(fill(&mut ahead, 100), 1);
    }
}
