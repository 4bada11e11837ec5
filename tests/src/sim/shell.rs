//! Shell of a node: connections, disk and workers.

use std::time::Duration;

use pp_node::core::{Action, Core, Event, Program, StartFailure, WorkerKey};
use pp_protocol::{Death, FromNode, Refusal, WorkerDeath};

use super::World;
use super::agenda::What;
use super::faults::Fault;
use super::ledger::JobName;
use super::links::PROGRAM;
use super::network::{Connection, ConnectionId, Message, Toward};
use super::node::NodeInput;
use super::worker::{Lack, SimWorker, Step, WorkerEvent};

impl World {
    pub(super) fn perform_for_node(&mut self, node: usize, action: Action) -> Option<Event> {
        let machine = &mut self.nodes[node];
        let life = machine.life;
        match action {
            Action::Send(key, message) => {
                if let Some(id) = machine.peers.get(&key).copied() {
                    self.node_sends(id, message);
                }
            }
            Action::Close(key) => {
                if let Some(id) = machine.peers.remove(&key) {
                    self.stop_sending(id, Toward::Dispatcher);
                }
            }
            Action::LocateProgram(digest) => {
                let found = machine.store.contains(&digest);
                let input = if found { NodeInput::Stored(digest) } else { NodeInput::Missing(digest) };
                self.after_disk(node, input);
            }
            Action::StoreProgram { digest, piece, last, .. } => {
                let pieces = machine.arriving.entry(digest).or_default();
                pieces.push(piece);
                if !last {
                    return Some(Event::ProgramWritten(digest, pieces.len() as u32));
                }
                let pieces = machine.arriving.remove(&digest).unwrap_or_default();
                let pieces: Vec<_> = pieces.iter().map(|piece| &piece[..]).collect();
                assert_eq!(pieces.concat(), PROGRAM, "a program arrives as it was sent");
                machine.store.insert(digest);
                self.after_disk(node, NodeInput::Stored(digest));
            }
            Action::AbandonProgram(digest) => {
                machine.arriving.remove(&digest);
            }
            Action::Spawn(key, program) => self.spawn_worker(node, key, program),
            Action::Assign(key, works) => {
                let worker = machine.workers.get_mut(&key)?;
                assert!(worker.counts() || !worker.is_ordered, "no work is given to a worker told to end");
                worker.raise(works.len() as u32);
                let program = worker.program;
                for work in &works {
                    let job = JobName::of(&work.args);
                    assert_eq!(program, self.program_of(node, job), "{job} runs in its own program");
                    self.story.record(self.now, Some(job), || {
                        format!("node {node}: {job} goes to worker {} as number {}", key.0, work.number)
                    });
                }
                let delay = self.random.time(Duration::ZERO, Duration::from_micros(20));
                let at = self.nodes[node].workers.get_mut(&key)?.arrival(self.now + delay);
                self.agenda.add(at, What::Worker(node, life, key, Step::Frame(works)));
            }
            Action::Observe(key) => {
                return machine.workers.get(&key).map(|worker| Event::Observed(key, worker.progress()));
            }
            Action::Look(keys) => {
                let looked =
                    keys.into_iter().filter_map(|key| Some((key, machine.workers.get(&key)?.progress())));
                return Some(Event::Looked(looked.collect()));
            }
            Action::Revoke(key) => {
                let revoked = machine.workers.get_mut(&key).map(SimWorker::revoke);
                self.story
                    .record(self.now, None, || format!("node {node}: worker {} revoked: {revoked:?}", key.0));
                return revoked.map(|progress| Event::Revoked(key, progress));
            }
            // Nothing simulated prints so much.
            Action::HoldOutput(..) => {}
            Action::ReadOn(key) => self.read_on(node, key),
            Action::Kill(key) => self.end_worker(node, key, Step::Die(Death::Signal(9))),
            Action::Retire(key) => self.end_worker(node, key, Step::Retire),
            Action::End => {
                self.end_node(node, false);
                // Whoever drained it starts it again.
                self.mend_later(Fault::Down(node));
            }
        }
        None
    }

    fn node_sends(&mut self, id: ConnectionId, message: FromNode) {
        let broke_off = matches!(message, FromNode::Refused(Refusal::BadHello(_) | Refusal::NotPermitted(_)));
        assert!(!broke_off, "dispatchers keep to what they were promised");
        if self.story.is_wanted() {
            self.record_outcomes(id, &message);
        }
        let Some(message) = self.spoil_from_node(id, message) else { return };
        self.send(id, Message::FromNode(message));
    }

    fn record_outcomes(&mut self, id: ConnectionId, message: &FromNode) {
        let FromNode::Outcomes(first, outcomes) = message else { return };
        let Connection { site, node, .. } = self.connections[id.0];
        for (outcome, number) in outcomes.iter().zip(*first..) {
            let job = self.ledger.job_of(site, outcome.id);
            let (attempt, word) = (outcome.id.number, outcome.ended.word());
            self.story.record(self.now, job, || {
                let job = job.map(|job| job.to_string()).unwrap_or_default();
                format!("node {node}: outcome {number}: {job} attempt {attempt} {word}")
            });
        }
    }

    fn after_disk(&mut self, node: usize, input: NodeInput) {
        let life = self.nodes[node].life;
        let after = self.random.magnitude(Duration::from_micros(50), Duration::from_millis(20));
        self.agenda.add(self.now + after, What::NodeInput(node, life, input));
    }

    fn spawn_worker(&mut self, node: usize, key: WorkerKey, program: Program) {
        let machine = &mut self.nodes[node];
        if let Program::Sent(digest) = program {
            assert!(machine.store.contains(&digest), "workers are started of programs the node has");
        }
        machine.workers.insert(key, SimWorker::new(program));
        let slots = machine.core.as_ref().map_or(0, |core| core.status().slots as usize);
        let in_use = machine.workers_in_use().count();
        // Where the machine gives fewer than it has slots, it tries one more at times.
        let tries = usize::from(machine.core.as_ref().is_some_and(Core::is_short));
        assert!(in_use <= slots + tries, "node {node} has {slots} slots and starts worker {in_use}");
        let fails = machine.has_started.contains(&program) && machine.failing_starts > 0;
        machine.failing_starts -= u32::from(fails);
        let is_short = machine.most_workers.is_some_and(|most| machine.workers.len() > most);
        let step = match (is_short, fails) {
            (true, _) => Step::FailToStart(Lack::Seen),
            (false, true) => Step::FailToStart(Lack::Unknown),
            (false, false) => Step::Start,
        };
        let life = machine.life;
        let after = self.random.magnitude(Duration::from_millis(1), Duration::from_millis(50));
        self.agenda.add(self.now + after, What::Worker(node, life, key, step));
    }

    fn end_worker(&mut self, node: usize, key: WorkerKey, step: Step) {
        self.check_kill(node, key);
        let machine = &mut self.nodes[node];
        let life = machine.life;
        let Some(worker) = machine.workers.get_mut(&key) else { return };
        worker.is_ordered = true;
        let job = worker.runs_job();
        if let Some(limit) = job.and_then(|job| self.ledger.job(job).spec.time_limit)
            && !self.options.freezes()
        {
            let ran = self.now.0.saturating_sub(worker.progress().started_at_ns);
            let late = Duration::from_nanos(ran).saturating_sub(limit);
            assert!(late < Duration::from_millis(10), "a job is killed {late:?} after its time limit");
        }
        self.story
            .record(self.now, job, || format!("node {node}: worker {} is told to end: {step:?}", key.0));
        // A process may take its time, even to be killed.
        let most = if self.random.percent(3) { Duration::from_secs(5) } else { Duration::from_millis(5) };
        let after = self.random.magnitude(Duration::from_micros(10), most);
        self.agenda.add(self.now + after, What::Worker(node, life, key, step));
    }

    pub(super) fn worker_event(&mut self, node: usize, key: WorkerKey, event: WorkerEvent) {
        let progress = self.nodes[node].workers.get(&key).map(SimWorker::progress).unwrap_or_default();
        let event = match event {
            WorkerEvent::Ready => {
                let machine = &mut self.nodes[node];
                machine.has_started.extend(machine.workers.get(&key).map(|worker| worker.program));
                Event::WorkerReady(key)
            }
            WorkerEvent::Finished(finished) => {
                if self.frees_slot_twice() {
                    let death = WorkerDeath::new(Death::Exit(0), Vec::new());
                    self.node_event(node, Event::WorkerExited(key, progress, death));
                }
                Event::WorkerFinished(key, finished.into_iter().map(|(_, finished)| finished).collect())
            }
            WorkerEvent::Skipped(number) => Event::WorkerSkipped(key, number),
            WorkerEvent::Output(text) => {
                Event::WorkerOutput(key, progress.started, Self::PRINTS_TO, vec![text])
            }
            WorkerEvent::Part(number, bytes) => Event::WorkerPart(key, number, Self::PRINTS_TO, bytes),
            WorkerEvent::FailedToStart(reason, lack) => {
                self.nodes[node].workers.remove(&key);
                let failure = StartFailure { reason, stderr: Vec::new(), is_shortage: lack == Lack::Seen };
                Event::WorkerFailed(key, failure)
            }
            WorkerEvent::Exited(death) => {
                self.nodes[node].workers.remove(&key);
                Event::WorkerExited(key, progress, death)
            }
        };
        self.node_event(node, event);
    }
}
