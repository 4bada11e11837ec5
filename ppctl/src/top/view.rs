//! What is shown, and what keys change: without terminal, clock and nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pp_dispatcher::{Activity, Doing, NodeInfo, NodeState, OutcomeKind, Watched};
use pp_protocol::NodeId;

/// Failures that are kept to be shown.
const FAILURES_KEPT: usize = 200;
/// Time over which a rate is told.
const RATE_OVER: Duration = Duration::from_secs(3);
/// Nodes of which there was no word for so long are shown without what they told.
const STALE: Duration = Duration::from_secs(5);
/// Longest filter.
const FILTER_CHARACTERS: usize = 64;

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct View {
    nodes: Vec<Node>,
    told: BTreeMap<NodeId, Told>,
    failures: VecDeque<Failure>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) asks: Asks,
    /// The selected node, by its label.
    selected: Option<String>,
    /// What came of the last order, or is wrong.
    pub(super) message: String,
    now: Duration,
}

/// A node, as this machine stands with it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: Option<NodeId>,
    pub(super) name: String,
    /// By which it is given orders.
    pub(super) label: String,
    pub(super) state: &'static str,
    pub(super) reason: Option<String>,
    pub(super) slots: usize,
    pub(super) busy: usize,
    pub(super) queued: usize,
    pub(super) load: f32,
    pub(super) memory_used: u64,
    pub(super) memory_total: u64,
}

/// What a node told last.
#[derive(Debug)]
struct Told {
    at: Duration,
    activity: Activity,
    /// How many had ended at which time of its life, as far back as a rate is told over.
    ended: VecDeque<(u64, u64)>,
}

/// A line of the table of nodes.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) node: &'a Node,
    pub(super) per_second: f64,
    pub(super) failed: u64,
    pub(super) lost_workers: u64,
    pub(super) activity: Option<&'a Activity>,
    pub(super) is_selected: bool,
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) node: &'a str,
    pub(super) function: &'a str,
    pub(super) session: &'a str,
    pub(super) time: Duration,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) node: String,
    pub(super) function: String,
    pub(super) how: OutcomeKind,
    pub(super) reason: String,
    pub(super) run_time: Duration,
    at: Duration,
}

/// Sums over all nodes that are shown.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) nodes: usize,
    pub(super) in_use: usize,
    pub(super) slots: usize,
    pub(super) busy: usize,
    pub(super) queued: usize,
    /// Jobs that wait at dispatchers: each tells every node the same, so the most that any node was told.
    pub(super) waiting: u64,
    pub(super) per_second: f64,
    pub(super) failed: u64,
    pub(super) lost_workers: u64,
}

/// What nodes are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    Busy,
    Load,
    Rate,
    Failures,
}

impl Sort {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Busy => "busy",
            Self::Load => "load",
            Self::Rate => "per second",
            Self::Failures => "failures",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Busy,
            Self::Busy => Self::Load,
            Self::Load => Self::Rate,
            Self::Rate => Self::Failures,
            Self::Failures => Self::Name,
        }
    }
}

/// What keys mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Asks {
    #[default]
    Nothing,
    /// The filter is being typed.
    Filter,
    /// Whether this node is to be drained.
    Drain(String),
    /// Help is shown.
    Help,
}

/// A key, whatever the terminal calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
}

/// What a key asks for beyond the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Resize(String, usize),
    Drain(String),
}

impl From<NodeInfo> for Node {
    fn from(node: NodeInfo) -> Self {
        Self {
            id: node.id,
            label: node.label(),
            state: match node.state {
                NodeState::Connecting => "connecting",
                NodeState::Preparing | NodeState::Connected => "connected",
                NodeState::Draining => "draining",
                NodeState::Suspect => "silent",
                NodeState::Reconnecting => "reconnecting",
                NodeState::Unreachable => "unreachable",
                NodeState::Refused => "refused",
                _ => "other",
            },
            reason: node.reason.map(|reason| reason.to_string()),
            name: node.name,
            slots: node.slots,
            busy: node.busy,
            queued: node.queued,
            load: node.load,
            memory_used: node.memory_used,
            memory_total: node.memory_total,
        }
    }
}

impl Node {
    /// Whether what it told is of now.
    fn is_in_use(&self) -> bool {
        matches!(self.state, "connected" | "draining")
    }
}

impl Told {
    fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.ended.front(), self.ended.back()) else { return 0.0 };
        let nanoseconds = last.0.saturating_sub(first.0);
        if nanoseconds == 0 { 0.0 } else { last.1.saturating_sub(first.1) as f64 * 1e9 / nanoseconds as f64 }
    }
}

/// Number of attempts that failed.
fn failed(activity: &Activity) -> u64 {
    let failed = OutcomeKind::ALL.into_iter().filter(|kind| kind.is_failure());
    failed.map(|kind| activity.totals.ended.of(kind)).fold(0, u64::saturating_add)
}

impl View {
    /// So it stands with nodes at `now`.
    pub(super) fn stand(&mut self, now: Duration, nodes: Vec<Node>) {
        self.now = now;
        self.nodes = nodes;
        let is_known = |id: &NodeId| self.nodes.iter().any(|node| node.id == Some(*id));
        self.told.retain(|id, told| is_known(id) || now.saturating_sub(told.at) < STALE);
    }

    /// A node told what happens there.
    pub(super) fn take(&mut self, now: Duration, watched: Watched) {
        let Watched { node, name, activity, .. } = watched;
        self.now = now;
        let failures = activity.attempts.iter().filter(|attempt| attempt.ended.is_failure());
        let mut failures: Vec<_> = failures.collect();
        failures.sort_by_key(|attempt| Reverse(attempt.ended_ago_ns));
        for attempt in failures {
            self.failures.push_front(Failure {
                node: name.clone(),
                function: activity.function(attempt.function).to_owned(),
                how: attempt.ended,
                reason: attempt.reason.clone(),
                run_time: Duration::from_nanos(attempt.run_time_ns),
                at: now.saturating_sub(Duration::from_nanos(attempt.ended_ago_ns)),
            });
        }
        self.failures.truncate(FAILURES_KEPT);
        let count = (activity.uptime_ns, activity.totals.ended.ended());
        let mut ended = self.told.remove(&node).map_or_else(VecDeque::new, |told| told.ended);
        ended.push_back(count);
        let since = count.0.saturating_sub(RATE_OVER.as_nanos() as u64);
        while ended.len() > 2 && ended.get(1).is_some_and(|(at, _)| *at <= since) {
            ended.pop_front();
        }
        self.told.insert(node, Told { at: now, activity, ended });
    }

    /// Whether every node that is in use has told what happens there.
    pub(super) fn is_complete(&self) -> bool {
        let told = |node: &Node| node.id.is_some_and(|id| self.told.contains_key(&id));
        self.nodes.iter().filter(|node| node.is_in_use()).all(told)
    }

    /// The nodes that are shown, in their order.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let selected = self.selected_label();
        let filter = self.filter.to_lowercase();
        let shown = self.nodes.iter().filter(|node| node.label.to_lowercase().contains(&filter));
        let mut rows: Vec<_> = shown.map(|node| self.row(node)).collect();
        rows.sort_by(|one, other| {
            let order = match self.sort {
                Sort::Name => std::cmp::Ordering::Equal,
                Sort::Busy => other.node.busy.cmp(&one.node.busy),
                Sort::Load => other.node.load.total_cmp(&one.node.load),
                Sort::Rate => other.per_second.total_cmp(&one.per_second),
                Sort::Failures => other.failed.cmp(&one.failed),
            };
            order.then_with(|| one.node.label.cmp(&other.node.label))
        });
        for row in &mut rows {
            row.is_selected = selected.as_ref() == Some(&row.node.label);
        }
        if !rows.iter().any(|row| row.is_selected)
            && let Some(first) = rows.first_mut()
        {
            first.is_selected = true;
        }
        rows
    }

    fn selected_label(&self) -> Option<String> {
        self.selected.clone()
    }

    fn row<'a>(&'a self, node: &'a Node) -> Row<'a> {
        let told = node.id.and_then(|id| self.told.get(&id)).filter(|_| node.is_in_use());
        let activity = told.map(|told| &told.activity);
        Row {
            node,
            per_second: told.map_or(0.0, Told::per_second),
            failed: activity.map_or(0, failed),
            lost_workers: activity.map_or(0, |activity| activity.totals.workers_lost),
            activity,
            is_selected: false,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for row in self.nodes.iter().map(|node| self.row(node)) {
            totals.nodes += 1;
            totals.in_use += usize::from(row.node.is_in_use());
            totals.slots += row.node.slots;
            totals.busy += row.node.busy;
            totals.queued += row.node.queued;
            totals.per_second += row.per_second;
            totals.failed += row.failed;
            totals.lost_workers += row.lost_workers;
            let waiting = |activity: &Activity| activity.sessions.iter().map(|session| session.waiting).sum();
            totals.waiting = totals.waiting.max(row.activity.map_or(0, waiting));
        }
        totals
    }

    /// What runs, longest first.
    pub(super) fn running(&self) -> Vec<Running<'_>> {
        let mut running = Vec::new();
        for row in self.rows() {
            let Some(activity) = row.activity else { continue };
            let told = row.node.id.and_then(|id| self.told.get(&id));
            let age = told.map_or(Duration::ZERO, |told| self.now.saturating_sub(told.at));
            for worker in &activity.workers {
                if let Doing::Running { function, for_ns, .. } = worker.doing {
                    running.push(Running {
                        node: &row.node.name,
                        function: activity.function(function),
                        session: activity.session(worker.session).map_or("", |session| &session.name),
                        time: Duration::from_nanos(for_ns) + age,
                    });
                }
            }
        }
        running.sort_by_key(|running| Reverse(running.time));
        running
    }

    /// What failed, last first, and how long ago.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Failure, Duration)> {
        self.failures.iter().map(|failure| (failure, self.now.saturating_sub(failure.at)))
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: Key) -> Option<Wish> {
        match (&self.asks, key) {
            (Asks::Filter, Key::Character(character)) => {
                if !character.is_control() && self.filter.chars().count() < FILTER_CHARACTERS {
                    self.filter.push(character);
                }
            }
            (Asks::Filter, Key::Backspace) => drop(self.filter.pop()),
            (Asks::Filter, Key::Escape) => {
                self.filter.clear();
                self.asks = Asks::Nothing;
            }
            (Asks::Filter, Key::Enter) => self.asks = Asks::Nothing,
            (Asks::Drain(label), Key::Character('y' | 'Y')) => {
                let wish = Wish::Drain(label.clone());
                self.asks = Asks::Nothing;
                return Some(wish);
            }
            (Asks::Drain(_) | Asks::Help, Key::Character('q')) => self.asks = Asks::Nothing,
            (Asks::Drain(_) | Asks::Help, Key::Character(_) | Key::Escape | Key::Enter) => {
                self.asks = Asks::Nothing;
            }
            (_, Key::Up) => self.select(|place| place.saturating_sub(1)),
            (_, Key::Down) => self.select(|place| place + 1),
            (Asks::Nothing, key) => return self.command(key),
            (Asks::Drain(_) | Asks::Help, Key::Backspace) => {}
        }
        None
    }

    fn command(&mut self, key: Key) -> Option<Wish> {
        self.message.clear();
        match key {
            Key::Character('q') => return Some(Wish::Quit),
            Key::Character('?' | 'h') => self.asks = Asks::Help,
            Key::Character('s') => self.sort = self.sort.next(),
            Key::Character('/') => self.asks = Asks::Filter,
            Key::Character('k') => self.select(|place| place.saturating_sub(1)),
            Key::Character('j') => self.select(|place| place + 1),
            Key::Character('+') => return self.resize(|slots| slots + 1),
            Key::Character('-') => return self.resize(|slots| slots.saturating_sub(1)),
            Key::Character('d') => {
                if let Some(label) = self.selected_node().map(|node| node.label.clone()) {
                    self.asks = Asks::Drain(label);
                }
            }
            Key::Escape => self.filter.clear(),
            _ => {}
        }
        None
    }

    fn resize(&self, slots: impl Fn(usize) -> usize) -> Option<Wish> {
        let node = self.selected_node()?;
        let new = slots(node.slots);
        (new != node.slots).then(|| Wish::Resize(node.label.clone(), new))
    }

    fn selected_node(&self) -> Option<&Node> {
        self.rows().into_iter().find(|row| row.is_selected).map(|row| row.node)
    }

    fn select(&mut self, place: impl Fn(usize) -> usize) {
        let rows = self.rows();
        let now = rows.iter().position(|row| row.is_selected).unwrap_or(0);
        let label = rows.get(place(now).min(rows.len().saturating_sub(1))).map(|row| row.node.label.clone());
        self.selected = label.or(self.selected.take());
    }
}
