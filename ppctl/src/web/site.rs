//! The paths of the page: its three files, what is seen, and orders to nodes.

use bytes::Bytes;
use pp_dispatcher::{Dispatcher, OrderError};
use pp_http::{Access, Allowed, Answer, Asked, Route, StatusCode, kind};
use serde::Deserialize;

use super::look::Looking;

/// What there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Page,
    Script,
    Style,
    Live,
    Resize,
    Drain,
}

/// The files say nothing of the cluster; all else needs the token.
pub(super) const ROUTES: &[Route<What>] = &[
    file("/", What::Page),
    file("/app.js", What::Script),
    file("/style.css", What::Style),
    Route { path: "/live", method: Allowed::Get, access: Access::Token, what: What::Live },
    order("/resize", What::Resize),
    order("/drain", What::Drain),
];

const PAGE: &str = include_str!("page/index.html");
/// What is drawn with comes first; the files know those before them.
const SCRIPT: &str = concat!(
    include_str!("../../vendor/uplot/uPlot.iife.min.js"),
    "\n",
    include_str!("page/model.js"),
    include_str!("page/strip.js"),
    include_str!("page/curves.js"),
    include_str!("page/tables.js"),
    include_str!("page/main.js"),
);
const STYLE: &str =
    concat!(include_str!("../../vendor/uplot/uPlot.min.css"), "\n", include_str!("page/style.css"));

const fn file(path: &'static str, what: What) -> Route<What> {
    Route { path, method: Allowed::Get, access: Access::Anybody, what }
}

const fn order(path: &'static str, what: What) -> Route<What> {
    Route { path, method: Allowed::Post, access: Access::Token, what }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    node: String,
    slots: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    node: String,
}

/// Answers what the guard has let through.
pub(super) async fn answer(asked: Asked<What>, dispatcher: Dispatcher, looking: Looking) -> Answer {
    match asked.what {
        What::Page => Answer::new(kind::HTML, PAGE),
        What::Script => Answer::new(kind::SCRIPT, SCRIPT),
        What::Style => Answer::new(kind::STYLE, STYLE),
        What::Live => Answer::pieces(kind::LINES, looking.lines()),
        What::Resize => {
            give(&asked.body, move |Resize { node, slots }| dispatcher.resize(&node, slots)).await
        }
        What::Drain => give(&asked.body, move |Drain { node }| dispatcher.drain(&node)).await,
    }
}

/// Gives an order, which takes as long as the node takes to take it.
async fn give<O: for<'de> Deserialize<'de> + Send + 'static>(
    body: &Bytes,
    give: impl FnOnce(O) -> Result<(), OrderError> + Send + 'static,
) -> Answer {
    let order = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &format!("this is no order: {error}")),
    };
    match tokio::task::spawn_blocking(move || give(order)).await {
        Ok(Ok(())) => Answer::new(kind::JSON, "{}\n"),
        Ok(Err(error)) => refused(StatusCode::CONFLICT, &error.to_string()),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "the order was not given: ppctl failed"),
    }
}

fn refused(status: StatusCode, reason: &str) -> Answer {
    Answer::with(status, kind::TEXT, format!("{reason}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_brings_all_that_it_needs_and_no_code_in_its_markup() {
        for word in [" style=", "onclick", "<style", "javascript:", "https://", "http://"] {
            assert!(!PAGE.contains(word), "{word}");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        for word in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            let ours = SCRIPT.split_once("'use strict'").expect("what is vendored comes first").1;
            assert!(!ours.contains(word), "{word}");
        }
    }
}
