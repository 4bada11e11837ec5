//! Somebody on the way between a dispatcher and a node, who writes down all that is said.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A way to a node on which everything is recorded. It ends with the process.
#[derive(Debug)]
pub struct Wiretap {
    /// Where to connect instead.
    pub address: SocketAddr,
    streams: Arc<Mutex<Vec<Recording>>>,
}

/// All that was said in one direction of a connection.
type Recording = Arc<Mutex<Vec<u8>>>;

impl Wiretap {
    /// One that leads to `target`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let streams = Arc::<Mutex<Vec<Recording>>>::default();
        let recorded = Arc::clone(&streams);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let Ok((from, to)) = from.try_clone().and_then(|from| Ok((from, to.try_clone()?))) else {
                        continue;
                    };
                    let recording = Recording::default();
                    recorded.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&recording));
                    // Its end is that of the connection.
                    thread::spawn(move || drop(carry(from, to, &recording)));
                }
            }
        });
        Self { address, streams }
    }

    /// What was said so far: each direction of each connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().map(|said| said.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, recording: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        recording.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&buffer[..length])?;
    }
}
