//! Measurements of the comparison, and the lines that they make.

use crate::report::Better;

/// Something that is measured of every system that can do it.
#[derive(Debug)]
pub(crate) struct Bench {
    /// As `benches/peers/measure.py` calls it.
    pub(crate) name: &'static str,
    /// Arguments for this program.
    pub(crate) ours: &'static [&'static str],
    /// Most jobs that a peer is measured with.
    pub(crate) jobs: u32,
    /// Only of systems that have a chunk size.
    pub(crate) in_chunks: bool,
    /// Whether the figure is the same each time, and for each way of a system: it is measured once then.
    pub(crate) once: bool,
}

const fn bench(name: &'static str, ours: &'static [&'static str], jobs: u32) -> Bench {
    Bench { name, ours, jobs, in_chunks: false, once: false }
}

/// First that of ours which measures its peak of memory. For peers the numbers of jobs are limits: most do less, in a
/// second or so.
pub(crate) const BENCHES: &[Bench] = &[
    Bench { in_chunks: true, ..bench("noop-chunked", &["map", "chunks"], 10_000_000) },
    bench("noop", &["noop"], 1_000_000),
    bench("latency", &["latency"], 5_000),
    bench("bytes", &["bytes"], 200),
    bench("large", &["large"], 4),
    bench("cpu", &["cpu"], 500),
    Bench { once: true, ..bench("memory", &["memory"], 100_000) },
];

/// Benches that no peer has, or that could not be compared.
pub(crate) const OURS_ALONE: &[&str] = &["callbacks", "scale", "startup", "recovery", "tail"];

/// A line of the comparison.
#[derive(Debug)]
pub(crate) struct Line {
    /// The measurement that it comes from.
    pub(crate) bench: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Our row, in which WAY stands for the way jobs go.
    pub(crate) our_row: &'static str,
    /// The row of a peer.
    pub(crate) peer_row: &'static str,
    /// Whether it is in the plot.
    pub(crate) plotted: bool,
    /// Note for where a peer does better.
    pub(crate) note: &'static str,
}

const LINE: Line = Line {
    bench: "",
    title: "",
    unit: "",
    better: Better::More,
    our_row: "",
    peer_row: "",
    plotted: true,
    note: "",
};

/// Reason why those of CPU-bound jobs differ.
const MACHINE: &str = "How many times faster two workers are is what the machine has to give while they run: to be compared \
                       to what two bare threads reached at the same time, as ours are among our floors below.";

/// In the order in which they are shown.
pub(crate) const LINES: &[Line] = &[
    Line {
        bench: "noop",
        title: "No-op jobs, one handle each",
        unit: "jobs/s",
        our_row: "noop WAY",
        peer_row: "noop",
        ..LINE
    },
    Line {
        bench: "latency",
        title: "One job at a time, p50",
        unit: "us",
        better: Better::Less,
        our_row: "latency WAY, p50",
        peer_row: "latency",
        ..LINE
    },
    Line {
        bench: "bytes",
        title: "1 MiB in and out, many at once",
        unit: "MB/s each way",
        our_row: "bytes WAY, 1 MiB",
        peer_row: "bytes",
        ..LINE
    },
    Line {
        bench: "large",
        title: "64 MiB in and out, one at a time",
        unit: "MB/s each way",
        our_row: "large WAY, 64 MiB",
        peer_row: "large",
        ..LINE
    },
    Line {
        bench: "noop-chunked",
        title: "Calls by map in chunks chosen by hand",
        unit: "calls/s",
        our_row: "chunks WAY, of 1000",
        peer_row: "noop-chunked",
        ..LINE
    },
    Line {
        bench: "noop-chunked",
        title: "Calls by map; theirs in chunks, ours not",
        unit: "calls/s",
        our_row: "map WAY, 10000000 inputs",
        peer_row: "noop-chunked",
        plotted: false,
        note: "A peer's chunk is one job: a thousand calls or more share one message, one handle and one fate. Ours are \
               jobs of their own, each with its limits, retries and outcome. The line before has chunks on both sides.",
        ..LINE
    },
    Line {
        bench: "memory",
        title: "Memory of a queued no-op job",
        unit: "bytes",
        better: Better::Less,
        our_row: "memory, queued no-op job",
        peer_row: "memory",
        ..LINE
    },
    Line {
        bench: "cpu",
        title: "CPU-bound jobs of 10 ms, 2 workers",
        unit: "x one thread",
        our_row: "cpu WAY, 10 ms jobs",
        peer_row: "cpu 10 ms",
        plotted: false,
        note: MACHINE,
        ..LINE
    },
    Line {
        bench: "cpu",
        title: "CPU-bound jobs of 1 ms, 2 workers",
        unit: "x one thread",
        our_row: "cpu WAY, 1 ms jobs",
        peer_row: "cpu 1 ms",
        plotted: false,
        note: MACHINE,
        ..LINE
    },
];
