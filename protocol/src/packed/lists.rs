//! Lists of attempts and of outcomes, each item told apart from the one before it.

use bytes::Bytes;

use super::input::{Input, put_number, put_payload};
use crate::codec::{self, DecodeError, EncodeError};
use crate::{Attempt, AttemptId, Ended, FunctionId, JobId, Outcome, ProgramId};

/// The job's place is the one after that of the item before.
const NEXT_PLACE: u8 = 1;
/// The place was used as often as that of the item before.
const SAME_GENERATION: u8 = 2;
/// It is the job's first attempt.
const FIRST_ATTEMPT: u8 = 4;
/// The function is that of the item before.
const SAME_FUNCTION: u8 = 8;
/// There is no time limit.
const NO_TIME_LIMIT: u8 = 16;
/// The outcome is a result.
const SUCCEEDED: u8 = 32;
/// The program is that of the item before.
const SAME_PROGRAM: u8 = 64;

/// Base from which an item is told apart: the attempt before it, and what it calls.
struct Before {
    id: AttemptId,
    program: ProgramId,
    function: FunctionId,
}

impl Before {
    /// Base of the first item of a list.
    const NOTHING: Self = Self {
        id: AttemptId { job: JobId::new(u32::MAX, 0), number: 0 },
        program: ProgramId::FIRST,
        function: FunctionId(0),
    };

    #[inline]
    fn next_place(&self) -> u32 {
        self.id.job.place().wrapping_add(1)
    }

    #[inline]
    fn flags(&self, id: AttemptId) -> u8 {
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        flag(NEXT_PLACE, id.job.place() == self.next_place())
            | flag(SAME_GENERATION, id.job.generation() == self.id.job.generation())
            | flag(FIRST_ATTEMPT, id.number == 1)
    }

    #[inline]
    fn put_id(&mut self, flags: u8, id: AttemptId, out: &mut Vec<u8>) {
        if flags & NEXT_PLACE == 0 {
            let distance = id.job.place().wrapping_sub(self.next_place()).cast_signed();
            put_number(u64::from((distance << 1 ^ distance >> 31).cast_unsigned()), out);
        }
        if flags & SAME_GENERATION == 0 {
            put_number(id.job.generation().into(), out);
        }
        if flags & FIRST_ATTEMPT == 0 {
            put_number(id.number.into(), out);
        }
        self.id = id;
    }

    #[inline]
    fn id(&mut self, flags: u8, input: &mut Input<'_>) -> Result<AttemptId, DecodeError> {
        let mut place = self.next_place();
        if flags & NEXT_PLACE == 0 {
            let told = input.small_number()?;
            place = place.wrapping_add(told >> 1 ^ (told & 1).wrapping_neg());
        }
        let same = flags & SAME_GENERATION != 0;
        let generation = if same { self.id.job.generation() } else { input.small_number()? };
        let number = if flags & FIRST_ATTEMPT != 0 { 1 } else { input.small_number()? };
        self.id = AttemptId { job: JobId::new(place, generation), number };
        Ok(self.id)
    }
}

/// Appends `attempts`. The arguments of the last one are left out and yielded if they have at least `least` bytes: they
/// must follow.
pub(crate) fn put_attempts(attempts: &[Attempt], least: usize, out: &mut Vec<u8>) -> Option<Bytes> {
    let (mut before, mut left_out) = (Before::NOTHING, None);
    put_number(attempts.len() as u64, out);
    for (place, attempt) in attempts.iter().enumerate() {
        let Attempt { id, program, function, time_limit_ns, args } = attempt;
        let same_program = if *program == before.program { SAME_PROGRAM } else { 0 };
        let same_function = if *function == before.function { SAME_FUNCTION } else { 0 };
        let no_limit = if *time_limit_ns == 0 { NO_TIME_LIMIT } else { 0 };
        let flags = before.flags(*id) | same_program | same_function | no_limit;
        out.push(flags);
        before.put_id(flags, *id, out);
        if same_program == 0 {
            put_number(program.0.into(), out);
            before.program = *program;
        }
        if same_function == 0 {
            out.extend_from_slice(&function.0.to_le_bytes());
            before.function = *function;
        }
        if no_limit == 0 {
            put_number(*time_limit_ns, out);
        }
        let is_last = place + 1 == attempts.len();
        left_out = put_payload(args, if is_last { least } else { usize::MAX }, out);
    }
    left_out
}

pub(crate) fn attempts(input: &mut Input<'_>) -> Result<Vec<Attempt>, DecodeError> {
    let (count, mut attempts) = input.list()?;
    let mut before = Before::NOTHING;
    for _ in count {
        let flags = input.byte()?;
        let id = before.id(flags, input)?;
        if flags & SAME_PROGRAM == 0 {
            let told = u16::try_from(input.number()?).map_err(|_| DecodeError::NotANumber)?;
            before.program = ProgramId(told);
        }
        if flags & SAME_FUNCTION == 0 {
            before.function = FunctionId(u64::from_le_bytes(input.fixed()?));
        }
        let time_limit_ns = if flags & NO_TIME_LIMIT != 0 { 0 } else { input.number()? };
        let Before { program, function, .. } = before;
        attempts.push(Attempt { id, program, function, time_limit_ns, args: input.payload()? });
    }
    Ok(attempts)
}

/// Appends `outcomes`, of which the first one has the sequence number `first`. The result of the last one is left out and
/// yielded if it has at least `least` bytes: it must follow.
pub(crate) fn put_outcomes(
    first: u64,
    outcomes: &[Outcome],
    least: usize,
    out: &mut Vec<u8>,
) -> Result<Option<Bytes>, EncodeError> {
    let (mut before, mut left_out) = (Before::NOTHING, None);
    put_number(first, out);
    put_number(outcomes.len() as u64, out);
    for (place, Outcome { id, run_time_ns, ended }) in outcomes.iter().enumerate() {
        let succeeded = if matches!(ended, Ended::Succeeded(_)) { SUCCEEDED } else { 0 };
        let flags = before.flags(*id) | succeeded;
        out.push(flags);
        before.put_id(flags, *id, out);
        put_number(*run_time_ns, out);
        let is_last = place + 1 == outcomes.len();
        left_out = match ended {
            Ended::Succeeded(result) => put_payload(result, if is_last { least } else { usize::MAX }, out),
            other => codec::encode(other, out).map(|()| None)?,
        };
    }
    Ok(left_out)
}

pub(crate) fn outcomes(input: &mut Input<'_>) -> Result<(u64, Vec<Outcome>), DecodeError> {
    let first = input.number()?;
    let (count, mut outcomes) = input.list()?;
    let mut before = Before::NOTHING;
    for _ in count {
        let flags = input.byte()?;
        let id = before.id(flags, input)?;
        let run_time_ns = input.number()?;
        let succeeded = flags & SUCCEEDED != 0;
        let ended = if succeeded { Ended::Succeeded(input.payload()?) } else { input.value()? };
        outcomes.push(Outcome { id, run_time_ns, ended });
    }
    Ok((first, outcomes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LIST_ITEMS;
    use crate::{Panic, Payload};

    const EDGES: [u64; 8] = [0, 1, 127, 128, 16_383, 16_384, u32::MAX as u64, u64::MAX];

    fn id(place: u32, generation: u32, number: u32) -> AttemptId {
        AttemptId { job: JobId::new(place, generation), number }
    }

    fn attempts_of_all_kinds() -> Vec<Attempt> {
        let ids = [
            id(0, 0, 1),
            id(1, 0, 1),
            id(1, 1, 2),
            id(u32::MAX, 7, u32::MAX),
            id(0, u32::MAX, 1),
            id(40_000, 0, 1),
            id(2, 0, 3),
        ];
        let attempt = |(place, id): (usize, AttemptId)| Attempt {
            id,
            program: ProgramId([1, 1, 0, u16::MAX, u16::MAX, 1, 2][place]),
            function: FunctionId(EDGES[place / 2]),
            time_limit_ns: EDGES[place],
            args: Payload::from(vec![place as u8; place * 60]),
        };
        ids.into_iter().enumerate().map(attempt).collect()
    }

    fn outcomes_of_all_kinds() -> Vec<Outcome> {
        let ends = [
            Ended::Succeeded(Payload::default()),
            Ended::Cancelled,
            Ended::Succeeded(Payload::from(vec![1; 200])),
            Ended::Panicked(Box::new(Panic { message: "no".into(), place: None, backtrace: None })),
            Ended::TooLarge(1, u64::MAX),
            Ended::Returned,
            Ended::Succeeded(Payload::from(vec![1])),
        ];
        let ids = attempts_of_all_kinds().into_iter().map(|attempt| attempt.id);
        let outcomes = ids.zip(ends).zip(EDGES);
        outcomes.map(|((id, ended), run_time_ns)| Outcome { id, run_time_ns, ended }).collect()
    }

    #[test]
    fn attempts_and_outcomes_come_back_as_they_were() {
        for count in 0..=attempts_of_all_kinds().len() {
            let (attempts_sent, outcomes_sent) =
                (&attempts_of_all_kinds()[..count], &outcomes_of_all_kinds()[..count]);
            let mut out = Vec::new();
            assert_eq!(put_attempts(attempts_sent, usize::MAX, &mut out), None);
            assert_eq!(put_outcomes(9, outcomes_sent, usize::MAX, &mut out).unwrap(), None);
            let frame = Bytes::from(out);
            let mut input = Input::new(&frame);
            assert_eq!(attempts(&mut input).unwrap(), attempts_sent);
            assert_eq!(outcomes(&mut input).unwrap(), (9, outcomes_sent.to_vec()));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_large_payload_at_the_end_is_left_out_and_belongs_there() {
        let large = Payload::from(vec![5; 1_000]);
        let mut attempt = attempts_of_all_kinds().remove(3);
        attempt.args = large.clone();
        let (mut whole, mut head) = (Vec::new(), Vec::new());
        put_attempts(std::slice::from_ref(&attempt), usize::MAX, &mut whole);
        let left_out = put_attempts(&[attempt], 1_000, &mut head).unwrap();
        assert_eq!(left_out.as_ptr(), large.as_ptr(), "it is not copied");
        assert_eq!([head, left_out.to_vec()].concat(), whole);
    }

    #[test]
    fn payloads_are_slices_of_the_frame_they_came_in() {
        let mut out = Vec::new();
        put_attempts(&attempts_of_all_kinds(), usize::MAX, &mut out);
        let frame = Bytes::from(out);
        let shared = attempts(&mut Input::shared(&frame)).unwrap();
        assert!(frame.as_ptr_range().contains(&shared[6].args.as_ptr()));
        let copied = attempts(&mut Input::new(&frame)).unwrap();
        assert_eq!(copied, shared);
        let apart = copied[6].args.as_ptr() as usize - copied[5].args.as_ptr() as usize;
        assert!((300..400).contains(&apart), "the frame is copied once");
    }

    #[test]
    fn whatever_is_cut_off_is_an_error() {
        let mut out = Vec::new();
        put_attempts(&attempts_of_all_kinds(), usize::MAX, &mut out);
        for length in 0..out.len() {
            let frame = Bytes::copy_from_slice(&out[..length]);
            assert!(attempts(&mut Input::new(&frame)).is_err(), "{length} bytes of {}", out.len());
        }
        out.clear();
        put_outcomes(1, &outcomes_of_all_kinds(), usize::MAX, &mut out).unwrap();
        for length in 0..out.len() {
            let frame = Bytes::copy_from_slice(&out[..length]);
            assert!(outcomes(&mut Input::new(&frame)).is_err(), "{length} bytes of {}", out.len());
        }
    }

    /// An altered list is an error or another list; it is never a panic, and never more than a list may be.
    #[test]
    fn whatever_is_altered_is_decoded_within_bounds() {
        let (mut attempts_sent, mut outcomes_sent) = (Vec::new(), Vec::new());
        put_attempts(&attempts_of_all_kinds(), usize::MAX, &mut attempts_sent);
        put_outcomes(1, &outcomes_of_all_kinds(), usize::MAX, &mut outcomes_sent).unwrap();
        // splitmix64: each number is the seed of what follows it.
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)) % below as u64) as usize
        };
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..50_000 {
            let mut frame = if random(2) == 0 { attempts_sent.clone() } else { outcomes_sent.clone() };
            for _ in 0..=random(3) {
                let place = random(frame.len().min(64));
                frame[place] = random(256) as u8;
            }
            let lengths = [
                attempts(&mut Input::new(&frame)).map(|list| list.len()),
                outcomes(&mut Input::new(&frame)).map(|(_, list)| list.len()),
            ];
            for length in lengths {
                match length {
                    Ok(length) => right += usize::from(length <= LIST_ITEMS),
                    Err(_) => wrong += 1,
                }
            }
        }
        assert_eq!(right + wrong, 100_000, "no list is longer than one may be");
        assert!(right > 1_000 && wrong > 1_000, "{right} lists, {wrong} errors");
    }

    #[test]
    fn a_count_or_length_beyond_what_arrived_allocates_nothing() {
        let mut out = Vec::new();
        put_number(u64::MAX, &mut out);
        out.resize(100, 0xff);
        let frame = Bytes::from(out);
        assert!(matches!(attempts(&mut Input::new(&frame)), Err(DecodeError::TooShort)));
        assert!(matches!(Input::new(&frame).payload(), Err(DecodeError::TooShort)));
        let frame = Bytes::from_static(&[0xff; 20]);
        assert!(matches!(Input::new(&frame).number(), Err(DecodeError::NotANumber)));
    }
}
