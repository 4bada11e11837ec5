//! Questions of operators about jobs: passed on to every dispatcher, and their answers back.
//!
//! A node knows attempts, and no jobs that wait at their dispatcher; that alone knows why one has not ended. A dispatcher opens no
//! port, so that it is asked on the connections that there are.

use std::collections::{BTreeSet, VecDeque};

use pp_protocol::limits::{EXPLANATION_BYTES, QUESTIONS, cut};
use pp_protocol::{FromNode, JobAnswer, JobId};

use super::{Action, ConnectionKey, Core, SessionKey};

/// Questions to which there may be answers still.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Oldest first.
    open: VecDeque<Question>,
    /// Number of the next one.
    next: u64,
}

#[derive(Debug)]
struct Question {
    number: u64,
    job: JobId,
    /// Whoever asks.
    by: ConnectionKey,
    /// The sessions that have not answered.
    of: BTreeSet<SessionKey>,
}

impl Core {
    /// An operator asks who has this job.
    pub(super) fn ask_of_job(&mut self, by: ConnectionKey, job: JobId, actions: &mut Vec<Action>) {
        let number = self.questions.next;
        self.questions.next += 1;
        let mut of = BTreeSet::new();
        for (key, session) in &self.sessions {
            if let Some(connection) = session.connection() {
                of.insert(*key);
                actions.push(Action::Send(connection, FromNode::ExplainJob(number, job)));
            }
        }
        if self.questions.open.len() >= QUESTIONS {
            self.questions.open.pop_front();
        }
        self.questions.open.push_back(Question { number, job, by, of });
    }

    /// A dispatcher answers; what it was not asked, or has answered already, is nobody's concern.
    pub(super) fn job_explained(
        &mut self,
        key: SessionKey,
        number: u64,
        text: &str,
        actions: &mut Vec<Action>,
    ) {
        let question = self.questions.open.iter_mut().find(|question| question.number == number);
        let Some(question) = question else { return };
        if !question.of.remove(&key) {
            return;
        }
        let (by, job) = (question.by, question.job);
        let Some(session) = self.sessions.get(&key).filter(|_| self.connections.contains_key(&by)) else {
            return;
        };
        let text = cut(text, EXPLANATION_BYTES).to_owned();
        let (session, dispatcher) = (session.id, session.name.clone());
        let answer = JobAnswer { job, session, dispatcher, text };
        actions.push(Action::Send(by, FromNode::JobExplained(Box::new(answer))));
    }
}
