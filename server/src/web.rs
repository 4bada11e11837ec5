//! What the daemon says over HTTP: to Prometheus, and to whoever asks whether it lives and takes jobs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pp_http::{Access, Allowed, Answer, Asked, Route, Site, StatusCode, kind};
use pp_node::{Node, Statistics};
use tokio::net::TcpListener;

use crate::listener::Refusals;
use crate::metrics::{self, Seen};

#[derive(Clone, Copy, Debug)]
enum What {
    Metrics,
    Alive,
    Ready,
}

const ROUTES: &[Route<What>] =
    &[route("/metrics", What::Metrics), route("/healthz", What::Alive), route("/readyz", What::Ready)];

const fn route(path: &'static str, what: What) -> Route<What> {
    Route { path, method: Allowed::Get, access: Access::Anybody, what }
}

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, names: Vec<String>, node: Node, refusals: Arc<Refusals>) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let respond = move |asked: Asked<What>| {
        let (node, refusals) = (node.clone(), Arc::clone(&refusals));
        async move {
            if let What::Alive = asked.what {
                return Answer::new(kind::TEXT, "ok\n");
            }
            let Some(statistics) = node.statistics().await else { return unready("the node has ended") };
            match asked.what {
                What::Metrics => {
                    let seen = Seen { statistics, refusals: refusals.counts(), started };
                    Answer::new(kind::METRICS, metrics::text(&seen))
                }
                What::Alive | What::Ready => match reason_not_to_be_ready(&statistics) {
                    None => Answer::new(kind::TEXT, "ok\n"),
                    Some(reason) => unready(reason),
                },
            }
        }
    };
    pp_http::serve(listener, Site { routes: ROUTES, token: None, names }, respond).await;
}

fn unready(reason: &str) -> Answer {
    Answer::with(StatusCode::SERVICE_UNAVAILABLE, kind::TEXT, format!("not ready: {reason}\n"))
}

fn reason_not_to_be_ready(statistics: &Statistics) -> Option<&'static str> {
    if statistics.status.draining {
        Some("it is draining: it finishes what runs, and takes no more")
    } else if statistics.status.slots == 0 {
        Some("it has no slots: it was resized to none, or its workers do not start, which its log says")
    } else {
        None
    }
}
