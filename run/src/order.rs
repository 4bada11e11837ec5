//! Output in the order of the arguments (`-k`).

use std::collections::BTreeMap;

/// Output that is held back in memory for jobs before it. Once it is that much, no job should start until the first ends.
pub const HELD_BYTES: usize = 256 * 1024 * 1024;

/// Holds back what jobs put out until all that started before have ended.
#[derive(Clone, Debug)]
pub struct InOrder<T> {
    /// Jobs that have started and were not handed out; an output where one has ended.
    jobs: BTreeMap<u64, Option<Held<T>>>,
    held_bytes: usize,
}

#[derive(Clone, Debug)]
struct Held<T> {
    output: T,
    bytes: usize,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), held_bytes: 0 }
    }
}

impl<T> InOrder<T> {
    /// A job starts. Jobs start in the order of their numbers, of which some may be left out.
    pub fn started(&mut self, sequence: u64) {
        self.jobs.insert(sequence, None);
    }

    /// Whether no job before this one is still to be printed, so that its output can be printed while it runs.
    pub fn is_first(&self, sequence: u64) -> bool {
        self.first() == Some(sequence)
    }

    /// The job before which all were handed out, if any has started.
    pub fn first(&self) -> Option<u64> {
        self.jobs.first_key_value().map(|(first, _)| *first)
    }

    /// A job that was to start does not. Gives what is next to print, in order.
    pub fn left_out(&mut self, sequence: u64) -> Vec<T> {
        self.jobs.remove(&sequence);
        self.next()
    }

    /// A job that had started has ended, with an output that takes so many bytes of memory. Gives what is next to print, in
    /// order.
    pub fn ended(&mut self, sequence: u64, output: T, bytes: usize) -> Vec<T> {
        self.jobs.insert(sequence, Some(Held { output, bytes }));
        self.held_bytes += bytes;
        self.next()
    }

    fn next(&mut self) -> Vec<T> {
        let mut next = Vec::new();
        while let Some(first) = self.jobs.first_entry().filter(|first| first.get().is_some()) {
            if let Some(Held { output, bytes }) = first.remove() {
                self.held_bytes -= bytes;
                next.push(output);
            }
        }
        next
    }

    /// Whether so much is held that no more jobs should start.
    pub fn is_full(&self) -> bool {
        self.held_bytes >= HELD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_comes_in_the_order_of_the_numbers() {
        let mut order = InOrder::default();
        [1, 2, 4, 5].into_iter().for_each(|job| order.started(job));
        assert!(order.is_first(1));
        assert_eq!(order.ended(2, "b", 1), Vec::<&str>::new());
        assert_eq!(order.ended(4, "d", 1), Vec::<&str>::new());
        assert_eq!(order.ended(1, "a", 1), ["a", "b", "d"]);
        assert!(order.is_first(5) && !order.is_first(1));
        assert_eq!(order.ended(5, "e", 1), ["e"]);
        assert!(!order.is_first(6));
    }

    #[test]
    fn it_is_full_while_the_first_holds_up_too_much() {
        let mut order = InOrder::default();
        [1, 2].into_iter().for_each(|job| order.started(job));
        order.ended(2, (), HELD_BYTES);
        assert!(order.is_full());
        order.ended(1, (), 1);
        assert!(!order.is_full());
    }
}
