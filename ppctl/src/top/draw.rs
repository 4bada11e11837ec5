//! What is shown where. Everything is told by shape and words; colours only repeat it.

use std::collections::BTreeSet;
use std::time::Duration;

use pp_dispatcher::Doing;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::view::{Asks, Node, Row, View};

/// The smallest terminal in which there is room for everything.
pub(super) const LEAST: (u16, u16) = (60, 16);
/// From this width on, what runs and what failed are shown side by side.
const SIDE_BY_SIDE: u16 = 110;
/// From this width on, load and memory are shown.
const WIDE: u16 = 80;
/// Workers of a node in the strip, a character each.
const CELLS: usize = 64;

/// Colours, if any are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours(pub(super) bool);

impl Colours {
    fn of(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

const HELP: [&str; 13] = [
    "",
    "  up, down, j, k   select a node",
    "  + and -          one slot more, or one less, for the selected node",
    "  d                drain it: it finishes what runs, and ends",
    "  s                sort by something else",
    "  /                show only nodes whose names hold what is typed; Escape shows all",
    "  Ctrl-L           draw everything anew",
    "  q, Ctrl-C        quit",
    "",
    "  In a row of workers: # runs something, = is between two attempts, . waits,",
    "  o starts, x ends. WAITING are jobs at a dispatcher itself, QUEUED those at nodes.",
    "",
    "  Any key goes back.",
];

/// A part of the screen, written line by line.
struct Pane<'a> {
    area: Rect,
    line: u16,
    buffer: &'a mut Buffer,
}

impl<'a> Pane<'a> {
    fn new(area: Rect, buffer: &'a mut Buffer) -> Self {
        Self { area, line: 0, buffer }
    }

    fn left(&self) -> usize {
        usize::from(self.area.height.saturating_sub(self.line))
    }

    /// A line of pieces, one behind the other, cut at the edge.
    fn put<'t>(&mut self, pieces: impl IntoIterator<Item = (std::borrow::Cow<'t, str>, Style)>) {
        if self.left() == 0 {
            return;
        }
        let (mut x, y) = (self.area.x, self.area.y + self.line);
        let end = self.area.right();
        for (text, style) in pieces {
            (x, _) = self.buffer.set_stringn(x, y, text, usize::from(end.saturating_sub(x)), style);
        }
        self.line += 1;
    }

    fn text(&mut self, text: &str, style: Style) {
        self.put([(text.into(), style)]);
    }

    /// A line in reverse, as wide as the pane.
    fn heading(&mut self, text: &str) {
        let width = usize::from(self.area.width);
        self.text(&format!("{text:width$}"), REVERSED);
    }
}

/// Draws everything.
pub(super) fn draw(view: &View, colours: Colours, area: Rect, buffer: &mut Buffer) {
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("ppctl top needs {} columns and {} lines", LEAST.0, LEAST.1);
        Pane::new(area, buffer).text(&text, Style::new());
        return;
    }
    let mut top = Pane::new(Rect { height: 2, ..area }, buffer);
    header(view, colours, &mut top);
    let body = Rect { y: area.y + 2, height: area.height - 3, ..area };
    if view.asks == Asks::Help {
        let mut pane = Pane::new(body, buffer);
        HELP.iter().for_each(|line| pane.text(line, Style::new()));
    } else {
        parts(view, colours, body, buffer);
    }
    footer(view, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
}

fn header(view: &View, colours: Colours, pane: &mut Pane<'_>) {
    let totals = view.totals();
    let failed = format!("  {} failed", totals.failed);
    let lost = format!("  {} workers lost", totals.lost_workers);
    let bad = |count: u64| {
        if count > 0 { colours.of(Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() }
    };
    let nodes = format!("{} of {} nodes", totals.in_use, totals.nodes);
    pane.put([
        ("ppctl top  ".into(), BOLD),
        (nodes.into(), Style::new()),
        (format!("  {} of {} slots busy", totals.busy, totals.slots).into(), BOLD),
        (format!("  {} per second", rate(totals.per_second)).into(), Style::new()),
    ]);
    pane.put([
        (format!("{} queued  {} waiting", totals.queued, totals.waiting).into(), Style::new()),
        (failed.into(), bad(totals.failed)),
        (lost.into(), bad(totals.lost_workers)),
    ]);
}

fn parts(view: &View, colours: Colours, area: Rect, buffer: &mut Buffer) {
    let rows = view.rows();
    // Nodes have what they need, up to a third of it; their workers as much; the rest is for attempts.
    let lines = |count: usize, most: u16| u16::try_from(count + 1).unwrap_or(u16::MAX).clamp(2, most.max(2));
    let of_nodes =
        lines(rows.iter().map(|row| 1 + usize::from(row.node.reason.is_some())).sum(), area.height / 3);
    let of_workers = lines(rows.iter().filter(|row| row.activity.is_some()).count(), area.height / 3);
    nodes(&rows, view, colours, &mut Pane::new(Rect { height: of_nodes, ..area }, buffer));
    let y = area.y + of_nodes;
    workers(&rows, colours, &mut Pane::new(Rect { y, height: of_workers, ..area }, buffer));
    let rest = Rect { y: y + of_workers, height: area.height - of_nodes - of_workers, ..area };
    let (left, right) = if area.width >= SIDE_BY_SIDE {
        let half = area.width / 2;
        let right = Rect { x: area.x + half, width: area.width - half, ..rest };
        (Rect { width: half - 1, ..rest }, right)
    } else {
        let half = rest.height / 2;
        let right = Rect { y: rest.y + half, height: rest.height - half, ..rest };
        (Rect { height: half, ..rest }, right)
    };
    running(view, &mut Pane::new(left, buffer));
    failures(view, colours, &mut Pane::new(right, buffer));
}

fn nodes(rows: &[Row<'_>], view: &View, colours: Colours, pane: &mut Pane<'_>) {
    // Where it is narrow, load and memory have no room.
    let is_wide = pane.area.width >= WIDE;
    let room = usize::from(pane.area.width) - if is_wide { 59 } else { 46 };
    let longest =
        |text: fn(&Node) -> &str| rows.iter().map(|row| text(row.node).chars().count()).max().unwrap_or(0);
    let names: BTreeSet<_> = rows.iter().map(|row| &row.node.name).collect();
    // Addresses are shown where there is room, and where names tell nothing apart.
    let text: fn(&Node) -> &str = match longest(|node| &node.label) <= room || names.len() < rows.len() {
        true => |node| &node.label,
        false => |node| &node.name,
    };
    let name = longest(text).clamp(4, room.min(48));
    let sorted =
        format!("by {}{}{}", view.sort.word(), if view.filter.is_empty() { "" } else { ", /" }, view.filter);
    pane.heading(&format!(
        "  {:name$} {:11} {:>9} {:>7} {:>6} {}{:>6}  {sorted}",
        "NODE",
        "STATE",
        "BUSY",
        "QUEUED",
        "PER S",
        if is_wide { " LOAD MEMORY " } else { "" },
        "FAILED"
    ));
    let selected = rows.iter().position(|row| row.is_selected).unwrap_or(0);
    // The selected one is always among those for which there is room.
    let skipped = (selected + 1).saturating_sub(pane.left());
    for row in &rows[skipped..] {
        let node = row.node;
        let memory = match node.memory_total {
            0 => "-".into(),
            total => format!("{:.0}%", node.memory_used as f64 * 100.0 / total as f64),
        };
        let line = format!(
            "{} {:name$} {:11} {:>9} {:>7} {:>6} {}",
            if row.is_selected { '>' } else { ' ' },
            cut(text(node), name),
            node.state,
            format!("{}/{}", node.busy, node.slots),
            node.queued,
            rate(row.per_second),
            if is_wide { format!("{:>5.1} {memory:>6} ", node.load) } else { String::new() },
        );
        let style = if row.is_selected { BOLD } else { Style::new() };
        let bad = if row.failed > 0 { colours.of(Color::Red) } else { style };
        pane.put([(line.into(), style), (format!("{:>6}", row.failed).into(), bad)]);
        if let Some(reason) = &node.reason {
            pane.text(&format!("    {reason}"), colours.of(Color::Red));
        }
    }
}

/// A line for each node: a character for each worker, and what they run.
fn workers(rows: &[Row<'_>], colours: Colours, pane: &mut Pane<'_>) {
    pane.heading("  WORKERS");
    let told = || rows.iter().filter_map(|row| Some((row, row.activity?)));
    let name = told().map(|(row, _)| row.node.name.chars().count()).max().unwrap_or(4).clamp(4, 20);
    for (row, activity) in told() {
        let cells: String = activity.workers.iter().take(CELLS).map(|worker| cell(worker.doing)).collect();
        let more = activity.workers.len().saturating_sub(CELLS) + activity.left_out.workers as usize;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        pane.put([
            (format!("  {:name$} ", cut(&row.node.name, name)).into(), Style::new()),
            (cells.into(), colours.of(Color::Blue).add_modifier(Modifier::BOLD)),
            (more.into(), Style::new()),
            (format!("  {}", what_runs(activity)).into(), Style::new()),
        ]);
    }
}

fn cell(doing: Doing) -> char {
    match doing {
        Doing::Running { .. } => '#',
        Doing::Busy => '=',
        Doing::Idle => '.',
        Doing::Starting => 'o',
        Doing::Ending => 'x',
    }
}

/// Functions that run, and how often each.
fn what_runs(activity: &pp_dispatcher::Activity) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for worker in &activity.workers {
        let Doing::Running { function, .. } = worker.doing else { continue };
        let name = short(activity.function(function));
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn running(view: &View, pane: &mut Pane<'_>) {
    pane.heading("  RUNS LONGEST");
    let running = view.running();
    for run in running.iter().take(pane.left()) {
        let time = time(run.time);
        pane.text(
            &format!(
                "  {time:>7}  {:24} {:16} {}",
                cut(short(run.function), 24),
                cut(run.node, 16),
                run.session
            ),
            Style::new(),
        );
    }
    if running.is_empty() {
        pane.text("  nothing", Style::new());
    }
}

fn failures(view: &View, colours: Colours, pane: &mut Pane<'_>) {
    pane.heading("  FAILED LAST");
    let mut any = false;
    for (failure, ago) in view.failures().take(pane.left()) {
        any = true;
        let how = failure.how.name().replace('_', " ");
        pane.put([
            (format!("  {:>7} ago  ", time(ago)).into(), Style::new()),
            (format!("{how} ").into(), colours.of(Color::Red).add_modifier(Modifier::BOLD)),
            (
                format!(
                    "{} on {} after {} {}",
                    short(&failure.function),
                    failure.node,
                    time(failure.run_time),
                    failure.reason
                )
                .into(),
                Style::new(),
            ),
        ]);
    }
    if !any {
        pane.text("  nothing since this began", Style::new());
    }
}

fn footer(view: &View, area: Rect, buffer: &mut Buffer) {
    let mut pane = Pane::new(area, buffer);
    match &view.asks {
        Asks::Filter => {
            pane.text(&format!("show nodes with: {}_  (Enter keeps it, Escape shows all)", view.filter), BOLD)
        }
        Asks::Drain(label) => {
            pane.text(&format!("drain {label}? It finishes what runs, and ends: y or n"), BOLD);
        }
        _ if !view.message.is_empty() => pane.text(&view.message, BOLD),
        _ => pane.text("q quit  ? help  s sort  / filter  + - slots  d drain", Style::new()),
    }
}

/// The name of a function without the modules that it is in.
fn short(function: &str) -> &str {
    function.rsplit("::").next().unwrap_or(function)
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.into(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 9_999_500.0 => format!("{:.0}M", rate / 1e6),
        rate if rate >= 9_999.5 => format!("{:.0}k", rate / 1e3),
        rate if rate >= 9.95 => format!("{rate:.0}"),
        rate => format!("{rate:.1}"),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
