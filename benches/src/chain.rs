//! The floor: the same work passed along by nothing but sockets.
//!
//! `dispatcher -> TCP -> relay -> Unix socket -> worker` and back: three processes, frames of many messages, attempts there
//! and outcomes back as bincode makes them; no encryption, no bookkeeping, no recovery. And bare round trips between two
//! processes or threads.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Instant;

use pp_protocol::{Attempt, AttemptId, Ended, FunctionId, JobId, Outcome, Payload, ProgramId, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Makes this program a part of the chain: what it is, and the port it connects to.
const ROLE: &str = "PP_BENCH_ROLE";
/// Jobs in one frame.
const FRAME_JOBS: usize = 512;
/// Blocks that the far end holds at once, so that it receives one while it sends back another.
const BLOCKS: usize = 4;

/// A job that does nothing, or has a few bytes to do nothing with.
fn attempt(place: u32, args: &'static [u8]) -> Attempt {
    let id = AttemptId { job: JobId::new(place, 0), number: 1 };
    Attempt {
        id,
        program: ProgramId::FIRST,
        function: FunctionId(7 << 40),
        time_limit_ns: 0,
        args: Payload::from(args),
    }
}

/// True if this process was started as a part of the chain, which has ended.
pub(crate) fn serve_if_told() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    // The end of the chain is the end of the connection: an error.
    let _ = match role.split_once(' ') {
        Some(("relay", port)) => relay(port),
        Some(("echo", port)) => connect(port).and_then(echo),
        Some(("send-back", port_and_bytes)) => send_back(port_and_bytes),
        Some(("exit", _)) => Ok(()),
        _ => work(UnixStream::from(stdin())),
    };
    true
}

fn stdin() -> OwnedFd {
    rustix::io::dup(rustix::stdio::stdin()).expect("there is a standard input")
}

fn connect(port: &str) -> io::Result<TcpStream> {
    let port = port.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    prepare(&stream)?;
    Ok(stream)
}

/// As the connections that are measured beside it.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    pp_protocol::socket::pace_nothing(stream);
    stream.set_nodelay(true)
}

fn start(role: &str, input: Stdio) -> io::Result<Child> {
    Command::new(std::env::current_exe()?).env(ROLE, role).stdin(input).spawn()
}

/// A process, ended when dropped.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Time that this program takes to be started and to end, in milliseconds.
pub(crate) fn start_and_exit() -> io::Result<f64> {
    let started = Instant::now();
    start("exit now", Stdio::null())?.wait()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn write_frame<T: Serialize>(stream: &mut impl Write, frame: &mut Vec<u8>, messages: &[T]) -> io::Result<()> {
    frame.clear();
    frame.extend_from_slice(&[0; 4]);
    codec::encode(messages, frame).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(frame)
}

fn read_frame<T: DeserializeOwned>(stream: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<Vec<T>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    frame.resize(u32::from_le_bytes(length) as usize, 0);
    stream.read_exact(frame)?;
    codec::decode(frame).map_err(io::Error::other)
}

/// Passes frames on, decoded and encoded again, until there are no more.
fn pass_on<T: Serialize + DeserializeOwned>(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let messages = read_frame::<T>(&mut from, &mut frame)?;
        write_frame(&mut to, &mut frame, &messages)?;
    }
}

fn relay(port: &str) -> io::Result<()> {
    let dispatcher = connect(port)?;
    let (near, far) = UnixStream::pair()?;
    let _worker = Part(start("work", Stdio::from(OwnedFd::from(far)))?);
    let (from_dispatcher, to_worker) = (dispatcher.try_clone()?, near.try_clone()?);
    std::thread::spawn(move || pass_on::<Attempt>(from_dispatcher, to_worker));
    pass_on::<Outcome>(near, dispatcher)
}

fn work(mut node: UnixStream) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let attempts: Vec<Attempt> = read_frame(&mut node, &mut frame)?;
        let run = |attempt: Attempt| Outcome {
            id: attempt.id,
            run_time_ns: 100,
            ended: Ended::Succeeded(std::hint::black_box(attempt.args)),
        };
        let outcomes: Vec<_> = attempts.into_iter().map(run).collect();
        write_frame(&mut node, &mut frame, &outcomes)?;
    }
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
    }
}

/// Sends back blocks of so many bytes, each once all of it has arrived, as a job cannot start on half an argument.
fn send_back(port_and_bytes: &str) -> io::Result<()> {
    let (port, bytes) = port_and_bytes.split_once(' ').ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = connect(port)?;
    let mut answers = stream.try_clone()?;
    let (arrived, blocks) = mpsc::channel::<Vec<u8>>();
    let (written, free) = mpsc::channel();
    let bytes: usize = bytes.parse().map_err(io::Error::other)?;
    for _ in 0..BLOCKS {
        written.send(vec![0; bytes]).map_err(io::Error::other)?;
    }
    std::thread::spawn(move || {
        blocks.iter().try_for_each(|block| {
            answers.write_all(&block).ok()?;
            written.send(block).ok()
        })
    });
    loop {
        let mut block = free.recv().map_err(io::Error::other)?;
        stream.read_exact(&mut block)?;
        arrived.send(block).map_err(io::Error::other)?;
    }
}

/// Starts a process that connects back over TCP.
fn far_end(role: &str) -> io::Result<(TcpStream, Part)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let part = Part(start(&role.replace("PORT", &port), Stdio::null())?);
    let (stream, _) = listener.accept()?;
    prepare(&stream)?;
    Ok((stream, part))
}

/// Jobs a second through the chain.
pub(crate) fn jobs_per_second(count: u64) -> anyhow::Result<f64> {
    let (mut stream, _relay) = far_end("relay PORT")?;
    let mut answers = stream.try_clone()?;
    let started = Instant::now();
    let writing = std::thread::spawn(move || -> io::Result<()> {
        let mut frame = Vec::new();
        for first in (0..count).step_by(FRAME_JOBS) {
            let places = first..count.min(first + FRAME_JOBS as u64);
            let batch: Vec<_> = places.map(|place| attempt(place as u32, &[])).collect();
            write_frame(&mut stream, &mut frame, &batch)?;
        }
        Ok(())
    });
    let (mut frame, mut received) = (Vec::new(), 0);
    while received < count {
        let outcomes: Vec<Outcome> = read_frame(&mut answers, &mut frame)?;
        received += outcomes.len() as u64;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    writing.join().expect("it does not panic")?;
    Ok(rate)
}

/// Blocks there and back over one loopback TCP connection between two processes, in megabytes a second each way;
/// with `at_once`, the next is sent while earlier ones come back.
pub(crate) fn copy_rate(bytes: usize, times: usize, at_once: bool) -> anyhow::Result<f64> {
    let (mut stream, _far_end) = far_end(&format!("send-back PORT {bytes}"))?;
    let (mut block, mut answer) = (vec![7; bytes], vec![0; bytes]);
    // The first finds the memory of both processes untouched.
    stream.write_all(&block)?;
    stream.read_exact(&mut answer)?;
    let mut answers = stream.try_clone()?;
    let started = Instant::now();
    if at_once {
        let writing = std::thread::spawn(move || (0..times).try_for_each(|_| stream.write_all(&block)));
        (0..times).try_for_each(|_| answers.read_exact(&mut answer))?;
        writing.join().expect("it does not panic")?;
    } else {
        for _ in 0..times {
            stream.write_all(&block)?;
            answers.read_exact(&mut answer)?;
            std::mem::swap(&mut block, &mut answer);
        }
    }
    Ok((bytes * times) as f64 / started.elapsed().as_secs_f64() / 1e6)
}

/// The middle of so many round trips of a message as small as a job, in microseconds.
fn round_trips(stream: &mut (impl Read + Write), times: u32) -> io::Result<f64> {
    let mut buffer = [7; 64];
    let mut trips = Vec::new();
    for _ in 0..times {
        let started = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(crate::report::median(trips))
}

/// Between two processes over TCP.
pub(crate) fn tcp_round_trip(times: u32) -> io::Result<f64> {
    let (mut stream, _echo) = far_end("echo PORT")?;
    round_trips(&mut stream, times)
}

/// Between two processes over a Unix socket.
pub(crate) fn unix_round_trip(times: u32) -> io::Result<f64> {
    let (mut near, far) = UnixStream::pair()?;
    let _worker = Part(start("work", Stdio::from(OwnedFd::from(far)))?);
    let attempts = [attempt(1, &[7; 40])];
    let (mut frame, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let started = Instant::now();
        write_frame(&mut near, &mut frame, &attempts)?;
        let _: Vec<Outcome> = read_frame(&mut near, &mut frame)?;
        trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(crate::report::median(trips))
}

/// Between two threads, each of which sleeps until the other has something for it, as one that waits for a job does.
pub(crate) fn thread_round_trip(times: u32) -> f64 {
    let (calls, answers) = (Arc::new(Slot::default()), Arc::new(Slot::default()));
    let echo = {
        let (calls, answers) = (Arc::clone(&calls), Arc::clone(&answers));
        move || (0..times).for_each(|_| answers.put(calls.take()))
    };
    let echo = std::thread::spawn(echo);
    let mut trips = Vec::new();
    for call in 0..times {
        let started = Instant::now();
        calls.put(call);
        assert_eq!(answers.take(), call, "the other thread answers");
        trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    echo.join().expect("it does not panic");
    crate::report::median(trips)
}

/// Room for one thing that a thread hands to another.
#[derive(Default)]
struct Slot {
    thing: Mutex<Option<u32>>,
    filled: Condvar,
}

impl Slot {
    fn put(&self, thing: u32) {
        *self.thing.lock().expect("no thread panics") = Some(thing);
        self.filled.notify_one();
    }

    fn take(&self) -> u32 {
        let thing = self.thing.lock().expect("no thread panics");
        let mut thing = self.filled.wait_while(thing, |thing| thing.is_none()).expect("no thread panics");
        thing.take().expect("it is there")
    }
}
