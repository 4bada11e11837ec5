//! A web crawl: jobs fetch pages and find the links in them, callbacks collect what they found and submit the next
//! level. It stays on the host it starts from, and goes a bounded way.
//!
//! ```sh
//! cargo run --release --example crawl                                  # a small site of its own, on loopback
//! cargo run --release --example crawl -- https://example.org           # 3 levels, 100 pages
//! cargo run --release --example crawl -- https://example.org/docs 5 1000
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use html5gum::{Token, Tokenizer};
use indicatif::ProgressBar;
use pp_dispatcher::{Dispatcher, JobError, job};
use serde::{Deserialize, Serialize};
use ureq::ResponseExt;
use url::Url;

const PAGE_BYTES: u64 = 5_000_000;
const PAGE_TIME: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
struct Page {
    bytes: u64,
    links: Vec<String>,
}

/// Fetches a page and finds the links in it. The error is what is wrong with the page, in words.
#[job]
fn fetch(url: String) -> Result<Page, String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(PAGE_TIME)).build().new_agent();
    let mut response = agent.get(&url).call().map_err(|error| error.to_string())?;
    // After redirects the page may have come from somewhere else than asked.
    let base = Url::parse(&response.get_uri().to_string()).map_err(|error| error.to_string())?;
    let is_html = response.body().mime_type() == Some("text/html");
    let body = response
        .body_mut()
        .with_config()
        .limit(PAGE_BYTES)
        .read_to_vec()
        .map_err(|error| error.to_string())?;
    let links = if is_html { links(&base, &body) } else { Vec::new() };
    Ok(Page { bytes: body.len() as u64, links })
}

/// Targets of the `<a href>` of a page, each once, without what follows a `#`.
fn links(base: &Url, html: &[u8]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for Ok(token) in Tokenizer::new(html) {
        let Token::StartTag(tag) = token else { continue };
        let Some(target) = tag.attributes.get(&b"href"[..]).filter(|_| *tag.name == b"a") else { continue };
        if let Ok(mut url) = base.join(&String::from_utf8_lossy(target)) {
            url.set_fragment(None);
            found.insert(url.to_string());
        }
    }
    found.into_iter().collect()
}

/// State of the crawl so far. Callbacks run one after the other, so the lock is never waited for long.
struct Crawl {
    host: String,
    levels: u32,
    pages: usize,
    progress: ProgressBar,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Every page submitted so far, and the page with the link to it.
    submitted: BTreeMap<String, String>,
    broken: BTreeMap<String, String>,
    pages: usize,
    links: usize,
    bytes: u64,
}

impl Crawl {
    /// Submits a page, unless it was before, lies elsewhere or is too much.
    fn visit(self: &Arc<Self>, dispatcher: &Dispatcher, url: String, linked_from: &str, level: u32) {
        let is_here = Url::parse(&url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str() == Some(&*self.host));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_here
            || level > self.levels
            || found.submitted.len() >= self.pages
            || found.submitted.contains_key(&url)
        {
            return;
        }
        found.submitted.insert(url.clone(), linked_from.into());
        self.progress.set_length(found.submitted.len() as u64);
        drop(found);

        let (crawl, next) = (Arc::clone(self), dispatcher.clone());
        let job = dispatcher.job(fetch, (url.clone(),));
        job.callback(move |page| crawl.add(&next, &url, page, level)).submit();
    }

    /// Takes in a page, and submits those it links to.
    fn add(
        self: &Arc<Self>,
        dispatcher: &Dispatcher,
        url: &str,
        page: Result<Result<Page, String>, JobError>,
        level: u32,
    ) {
        self.progress.inc(1);
        let page = page.unwrap_or_else(|error| Err(error.to_string()));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match page {
            Ok(page) => page,
            Err(reason) => {
                found.broken.insert(url.into(), reason);
                return;
            }
        };
        found.pages += 1;
        found.links += page.links.len();
        found.bytes += page.bytes;
        drop(found);
        for link in page.links {
            self.visit(dispatcher, link, url, level + 1);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    pp_dispatcher::init();
    let Some(Arguments { start, levels, pages }) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!(
            "usage: crawl [URL [LEVELS [PAGES]]]\nURL begins with http:// or https://. Default: 3 levels, 100 pages"
        );
        std::process::exit(2);
    };
    // Other machines cannot reach a site on loopback: it is crawled by this one, unless PP_NODES or PP_DISCOVER say more.
    let dispatcher = Dispatcher::builder().discover_by_default(start.is_some()).start()?;
    let start = start.map_or_else(site::serve, Ok)?;

    let crawl = Arc::new(Crawl {
        host: start.host_str().unwrap_or_default().into(),
        levels,
        pages,
        progress: ProgressBar::new(1),
        found: Mutex::default(),
    });
    crawl.visit(&dispatcher, start.into(), "the command line", 1);
    dispatcher.wait();
    crawl.progress.finish_and_clear();

    let found = crawl.found.lock().unwrap_or_else(PoisonError::into_inner);
    for (url, reason) in &found.broken {
        println!("broken: {url} ({reason}), linked from {}", found.submitted[url]);
    }
    let Found { pages, links, bytes, ref broken, .. } = *found;
    println!(
        "{pages} pages, {links} links, {} broken links, {bytes} bytes\n\n{}",
        broken.len(),
        dispatcher.stats()
    );
    Ok(())
}

struct Arguments {
    start: Option<Url>,
    levels: u32,
    pages: usize,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let url =
            |text: String| Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let start = match arguments.next() {
            Some(text) => Some(url(text)?),
            None => None,
        };
        let levels = arguments.next().map_or(Some(3), |text| text.parse().ok())?;
        let pages = arguments.next().map_or(Some(100), |text| text.parse().ok())?;
        arguments.next().is_none().then_some(Self { start, levels, pages })
    }
}
