//! The dashboard and the alerts that are shipped: what they ask for is there, and Prometheus understands it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ppserver::metrics::METRICS;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy().join(name)).expect("it is there")
}

/// Expressions of the dashboard.
fn of_dashboard() -> Vec<String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("grafana/ppserver.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets =
        panels.iter().flat_map(|panel| panel["targets"].as_array().expect("each asks for something"));
    targets.map(|target| target["expr"].as_str().expect("as text").to_owned()).collect()
}

/// Names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ppserver_")).collect()
}

#[test]
fn what_is_asked_for_is_there() {
    let is_there = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        METRICS.iter().any(|metric| metric.name == name || Some(metric.name) == base)
    };
    let (alerts, tests) = (read("prometheus/alerts.yml"), read("prometheus/alerts_test.yml"));
    let dashboard = of_dashboard().join("\n");
    for (what, text) in [("alerts", &alerts), ("their tests", &tests), ("dashboard", &dashboard)] {
        let names = names_in(text);
        assert!(names.len() > 5, "{what}: {names:?}");
        assert!(names.iter().all(|name| is_there(name)), "{what}: {names:?}");
    }
}

#[test]
fn prometheus_understands_it_and_each_alert_fires_when_it_is_to() {
    let home = tempfile::tempdir().expect("a directory");
    let rules = of_dashboard().into_iter().enumerate().map(|(place, expr)| {
        // What Grafana fills in.
        let expr = expr.replace("$__rate_interval", "5m").replace("$instance", ".*");
        format!("  - {{record: \"panel:{place}\", expr: {}}}\n", serde_json::Value::from(expr))
    });
    let path = home.path().join("dashboard.yml");
    let text = format!("groups:\n- name: dashboard\n  rules:\n{}", rules.collect::<String>());
    std::fs::write(&path, text).expect("it can be written");
    let alerts = deploy().join("prometheus");
    let judge = |arguments: &[&str]| Command::new("promtool").args(arguments).current_dir(&alerts).output();
    if judge(&["--version"]).is_err() {
        return println!(
            "SKIPPED: without promtool (Debian: prometheus) nobody judges alerts and dashboard here"
        );
    }
    let dashboard = path.to_str().expect("paths here are text");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "rules", dashboard],
    ] {
        let judged = judge(&arguments).expect("it was there");
        let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
        assert!(judged.status.success(), "{arguments:?}: {said}");
    }
}
