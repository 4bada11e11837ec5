//! Programs on disk: looked up, received and verified off the node's task.

use std::collections::{BTreeMap, VecDeque};
use std::io;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::thread;

use pp_protocol::limits::{PROGRAM_CHUNKS_AHEAD, PROGRAMS_LOCATED};
use pp_protocol::{Digest, Payload, ProgramRefusal};
use tokio::sync::mpsc;

#[cfg(target_os = "linux")]
use super::Workers;
use super::{NodeConfig, StartError};
#[cfg(target_os = "linux")]
use crate::confinement::Variable;
use crate::core::{Event, Program};
use crate::kept::{Kept, SessionFiles};
#[cfg(target_os = "linux")]
use crate::launcher::{self, Launch, Launcher};
use crate::pool::{WorkerProgram, explain_shortage};
use crate::store::{Place, ProgramStore};
#[cfg(target_os = "linux")]
use crate::worker;

#[derive(Debug)]
pub(super) struct StoredPrograms {
    own: PathBuf,
    /// Starts workers, if they are confined.
    #[cfg(target_os = "linux")]
    launcher: Option<Arc<Launcher>>,
    store: Option<Arc<Mutex<ProgramStore>>>,
    /// Where sessions keep files.
    kept: Option<Kept>,
    /// Programs found or received, and where they are.
    places: Arc<Mutex<BTreeMap<Digest, Place>>>,
    receiving: BTreeMap<Digest, Receiving>,
    /// Number of the next writer.
    next_writer: u64,
    looking: Arc<Mutex<Looking>>,
    events: mpsc::UnboundedReceiver<Told>,
    event_sender: mpsc::UnboundedSender<Told>,
}

/// What became of a program, and the writer that tells it, if it is one.
type Told = (Option<u64>, Event);

type Piece = (Payload, bool);

/// A program that a thread writes.
#[derive(Debug)]
struct Receiving {
    writer: u64,
    /// The way to it, until it has the last piece.
    pieces: Option<blocking::SyncSender<Piece>>,
}

/// Programs that are to be looked for in the store, and how many threads do that.
#[derive(Debug, Default)]
struct Looking {
    queue: VecDeque<Digest>,
    threads: usize,
}

impl StoredPrograms {
    pub(super) fn open(config: &NodeConfig) -> Result<Self, StartError> {
        let store = match &config.store {
            None => None,
            Some(store) => {
                let opened = ProgramStore::open(store.directory.clone(), store.limit_bytes);
                let failed = |source| StartError::Store { directory: store.directory.clone(), source };
                Some(Arc::new(Mutex::new(opened.map_err(failed)?)))
            }
        };
        let user = config.confinement.as_ref().and_then(|confinement| confinement.user.clone());
        let kept = config.store.as_ref().map(|store| Kept::new(store.directory.clone(), user));
        let (event_sender, events) = mpsc::unbounded_channel();
        let own = own_executable().map_err(StartError::Executable)?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            launcher: launcher(config, &own)?,
            own,
            store,
            kept,
            places: Arc::default(),
            receiving: BTreeMap::new(),
            next_writer: 0,
            looking: Arc::default(),
            events,
            event_sender,
        })
    }

    /// The next thing that became of a program.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            let (writer, event) = self.events.recv().await?;
            let (Event::ProgramWritten(digest, _)
            | Event::ProgramStored(digest)
            | Event::ProgramFailed(digest, _)
            | Event::ProgramMissing(digest)) = &event
            else {
                return Some(event);
            };
            // What a writer tells that was abandoned is of no interest: there may be another one.
            if writer.is_some() && self.receiving.get(digest).map(|receiving| receiving.writer) != writer {
                continue;
            }
            if writer.is_some() && !matches!(event, Event::ProgramWritten(..)) {
                self.receiving.remove(digest);
            }
            return Some(event);
        }
    }

    /// The program of a worker that the core was told is here.
    pub(super) fn of_workers(&self, program: Program) -> WorkerProgram {
        let sent = match program {
            Program::Own => None,
            // The core was told that it is here.
            Program::Sent(digest) => lock(&self.places).get(&digest).cloned().map(|place| (digest, place)),
        };
        #[cfg(target_os = "linux")]
        if let Some(launcher) = &self.launcher {
            return WorkerProgram::Launched(Launch { launcher: Arc::clone(launcher), sent });
        }
        WorkerProgram::File(sent.map_or_else(|| self.own.clone(), |(_, place)| place.path))
    }

    /// Makes a place for the files that a session keeps here, if it may.
    pub(super) fn files_of_session(&mut self) -> Option<SessionFiles> {
        let made = self.kept.as_mut()?.for_session();
        made.inspect_err(|error| tracing::warn!(%error, "there is no place for the files of a session")).ok()
    }

    /// What workers are confined to, for people.
    pub(super) fn confinement(&self) -> &str {
        #[cfg(target_os = "linux")]
        if let Some(launcher) = &self.launcher {
            return launcher.in_force();
        }
        "none"
    }

    /// Looks for a program in the store; reading and hashing it takes a while.
    pub(super) fn locate(&self, digest: Digest) {
        let mut looking = lock(&self.looking);
        looking.queue.push_back(digest);
        if looking.threads == PROGRAMS_LOCATED {
            return;
        }
        looking.threads += 1;
        drop(looking);
        let look = {
            let (store, places, events) =
                (self.store.clone(), Arc::clone(&self.places), self.event_sender.clone());
            let looking = Arc::clone(&self.looking);
            move || {
                while let Some(digest) = next_to_look_for(&looking) {
                    let place = store.as_ref().and_then(|store| lock(store).place(&digest));
                    let event = match place {
                        Some(place) => {
                            lock(&places).insert(digest, place);
                            Event::ProgramStored(digest)
                        }
                        None => Event::ProgramMissing(digest),
                    };
                    let _ = events.send((None, event));
                }
            }
        };
        if aside(look.clone()).is_err() {
            // Late for everybody is better than never.
            look();
        }
    }

    /// Takes a piece of a program; the first one starts a thread that writes, the last one has it verified.
    pub(super) fn store(&mut self, digest: Digest, size: u64, piece: Payload, last: bool) {
        let Some(store) = self.store.clone() else { return };
        let writer = self.next_writer;
        let (places, events) = (&self.places, &self.event_sender);
        let receiving = self.receiving.entry(digest).or_insert_with(|| {
            self.next_writer += 1;
            let (pieces, queue) = blocking::sync_channel(PROGRAM_CHUNKS_AHEAD as usize);
            let (places, told) = (Arc::clone(places), events.clone());
            // The node may have ended.
            let tell = move |event| drop(told.send((Some(writer), event)));
            let started = aside(move || {
                let written = |pieces| tell(Event::ProgramWritten(digest, pieces));
                match receive(digest, size, &queue, &store, written) {
                    Ok(Some(place)) => {
                        tracing::info!(program = digest.short(), bytes = size, "program stored");
                        lock(&places).insert(digest, place);
                        tell(Event::ProgramStored(digest));
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        tracing::warn!(program = digest.short(), %refusal, "program not stored");
                        tell(Event::ProgramFailed(digest, refusal));
                    }
                }
            });
            if let Err(error) = started {
                let reason = format!("it cannot be received: {}", explain_shortage(&error));
                let failed = Event::ProgramFailed(digest, ProgramRefusal::NotStored(reason));
                let _ = events.send((Some(writer), failed));
            }
            Receiving { writer, pieces: Some(pieces) }
        });
        if let Some(pieces) = &receiving.pieces {
            // The core takes no more than there is room for; a writer that gave up reports that itself.
            let _ = pieces.try_send((piece, last));
        }
        receiving.pieces.take_if(|_| last);
    }

    /// Drops what has been received of a program.
    pub(super) fn abandon(&mut self, digest: &Digest) {
        self.receiving.remove(digest);
    }
}

/// The next program to look for. Without one, the thread that asks is done.
fn next_to_look_for(looking: &Mutex<Looking>) -> Option<Digest> {
    let mut looking = lock(looking);
    let next = looking.queue.pop_front();
    looking.threads -= usize::from(next.is_none());
    next
}

/// What starts the workers of this node, if they are confined.
#[cfg(target_os = "linux")]
fn launcher(config: &NodeConfig, own: &Path) -> Result<Option<Arc<Launcher>>, StartError> {
    let Some(confinement) = config.confinement.as_ref().filter(|_| config.workers == Workers::Processes)
    else {
        return Ok(None);
    };
    if !worker::is_prepared() {
        return Err(StartError::NotPrepared);
    }
    launcher::check(confinement)?;
    let mut confinement = confinement.clone();
    confinement.environment.push(Variable::of_node(&config.name));
    confinement.hidden.extend(config.store.as_ref().map(|store| store.directory.clone()));
    let failed = |source| StartError::Scratch { directory: std::env::temp_dir(), source };
    Ok(Some(Arc::new(Launcher::new(&confinement, own, config.slots).map_err(failed)?)))
}

/// Does something that takes a while on a thread of its own. Where there is none to be had, tokio's would panic.
fn aside(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("pp-program".into()).spawn(work).map(drop)
}

/// Writes pieces as they come. `None` if they stop coming before the last one.
fn receive(
    digest: Digest,
    size: u64,
    pieces: &blocking::Receiver<Piece>,
    store: &Mutex<ProgramStore>,
    written: impl Fn(u32),
) -> Result<Option<Place>, ProgramRefusal> {
    let mut incoming = lock(store).begin(digest, size)?;
    for number in 1.. {
        let Ok((piece, last)) = pieces.recv() else { break };
        incoming.write(&piece, store)?;
        if last {
            return incoming.finish(store).map(Some);
        }
        written(number);
    }
    Ok(None)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The executable that this process runs, also when its file has been replaced or removed since.
///
/// # Errors
/// When the system does not say where it is.
pub fn own_executable() -> io::Result<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { Ok(itself) } else { std::env::current_exe() }
}
