//! Connections: taken in, guarded, answered, and ended in time whatever their peers do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Outgoing};
use crate::guard::{Refusal, Site};
use crate::limits::{
    ANSWER_TIME, BODY_BYTES, BODY_TIME, CONNECTIONS, HEAD_BYTES, HEAD_FIELDS, HEAD_TIME, STREAMS,
};
use crate::socket::Socket;

/// Pause before connections are taken in again, when the system has no room for one.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked of whoever answers: a request that the guards have let through.
#[derive(Debug)]
pub struct Asked<K> {
    /// What is asked for.
    pub what: K,
    /// The body, of a POST.
    pub body: Bytes,
}

/// Answers whoever connects, as `site` says, for ever. Connections end with the future.
///
/// There is one request on a connection: one that is kept open for further ones takes a place from others.
pub async fn serve<K, H, F>(listener: TcpListener, site: Site<K>, handler: H)
where
    K: Copy + Send + Sync + 'static,
    H: Fn(Asked<K>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let server = Arc::new(Server { site, handler, streams: Arc::new(Semaphore::new(STREAMS)) });
    let mut visitors = Visitors::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => visitors.add(&server, stream),
            // Whoever it was has left already, or the system has no room: that passes.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

struct Server<K: 'static, H> {
    site: Site<K>,
    handler: H,
    /// Places for answers without end.
    streams: Arc<Semaphore>,
}

/// How far a connection has come.
#[derive(Debug, Default)]
struct Progress(AtomicU8);

impl Progress {
    const ASKED: u8 = 1;
    const WITHOUT_END: u8 = 2;

    fn reach(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn has_reached(&self, stage: u8) -> bool {
        self.0.load(Ordering::Relaxed) >= stage
    }
}

/// Whoever is connected, oldest first.
#[derive(Default)]
struct Visitors {
    tasks: JoinSet<()>,
    all: VecDeque<(AbortHandle, Arc<Progress>)>,
}

impl Visitors {
    fn add<K, H, F>(&mut self, server: &Arc<Server<K, H>>, stream: TcpStream)
    where
        K: Copy + Send + Sync + 'static,
        H: Fn(Asked<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.all.retain(|(task, _)| !task.is_finished());
        if self.all.len() >= CONNECTIONS {
            let idle = self.all.iter().position(|(_, progress)| !progress.has_reached(Progress::ASKED));
            let Some((task, _)) = idle.and_then(|place| self.all.remove(place)) else { return };
            task.abort();
        }
        let progress = Arc::<Progress>::default();
        let task = self.tasks.spawn(visit(Arc::clone(server), stream, Arc::clone(&progress)));
        self.all.push_back((task, progress));
    }
}

/// One connection, from its beginning to its end.
async fn visit<K, H, F>(server: Arc<Server<K, H>>, stream: TcpStream, progress: Arc<Progress>)
where
    K: Copy + Send + Sync + 'static,
    H: Fn(Asked<K>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let Ok(local) = stream.local_addr() else { return };
    // A line of an answer without end is to be there at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        progress.reach(Progress::ASKED);
        answer(Arc::clone(&server), local, request, Arc::clone(&progress))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(Socket::new(stream), service);
    tokio::pin!(connection);
    // What goes wrong on a connection is its peer's concern.
    if timeout(HEAD_TIME, &mut connection).await.is_ok() || !progress.has_reached(Progress::ASKED) {
        return;
    }
    if timeout(ANSWER_TIME, &mut connection).await.is_ok() || !progress.has_reached(Progress::WITHOUT_END) {
        return;
    }
    let _ = connection.await;
}

async fn answer<K, H, F>(
    server: Arc<Server<K, H>>,
    local: SocketAddr,
    request: Request<Incoming>,
    progress: Arc<Progress>,
) -> Result<Response<Outgoing>, Infallible>
where
    K: Copy + Send + Sync + 'static,
    H: Fn(Asked<K>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (head, body) = request.into_parts();
    let asked = match server.site.judge(local, &head) {
        Ok(route) => read(body).await.map(|body| Asked { what: route.what, body }),
        Err(refusal) => Err(refusal),
    };
    let answer = match asked {
        Ok(asked) => (server.handler)(asked).await,
        Err(refusal) => refusal.into(),
    };
    if !answer.is_without_end() {
        return Ok(answer.into_response(None));
    }
    Ok(match Arc::clone(&server.streams).try_acquire_owned() {
        Ok(place) => {
            progress.reach(Progress::WITHOUT_END);
            answer.into_response(Some(place))
        }
        Err(_) => Answer::too_many_streams().into_response(None),
    })
}

/// All of a body.
async fn read(mut body: Incoming) -> Result<Bytes, Refusal> {
    let read = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            // A body that breaks off does not arrive any more.
            let frame = frame.map_err(|_| Refusal::TooSlow)?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > BODY_BYTES {
                return Err(Refusal::TooLong);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    timeout(BODY_TIME, read).await.unwrap_or(Err(Refusal::TooSlow))
}
