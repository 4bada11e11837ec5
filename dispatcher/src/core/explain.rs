//! Why a job has not ended: where it is, or what it waits for at each node. Data, and its words.
//!
//! Asked for by people, and never on the way of a job: nothing is kept for it.

use std::fmt;
use std::time::Duration;

use pp_protocol::{JobId, Moment, NodeId, ProgramId, ProgramRefusal, ProgramStatus, WorkerShortage};

use super::job::{Job, Location};
use super::nodes::Node;
use super::session::{Link, Session};
use super::{Core, NodeKey, NodeKind, NodeReason, NodeView};

/// Nodes that are named where a job waits for any of them; of the others there is a number.
const NODES_NAMED: usize = 5;

/// Why a job has not ended: [`Job::explain`](crate::Job::explain). Its text is a sentence for people.
///
/// ```
/// use pp_dispatcher::{Dispatcher, JobExplanation, WaitCause, built_in};
///
/// let dispatcher = Dispatcher::builder().in_process(true).local_workers(0).start()?;
/// let job = dispatcher.submit(built_in::echo, (vec![1],));
/// let JobExplanation::Waits { nodes, .. } = job.explain() else { panic!("it waits") };
/// assert_eq!(nodes[0].cause, WaitCause::NoLocalWorkers);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobExplanation {
    /// It has ended, or was never one of this dispatcher's.
    Ended,
    /// It is not to start before its time.
    Delayed {
        /// Time until then.
        left: Duration,
    },
    /// It is at a node.
    AtNode {
        /// Name of the node.
        node: String,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How it stands there.
        place: PlaceAtNode,
    },
    /// It waits for any node.
    Waits {
        /// Jobs that wait for the same, this one among them.
        jobs: usize,
        /// Why it is not at these nodes: those that may take it first come first.
        nodes: Vec<NodeWait>,
        /// Further nodes.
        more_nodes: usize,
    },
    /// It is for one node only ([`JobBuilder::on_node`](crate::JobBuilder::on_node)), and waits for that.
    WaitsForOne {
        /// Jobs that wait for the same, this one among them.
        jobs: usize,
        /// Why it is not there.
        node: NodeWait,
    },
    /// Its dispatcher does not say: it has ended, or is held up, or is the one that asks.
    NoAnswer,
}

/// How a job stands at its node, as far as its dispatcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceAtNode {
    /// It runs, or starts in a moment.
    Runs,
    /// It runs, or waits for a slot: all are taken, also by jobs of other dispatchers.
    Shares {
        /// Slots there.
        slots: usize,
        /// Dispatchers that share them.
        dispatchers: usize,
    },
    /// Others of this dispatcher were sent there before it.
    Behind {
        /// Their number.
        others: usize,
        /// Slots there.
        slots: usize,
    },
    /// The node is silent.
    NodeIsSilent,
    /// The connection to the node broke, and is made anew.
    NodeIsReconnecting,
}

/// Why a job is not at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeWait {
    /// Name and address of the node.
    pub node: String,
    /// Cause.
    pub cause: WaitCause,
}

/// Cause for which a job that waits is not at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitCause {
    /// It is the next one there.
    Next,
    /// Its slots are taken.
    Busy {
        /// All of them that jobs of this dispatcher may have.
        slots: usize,
        /// Jobs of this dispatcher there.
        own: usize,
        /// Dispatchers that share the node.
        dispatchers: usize,
    },
    /// Large arguments are there already, and those of the job are too much beside them.
    LargeArguments {
        /// Size of the job's, in bytes.
        bytes: usize,
    },
    /// It failed there last, and is tried elsewhere first.
    FailedThere,
    /// The node has come and gone again and again.
    Resting {
        /// Time until it gets jobs.
        left: Duration,
    },
    /// The program is on its way there.
    ProgramIsSent,
    /// Workers of the program do not start just now; why, in the words of the node.
    ProgramTroubled(String),
    /// Workers do not start just now.
    NoWorkers(WorkerShortage),
    /// It does not run the program.
    ProgramRefused(ProgramRefusal),
    /// It has no slots.
    NoSlots,
    /// They are the dispatcher's own cores, of which none is to be used.
    NoLocalWorkers,
    /// It finishes what runs and takes no more.
    Draining,
    /// It is silent.
    Silent,
    /// The connection to it broke, and is made anew.
    Reconnecting,
    /// It is not connected; why not, as far as known.
    Unused(Option<Box<NodeReason>>),
}

impl fmt::Display for JobExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended, or its dispatcher never had it"),
            Self::Delayed { left } => {
                write!(f, "it is not to start before its time, which comes in {:.1} s", left.as_secs_f64())
            }
            Self::AtNode { node, attempt, place } => write!(f, "its attempt {attempt} is at {node}{place}"),
            Self::Waits { jobs, nodes, more_nodes } => {
                waits(f, *jobs)?;
                if nodes.is_empty() {
                    return f
                        .write_str(": no node is known; start `ppserver -a` on a machine of this network");
                }
                for (at, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if at == 0 { ": " } else { "; " })?;
                }
                match more_nodes {
                    0 => Ok(()),
                    1 => f.write_str("; and another node does not take it, either"),
                    more => write!(f, "; and {more} other nodes do not take it, either"),
                }
            }
            Self::WaitsForOne { jobs, node } => {
                waits(f, *jobs)?;
                write!(f, " for one node only, {node}")
            }
            Self::NoAnswer => f.write_str("its dispatcher does not say: it has ended, or is held up"),
        }
    }
}

/// How many wait, the one that was asked for among them.
fn waits(f: &mut fmt::Formatter<'_>, jobs: usize) -> fmt::Result {
    match jobs {
        0 | 1 => f.write_str("it waits"),
        2 => f.write_str("it waits, as another job does"),
        jobs => write!(f, "it waits, as {} other jobs do", jobs - 1),
    }
}

impl fmt::Display for PlaceAtNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str(", and runs there or starts in a moment"),
            Self::Shares { slots, dispatchers } => write!(
                f,
                ", and runs there or waits for a slot: {}, and {dispatchers} dispatchers share the node",
                if *slots == 1 { "its slot is taken".into() } else { format!("all its {slots} are taken") }
            ),
            Self::Behind { others, slots } => write!(
                f,
                ", behind {others} others for its {slots} slots; it is asked back once a slot idles elsewhere"
            ),
            Self::NodeIsSilent => {
                f.write_str(", which is silent; if it stays so for a few seconds, the job runs elsewhere")
            }
            Self::NodeIsReconnecting => f.write_str(
                ", to which the connection broke; it goes on if that is back within a few seconds, and runs elsewhere if not",
            ),
        }
    }
}

impl fmt::Display for NodeWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.cause)
    }
}

impl fmt::Display for WaitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next => f.write_str("it takes more, and this job is sent next"),
            Self::Busy { slots, own, dispatchers } => {
                match slots {
                    1 => f.write_str("its slot is taken")?,
                    slots => write!(f, "all its {slots} slots are taken")?,
                }
                match dispatchers {
                    0 | 1 => Ok(()),
                    others => {
                        write!(f, ", {own} by jobs of this dispatcher, which shares it with {}", others - 1)
                    }
                }
            }
            Self::LargeArguments { bytes } => write!(
                f,
                "large arguments are there already, and the {bytes} bytes of this job are too much beside them"
            ),
            Self::FailedThere => f.write_str("the job failed there last, and is tried elsewhere first"),
            Self::Resting { left } => write!(
                f,
                "it has come and gone again and again, and gets jobs in {:.0} s if it stays; its log says why it ends",
                left.as_secs_f64().max(1.0)
            ),
            Self::ProgramIsSent => f.write_str("it is being sent the program"),
            Self::ProgramTroubled(reason) => f.write_str(reason),
            Self::NoWorkers(shortage) => shortage.fmt(f),
            Self::ProgramRefused(refusal) => refusal.fmt(f),
            Self::NoLocalWorkers => {
                f.write_str("none of this machine's cores is used: there are no local workers")
            }
            Self::NoSlots => f.write_str("it has no slots: give it some with `ppctl resize`"),
            Self::Draining => {
                f.write_str("it is draining: it finishes what runs and then ends; start it again to use it")
            }
            Self::Silent => f.write_str("it is silent, and gets jobs once it is heard of again"),
            Self::Reconnecting => f.write_str("the connection to it broke, and is made anew"),
            Self::Unused(Some(reason)) => reason.fmt(f),
            Self::Unused(None) => f.write_str("it is not connected yet"),
        }
    }
}

impl WaitCause {
    /// Causes that pass by themselves come first, and those that nobody but people mend come last.
    fn rank(&self) -> u32 {
        match self {
            Self::Next => 0,
            Self::Busy { .. } => 1,
            Self::LargeArguments { .. } | Self::FailedThere => 2,
            Self::ProgramIsSent | Self::Resting { .. } => 3,
            Self::Reconnecting | Self::Silent => 4,
            Self::NoWorkers(_) | Self::ProgramTroubled(_) => 5,
            Self::NoSlots | Self::Draining => 6,
            Self::ProgramRefused(_) => 7,
            Self::Unused(_) => 8,
            Self::NoLocalWorkers => 9,
        }
    }
}

impl<T> Core<T> {
    /// Why a job has not ended. `told` yields what people are told of a node: its name and address, and why it is not used.
    pub fn explain(
        &self,
        now: Moment,
        job: JobId,
        told: impl Fn(&NodeView<'_>) -> (String, Option<NodeReason>),
    ) -> JobExplanation {
        let Some(job) = self.jobs.find(job) else { return JobExplanation::Ended };
        let program = job.program();
        match (&job.location, job.only_at()) {
            (Location::Delayed { until, .. }, _) => JobExplanation::Delayed { left: until.since(now) },
            (Location::AtNode { node, sent, .. }, _) => {
                let view = self.nodes.get(node);
                let name = view.map_or_else(String::new, |it| told(&it.view(*node, self.config.observer)).0);
                let place = view.map_or(PlaceAtNode::Runs, |node| self.place_at(node, *sent));
                JobExplanation::AtNode { node: name, attempt: job.attempt, place }
            }
            (Location::Queued, Some(life)) => {
                let node = self.wait_for_one(now, (life, program), Some(job), &told);
                JobExplanation::WaitsForOne { jobs: self.pinned.len_of(life, program), node }
            }
            (Location::Queued, None) => {
                let mut nodes: Vec<NodeWait> =
                    self.nodes.iter().map(|it| self.wait(now, it, program, Some(job), &told)).collect();
                nodes.sort_by_key(|node| node.cause.rank());
                let more_nodes = nodes.len().saturating_sub(NODES_NAMED);
                nodes.truncate(NODES_NAMED);
                JobExplanation::Waits { jobs: self.queue.len_of(program), nodes, more_nodes }
            }
        }
    }

    /// What jobs wait for that are for one node which cannot run them now, and how many there are.
    pub fn stranded_for_one(
        &self,
        now: Moment,
        told: impl Fn(&NodeView<'_>) -> (String, Option<NodeReason>),
    ) -> Vec<(usize, NodeWait)> {
        let stranded = self.pinned.stranded(|life, program| self.may_run_there(life, program));
        stranded
            .map(|(life, program, jobs)| (jobs, self.wait_for_one(now, (life, program), None, &told)))
            .collect()
    }

    fn place_at(&self, node: &Node, sent: u32) -> PlaceAtNode {
        let Some(session) = node.session() else { return PlaceAtNode::Runs };
        let before = session.sent_before(sent, &self.jobs);
        let slots = node.status.slots as usize;
        match &session.link {
            Link::Broken { .. } => PlaceAtNode::NodeIsReconnecting,
            Link::Up(connection) if connection.suspect => PlaceAtNode::NodeIsSilent,
            Link::Up(_) if before < slots => match node.status.sessions as usize {
                dispatchers @ 2.. if node.status.busy >= node.own_slots => {
                    PlaceAtNode::Shares { slots: node.own_slots as usize, dispatchers }
                }
                _ => PlaceAtNode::Runs,
            },
            Link::Up(_) => PlaceAtNode::Behind { others: before, slots },
        }
    }

    fn wait_for_one(
        &self,
        now: Moment,
        (life, program): (NodeId, ProgramId),
        job: Option<&Job<T>>,
        told: impl Fn(&NodeView<'_>) -> (String, Option<NodeReason>),
    ) -> NodeWait {
        let node = self.pinned.node(life).and_then(|key| self.nodes.get_key_value(&key));
        match node {
            Some(node) => self.wait(now, node, program, job, &told),
            // It is about to be told that it waits in vain.
            None => NodeWait { node: format!("node {life}"), cause: WaitCause::Unused(None) },
        }
    }

    fn wait(
        &self,
        now: Moment,
        (key, node): (&NodeKey, &Node),
        program: ProgramId,
        job: Option<&Job<T>>,
        told: impl Fn(&NodeView<'_>) -> (String, Option<NodeReason>),
    ) -> NodeWait {
        let (name, reason) = told(&node.view(*key, self.config.observer));
        let cause = match node.session() {
            Some(session) => self.why_not_there(now, (*key, node), session, program, job),
            None => WaitCause::Unused(reason.map(Box::new)),
        };
        NodeWait { node: name, cause }
    }

    fn why_not_there(
        &self,
        now: Moment,
        (key, node): (NodeKey, &Node),
        session: &Session,
        program: ProgramId,
        job: Option<&Job<T>>,
    ) -> WaitCause {
        let Link::Up(connection) = &session.link else { return WaitCause::Reconnecting };
        let (slots, status) = (node.status.slots, session.programs().get(&program));
        match status {
            Some(ProgramStatus::Refused(refusal)) => return WaitCause::ProgramRefused(refusal.clone()),
            _ if node.status.draining => return WaitCause::Draining,
            _ if connection.suspect => return WaitCause::Silent,
            _ if slots == 0 && node.kind == NodeKind::Local => return WaitCause::NoLocalWorkers,
            _ if slots == 0 && connection.trouble.is_none() => return WaitCause::NoSlots,
            Some(ProgramStatus::Troubled { reason, retried: false }) => {
                return WaitCause::ProgramTroubled(reason.clone());
            }
            Some(ProgramStatus::Preparing) => return WaitCause::ProgramIsSent,
            _ => {}
        }
        let others_take_it = || {
            let will_run = |other: &Node| other.will_take_work() && self.takers.runs(other.class, program);
            self.nodes.iter().any(|(other, node)| *other != key && will_run(node))
        };
        let (own, takes) = (session.attempts().len(), node.takes_at_load().is_some());
        match (&connection.trouble, node.lives.resting_until()) {
            (Some(shortage), _) if shortage.room == 0 => WaitCause::NoWorkers(shortage.clone()),
            (_, Some(until)) => WaitCause::Resting { left: until.since(now) },
            _ if job.is_some_and(|job| job.only_at().is_none() && job.avoids(key)) && others_take_it() => {
                WaitCause::FailedThere
            }
            _ if !takes => {
                WaitCause::Busy { slots: slots as usize, own, dispatchers: node.status.sessions as usize }
            }
            _ => match job.filter(|job| !session.has_room_for(job.args.len(), &node.status)) {
                Some(job) => WaitCause::LargeArguments { bytes: job.args.len() },
                None => WaitCause::Next,
            },
        }
    }
}
