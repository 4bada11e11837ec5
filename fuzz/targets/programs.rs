//! Programs as dispatchers send them: packed, in pieces, of an announced size.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::sync::Mutex;

use libfuzzer_sys::fuzz_target;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use pp_protocol::Digest;

use self::store::{Place, ProgramStore};

#[expect(dead_code, reason = "the node needs more of it")]
#[path = "../../node/src/store.rs"]
mod store;

const STORE_BYTES: u64 = 1 << 20;

thread_local! {
    static STORE: RefCell<Mutex<ProgramStore>> = RefCell::new(Mutex::new(
        ProgramStore::open(pp_fuzz::directory().join("programs"), STORE_BYTES).expect("there is room in memory"),
    ));
}

/// The store takes in what is said to be this program, in pieces.
fn take_in(
    store: &Mutex<ProgramStore>,
    digest: Digest,
    bytes: u64,
    packed: &[u8],
    piece: usize,
) -> Option<Place> {
    let begun = store.lock().expect("one thread").begin(digest, bytes);
    let mut incoming = begun.ok()?;
    packed.chunks(piece).try_for_each(|piece| incoming.write(piece, store)).ok()?;
    incoming.finish(store).ok()
}

/// Whatever it is, it is not the program that was announced.
fn hostile(store: &Mutex<ProgramStore>, bytes: u64, packed: &[u8], piece: usize) {
    let stored = pp_fuzz::bounded(packed, || take_in(store, Digest([7; 32]), bytes, packed, piece));
    assert_eq!(stored, None);
}

/// A program is stored as it is; if a byte of what was sent is another, it is stored as it is or not at all.
fn honest(store: &Mutex<ProgramStore>, form: u8, altered: (u16, u8), program: &[u8], piece: usize) {
    let digest = Digest(blake3::hash(program).into());
    let size = [BlockSize::Max64KB, BlockSize::Max256KB][usize::from(form & 1)];
    let mode = [BlockMode::Independent, BlockMode::Linked][usize::from(form >> 1 & 1)];
    let frame = FrameInfo::new().block_size(size).block_mode(mode);
    let frame = frame.block_checksums(form & 4 != 0).content_checksum(form & 8 != 0);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(program).expect("it is written to memory");
    let mut packed = encoder.finish().expect("it is written to memory");
    let (place, by) = altered;
    let place = usize::from(place) % packed.len();
    packed[place] ^= by;
    let bytes = program.len() as u64;
    let stored = pp_fuzz::bounded(&packed, || take_in(store, digest, bytes, &packed, piece));
    assert!(stored.is_some() || by != 0, "a program that is as it was sent is refused");
    if let Some(place) = stored {
        assert_eq!(fs::read(&place.path).expect("it is stored"), program);
        store.lock().expect("one thread").remove(&digest);
    }
}

fuzz_target!(|input: &[u8]| {
    let [form, low, high, by, piece, rest @ ..] = input else { return };
    let (number, piece) = (u16::from_le_bytes([*low, *high]), 1 + usize::from(*piece) * 16);
    STORE.with_borrow(|store| {
        if form & 0x80 == 0 {
            hostile(store, u64::from(number) << (form & 7), rest, piece);
        } else {
            honest(store, *form, (number, *by), rest, piece);
        }
    });
    let left = fs::read_dir(pp_fuzz::directory().join("programs")).expect("it is there").count();
    assert_eq!(left, 0, "nothing is left");
});
