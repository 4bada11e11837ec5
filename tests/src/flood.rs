//! Strangers who connect to a daemon and say nothing, so many a second, from as many addresses as they like; and a long way
//! for those who are honest, and a narrow one.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Connections that are held at once; beyond that, the oldest is reset.
const HELD: usize = 1_000;

/// Connections that come and say nothing, until this is dropped.
#[derive(Debug)]
pub struct Flood {
    made: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Makes `a_second` new connections to `target` every second, from each of `sources` in turn.
    pub fn start(target: SocketAddr, sources: Vec<IpAddr>, a_second: u32) -> Self {
        let (made, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let thread = thread::spawn({
            let (made, stop) = (Arc::clone(&made), Arc::clone(&stop));
            move || {
                let started = Instant::now();
                let mut held = VecDeque::new();
                for (tried, source) in (0..).zip(sources.iter().cycle()) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let ahead = Duration::from_secs(1) * tried / a_second;
                    thread::sleep(ahead.saturating_sub(started.elapsed()));
                    // What finds no port left or no room there is not counted.
                    if let Ok(socket) = try_connect(*source, target) {
                        made.fetch_add(1, Ordering::Relaxed);
                        held.push_back(socket);
                    }
                    if held.len() > HELD {
                        held.pop_front();
                    }
                }
            }
        });
        Self { made, stop, thread: Some(thread) }
    }

    /// Connections so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there shows in the number of connections.
            let _ = thread.join();
        }
    }
}

/// Begins to connect, and does not wait.
fn try_connect(source: IpAddr, target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // It is reset once it is dropped, so that its port is free again.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A long way to `target`: whoever connects to the address yielded is led there, and everything takes `delay` longer in
/// either direction. It ends with the process.
///
/// # Panics
/// When it cannot listen.
pub fn long_way(target: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // As long as it takes until a connection stands.
                thread::sleep(2 * delay);
                let Ok(far) = TcpStream::connect(target) else { return };
                let ways = [(&near, &far), (&far, &near)].map(|(from, to)| {
                    let ends = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
                    ends.map(|(from, to)| thread::spawn(move || carry(from, to, delay)))
                });
                ways.into_iter().flatten().for_each(|way| drop(way.join()));
            });
        }
    });
    address
}

/// Bytes that the system keeps on a narrow way.
const ON_A_NARROW_WAY: usize = 64 << 10;

/// A narrow way to `target`: whoever connects to the address yielded is led there, and no more than so many bytes a second come
/// back. It ends with the process.
///
/// # Panics
/// When it cannot listen.
pub fn narrow_way(target: SocketAddr, bytes_a_second: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = connect_narrowly(target).expect("it listens");
            let ends = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
            thread::spawn(move || trickle(far, near, bytes_a_second));
            thread::spawn(move || {
                let (mut near, mut far) = ends;
                // It ends as one of them does.
                let _ = io::copy(&mut near, &mut far);
                let _ = far.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

fn connect_narrowly(target: SocketAddr) -> Result<TcpStream, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, ON_A_NARROW_WAY)?;
    connect(&socket, &target)?;
    Ok(socket.into())
}

/// Carries what is said there, so much of it a second.
fn trickle(mut from: TcpStream, mut to: TcpStream, bytes_a_second: u32) {
    const A_SECOND: u32 = 50;
    let mut buffer = vec![0; (bytes_a_second / A_SECOND) as usize];
    while let Ok(length @ 1..) = from.read(&mut buffer)
        && to.write_all(&buffer[..length]).is_ok()
    {
        thread::sleep(Duration::from_secs(1) / A_SECOND);
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Carries what is said there, each piece as much later as it was underway.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, arrived) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    let reading = thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer)?;
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if length == 0 || pieces.send(piece).is_err() {
                return Ok(());
            }
        }
    });
    for (due, piece) in arrived {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // The other side sees the end, however it came.
    let _ = to.shutdown(Shutdown::Both);
    drop(reading);
}
