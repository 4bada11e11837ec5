//! Claims about every job: what it should come to, how often it ran, how it was resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pp_dispatcher::core::{Failure, FailureCause, JobOptions, JobOutcome, Resolution, TakeParts, Taker};
use pp_protocol::{AttemptId, FunctionId, JobId, Moment, NodeId, Part, Payload, ProgramId};

use super::links::SECOND;
use super::site::node_of;

/// Factor by which a job takes longer on the slowest node.
pub(super) const MOST_SLOWNESS: u32 = 8;

/// Latest time after its submission at which a job is cancelled.
pub(super) const LAST_CANCELLATION: Duration = Duration::from_secs(6);
/// Latest time after its submission before which a job may not be sent.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// Longest start of the workers that a job kills.
const LONGEST_START: Duration = Duration::from_millis(500);

/// The so-many-th job of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobName {
    /// The dispatcher, by its place in the world's list.
    pub site: u32,
    /// Counts its jobs from 0.
    pub number: u32,
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.number)
    }
}

impl JobName {
    /// Arguments that name the job, and weigh so much beyond that.
    pub(super) fn args(self, weight: usize) -> Payload {
        let mut bytes = [self.site.to_le_bytes(), self.number.to_le_bytes()].concat();
        bytes.resize(bytes.len() + weight, 0);
        bytes.into()
    }

    pub(super) fn of(args: &Payload) -> Self {
        let word = |at: usize| {
            let bytes = args.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.expect("arguments name their job"))
        };
        Self { site: word(0), number: word(4) }
    }
}

/// End of a job that is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Returns,
    Panics,
    BadArguments,
    /// It kills its worker.
    Poison,
    /// It runs until it is killed.
    Endless,
}

#[derive(Clone, Debug)]
pub(super) struct JobSpec {
    pub(super) fate: Fate,
    pub(super) program: ProgramId,
    pub(super) function: FunctionId,
    pub(super) run_time: Duration,
    pub(super) time_limit: Option<Duration>,
    pub(super) max_attempts: Option<u32>,
    pub(super) retry_panics: bool,
    /// It may be copied while slots idle.
    pub(super) idempotent: bool,
    pub(super) priority: i32,
    /// Bytes of its arguments and of its result.
    pub(super) weight: usize,
    pub(super) prints: bool,
    /// Number of parts that it sends ahead of its result, and bytes of each.
    pub(super) parts: u32,
    pub(super) part_weight: usize,
    /// Time after its submission from which it may be sent.
    pub(super) delay: Option<Duration>,
    /// The only node that it may run on.
    pub(super) only_at: Option<usize>,
}

impl JobSpec {
    /// Its options, if it is submitted now, for this life of a node only if that is known.
    pub(super) fn options(&self, now: Moment, life: Option<NodeId>) -> Option<Box<JobOptions>> {
        let options = JobOptions {
            time_limit: self.time_limit,
            max_attempts: self.max_attempts,
            retry_panics: self.retry_panics,
            idempotent: self.idempotent,
            priority: self.priority,
            not_before: self.delay.map(|delay| now + delay),
            node: life,
            taker: (self.parts > 0).then(|| Taker(Arc::new(TheWorld))),
        };
        (options != JobOptions::default()).then(|| Box::new(options))
    }

    fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(3)
    }
}

/// Parts are taken by the world, which is told of them by itself.
struct TheWorld;

impl TakeParts for TheWorld {
    fn take(&self, _part: Part) {}

    fn queue(&self) -> usize {
        0
    }
}

#[derive(Clone, Debug)]
pub(super) struct JobRecord {
    pub(super) spec: JobSpec,
    pub(super) is_submitted: bool,
    /// The submitter asked for it to be cancelled.
    pub(super) is_cancelled: bool,
    /// Its dispatcher was told to begin nothing more.
    is_finishing: bool,
    /// Its dispatcher crashed: nobody waits for it.
    is_forgotten: bool,
    /// Attempts sent, those of copies apart.
    attempts: u32,
    copies: u32,
    /// Time of the last one.
    sent_at: Moment,
    /// None is sent before then.
    not_before: Moment,
    /// The life of a node that it is for.
    pub(super) only_at: Option<NodeId>,
    /// The node and the time of each run.
    runs: Vec<(usize, Moment)>,
    /// Workers that died while they ran it, and not because the node wanted it.
    deaths: u32,
    /// Runs that the node ended. They may have been meant for another job of the same worker.
    kills: u32,
    /// Runs that ended, and whose worker died before it reported them.
    unreported: u32,
    /// Parts of the last attempt that any were taken of: its number, the run that sent them, and how many.
    parts: Option<(u32, u32, u32)>,
    resolved: Option<String>,
}

/// Every job of every dispatcher.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    jobs: Vec<Vec<JobRecord>>,
    /// The job of each attempt that was ever sent, by its dispatcher.
    attempts: BTreeMap<(usize, AttemptId), JobName>,
    unresolved: usize,
}

impl Ledger {
    pub(super) fn add_site(&mut self, specs: Vec<JobSpec>) {
        self.unresolved += specs.len();
        let record = |spec| JobRecord {
            spec,
            is_submitted: false,
            is_cancelled: false,
            is_finishing: false,
            is_forgotten: false,
            attempts: 0,
            copies: 0,
            sent_at: Moment(0),
            not_before: Moment(0),
            only_at: None,
            runs: Vec::new(),
            deaths: 0,
            kills: 0,
            unreported: 0,
            parts: None,
            resolved: None,
        };
        self.jobs.push(specs.into_iter().map(record).collect());
    }

    pub(super) fn job(&self, job: JobName) -> &JobRecord {
        &self.jobs[job.site as usize][job.number as usize]
    }

    /// Outcome that the submitter of a job has been told, or that the dispatcher that ended could not tell.
    pub(super) fn told(&self, job: JobName) -> Option<String> {
        let record = self.jobs.get(job.site as usize)?.get(job.number as usize)?;
        let asked = record.is_cancelled.then(|| "asked to cancel it".to_owned());
        let forgotten = record.is_forgotten.then(|| "gone".to_owned());
        record.resolved.clone().or(forgotten).or(asked)
    }

    pub(super) fn job_mut(&mut self, job: JobName) -> &mut JobRecord {
        &mut self.jobs[job.site as usize][job.number as usize]
    }

    /// Jobs that somebody waits for.
    pub(super) fn unresolved(&self) -> usize {
        self.unresolved
    }

    /// The longest time before a job may be sent.
    fn longest_delay(&self) -> Duration {
        self.jobs.iter().flatten().filter_map(|job| job.spec.delay).max().unwrap_or_default()
    }

    /// Time that all jobs together may take, the longest of them on a slow node, and each tried twice.
    pub(super) fn longest_time(&self) -> Duration {
        let ending = self.jobs.iter().flatten().filter(|job| job.spec.fate != Fate::Endless);
        let times: Vec<_> = ending.map(|job| job.spec.run_time).collect();
        let longest = times.iter().max().copied().unwrap_or_default();
        self.longest_delay() + times.iter().sum::<Duration>() * 2 + longest * MOST_SLOWNESS
    }

    /// Time that all jobs together should take at the most on so many slots, if each needs so much more.
    pub(super) fn shortest_time(&self, slots: u32, each: Duration) -> Duration {
        let time = |job: &JobRecord| match job.spec.fate {
            Fate::Endless => job.spec.time_limit.unwrap_or(LAST_CANCELLATION),
            Fate::Returns | Fate::BadArguments => job.spec.run_time,
            Fate::Poison | Fate::Panics => job.spec.run_time * job.spec.max_attempts() + LONGEST_START,
        };
        let times: Vec<_> = self.jobs.iter().flatten().map(|job| time(job) + each).collect();
        let longest = times.iter().max().copied().unwrap_or_default();
        self.longest_delay() + times.iter().sum::<Duration>() / slots + longest
    }

    pub(super) fn first_unresolved(&self) -> Option<String> {
        let named = self.jobs.iter().zip(0..).flat_map(|(jobs, site)| {
            jobs.iter().zip(0..).map(move |(job, number)| (JobName { site, number }, job))
        });
        named
            .filter(|(_, job)| job.resolved.is_none() && !job.is_forgotten)
            .map(|(name, job)| {
                format!("{name} ({:?}, {} attempts, {} runs)", job.spec.fate, job.attempts, job.runs.len())
            })
            .next()
    }

    /// The job of an attempt that was sent by this dispatcher.
    pub(super) fn job_of(&self, site: usize, attempt: AttemptId) -> Option<JobName> {
        self.attempts.get(&(site, attempt)).copied()
    }

    pub(super) fn submitted(&mut self, job: JobName, now: Moment, life: Option<NodeId>) {
        let record = self.job_mut(job);
        record.is_submitted = true;
        record.only_at = life;
        record.not_before = now + record.spec.delay.unwrap_or_default();
    }

    /// Identifiers of a job that was sent, and of its copies.
    pub(super) fn ids_of(&self, job: JobName) -> BTreeSet<JobId> {
        let sent = self.attempts.iter().filter(|(_, sent)| **sent == job);
        sent.map(|((_, attempt), _)| attempt.job).collect()
    }

    pub(super) fn sent(&mut self, job: JobName, attempt: AttemptId, now: Moment) {
        self.attempts.insert((job.site as usize, attempt), job);
        let record = self.job_mut(job);
        assert!(now >= record.not_before, "{job} is sent before its time");
        assert!(record.resolved.is_none(), "{job} is sent after it was resolved");
        // A copy is a job of its own, and so its attempt is the first.
        if record.spec.idempotent && record.attempts > 0 && attempt.number == 1 {
            record.copies += 1;
            assert_eq!(record.spec.parts, 0, "{job} is not copied, since what it sends ahead is taken");
            assert_eq!(record.copies, 1, "{job} is copied once");
            return;
        }
        assert!(attempt.number == record.attempts + 1, "attempts of {job} are numbered without a gap");
        record.attempts = attempt.number;
        record.sent_at = now;
    }

    /// The number of the run, counted from 0.
    pub(super) fn started(&mut self, job: JobName, node: usize, now: Moment) -> u32 {
        let record = self.job_mut(job);
        record.runs.push((node, now));
        let runs = record.runs.len() as u32;
        assert!(
            runs <= record.attempts + record.copies + record.deaths + record.kills + record.unreported,
            "{job} runs for the {runs}th time after {} attempts were sent",
            record.attempts
        );
        runs - 1
    }

    /// A worker died in a job. `losses` is how often its dispatcher gave up a node: it cannot know then what ran.
    pub(super) fn worker_died(&mut self, job: JobName, losses: u32) {
        let record = self.job_mut(job);
        record.deaths += 1;
        let (deaths, most) = (record.deaths, record.spec.max_attempts() + record.copies + losses);
        let is_poison = record.spec.fate == Fate::Poison;
        assert!(
            !is_poison || deaths <= most,
            "poison {job} killed {deaths} workers, and {most} should be enough"
        );
    }

    /// The node killed the worker that ran it, for whatever reason.
    pub(super) fn killed(&mut self, job: JobName) {
        self.job_mut(job).kills += 1;
    }

    pub(super) fn end_unreported(&mut self, job: JobName) {
        self.job_mut(job).unreported += 1;
    }

    /// A result that tells which run it is of.
    pub(super) fn result(&self, job: JobName, run: u32) -> Payload {
        let mut bytes = job.args(0).to_vec();
        bytes.extend(run.to_le_bytes());
        bytes.resize(bytes.len() + self.job(job).spec.weight, 0);
        bytes.into()
    }

    /// The bytes of a part that tell which one it is.
    pub(super) fn part(&self, job: JobName, run: u32, part: u32) -> Payload {
        let mut bytes = job.args(0).to_vec();
        bytes.extend([run.to_le_bytes(), part.to_le_bytes()].concat());
        bytes.resize(bytes.len() + self.job(job).spec.part_weight, 0);
        bytes.into()
    }

    /// A dispatcher took a part.
    pub(super) fn take_part(&mut self, site: usize, part: &Part) {
        let named = self.job_of(site, part.attempt).expect("a part is of an attempt that was sent");
        let job = JobName::of(&part.bytes);
        assert_eq!(job, named, "the parts of a job are its own");
        let word = |at: usize| part.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let (run, number) = (word(8).map(u32::from_le_bytes), word(12).map(u32::from_le_bytes));
        let record = self.job_mut(job);
        assert!(record.resolved.is_none(), "a part of {job} comes before its end");
        let attempt = part.attempt.number;
        let before = record.parts.filter(|(of, ..)| *of >= attempt);
        let expected = match before {
            None => (attempt, run.unwrap_or_default(), 0),
            Some(before) => before,
        };
        assert_eq!(
            (attempt, run, number),
            (expected.0, Some(expected.1), Some(expected.2)),
            "the parts of {job} come once and in order, and none of an older attempt"
        );
        record.parts = Some((attempt, expected.1, expected.2 + 1));
    }

    /// The dispatcher begins nothing more.
    pub(super) fn site_finishes(&mut self, site: usize) {
        self.jobs[site].iter_mut().for_each(|job| job.is_finishing = true);
    }

    /// The dispatcher is gone; if that was in good order, its jobs are cancelled.
    pub(super) fn site_gone(&mut self, site: usize, in_order: bool) {
        for job in &mut self.jobs[site] {
            job.is_cancelled |= in_order;
            let dropped = !in_order || !job.is_submitted;
            if dropped && job.resolved.is_none() && !job.is_forgotten {
                job.is_forgotten = true;
                self.unresolved -= 1;
            }
        }
    }

    /// A ticket was resolved. `losses` is how often its dispatcher gave up a node, `lost` which ones.
    pub(super) fn resolve(
        &mut self,
        job: JobName,
        resolution: &Resolution,
        losses: u32,
        lost: &BTreeSet<usize>,
    ) {
        self.unresolved -= 1;
        let record = &mut self.jobs[job.site as usize][job.number as usize];
        let outcome = &resolution.outcome;
        assert!(
            record.resolved.is_none(),
            "{job} is resolved twice: {:?}, then {outcome:?}",
            record.resolved
        );
        record.resolved = Some(format!("{outcome:?}"));
        record.check(job, resolution, losses, lost);
    }

    /// Claims about jobs in a world where nothing but connections breaks, and these only for moments.
    pub(super) fn check_nothing_ran_twice(&self) {
        for (job, number) in self.jobs.iter().flatten().zip(0..) {
            let most = match job.spec.fate {
                Fate::Poison => job.spec.max_attempts() as usize,
                Fate::Panics if job.spec.retry_panics => job.spec.max_attempts() as usize,
                _ => 1,
            };
            let most = most + (job.kills + job.unreported + job.copies) as usize;
            let runs = job.runs.len();
            assert!(runs <= most, "job {number} ran {runs} times although nothing but connections broke");
        }
    }
}

impl JobRecord {
    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.resolved.is_some() || self.is_cancelled || self.is_forgotten
    }

    fn check(&self, job: JobName, resolution: &Resolution, losses: u32, lost: &BTreeSet<usize>) {
        let spec = &self.spec;
        match &resolution.outcome {
            JobOutcome::Succeeded(result) => {
                assert_eq!(spec.fate, Fate::Returns, "{job} succeeded");
                assert_eq!(JobName::of(result), job, "the result of a job is its own");
                let run = result.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
                let (node, at) = run.and_then(|run| self.runs.get(run as usize).copied()).unwrap_or_default();
                let named = resolution.node.map(node_of);
                assert_eq!(Some(node), named, "the result of {job} is of the node its current attempt is at");
                if spec.parts > 0 {
                    let all = run.map(|run| (self.attempts, run, spec.parts));
                    assert_eq!(self.parts, all, "all parts of {job} came, of the run that it resolved");
                }
                let is_current = at >= self.sent_at || self.copies > 0;
                assert!(is_current, "the result of {job} is of its current attempt");
            }
            JobOutcome::Panicked(panic) => {
                assert_eq!(spec.fate, Fate::Panics, "{job} panicked");
                assert_eq!(panic.message, job.to_string(), "the panic of a job is its own");
            }
            JobOutcome::BadArguments(reason) => {
                assert_eq!(spec.fate, Fate::BadArguments, "{job} could not be decoded");
                assert_eq!(*reason, job.to_string(), "the failure of a job is its own");
            }
            JobOutcome::TimedOut(limit) => {
                assert_eq!(Some(*limit), spec.time_limit, "{job} timed out after its limit");
                let ran_longer = spec.fate == Fate::Endless || spec.run_time * MOST_SLOWNESS > *limit;
                assert!(ran_longer, "{job} timed out although it is shorter than its limit");
            }
            JobOutcome::Cancelled => {
                assert!(self.is_cancelled || self.is_finishing, "{job} was cancelled and nobody asked for it")
            }
            JobOutcome::Lost(history) if self.ended_in_vain(history) => {
                self.check_in_vain(job, history, lost)
            }
            JobOutcome::Lost(history) => self.check_lost(job, history, losses),
            other => panic!("{job} ended as {other:?}"),
        }
    }

    /// Whether it was not held for poison, but is for a node that cannot run it any more.
    fn ended_in_vain(&self, history: &[Failure]) -> bool {
        let is_loss = |last: &Failure| matches!(last.cause, FailureCause::NodeLost(_));
        let is_short = history.len() < self.spec.max_attempts() as usize;
        self.only_at.is_some()
            && history.last().is_some_and(|last| last.attempt == 0 || is_short && is_loss(last))
    }

    fn check_in_vain(&self, job: JobName, history: &[Failure], lost: &BTreeSet<usize>) {
        let refuses = history.iter().any(|it| matches!(it.cause, FailureCause::ProgramRefused(_)));
        if refuses {
            assert_eq!(self.spec.program, SECOND, "{job} is of a program that its node does not run");
        } else {
            let is_lost = self.spec.only_at.is_some_and(|node| lost.contains(&node));
            assert!(is_lost, "{job} is lost although its node was not: {history:?}");
        }
    }

    fn check_lost(&self, job: JobName, history: &[Failure], losses: u32) {
        let most = self.spec.max_attempts() as usize;
        assert_eq!(history.len(), most, "the history of {job} tells of every failure");
        let rising = history.windows(2).all(|pair| pair[0].attempt < pair[1].attempt);
        assert!(rising, "the history of {job} tells of one attempt after the other");
        // Of what a worker that died had not reported, the last is charged.
        let blamed = self.deaths + self.unreported + losses;
        let panicked = self.spec.retry_panics && self.spec.fate == Fate::Panics;
        assert!(blamed as usize >= most || panicked, "{job} was lost although only {blamed} things died");
    }
}
