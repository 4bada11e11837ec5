//! Messages of an authenticated peer, in both directions. What is understood is what the codec makes of it again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pp_protocol::connection::Message;
use pp_protocol::packed::Input;
use pp_protocol::{FromNode, ToNode};

fn decode<M: Message + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = pp_fuzz::bounded(bytes, || M::decode(&mut Input::new(bytes))) else { return };
    let mut pieces = Vec::new();
    let mut out = Vec::new();
    // It may be divided, which makes several messages of one.
    let encoded = message.encode(&mut out, &mut |piece: &mut Vec<u8>, large: Option<Bytes>| {
        let mut piece = std::mem::take(piece);
        piece.extend_from_slice(large.as_deref().unwrap_or_default());
        pieces.push(piece);
        Ok(())
    });
    if encoded.is_err() {
        return;
    }
    pieces.push(out);
    let mut again = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| {
        M::decode(&mut Input::new(piece)).unwrap_or_else(|error| panic!("{error}: {message:?}"))
    });
    // An empty list is not sent at all.
    if let (Some(only), None) = (again.next(), again.next()) {
        // A load that is no number is not equal to itself.
        assert_eq!(format!("{only:?}"), format!("{message:?}"));
    }
}

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((side, bytes)) if side % 2 == 0 => decode::<ToNode>(bytes),
        Some((_, bytes)) => decode::<FromNode>(bytes),
        None => {}
    }
});
