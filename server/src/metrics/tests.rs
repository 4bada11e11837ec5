//! The table against conventions and its page. That each metric is moved by what it counts is shown with real processes, in
//! `tests/tests/cluster/metrics.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

/// The table of the page on metrics.
fn documentation() -> String {
    let mut out = String::from("| metric | type | unit | label | what it says |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let label = metric.label().map_or("".into(), |label| format!("`{label}`"));
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {label} | {} |",
            metric.name,
            metric.kind().name(),
            metric.unit,
            metric.help
        );
    }
    out
}

#[test]
fn names_say_unit_and_type_as_prometheus_has_it() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "one is there twice");
    for Metric { name, help, unit, reading } in METRICS {
        assert!(name.starts_with("ppserver_"), "{name}");
        assert_eq!(name.ends_with("_total"), reading.kind() == Kind::Counter, "{name}");
        for base in ["seconds", "bytes"] {
            assert_eq!(*unit == base, name.trim_end_matches("_total").ends_with(base), "{name} {unit}");
        }
        assert!(help.ends_with(['.']) && !help.contains(['\n', '|', '\\']), "{name}: {help}");
    }
}

#[test]
fn the_page_on_metrics_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let begin = page.find("| metric |").expect("it has a table");
    let end = page[begin..].find("\n\n").map_or(page.len(), |end| begin + end + 1);
    if std::env::var_os("PP_GOLDEN").is_some_and(|value| value == "write") {
        let page = format!("{}{}{}", &page[..begin], documentation(), &page[end..]);
        return fs::write(&path, page).expect("it can be written");
    }
    assert!(
        page[begin..end] == documentation(),
        "docs/metrics.md is not what server/src/metrics/table.rs says: write its table anew with \
         PP_GOLDEN=write cargo test -p ppserver --lib the_page_on_metrics"
    );
}
