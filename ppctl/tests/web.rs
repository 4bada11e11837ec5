//! `ppctl web` in a real browser, with real nodes.

use std::path::Path;
use std::time::Duration;

use pp_tests::browser::Browser;
use pp_tests::http::{self, Answered};
use pp_tests::process::{Process, SECRET, Server, ServerOptions, Signal, command, is_worker};
use pp_tests::wait::wait_until;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A cluster that does not exist: how many nodes, slots of each, attempts a minute.
const MADE_UP: &str = include_str!("web/made_up.js");
const AXE: &str = include_str!("vendor/axe-core/axe.min.js");
/// What runs is to be seen within this time.
const SOON: Duration = Duration::from_secs(1);

/// `ppctl web` with what it needs, looking at nodes.
struct Page {
    process: Process,
    /// Where the page is, with its token.
    url: String,
    home: TempDir,
}

impl Page {
    fn serve(nodes: &[&Server], arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a home directory");
        let mut command = ppctl(home.path(), &["web"]);
        for node in nodes {
            command.args(["--node", &node.address()]);
        }
        let process = Process::start(command.args(arguments));
        let url = process.wait_for_stdout("http://").trim().to_owned();
        Self { process, url, home }
    }

    fn address(&self) -> &str {
        self.url.split('/').nth(2).expect("it has an address")
    }

    fn token(&self) -> &str {
        self.url.rsplit("#token=").next().expect("it has a token")
    }

    /// Sends a request with these fields besides Host.
    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answered {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (address, length) = (self.address(), body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{fields}Content-Length: {length}\r\n");
        http::ask(address, &format!("{head}\r\n{body}"))
    }
}

fn ppctl(home: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = command(env!("CARGO_BIN_EXE_ppctl"), home);
    command.args(arguments).env("PP_SECRET", SECRET).env("PP_DISCOVER", "0");
    command
}

/// Commands that run at a node, and nowhere else.
fn run(page: &Page, node: &Server, words: &[&str]) -> Process {
    let mut command = ppctl(page.home.path(), &["run", "--not-node", ":", "--node", &node.address()]);
    Process::start(command.args(words))
}

fn named(name: &str, workers: usize) -> Server {
    let mut options = ServerOptions { workers, ..ServerOptions::default() };
    options.arguments.extend(["--name", name].map(String::from));
    Server::start_with(options)
}

#[test]
fn nodes_appear_run_fail_are_resized_and_die_before_the_eyes_of_their_operator() {
    let Some(browser) = Browser::start(&[]) else { return };
    let (mut mortal, node) = (named("mortal", 1), named("render1", 2));
    let page = Page::serve(&[&mortal, &node], &[]);
    browser.look(1440, false);
    browser.open(&page.url);
    let lines = "return [...document.querySelectorAll('#nodes tbody tr')].map((row) => row.textContent)";
    browser.wait_for(
        "both nodes",
        "return document.querySelectorAll('#nodes .state:not(.gone):not(.waits)').length === 2",
    );
    assert_eq!(browser.run("return location.hash", json!([])), "", "the token is not left in the address");

    // What runs is seen while it runs, and grows.
    let sleeper = run(&page, &node, &["sleep", "{}", ":::", "60"]);
    wait_until("it to run", || node.log().contains("dispatcher connected"));
    let began = browser.wait_for("it to run", "return cluster.totals().busy === 1");
    assert_eq!(began, true);
    browser.wait_within(SOON, "it to be seen", "return cluster.running().length === 1");
    let running = browser.run(
        "document.querySelector('#running').closest('details').open = true; return cluster.running()[0]",
        json!([]),
    );
    assert!(running["function"].as_str().is_some_and(|name| name.contains("command")), "{running}");
    browser.wait_for(
        "it as a table",
        "return document.querySelector('#running tbody tr')?.textContent.includes('render1')",
    );
    let grown = "const [one] = cluster.running(); return cluster.now(performance.now()) - one.since > 1500";
    browser.wait_for("it to grow", grown);

    // The strip fills, with those that succeed and those that fail.
    let mut others =
        run(&page, &node, &["sh", "-c", "'sleep 0.{}; exit 0'", ":::", "1", "2", "3", "1", "2", "3"]);
    others.wait();
    browser.wait_for("bars", "return [...cluster.bars].filter((bar) => bar.kind === 'ok').length >= 3");
    let drawn = "const strip = document.getElementById('strip'); const ink = strip.getContext('2d'); \
                 const { data } = ink.getImageData(0, 0, strip.width, strip.height); let green = 0; \
                 for (let i = 0; i < data.length; i += 4) if (data[i] === 0 && data[i + 1] === 158 && data[i + 2] === 115) green += 1; \
                 return green > 20";
    browser.wait_for("bars to be drawn", drawn);

    // It is resized.
    let click = "[...document.querySelectorAll('#nodes button')].find((button) => button.getAttribute('aria-label') === arguments[0]).click()";
    browser.run(click, json!(["Resize render1"]));
    browser.run(
        "document.getElementById('order-slots').value = 4; document.getElementById('order-yes').click()",
        json!([]),
    );
    browser.wait_for("four slots", "return [...cluster.nodes.values()].some((node) => node.slots === 4)");
    browser.wait_for("the question to be gone", "return !document.getElementById('order').open");

    // One dies, and why is said; then one is drained.
    mortal.process().kill();
    let gone = "return [...document.querySelectorAll('#nodes tbody tr')].map((row) => row.textContent)\
                .find((text) => text.includes('mortal') && text.includes('unreachable'))";
    let gone = browser.wait_for("the dead node", gone);
    assert!(gone.as_str().is_some_and(|text| text.contains("listens")), "{gone}");
    drop(sleeper);
    browser.run(click, json!(["Drain render1"]));
    browser.run("document.getElementById('order-yes').click()", json!([]));
    browser.wait_for("nobody left", "return document.querySelectorAll('#nodes .state.gone').length === 2");
    let told = browser.run(lines, json!([]));
    assert!(told.to_string().contains("told to stop") || told.to_string().contains("listens"), "{told}");
    let said = browser.console();
    assert!(said.is_empty(), "{said:?}");
}

/// Kills what a node has started to run jobs: known by its home directory, which is of this test alone.
fn kill_workers_of(node: &Server) {
    let home = format!("HOME={}", node.home().display());
    let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    for number in numbers.filter(|number| is_worker(*number)) {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| entry == home.as_bytes())
            && let Some(process) = rustix::process::Pid::from_raw(number)
        {
            // It may have ended with another of them.
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

#[test]
fn failures_are_shown_with_their_reasons_as_text_whatever_is_in_them() {
    let Some(browser) = Browser::start(&[]) else { return };
    let node = named("render1", 1);
    let page = Page::serve(&[&node], &[]);
    browser.open(&page.url);
    browser.wait_for("the node", "return cluster.totals().slots === 1");
    let sleeper = run(&page, &node, &["sleep", "{}", ":::", "60"]);
    browser.wait_for("it to run", "return cluster.running().length === 1");
    kill_workers_of(&node);
    let told =
        browser.wait_for("the failure", "return document.querySelector('#failures tbody tr')?.textContent");
    assert!(told.as_str().is_some_and(|text| text.contains("worker died")), "{told}");
    drop(sleeper);
    // Without its token, the page follows nobody, and shows what it is given here.
    browser.run("sessionStorage.clear()", json!([]));
    browser.open(&format!("http://{}/", page.address()));
    let bad = json!([{ "at": 1, "nodes": [{ "id": "x", "name": "<img src=x onerror=alert(1)>", "address": "", "state": "refused",
        "reason": "\u{1b}[31m<script>evil()</script>", "slots": 0, "busy": 0, "queued": 0, "load": 0, "memory_total": 0,
        "activities": [] }] }]);
    browser.run("cluster.take(arguments[0], performance.now())", bad);
    browser.wait_for(
        "it as text",
        "return document.querySelector('#nodes .name')?.textContent.startsWith('<img')",
    );
    assert_eq!(browser.run("return document.querySelectorAll('img, #nodes script').length", json!([])), 0);
}

#[test]
fn people_of_all_kinds_can_use_it_at_any_width_in_the_light_and_in_the_dark() {
    let Some(browser) = Browser::start(&[]) else { return };
    let page = Page::serve(&[], &[]);
    // Without its token, the page asks for it.
    browser.open(&format!("http://{}/", page.address()));
    browser.wait_for("the door", "return !document.getElementById('door').hidden");
    browser.run(MADE_UP, json!([3, 4, 2_000]));
    browser.wait_for("failures", "return document.querySelectorAll('#failures tbody tr').length > 2");
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })", json!([]));
    browser.wait_for("tables", "return document.querySelectorAll('#time-table tbody tr').length > 10");
    for width in [390, 800, 1440] {
        for is_dark in [false, true] {
            browser.look(width, is_dark);
            let fits =
                browser.wait_for("it to fit", "return document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(fits, true);
            let script = "const [source, done] = arguments; \
                if (!window.axe) { new Function(source)(); } \
                axe.run({ resultTypes: ['violations'] }).then((found) => done(found.violations.map((one) => \
                [one.impact, one.id, one.nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary)])))";
            let found = axe(&browser, script);
            let serious = |one: &&Value| matches!(one[0].as_str(), Some("serious" | "critical"));
            let serious: Vec<_> = found.as_array().expect("a list").iter().filter(serious).collect();
            assert!(serious.is_empty(), "{width} {is_dark}: {serious:#?}");
        }
    }
}

/// The page's policy lets nothing be evaluated, which is as it should be: the driver brings the script in.
fn axe(browser: &Browser, script: &str) -> Value {
    if browser.run("return typeof axe", json!([])) == "undefined" {
        browser.run(AXE, json!([]));
    }
    browser.run_async(script, json!([""]))
}

#[test]
fn a_page_of_another_origin_can_neither_read_nor_change_anything() {
    let rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1";
    let Some(browser) = Browser::start(&[rebound]) else { return };
    let node = named("render1", 2);
    let (page, other) = (Page::serve(&[&node], &[]), Page::serve(&[], &[]));
    // A page of the same machine and another port, which even knows the token.
    browser.open(&format!("http://{}/", other.address()));
    // What it may ask for is up to itself: a policy of its own is none of ours.
    browser.developer("Page.setBypassCSP", json!({ "enabled": true }));
    browser.open(&format!("http://{}/", other.address()));
    let attempt = "const [url, options, done] = arguments; \
                   fetch(url, options).then((answer) => answer.text()).then((text) => done('read: ' + text.slice(0, 40)), (error) => done('failed: ' + error.message))";
    let token = json!({ "Authorization": format!("Bearer {}", page.token()) });
    let order = json!({ "node": node.address(), "slots": 7 }).to_string();
    let attempts = [
        ("/", json!({})),
        ("/live", json!({})),
        ("/live", json!({ "headers": token })),
        ("/resize", json!({ "method": "POST", "body": order })),
        (
            "/resize",
            json!({ "method": "POST", "body": order, "headers": { "Content-Type": "application/json" } }),
        ),
        ("/resize", json!({ "method": "POST", "body": order, "headers": token })),
    ];
    for (path, options) in attempts {
        let told = browser.run_async(attempt, json!([format!("http://{}{path}", page.address()), options]));
        assert!(told.as_str().is_some_and(|told| told.starts_with("failed")), "{path} {options}: {told}");
    }
    // Without waiting for an answer, as a form or an image would.
    browser.run_async(
        "const [url, order, done] = arguments; fetch(url, { method: 'POST', mode: 'no-cors', body: order }).then(() => done(), () => done())",
        json!([format!("http://{}/resize", page.address()), order]),
    );
    // A foreign name that leads here.
    let port = page.address().rsplit(':').next().expect("a port");
    browser.open(&format!("http://evil.example:{port}/"));
    let shown = browser.run("return document.body.textContent", json!([]));
    assert!(shown.as_str().is_some_and(|text| text.contains("does not answer by that name")), "{shown}");
    let told = browser.run_async(attempt, json!([format!("http://evil.example:{port}/app.js"), {}]));
    assert!(told.as_str().is_some_and(|told| told.contains("does not answer")), "{told}");
    let mut nodes =
        Process::start(&mut ppctl(page.home.path(), &["nodes", "--json", "--node", &node.address()]));
    nodes.wait();
    assert!(nodes.stdout().contains("\"slots\": 2"), "{}", nodes.stdout());
}

#[test]
fn of_all_requests_only_those_that_are_meant_are_answered() {
    let node = named("render1", 2);
    let page = Page::serve(&[&node], &[]);
    let token = format!("Bearer {}", page.token());
    let own = format!("http://{}", page.address());
    for path in ["/", "/app.js", "/style.css", "/live", "/resize", "/drain", "/nothing"] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            for authorization in [None, Some("Bearer 0"), Some(token.as_str())] {
                for origin in [None, Some(own.as_str()), Some("http://evil.example")] {
                    // What goes on for ever is in other tests; an order here names no node.
                    let knows = authorization == Some(token.as_str());
                    let is_ours = origin != Some("http://evil.example");
                    if (path, method, knows, is_ours) == ("/live", "GET", true, true) {
                        continue;
                    }
                    let mut fields = vec![("Content-Type", "application/json")];
                    fields.extend(authorization.map(|said| ("Authorization", said)));
                    fields.extend(origin.map(|origin| ("Origin", origin)));
                    let answered = page.ask(method, path, &fields, "{}");
                    let expected = match (path, method) {
                        ("/" | "/app.js" | "/style.css", "GET") if is_ours => 200,
                        // It is let through, and is no order.
                        ("/resize" | "/drain", "POST") if is_ours && knows => 400,
                        _ => 0,
                    };
                    let refused = matches!(answered.status, 401 | 403 | 404 | 405);
                    assert!(
                        answered.status == expected || expected == 0 && refused,
                        "{method} {path} {fields:?}: {answered:?}"
                    );
                }
            }
        }
    }
    let fields = [("Content-Type", "application/json"), ("Authorization", &*token)];
    let unknown = page.ask("POST", "/resize", &fields, r#"{ "node": "nobody", "slots": 3 }"#);
    assert!(unknown.status == 409 && unknown.body.contains("nobody"), "{unknown:?}");
    let packed = ["/", "/app.js", "/style.css"].map(|path| page.ask("GET", path, &[], "").body.len());
    println!("the page has {packed:?} bytes");
}

#[test]
fn beyond_loopback_it_wants_to_be_told_so_and_a_port_that_is_taken_is_said() {
    let home = tempfile::tempdir().expect("a home directory");
    let refused = |arguments: &[&str], part: &str| {
        let mut process = Process::start(ppctl(home.path(), &["web", "--listen"]).args(arguments));
        let status = process.wait();
        assert!(!status.success() && process.stderr().contains(part), "{arguments:?}: {}", process.stderr());
    };
    refused(&["0.0.0.0:0"], "--insecure");
    refused(&["somewhere"], "--listen");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    refused(&[&taken.local_addr().expect("an address").to_string()], "is taken");
    let open = Page::serve(&[], &["--listen", "0.0.0.0:0", "--insecure"]);
    assert!(open.url.starts_with("http://0.0.0.0:"), "{}", open.url);
    assert!(open.process.stderr().contains("whoever has it may resize"), "{}", open.process.stderr());
}

/// `PP_PICTURES=DIRECTORY` makes the picture of README: the directory is `docs/pictures`.
#[test]
fn a_picture_of_it_can_be_made() {
    let Some(directory) = std::env::var_os("PP_PICTURES") else { return };
    let Some(browser) = Browser::start(&["--hide-scrollbars"]) else { return };
    let page = Page::serve(&[], &[]);
    browser.open(&format!("http://{}/", page.address()));
    browser.look(1200, false);
    browser.run(MADE_UP, json!([4, 4, 900]));
    browser.run(
        "document.getElementById('door').hidden = true; document.getElementById('link').textContent = 'live'",
        json!([]),
    );
    std::thread::sleep(Duration::from_secs(62));
    std::fs::write(Path::new(&directory).join("web.png"), browser.picture()).expect("it can be written");
}

/// `PP_PAGE_SECONDS=600` looks for longer, and then holds it against what it may take.
#[test]
fn two_hundred_nodes_and_ten_thousand_attempts_a_minute_leave_the_browser_its_time() {
    let Some(browser) = Browser::start(&["--enable-precise-memory-info"]) else { return };
    let page = Page::serve(&[], &[]);
    let seconds = std::env::var("PP_PAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_u64);
    browser.look(1440, false);
    browser.open(&format!("http://{}/", page.address()));
    browser.run(MADE_UP, json!([200, 2, 10_000]));
    browser.wait_for("attempts", "return cluster.bars.length > 200");
    browser.developer("Performance.enable", json!({}));
    let metrics = || {
        browser.developer("HeapProfiler.collectGarbage", json!({}));
        let all = browser.developer("Performance.getMetrics", json!({}));
        let value = |name: &str| {
            let all = all["metrics"].as_array().expect("a list");
            all.iter()
                .find(|one| one["name"] == name)
                .and_then(|one| one["value"].as_f64())
                .expect("it is told")
        };
        (value("Timestamp"), value("TaskDuration"), value("JSHeapUsedSize"))
    };
    if seconds > 120 {
        std::thread::sleep(Duration::from_secs(70));
    }
    let before = metrics();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = metrics();
    let share = (after.1 - before.1) / (after.0 - before.0);
    let grown = (after.2 - before.2) / f64::from(1 << 20);
    println!("main thread {:.1} %, heap {grown:+.2} MiB in {seconds} s", 100.0 * share);
    assert!(
        browser.run("return cluster.bars.length <= 50000 && cluster.failures.length <= 200", json!([]))
            == true
    );
    if seconds >= 120 {
        assert!(share < 0.25 && grown < 5.0, "{share} {grown}");
    }
}
