//! Lives of a node: one that comes and goes gets no work for a while.

use std::time::Duration;

use pp_protocol::{Moment, NodeId};

/// A life that ends sooner is short.
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// Short lives in a row before a node has to rest.
const SHORT_LIVES_FORGIVEN: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The lives of a node, as far as they were seen.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// The last one, and when it was first seen.
    last: Option<(NodeId, Moment)>,
    /// Short lives in a row before that.
    short: u32,
    /// The node gets no work before then.
    resting_until: Option<Moment>,
}

impl Lives {
    /// A session with this life of the node began. A node whose lives are short rests at the beginning of each, longer
    /// and longer.
    pub(super) fn seen(&mut self, now: Moment, life: NodeId) {
        if self.last.is_some_and(|(last, _)| last == life) {
            return;
        }
        let was_short = self.last.is_some_and(|(_, began)| now.since(began) < SHORT_LIFE);
        self.short = if was_short { self.short.saturating_add(1) } else { 0 };
        self.last = Some((life, now));
        let doublings = self.short.checked_sub(SHORT_LIVES_FORGIVEN);
        let rest =
            doublings.map(|doublings| (FIRST_REST * 2_u32.saturating_pow(doublings)).min(LONGEST_REST));
        self.resting_until = rest.map(|rest| now + rest);
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<NodeId> {
        self.last.map(|(life, _)| life)
    }

    /// Whether there was one.
    pub(super) fn has_any(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn resting_until(&self) -> Option<Moment> {
        self.resting_until
    }

    pub(super) fn end_rest(&mut self) {
        self.resting_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// End of the rest of the next life that follows after this time, as seen from its beginning.
    fn next(lives: &mut Lives, now: &mut Moment, after: Duration) -> Option<Duration> {
        *now = *now + after;
        lives.seen(*now, NodeId(now.0.into()));
        lives.resting_until().map(|until| until.since(*now))
    }

    #[test]
    fn rests_double_with_each_short_life_up_to_a_minute_and_end_with_a_long_one() {
        let (mut lives, mut now) = (Lives::default(), Moment(1));
        let short = SHORT_LIFE - Duration::from_nanos(1);
        let rests: Vec<_> = (0..12).map(|_| next(&mut lives, &mut now, short)).collect();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(rests[..3], [None; 3], "the first is none after another, and two are forgiven");
        assert_eq!(rests[3..9], [1, 2, 4, 8, 16, 32].map(seconds));
        assert_eq!(rests[9..], [60; 3].map(seconds));
        assert_eq!(next(&mut lives, &mut now, SHORT_LIFE), None);
        assert_eq!(next(&mut lives, &mut now, short), None, "they are counted anew");
    }

    #[test]
    fn another_session_with_the_same_life_changes_nothing() {
        let (mut lives, mut now) = (Lives::default(), Moment(1));
        let rests = [(); 4].map(|()| next(&mut lives, &mut now, Duration::from_secs(1)));
        assert_eq!(rests[3], Some(FIRST_REST));
        let until = lives.resting_until();
        lives.seen(now + Duration::from_secs(1), NodeId(now.0.into()));
        assert_eq!(lives.resting_until(), until);
        lives.end_rest();
        assert_eq!(lives.resting_until(), None);
    }
}
