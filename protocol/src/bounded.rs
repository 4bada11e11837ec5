//! Decoding of anything a peer sends takes no more memory than the bytes that are there make reasonable, and its text is
//! plain. Random input; `PP_DECODES` says how many of each are tried, and `PP_SEED` where to begin.

use std::cell::RefCell;

use pp_counting::{Counting, Random, allowed, peak_of};
use tokio::io::{join, sink};

use crate::advert::Advert;
use crate::codec::{self, encode_with_texts};
use crate::connection::{Message, Reader};
use crate::handshake::{self, Credentials, Demand};
use crate::limits::{NAME_BYTES, OUTPUT_LINE_BYTES, TEXT_BYTES};
use crate::machine::{AuthorizedKeys, MachineKey};
use crate::packed::{self, Input};
use crate::record::{Keys, SEALED_BYTES, Sealer};
use crate::samples;
use crate::secret::{Secret, Secrets};
use crate::{Ended, FromNode, Payload, Role, ToNode};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Gives `decode` what may become of the samples on the way from a peer, as often as is asked for.
fn try_all(samples: &[Vec<u8>], decode: impl Fn(&[u8]) -> bool) {
    let first = number("PP_SEED", 1);
    let (mut right, mut wrong) = (0, 0);
    for seed in first..first + number("PP_DECODES", 20_000) {
        let mut random = Random(seed);
        let sample = &samples[random.below(samples.len())];
        let input = random.spoiled(sample);
        let (is_right, peak) = peak_of(|| decode(&input));
        assert!(
            peak <= allowed(input.len()),
            "seed {seed}: {peak} bytes of memory for {} of input",
            input.len()
        );
        *(if is_right { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 0 && wrong > 0, "{right} were decoded, {wrong} were not");
}

#[test]
fn messages_take_no_more_memory_than_their_bytes_make_reasonable() {
    fn all<M: Message>(messages: &[M]) {
        let encoded: Vec<_> = messages.iter().map(samples::encoded).collect();
        try_all(&encoded, |bytes| M::decode(&mut Input::new(bytes)).is_ok());
    }
    all(&samples::to_node());
    all(&samples::from_node());
}

#[test]
fn what_workers_send_takes_no_more_memory_than_its_bytes_make_reasonable() {
    let encoded = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        bytes
    };
    let ends = samples::finished();
    let ends = ends.iter().map(|end| encoded(&|out| packed::put_finished(end, out).expect("it can be sent")));
    try_all(&ends.collect::<Vec<_>>(), |bytes| {
        packed::finished(&mut Input::new(bytes), |_| Some(Payload::default())).is_ok()
    });
    let work = encoded(&|out| {
        packed::put_work(1, crate::FunctionId(9), 30, out);
        out.extend([7; 30]);
    });
    try_all(&[work], |bytes| packed::work(&mut Input::new(bytes)).is_ok());
    let part = encoded(&|out| {
        packed::put_part(1, crate::Stream::Stderr, 30, out);
        out.extend([7; 30]);
    });
    try_all(&[part], |bytes| packed::part(&mut Input::new(bytes)).is_ok());
}

#[test]
fn an_advert_takes_no_more_memory_than_its_bytes_make_reasonable() {
    let good: &[&[u8]] = &[b"1", b"1-1", b"8", b"0000000000000000000000000000feed", b"a name"];
    let keys = ["txtvers", "proto", "slots", "id", "name"];
    try_all(&[good.join(&0)], |bytes| {
        let parts: Vec<_> = bytes.split(|byte| *byte == 0).map(std::str::from_utf8).collect();
        let value = |key: &str| parts.get(keys.iter().position(|it| *it == key)?)?.ok();
        let advert = Advert::from_txt(value);
        let name = advert.as_ref().and_then(|advert| advert.name.as_deref());
        assert!(name.is_none_or(crate::is_plain_name), "{name:?}");
        advert.is_some()
    });
}

/// Those of passphrases take 64 MiB, on purpose.
fn is_passphrase(line: &str) -> bool {
    let is_written = line.get(..4).is_some_and(|begins| begins.eq_ignore_ascii_case("pp1-"));
    let is_digits = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    line.chars().count() >= 12 && !is_written && !is_digits
}

#[test]
fn lists_of_secrets_and_of_machines_take_no_more_memory_than_their_bytes_make_reasonable() {
    let secrets = format!("# ours\n{}\n{}\n", secret().text(), secret().text());
    let digits = "0123456789abcdef".repeat(4);
    try_all(&[secrets.into_bytes(), digits.into()], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        !text.lines().any(|line| is_passphrase(line.trim())) && Secrets::parse(text).is_ok()
    });
    let keys = [(); 3].map(|()| MachineKey::random().public());
    let list = format!("# ours\n{} ada@desk\noperate {}\nno-submit,operate {}\n", keys[0], keys[1], keys[2]);
    try_all(&[list.into_bytes()], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| match AuthorizedKeys::parse(text) {
            Ok(_) => true,
            Err(wrong) => {
                let reasons = wrong.iter().map(|(_, reason)| reason.to_string());
                reasons.for_each(|reason| assert_eq!(crate::shown(&reason), reason));
                false
            }
        })
    });
}

fn secret() -> Secret {
    Secret::random()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn a_handshake_takes_no_more_memory_than_its_bytes_make_reasonable() {
    spoiled_handshakes(false);
}

#[test]
fn a_handshake_of_machines_takes_no_more_memory_than_its_bytes_make_reasonable() {
    spoiled_handshakes(true);
}

fn spoiled_handshakes(with_keys: bool) {
    let flights = handshake::spoken_for_golden(Role::Dispatcher, with_keys).flights;
    let said = |name: &str| {
        let flight = flights.iter().find(|(flight, _)| *flight == name).map(|(_, bytes)| bytes.clone());
        flight.unwrap_or_else(|| panic!("{name} is not there"))
    };
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_le_bytes()[..], &message].concat();
    let mut to_node = [said("greeting"), framed(said("first message"))].concat();
    let proof = [said("status, welcome"), said("second message")].concat();
    let mut from_node = [said("answer"), framed(proof)].concat();
    if with_keys {
        to_node.extend(framed(said("third message")));
        from_node.extend(framed(said("status, welcome")));
    }
    let (keys, authorized) = ([(); 2].map(|()| MachineKey::random()), AuthorizedKeys::default());
    let first = number("PP_SEED", 1);
    run(async {
        for seed in first..first + number("PP_DECODES", 20_000) / 20 {
            let mut random = Random(seed);
            let is_node = random.below(2) == 0;
            let input = random.spoiled(if is_node { &to_node } else { &from_node });
            let secrets = [secret()];
            let mut stream = join(&input[..], sink());
            let (handshake, peak) = if is_node {
                let demand = if with_keys {
                    Demand::Key { secrets: &secrets, key: &keys[0], authorized: &authorized }
                } else {
                    Demand::Secret(&secrets)
                };
                peak_of_future(Box::pin(handshake::respond(&mut stream, demand))).await
            } else {
                let credentials = if with_keys {
                    Credentials::Key { secret: &secrets[0], key: &keys[1], node: None }
                } else {
                    Credentials::Secret(&secrets[0])
                };
                peak_of_future(Box::pin(handshake::initiate(&mut stream, credentials, Role::Dispatcher)))
                    .await
            };
            assert!(handshake.is_err(), "seed {seed}: nobody knew the secret");
            assert!(peak <= allowed(input.len()), "seed {seed}: {peak} bytes for {} of input", input.len());
        }
    });
}

/// The most memory in use while a future runs that never waits.
async fn peak_of_future<F: Future + Unpin>(mut future: F) -> (F::Output, usize) {
    let mut peak = 0;
    let output = std::future::poll_fn(|context| {
        let (polled, used) = peak_of(|| std::pin::Pin::new(&mut future).poll(context));
        peak = peak.max(used);
        polled
    })
    .await;
    (output, peak)
}

async fn keys() -> (Keys, Keys) {
    let (mut near, mut far) = tokio::io::duplex(1 << 16);
    let secret = secret();
    let (near, far) = tokio::join!(
        handshake::initiate(&mut near, &secret, Role::Dispatcher),
        handshake::respond(&mut far, std::slice::from_ref(&secret))
    );
    (near.expect("it is the same secret").keys, far.expect("it is the same secret").keys)
}

/// A peer that knows the secret seals whatever it likes.
fn sealed(plain: &[Vec<u8>], keys: Keys) -> Vec<u8> {
    let mut sealer = Sealer::new(keys);
    let mut out = Vec::new();
    for record in plain {
        let start = out.len();
        out.resize(start + record.len() + SEALED_BYTES, 0);
        sealer.seal(record, &mut out[start..]).expect("the keys are new");
    }
    out
}

#[test]
fn records_take_no_more_memory_than_their_bytes_make_reasonable() {
    let messages: Vec<_> = samples::to_node().iter().map(samples::encoded).collect();
    let first = number("PP_SEED", 1);
    run(async {
        for seed in first..first + number("PP_DECODES", 20_000) / 100 {
            let mut random = Random(seed);
            let mut records = Vec::new();
            for _ in 0..=random.below(8) {
                let kind = random.below(4) as u8;
                let mut plain =
                    if kind == 1 { (1_u64 << random.below(40)).to_le_bytes().to_vec() } else { Vec::new() };
                let message = &messages[random.below(messages.len())];
                match random.below(4) {
                    0 => plain.extend(random.spoiled(message)),
                    1 => plain.extend(message.iter().cycle().take(random.below(60_000))),
                    // The shortest messages there are, as many as fit.
                    2 => plain.extend(std::iter::repeat_n(11, random.below(60_000))),
                    _ => plain.extend(message),
                }
                plain.truncate(65_000);
                plain.push(kind);
                records.push(plain);
            }
            let (near, far) = keys().await;
            let input = sealed(&records, near);
            let mut reader = Reader::new(&input[..], far);
            let mut received = Vec::<ToNode>::new();
            loop {
                let (result, peak) = peak_of_future(Box::pin(reader.receive(&mut received))).await;
                // Room to receive, and address space for a large message that has begun.
                let most = allowed(input.len()) + (512 << 10);
                assert!(peak <= most, "seed {seed}: {peak} bytes for {} of input", input.len());
                received.clear();
                received.shrink_to_fit();
                if result.is_err() {
                    break;
                }
            }
        }
    });
}

/// As long as a name of 3 MB, and with whatever a terminal obeys.
fn hostile(text: &str) -> String {
    let obeyed = "\x1b]0;title\x07\x1b[2J\u{9b}31m\r\n\0\u{202e}\u{2066}\u{200b}\x7f\x08 and so on; ";
    format!("{text}{}", obeyed.repeat(3_000_000 / obeyed.len()))
}

/// Encodes what was decoded and yields each text that is in it.
fn texts(value: &impl serde::Serialize) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    encode_with_texts(value, &|text| {
        found.borrow_mut().push(text.to_owned());
        String::new()
    });
    found.into_inner()
}

/// Every text of every message, as a peer could send it: `lines` tells whether several lines are in order.
fn decoded_texts<T>(samples: Vec<T>, lines: impl Fn(&T) -> bool)
where
    T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut seen = 0;
    for sample in samples {
        let sent = encode_with_texts(&sample, &hostile);
        let arrived: T = codec::decode(&sent).expect("it is long, and a message");
        let before = texts(&sample).len();
        let texts = texts(&arrived);
        assert_eq!(texts.len(), before, "{sample:?}");
        for text in texts {
            seen += 1;
            assert!(text.len() <= TEXT_BYTES, "{} bytes in {sample:?}", text.len());
            let is_plain = |text: &str| crate::shown(text) == text && !text.contains('\r');
            match lines(&sample) {
                true => assert!(text.lines().all(is_plain), "{text:.99} in {sample:?}"),
                false => assert!(is_plain(&text), "{text:.99} in {sample:?}"),
            }
        }
    }
    assert!(seen > 3, "there is text in them: {seen}");
}

/// A new field of text is seen by this: it is in the samples of its message, without which that does not compile.
#[test]
fn all_text_of_peers_is_plain_and_short_where_it_is_decoded() {
    decoded_texts(samples::to_node(), |_| false);
    let is_output = |message: &FromNode| matches!(message, FromNode::Output(_));
    let (output, others): (Vec<_>, Vec<_>) = samples::from_node().into_iter().partition(is_output);
    let is_list = |message: &FromNode| matches!(message, FromNode::Outcomes(..));
    decoded_texts(others.into_iter().filter(|message| !is_list(message)).collect(), |_| false);
    let ends = samples::outcomes().into_iter().map(|outcome| outcome.ended).collect();
    decoded_texts(ends, |ended| matches!(ended, Ended::Panicked(_)));
    let results = samples::finished().into_iter().map(|finished| finished.result).collect();
    decoded_texts(results, |result| matches!(result, crate::worker::WorkResult::Panicked(_)));
    // What jobs print is theirs; whoever shows it makes it fit for that.
    for message in output {
        let arrived: FromNode =
            codec::decode(&encode_with_texts(&message, &hostile)).expect("it is a message");
        let texts = texts(&arrived);
        assert!(!texts.is_empty() && texts.iter().all(|text| text.len() <= OUTPUT_LINE_BYTES));
    }
}

#[test]
fn names_are_names_wherever_they_are() {
    let long = |message: &ToNode| {
        texts(&codec::decode::<ToNode>(&encode_with_texts(message, &hostile)).expect("it is one"))
    };
    let is_name = |message: &&ToNode| matches!(message, ToNode::Hello(_) | ToNode::Offer(_));
    let names: Vec<_> = samples::to_node().iter().filter(is_name).flat_map(long).collect();
    assert!(
        names.len() > 5 && names.iter().all(|name| name.len() <= NAME_BYTES && crate::is_plain_name(name))
    );
}
