//! The table of metrics.

use pp_protocol::{DeathKind, HandshakeFailure, OutcomeKind, RefusalKind, Role, Target};

use super::{Metric, Reading, Seen};

/// All metrics, in the order in which they are told.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "ppserver_build_info",
        help: "Release and target of this daemon; always 1.",
        unit: "",
        reading: Reading::Information(|| {
            format!("version=\"{}\",target=\"{}\"", env!("CARGO_PKG_VERSION"), Target::here())
        }),
    },
    Metric {
        name: "ppserver_start_time_seconds",
        help: "When the daemon was started, since 1970. A change is a restart.",
        unit: "seconds",
        reading: Reading::Level(|seen| seen.started.as_secs_f64()),
    },
    Metric {
        name: "ppserver_slots",
        help: "Attempts that can run at once: what it was told, less what the machine does not give workers for.",
        unit: "slots",
        reading: Reading::Level(|seen| seen.statistics.status.slots.into()),
    },
    Metric {
        name: "ppserver_slots_busy",
        help: "Slots in which something runs.",
        unit: "slots",
        reading: Reading::Level(|seen| seen.statistics.status.busy.into()),
    },
    Metric {
        name: "ppserver_draining",
        help: "1 while it finishes what runs and takes no more, else 0.",
        unit: "",
        reading: Reading::Level(|seen| u32::from(seen.statistics.status.draining).into()),
    },
    Metric {
        name: "ppserver_workers",
        help: "Worker processes, by what they do.",
        unit: "processes",
        reading: Reading::Levels("state", |seen| {
            let counts = seen.statistics.workers.map(|count| count as u64);
            ["starting", "idle", "busy"].into_iter().zip(counts).collect()
        }),
    },
    Metric {
        name: "ppserver_attempts_queued",
        help: "Attempts that wait here for a slot. Few: dispatchers keep what a node cannot run soon.",
        unit: "attempts",
        reading: Reading::Level(|seen| seen.statistics.status.queued.into()),
    },
    Metric {
        name: "ppserver_dispatchers_queued_jobs",
        help: "Jobs that wait at the dispatchers that are connected here, as they said last: for any node, not for this one. A \
               dispatcher tells each node the same, so take the maximum over nodes and not the sum.",
        unit: "jobs",
        reading: Reading::Level(|seen| {
            let waiting = seen.statistics.sessions.iter().map(|session| session.waiting);
            waiting.fold(0, u64::saturating_add) as f64
        }),
    },
    Metric {
        name: "ppserver_sessions",
        help: "Dispatchers that are connected.",
        unit: "sessions",
        reading: Reading::Level(|seen| seen.statistics.status.sessions.into()),
    },
    Metric {
        name: "ppserver_connections",
        help: "Open connections of peers that have proved who they are, operators among them.",
        unit: "connections",
        reading: Reading::Level(|seen| seen.statistics.connections as f64),
    },
    Metric {
        name: "ppserver_programs",
        help: "Programs of dispatchers that are here or on their way.",
        unit: "programs",
        reading: Reading::Level(|seen| seen.statistics.programs as f64),
    },
    Metric {
        name: "ppserver_cpus",
        help: "Processors that this process may use.",
        unit: "processors",
        reading: Reading::Level(|seen| seen.statistics.status.cpus.into()),
    },
    Metric {
        name: "ppserver_load_average",
        help: "Processes of this machine that run or wait to, on average over one minute.",
        unit: "processes",
        reading: Reading::Level(|seen| seen.statistics.status.load.into()),
    },
    Metric {
        name: "ppserver_memory_bytes",
        help: "Memory of this machine.",
        unit: "bytes",
        reading: Reading::Level(|seen| seen.statistics.status.memory_total as f64),
    },
    Metric {
        name: "ppserver_memory_used_bytes",
        help: "Memory of this machine that is in use.",
        unit: "bytes",
        reading: Reading::Level(|seen| seen.statistics.status.memory_used as f64),
    },
    Metric {
        name: "ppserver_attempts_total",
        help: "Attempts that ended here, by how.",
        unit: "attempts",
        reading: Reading::Counts("outcome", |seen| {
            let ended = &seen.statistics.counters.ended;
            OutcomeKind::ALL.map(|kind| (kind.name(), ended.of(kind))).into()
        }),
    },
    Metric {
        name: "ppserver_attempt_duration_seconds",
        help: "How long attempts ran that came to their end, whatever that was; not those that were stopped, or whose worker \
               died.",
        unit: "seconds",
        reading: Reading::RunTimes(|seen| seen.statistics.counters.ended),
    },
    Metric {
        name: "ppserver_attempt_retries_total",
        help: "Attempts that came here after others of the same job, which had failed, or had been elsewhere.",
        unit: "attempts",
        reading: Reading::Count(|seen| seen.statistics.counters.retries),
    },
    Metric {
        name: "ppserver_attempts_recalled_total",
        help: "Attempts that dispatchers asked back before they had begun, to run them elsewhere.",
        unit: "attempts",
        reading: Reading::Count(|seen| seen.statistics.counters.recalled),
    },
    Metric {
        name: "ppserver_outcomes_dropped_total",
        help: "Outcomes that nobody took: their dispatcher had given up the session, or had ended, before they arrived.",
        unit: "outcomes",
        reading: Reading::Count(|seen| seen.statistics.counters.late_outcomes),
    },
    Metric {
        name: "ppserver_output_lines_dropped_total",
        help: "Lines of output of jobs that were dropped because their dispatcher did not take them in time.",
        unit: "lines",
        reading: Reading::Count(|seen| seen.statistics.counters.dropped_lines),
    },
    Metric {
        name: "ppserver_workers_started_total",
        help: "Worker processes that were started.",
        unit: "processes",
        reading: Reading::Count(|seen| seen.statistics.counters.workers_started),
    },
    Metric {
        name: "ppserver_workers_failed_total",
        help: "Worker processes that did not become ready.",
        unit: "processes",
        reading: Reading::Count(|seen| seen.statistics.counters.workers_failed),
    },
    Metric {
        name: "ppserver_workers_killed_total",
        help: "Worker processes that the node killed: for a time limit, a cancellation, or a session that was over.",
        unit: "processes",
        reading: Reading::Count(|seen| seen.statistics.counters.workers_killed),
    },
    Metric {
        name: "ppserver_workers_lost_total",
        help: "Worker processes that died, or had to be given up, by how.",
        unit: "processes",
        reading: Reading::Counts("reason", |seen| {
            let lost = &seen.statistics.counters.workers_lost;
            DeathKind::ALL.map(|kind| (kind.name(), lost.get(&kind).copied().unwrap_or(0))).into()
        }),
    },
    Metric {
        name: "ppserver_sessions_begun_total",
        help: "Sessions of dispatchers that began.",
        unit: "sessions",
        reading: Reading::Count(|seen| seen.statistics.counters.sessions_begun),
    },
    Metric {
        name: "ppserver_sessions_resumed_total",
        help: "Times that a session went on over another connection, after one had broken off.",
        unit: "sessions",
        reading: Reading::Count(|seen| seen.statistics.counters.sessions_resumed),
    },
    Metric {
        name: "ppserver_sessions_lost_total",
        help: "Sessions that ended because their dispatcher did not come back in time. What it had here was ended.",
        unit: "sessions",
        reading: Reading::Count(|seen| seen.statistics.counters.sessions_lost),
    },
    Metric {
        name: "ppserver_connections_accepted_total",
        help: "Connections of peers that had proved who they are, by what they are.",
        unit: "connections",
        reading: Reading::Counts("role", |seen| {
            let by_role = &seen.statistics.counters.connections;
            let roles = [("dispatcher", Role::Dispatcher), ("operator", Role::Operator)];
            roles.map(|(name, role)| (name, by_role.get(&role).copied().unwrap_or(0))).into()
        }),
    },
    Metric {
        name: "ppserver_connections_lost_total",
        help: "Connections that broke off or fell silent, instead of being ended by either side.",
        unit: "connections",
        reading: Reading::Count(|seen| seen.statistics.counters.connections_lost),
    },
    Metric {
        name: "ppserver_connections_refused_total",
        help: "Connections of peers that had proved who they are and were closed here, by why.",
        unit: "connections",
        reading: Reading::Counts("reason", |seen| {
            let refusals = &seen.statistics.counters.refusals;
            RefusalKind::ALL.map(|kind| (kind.name(), refusals.get(&kind).copied().unwrap_or(0))).into()
        }),
    },
    Metric {
        name: "ppserver_handshakes_failed_total",
        help: "Connections of peers that did not prove who they are, by why. Probes of ports are `closed`.",
        unit: "connections",
        reading: Reading::Counts("reason", handshakes_failed),
    },
    Metric {
        name: "ppserver_handshakes_crowded_total",
        help: "Connections of peers that had not proved who they are, and gave way to others, or for which there was no room.",
        unit: "connections",
        reading: Reading::Count(|seen| seen.refusals.crowded),
    },
    Metric {
        name: "ppserver_programs_received_total",
        help: "Programs that dispatchers sent here, and that were stored.",
        unit: "programs",
        reading: Reading::Count(|seen| seen.statistics.counters.programs_received),
    },
    Metric {
        name: "ppserver_programs_failed_total",
        help: "Programs that arrived and were no good, or could not be stored; its log says why.",
        unit: "programs",
        reading: Reading::Count(|seen| seen.statistics.counters.programs_failed),
    },
];

fn handshakes_failed(seen: &Seen) -> Vec<(&'static str, u64)> {
    // A node never finds another key than one it knows: it knows none.
    let kinds = HandshakeFailure::ALL.into_iter().filter(|kind| *kind != HandshakeFailure::OtherNodeKey);
    kinds.map(|kind| (kind.name(), seen.refusals.failed.get(&kind).copied().unwrap_or(0))).collect()
}
