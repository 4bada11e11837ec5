//! What is drawn, at several sizes, and what keys do.

use std::time::Duration;

use pp_dispatcher::{
    Activity, AttemptId, Doing, EndedAttempt, FunctionLabel, FunctionPlace, JobId, OutcomeKind,
    SessionActivity, Watched, WorkerActivity,
};
use pp_protocol::NodeId;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::{Colours, LEAST, draw};
use super::text_of;
use super::view::{Asks, Key, Node, Sort, View, Wish};

fn node(name: &str, id: u128) -> Node {
    Node {
        id: Some(NodeId(id)),
        name: name.into(),
        label: format!("{name} (10.0.0.{id}:60000)"),
        state: "connected",
        reason: None,
        slots: 4,
        busy: 3,
        queued: 2,
        load: 1.5,
        memory_used: 1,
        memory_total: 2,
    }
}

fn id(place: u32) -> AttemptId {
    AttemptId { job: JobId::new(place, 0), number: 1 }
}

fn told(node: u128, name: &str, uptime: Duration, ended: u64) -> Watched {
    let function = FunctionPlace(0);
    let running = |for_ns| Doing::Running { function, attempt: id(1), for_ns };
    let doing = [running(5_000_000_000), running(1_000_000), Doing::Busy, Doing::Idle];
    let mut activity = Activity {
        uptime_ns: uptime.as_nanos() as u64,
        functions: vec![FunctionLabel { name: "fib::fib".into() }],
        sessions: vec![SessionActivity {
            session: 1,
            name: "you@here fib 17".into(),
            connected: true,
            running: 3,
            queued: 2,
            share: 4,
            window: 8,
            waiting: 500,
            ended,
            run_time_ns: 1,
        }],
        workers: (0..)
            .zip(doing)
            .map(|(worker, doing)| WorkerActivity { worker, session: 1, doing })
            .collect(),
        attempts: vec![EndedAttempt {
            attempt: id(2),
            session: 1,
            worker: 0,
            function,
            ended_ago_ns: 1_000_000_000,
            run_time_ns: 20_000_000,
            ended: OutcomeKind::Panicked,
            reason: "no \\x1b[31mred".into(),
        }],
        ..Activity::default()
    };
    activity.totals.ended.outcomes[OutcomeKind::Succeeded as usize] = ended;
    activity.totals.ended.outcomes[OutcomeKind::Panicked as usize] = 1;
    Watched::new(name.into(), NodeId(node), activity)
}

fn view() -> View {
    let mut view = View::default();
    let refused = Node {
        id: None,
        state: "refused",
        reason: Some("another secret".into()),
        slots: 0,
        busy: 0,
        ..node("gpu", 3)
    };
    view.stand(Duration::ZERO, vec![node("render", 1), node("desk", 2), refused]);
    for second in 0..3 {
        let at = Duration::from_secs(second);
        view.take(at, told(1, "render", at, second * 100));
    }
    view
}

fn lines(view: &View, width: u16, height: u16) -> Vec<String> {
    text_of(view, width, height).lines().map(str::to_owned).collect()
}

#[test]
fn everything_is_shown_at_every_size() {
    for (width, height) in [(60, 16), (80, 24), (120, 40), (200, 50)] {
        let all = lines(&view(), width, height).join("\n");
        for part in [
            "2 of 3 nodes",
            "6 of 8 slots",
            "100 per second",
            "500 waiting",
            "##=.",
            "2 fib",
            "another secret",
            "5 s",
            "panicked",
        ] {
            assert!(all.contains(part), "{part:?} is not shown at {width}x{height}:\n{all}");
        }
        assert!(all.lines().all(|line| line.chars().count() <= usize::from(width)));
        assert!(all.lines().last().is_some_and(|line| line.starts_with("q quit")), "{all}");
    }
}

#[test]
fn where_there_is_no_room_one_sentence_says_so() {
    for (width, height) in [(LEAST.0 - 1, 24), (80, LEAST.1 - 1), (1, 1)] {
        let said: Vec<_> =
            lines(&view(), width, height).into_iter().filter(|line| !line.is_empty()).collect();
        let sentence = "ppctl top needs 60 columns and 16 lines";
        assert_eq!(said, [&sentence[..sentence.len().min(width.into())]]);
    }
}

#[test]
fn nothing_that_a_terminal_obeys_is_drawn() {
    let mut view = View::default();
    view.stand(Duration::ZERO, vec![node("a\x1b[31m\u{202e}b", 1)]);
    assert!(!text_of(&view, 80, 24).chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn a_terminal_is_drawn_as_the_text_is_and_without_colours_if_none_are_wanted() {
    for colours in [false, true] {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let view = view();
        terminal.draw(|frame| draw(&view, Colours(colours), frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let is_coloured = buffer.content().iter().any(|cell| cell.fg != ratatui::style::Color::Reset);
        assert_eq!(is_coloured, colours);
    }
}

#[test]
fn keys_select_sort_filter_and_order() {
    let mut view = view();
    let selected =
        |view: &View| view.rows().iter().find(|row| row.is_selected).map(|row| row.node.name.clone());
    assert_eq!(selected(&view).as_deref(), Some("desk"), "the first by name");
    assert_eq!(view.key(Key::Down), None);
    assert_eq!(view.key(Key::Down), None);
    assert_eq!(view.key(Key::Down), None, "there is no further one");
    assert_eq!(selected(&view).as_deref(), Some("render"));
    let label = "render (10.0.0.1:60000)".to_owned();
    assert_eq!(view.key(Key::Character('+')), Some(Wish::Resize(label.clone(), 5)));
    assert_eq!(view.key(Key::Character('-')), Some(Wish::Resize(label.clone(), 3)));
    assert_eq!(view.key(Key::Character('d')), None);
    assert!(lines(&view, 80, 24)[23].starts_with("drain render (10.0.0.1:60000)?"));
    assert_eq!(view.key(Key::Character('n')), None);
    assert_eq!(view.asks, Asks::Nothing);
    view.key(Key::Character('d'));
    assert_eq!(view.key(Key::Character('y')), Some(Wish::Drain(label)));
    view.key(Key::Character('s'));
    assert_eq!(view.sort, Sort::Busy);
    "/DESK".chars().for_each(|c| drop(view.key(Key::Character(c))));
    view.key(Key::Enter);
    let names: Vec<_> = view.rows().iter().map(|row| row.node.name.clone()).collect();
    assert_eq!((&names[..], selected(&view).as_deref()), (&["desk".to_owned()][..], Some("desk")));
    view.key(Key::Escape);
    assert_eq!(view.rows().len(), 3);
    view.key(Key::Character('?'));
    assert!(lines(&view, 80, 24).join("\n").contains("Any key goes back"));
    view.key(Key::Character('x'));
    assert_eq!(view.key(Key::Character('q')), Some(Wish::Quit));
}

#[test]
fn a_selected_node_is_shown_however_many_there_are() {
    let mut view = View::default();
    view.stand(Duration::ZERO, (1..=200).map(|number| node(&format!("node{number:03}"), number)).collect());
    (0..150).for_each(|_| drop(view.key(Key::Down)));
    assert!(
        lines(&view, 80, 24).iter().any(|line| line.starts_with("> node151")),
        "{}",
        text_of(&view, 80, 24)
    );
}
