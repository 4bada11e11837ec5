//! Programs on their way: which session is asked for which one, how much it may send ahead, and what becomes of one that does
//! not go on.
//!
//! One session at a time sends a program, however many run it, in numbered pieces: as many as are written to disk, which it is
//! told, and [`PROGRAM_CHUNKS_AHEAD`] more. So what waits for the disk is bounded, whatever is sent, and a try that was given up
//! leaves nothing behind that the next one could be confused by: a piece that is not the next one is dropped.
//!
//! [`UPLOADS`] go on at once. One that has sent nothing for a second does not count, so that another one is asked for, first that
//! of the youngest session: many who do not go on keep out nobody who comes. It is given up once so many have begun that there
//! is room for no more, the one that idles longest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use pp_protocol::limits::{PROGRAM_CHUNKS_AHEAD, UPLOADS, UPLOADS_BEGUN, UPLOADS_OF_SESSION};
use pp_protocol::{Digest, FromNode, Moment, Payload, ProgramRefusal};

use super::lanes::{Lane, LaneKey};
use super::programs::{ProgramState, Sought};
use super::{Action, Core, Program, SessionKey};

/// Time without a piece after which somebody else who runs the same program is asked for it.
const STALLED: Duration = Duration::from_secs(10);
/// Time without a piece after which somebody who waits to send another program is asked.
const IDLE: Duration = Duration::from_secs(1);
/// Pause before a session that did not go on is asked again.
const RESTS: Duration = Duration::from_secs(10);

/// A program that a session sends.
#[derive(Debug)]
pub(super) struct Upload {
    from: SessionKey,
    /// Pieces that have arrived, and those of them that are written.
    arrived: u32,
    written: u32,
    /// Time of the last piece, or of the last word that more may be sent.
    heard: Moment,
    /// Time at which it is looked whether it goes on.
    pub(super) look: Moment,
    pub(super) sought: Sought,
}

impl Upload {
    fn begin(now: Moment, from: SessionKey, sought: Sought) -> Self {
        Self { from, arrived: 0, written: 0, heard: now, look: now + STALLED, sought }
    }

    /// Whether another piece may be sent.
    fn has_room(&self) -> bool {
        self.arrived < self.written + PROGRAM_CHUNKS_AHEAD
    }

    /// Whether its session could have gone on for so long, and has not.
    fn idles_for(&self, time: Duration, now: Moment) -> bool {
        self.has_room() && self.heard + time <= now
    }
}

impl Core {
    /// Asks sessions for programs that are wanted, as long as not too many are being sent.
    pub(super) fn ask_for_programs(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !std::mem::take(&mut self.is_program_wanted) || !self.is_any_wanted() {
            return;
        }
        if self.uploads_that_go_on(now) >= UPLOADS {
            return self.look_again_soon();
        }
        for program in self.wanted() {
            if self.uploads_that_go_on(now) >= UPLOADS {
                return self.look_again_soon();
            }
            self.ask_for(now, program, actions);
        }
    }

    fn is_any_wanted(&self) -> bool {
        self.programs.values().any(|state| matches!(state, ProgramState::Wanted(_)))
    }

    /// Programs that are wanted: first those of the sessions that came last.
    fn wanted(&self) -> Vec<Program> {
        let wanted = self.programs.iter().filter(|(_, state)| matches!(state, ProgramState::Wanted(_)));
        let mut youngest: BTreeMap<Program, Option<SessionKey>> =
            wanted.map(|(program, _)| (*program, None)).collect();
        for (key, session) in &self.sessions {
            for program in session.lanes.iter().filter_map(Lane::runs) {
                youngest.entry(program).and_modify(|youngest| *youngest = Some(*key));
            }
        }
        let mut wanted: Vec<_> = youngest.into_iter().collect();
        wanted.sort_by_key(|(_, youngest)| Reverse(*youngest));
        wanted.into_iter().map(|(program, _)| program).collect()
    }

    fn ask_for(&mut self, now: Moment, program: Program, actions: &mut Vec<Action>) {
        let (Program::Sent(digest), Some(ProgramState::Wanted(sought))) =
            (program, self.programs.get(&program))
        else {
            return;
        };
        let mut sought = sought.clone();
        let connected = |lane: LaneKey| Some((lane.session, self.sessions.get(&lane.session)?.connection()?));
        let mut sources: Vec<_> = self.lanes_that_run(program).filter_map(connected).collect();
        if sources.is_empty() {
            self.programs.remove(&program);
            return;
        }
        sources.retain(|(session, _)| !sought.stalled.contains(session));
        if sources.is_empty() {
            sought.stalled.clear();
            self.programs.insert(program, ProgramState::Waiting { until: now + RESTS, sought });
            return;
        }
        let sending = self.uploads();
        let of = |session| sending.iter().filter(|from| **from == Some(session)).count();
        let source = sources.into_iter().min_by_key(|(session, _)| of(*session));
        let may_send = source.filter(|(session, _)| of(*session) < UPLOADS_OF_SESSION);
        let Some((from, connection)) = may_send else { return };
        if sending.len() >= UPLOADS_BEGUN {
            self.give_up_the_idlest(now, actions);
        }
        self.programs.insert(program, ProgramState::Fetching(Upload::begin(now, from, sought)));
        actions.push(Action::Send(connection, FromNode::ProgramNeeded(digest)));
    }

    /// Programs that are being received: who sends each, unless it has been sent.
    fn uploads(&self) -> Vec<Option<SessionKey>> {
        let states = self.programs.values();
        let sender = |state: &ProgramState| match state {
            ProgramState::Fetching(upload) => Some(Some(upload.from)),
            ProgramState::Storing(_) => Some(None),
            _ => None,
        };
        states.filter_map(sender).collect()
    }

    fn fetching(&mut self) -> impl Iterator<Item = (Program, &mut Upload)> {
        self.programs.iter_mut().filter_map(|(program, state)| match state {
            ProgramState::Fetching(upload) => Some((*program, upload)),
            _ => None,
        })
    }

    /// Number of programs that are being received and go on.
    fn uploads_that_go_on(&self, now: Moment) -> usize {
        let goes_on = |state: &&ProgramState| match state {
            ProgramState::Fetching(upload) => !upload.idles_for(IDLE, now),
            ProgramState::Storing(_) => true,
            _ => false,
        };
        self.programs.values().filter(goes_on).count()
    }

    /// Gives up the program that has not gone on for longest, if there is one that does not.
    pub(super) fn give_up_the_idlest(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let idle = self.fetching().filter(|(_, upload)| upload.idles_for(IDLE, now));
        if let Some((program, _)) = idle.min_by_key(|(_, upload)| upload.heard) {
            self.give_up(now, program, actions);
        }
    }

    /// Somebody waits for one of those that are being sent to end, or to idle.
    fn look_again_soon(&mut self) {
        for (_, upload) in self.fetching() {
            upload.look = upload.look.min(upload.heard + IDLE);
        }
    }

    /// A session does not go on with a program: another one that runs it is asked, or this one again after a while.
    fn give_up(&mut self, now: Moment, program: Program, actions: &mut Vec<Action>) {
        let (Program::Sent(digest), Some(ProgramState::Fetching(upload))) =
            (program, self.programs.get_mut(&program))
        else {
            return;
        };
        let (from, mut sought) = (upload.from, std::mem::take(&mut upload.sought));
        sought.stalled.insert(from);
        actions.push(Action::AbandonProgram(digest));
        let has_others = self
            .lanes_that_run(program)
            .any(|lane| self.is_connected(lane.session) && !sought.stalled.contains(&lane.session));
        let state = if has_others {
            ProgramState::Wanted(sought)
        } else {
            sought.stalled.clear();
            ProgramState::Waiting { until: now + RESTS, sought }
        };
        self.is_program_wanted = true;
        self.programs.insert(program, state);
    }

    fn is_connected(&self, session: SessionKey) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.connection().is_some())
    }

    /// Looks whether sessions that send programs go on.
    pub(super) fn look_at_uploads(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let is_any_wanted = self.is_any_wanted();
        let patience = if is_any_wanted { IDLE } else { STALLED };
        let due = self.fetching().filter(|(_, upload)| upload.look <= now);
        for program in due.map(|(program, _)| program).collect::<Vec<_>>() {
            let runs = self.lanes_that_run(program).filter(|lane| self.is_connected(lane.session)).count();
            let Some(ProgramState::Fetching(upload)) = self.programs.get_mut(&program) else { continue };
            if runs > 1 && upload.idles_for(STALLED, now) {
                self.give_up(now, program, actions);
                continue;
            }
            let idles = upload.idles_for(patience, now);
            upload.look = if upload.has_room() && !idles { upload.heard + patience } else { now + patience };
            self.is_program_wanted |= idles && is_any_wanted;
        }
    }

    /// A piece of a program has come.
    pub(super) fn program_chunk(
        &mut self,
        now: Moment,
        key: SessionKey,
        (digest, number): (Digest, u32),
        piece: Payload,
        last: bool,
        actions: &mut Vec<Action>,
    ) {
        let program = Program::Sent(digest);
        let Some(ProgramState::Fetching(upload)) = self.programs.get_mut(&program) else { return };
        // Any other piece is of a try that was given up.
        if upload.from != key || number != upload.arrived {
            return;
        }
        if !upload.has_room() {
            return self.protocol_broken(key, "it sent more of a program than it may send ahead", actions);
        }
        upload.arrived += 1;
        upload.heard = now;
        actions.push(Action::StoreProgram { digest, size: upload.sought.size, piece, last });
        if last {
            let sought = std::mem::take(&mut upload.sought);
            self.programs.insert(program, ProgramState::Storing(sought));
        }
    }

    /// So many pieces of a program are on disk: as many more may come.
    pub(super) fn program_written(
        &mut self,
        now: Moment,
        digest: Digest,
        pieces: u32,
        actions: &mut Vec<Action>,
    ) {
        let Some(ProgramState::Fetching(upload)) = self.programs.get_mut(&Program::Sent(digest)) else {
            return;
        };
        upload.written = pieces;
        upload.heard = now;
        let session = self.sessions.get(&upload.from);
        if let Some(connection) = session.and_then(|session| session.connection()) {
            actions.push(Action::Send(connection, FromNode::ProgramWritten(digest, pieces)));
        }
    }

    pub(super) fn program_unavailable(
        &mut self,
        key: SessionKey,
        digest: Digest,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let program = Program::Sent(digest);
        if matches!(self.programs.get(&program), Some(ProgramState::Fetching(upload)) if upload.from == key) {
            actions.push(Action::AbandonProgram(digest));
            self.program_refused(program, ProgramRefusal::Unavailable(reason), actions);
        }
    }

    /// A session is gone: what it was sending is asked for again, of another session that runs it.
    pub(super) fn program_source_lost(&mut self, key: SessionKey, actions: &mut Vec<Action>) {
        let interrupted: Vec<_> = self
            .fetching()
            .filter(|(_, upload)| upload.from == key)
            .filter_map(|(program, _)| match program {
                Program::Sent(digest) => Some(digest),
                Program::Own => None,
            })
            .collect();
        for digest in interrupted {
            actions.push(Action::AbandonProgram(digest));
            self.program_missing(digest);
        }
    }
}
