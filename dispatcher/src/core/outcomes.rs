//! Messages of nodes: outcomes, windows, states, refusals.
//!
//! An outcome counts if it is of the job's current attempt at the node that sent it; others are counted and dropped.

use std::time::Duration;

use pp_protocol::{AttemptId, Ended, FromNode, JobId, Moment, Outcome, Payload, Role, ToNode};

use super::job::{Job, Location, Owner};
use super::links::REFUSED_REDIAL;
use super::nodes::{Node, State};
use super::session::{Link, Session};
use super::{Action, Core, JobOutcome, NodeKey, NodeLoss, NodeRefusal, NodeTrouble, Report, Resolution};

/// Waiting time before a node that left by itself is dialled again.
const GOODBYE_REDIAL: Duration = Duration::from_secs(1);

impl<T> Core<T> {
    pub(super) fn received(
        &mut self,
        now: Moment,
        key: NodeKey,
        messages: Vec<FromNode>,
        actions: &mut Vec<Action<T>>,
    ) {
        self.heard(now, key);
        let (mut any_outcomes, mut any_parts) = (false, false);
        for message in messages {
            any_outcomes |= matches!(message, FromNode::Outcomes(..));
            any_parts |= matches!(message, FromNode::Part(..));
            self.message(now, key, message, actions);
        }
        // Once for all of them.
        if any_outcomes
            && let Some(session) = self.nodes.get_mut(&key).and_then(Node::session_mut)
            && session.connection().is_some()
        {
            actions.push(Action::Send(key, ToNode::Ack(session.outcomes.without_gap())));
            session.progress(now);
        }
        if any_parts {
            self.tell_of_parts(key, actions);
        }
        self.update_taker(key);
    }

    /// Somebody asks why a job has not ended. Another dispatcher's may be meant.
    #[cold]
    fn asked_of_job(&self, key: NodeKey, number: u64, job: JobId, actions: &mut Vec<Action<T>>) {
        if self.jobs.find(job).is_some() {
            actions.push(Action::Explain(key, number, job));
        }
    }

    fn message(&mut self, now: Moment, key: NodeKey, message: FromNode, actions: &mut Vec<Action<T>>) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let State::InSession(session) = &mut node.state else { return };
        let Session { link: Link::Up(connection), outcomes: received, .. } = session else { return };
        let role = if self.config.observer { Role::Operator } else { Role::Dispatcher };
        if let Err(violation) = message.rule().check(role, true, connection.version) {
            return self.left_by(now, key, NodeRefusal::Violation(violation), actions);
        }
        match message {
            FromNode::Outcomes(first, outcomes) => {
                received.note(first, outcomes.len() as u64);
                for outcome in outcomes {
                    self.outcome(key, outcome, actions);
                }
            }
            FromNode::Window(window) => session.grant(window),
            FromNode::Status(new) => {
                let resized = node.own_slots != new.slots;
                node.tell_status(new);
                if resized {
                    actions.push(Action::Report(Report::NodeResized(key, new.slots)));
                }
            }
            FromNode::Output(lines) => {
                let told = connection.output_arrived(&lines);
                actions.extend(told.map(|bytes| Action::Send(key, ToNode::OutputReceived(bytes))));
                actions.push(Action::Report(Report::Printed(key, lines)));
            }
            FromNode::Part(number, part) => self.part(now, key, number, part, actions),
            FromNode::ProgramNeeded(digest) => actions.push(Action::SendProgram(key, digest)),
            FromNode::ProgramWritten(digest, pieces) => {
                actions.push(Action::ProgramWritten(key, digest, pieces));
            }
            FromNode::Program(program, status) => self.program_told(key, program, status, actions),
            FromNode::ExplainJob(number, job) => self.asked_of_job(key, number, job, actions),
            FromNode::JobExplained(answer) => actions.push(Action::Report(Report::JobExplained(answer))),
            FromNode::Ping(number) => actions.push(Action::Send(key, ToNode::Pong(number))),
            FromNode::Goodbye(farewell) => {
                actions.push(Action::Close(key));
                // It is dialled again in case it is started again.
                self.lose(key, NodeLoss::Goodbye(farewell), now + GOODBYE_REDIAL, false, actions);
            }
            FromNode::Trouble(trouble) => {
                if let Some(shortage) = &trouble
                    && connection.trouble != trouble
                {
                    let trouble = NodeTrouble::Workers(shortage.clone());
                    actions.push(Action::Report(Report::NodeTroubled(key, trouble)));
                }
                connection.trouble = trouble;
            }
            FromNode::Pong(number) => {
                connection.answered(number);
                self.heard(now, key);
            }
            FromNode::Refused(refusal) => {
                self.left_by(now, key, NodeRefusal::Session(refusal), actions);
            }
            FromNode::Activity(activity) => self.activity(now, key, activity, actions),
            FromNode::Welcome(_) => {}
        }
    }

    /// The node ended the session, or has to be left: it is dialled again once somebody may have mended that.
    pub(super) fn left_by(
        &mut self,
        now: Moment,
        key: NodeKey,
        refusal: NodeRefusal,
        actions: &mut Vec<Action<T>>,
    ) {
        actions.push(Action::Close(key));
        self.lose(key, NodeLoss::Refused(Box::new(refusal.clone())), now + REFUSED_REDIAL, false, actions);
        actions.push(Action::Report(Report::NodeRefused(key, refusal)));
    }

    fn outcome(&mut self, key: NodeKey, outcome: Outcome, actions: &mut Vec<Action<T>>) {
        let Outcome { id, run_time_ns, mut ended } = outcome;
        let is_current = |job: &Job<T>| job.attempt == id.number && job.node() == Some(key);
        if let Ended::Succeeded(result) = &mut ended
            && let Some(job) = self.jobs.remove_if(id.job, |job| is_current(job) && job.rare.is_none())
        {
            let result = std::mem::take(result);
            return self.succeeded(key, id.job, job, run_time_ns, result, actions);
        }
        if self.jobs.find(id.job).is_some_and(is_current) {
            self.ended(key, id, run_time_ns, ended, actions);
        } else {
            self.late_outcomes += 1;
        }
    }

    /// The usual outcome of a job that has none of the fields that most jobs do not use.
    fn succeeded(
        &mut self,
        key: NodeKey,
        id: JobId,
        job: Job<T>,
        run_time_ns: u64,
        result: Payload,
        actions: &mut Vec<Action<T>>,
    ) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.ran(job.function, run_time_ns);
            if let (Some(session), Location::AtNode { position, .. }) = (node.session_mut(), &job.location) {
                session.forget(*position, job.large_args(), &mut self.jobs);
            }
        }
        if let Owner::Submitter(ticket) = job.owner {
            let resolution = Resolution {
                outcome: JobOutcome::Succeeded(result),
                job: id,
                function: job.function,
                node: Some(key),
                run_time: Duration::from_nanos(run_time_ns),
                args_bytes: job.args.len(),
            };
            actions.push(Action::Resolve(ticket, resolution));
        }
    }

    fn ended(
        &mut self,
        key: NodeKey,
        id: AttemptId,
        run_time_ns: u64,
        ended: Ended,
        actions: &mut Vec<Action<T>>,
    ) {
        let has_run = !matches!(ended, Ended::Returned | Ended::Cancelled);
        if let (Some(node), Some(job), true) = (self.nodes.get_mut(&key), self.jobs.find(id.job), has_run) {
            node.ran(job.function, run_time_ns);
        }
        let outcome = match ended {
            Ended::Succeeded(result) => JobOutcome::Succeeded(result),
            // Nobody waits for what was cancelled here. What the node cancelled by itself has not been tried.
            Ended::Returned | Ended::Cancelled => {
                self.queue_again(id.job, actions);
                return;
            }
            Ended::WorkerDied(death) => return self.blame_for_worker(id, key, death, actions),
            Ended::Panicked(panic) => {
                if self.blame_for_panic(id, key, &panic, actions) {
                    return;
                }
                JobOutcome::Panicked(panic)
            }
            Ended::TimedOut => {
                let limit = self.jobs.find(id.job).and_then(|job| job.time_limit());
                JobOutcome::TimedOut(limit.unwrap_or_default())
            }
            Ended::TooLarge(size, limit) => JobOutcome::TooLarge(size, limit),
            Ended::UnknownFunction => JobOutcome::UnknownFunction,
            Ended::BadArguments(reason) => JobOutcome::BadArguments(reason),
            Ended::BadResult(reason) => JobOutcome::BadResult(reason),
        };
        if let Some(job) = self.take_out(id.job) {
            self.resolve(id.job, job, outcome, Some(key), Duration::from_nanos(run_time_ns), actions);
        }
    }
}
