//! The bytes that cross a wire, as they are in `golden/`: a file for each protocol version.
//!
//! A difference means that this build does not understand one from before. While nothing is released that is allowed, if
//! it is meant: `PP_GOLDEN=write cargo test -p pp-protocol golden` writes the file anew, and its lines are read in review.
//! Once a version is released, its file is never changed: a new version gets another (README.md, "A new version").

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::advert::{Advert, SERVICE};
use crate::connection::{Message, Writer};
use crate::handshake;
use crate::packed::{self, Input, Lent};
use crate::samples;
use crate::{FromNode, FunctionId, NodeId, Role, Stream, ToNode, Version, VersionRange};

/// Content of the file, in its order: a name, and bytes or text.
type Lines = Vec<(String, String)>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn messages<M: Message + std::fmt::Debug>(
    direction: &str,
    all: &[M],
    name: impl Fn(&M) -> &'static str,
) -> Lines {
    let mut counts = BTreeMap::<_, u32>::new();
    let line = |message: &M| {
        let name = name(message);
        let count = counts.entry(name).or_default();
        *count += 1;
        (format!("{direction} {name} {count}"), hex(&samples::encoded(message)))
    };
    all.iter().map(line).collect()
}

fn of_workers() -> Lines {
    let lent = Lent { number: 3, range: 4_096..70_000 };
    let one = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        hex(&bytes)
    };
    let mut lines = vec![
        ("work here".into(), one(&|out| packed::put_work(1, FunctionId(9), 300, out))),
        ("work lent".into(), one(&|out| packed::put_work_lent(2, FunctionId(9), &lent, out))),
        ("finished here".into(), one(&|out| packed::put_succeeded(1, 500, 300, out))),
        ("finished lent".into(), one(&|out| packed::put_succeeded_lent(2, 500, &lent, out))),
        ("part".into(), one(&|out| packed::put_part(3, Stream::Stderr, 300, out))),
    ];
    for (place, finished) in (1..).zip(samples::finished()) {
        let bytes = one(&|out| packed::put_finished(&finished, out).expect("a sample can be sent"));
        lines.push((format!("finished otherwise {place}"), bytes));
    }
    lines
}

fn advert() -> Lines {
    let advert = Advert {
        id: NodeId(0xfeed),
        slots: 8,
        versions: VersionRange::SPOKEN,
        name: Some("render1.example.org".into()),
    };
    let service = [("advert service".into(), SERVICE.into())];
    service
        .into_iter()
        .chain(advert.to_txt().into_iter().map(|(key, value)| (format!("advert {key}"), value)))
        .collect()
}

/// A handshake with keys and a nonce that are always the same, and the first records after it.
async fn handshake_and_records() -> Lines {
    let mut lines = Lines::new();
    for (role, with_keys) in Role::ALL.into_iter().flat_map(|role| [(role, false), (role, true)]) {
        let spoken = handshake::spoken_for_golden(role, with_keys);
        let role = if with_keys { format!("{role} with keys") } else { role.to_string() };
        for (name, bytes) in spoken.flights {
            lines.push((format!("handshake {role}: {name}"), hex(&bytes)));
        }
        let mut sealed = Vec::new();
        let mut writer = Writer::new(&mut sealed, spoken.keys);
        writer.queue(&ToNode::Ping(1)).expect("a sample can be sent");
        writer.write_some().await.expect("a vector takes all");
        lines.push((format!("record {role}: batch"), hex(&sealed)));
    }
    // A large message is its length and the beginning in one record, and what follows in others.
    let spoken = handshake::spoken_for_golden(Role::Dispatcher, false);
    let mut sealed = Vec::new();
    let mut writer = Writer::new(&mut sealed, spoken.keys);
    let bytes = vec![7; 70_000].into();
    let digest = crate::Digest([1; 32]);
    writer
        .queue(&ToNode::ProgramChunk { digest, number: 0, last: false, bytes })
        .expect("a sample can be sent");
    writer.write_some().await.expect("a vector takes all");
    let digest = blake3::hash(&sealed).to_hex().to_string();
    lines.push((
        "record dispatcher: segments, their length and BLAKE3".into(),
        format!("{} {digest}", sealed.len()),
    ));
    lines
}

fn values() -> Lines {
    #[derive(serde::Serialize)]
    struct Point {
        x: i32,
        name: Option<&'static str>,
    }
    #[derive(serde::Serialize)]
    enum Shape {
        Empty,
        At(Point),
    }
    let shapes =
        [Shape::Empty, Shape::At(Point { x: -5, name: Some("a") }), Shape::At(Point { x: 300, name: None })];
    let mut lines = Lines::new();
    let mut add = |name: &str, bytes: Vec<u8>| lines.push((format!("value {name}"), hex(&bytes)));
    let encoded = |value: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        value(&mut bytes);
        bytes
    };
    macro_rules! value {
        ($value:expr) => {
            encoded(&|out| crate::values::encode(&$value, out).expect("a sample can be sent"))
        };
    }
    add("numbers", value!((1_u8, -1_i64, 70_000_u32, 1.5_f64, true, 'x')));
    add("text and unit", value!(("grün", ())));
    add("bytes", value!((vec![1_u8, 2, 3],)));
    add("floats", value!((vec![1.0_f64, 2.0],)));
    add("map", value!((BTreeMap::from([("a", 1), ("b", 2)]),)));
    add("structs and enums", value!((&shapes,)));
    lines
}

async fn golden() -> String {
    let mut lines = handshake_and_records().await;
    lines.extend(messages("to node", &samples::to_node(), |message| message.rule().message));
    lines.extend(messages("from node", &samples::from_node(), |message| message.rule().message));
    lines.extend(of_workers());
    lines.extend(values());
    lines.extend(advert());
    lines.into_iter().fold(String::new(), |mut text, (name, bytes)| {
        let _ = writeln!(text, "{name} = {bytes}");
        text
    })
}

fn file(version: Version) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{version}.txt"))
}

#[tokio::test]
async fn golden_bytes_are_what_they_were() {
    let (now, path) = (golden().await, file(VersionRange::SPOKEN.newest));
    if std::env::var("PP_GOLDEN").is_ok_and(|told| told == "write") {
        std::fs::write(&path, now).expect("the file can be written");
        return;
    }
    let before = std::fs::read_to_string(&path).expect("there is a file for the newest version");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (now, before) = (lines(&now), lines(&before));
    let gone: Vec<_> =
        before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}")).collect();
    let new: Vec<_> =
        now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}")).collect();
    assert!(
        now == before,
        "bytes on the wire have moved:\n{}\n{}\nA peer of the release before does not understand these. If that is not \
         meant, variants or fields were added or moved where order is the format: new ones go last. If it is meant and \
         version {} is not released, run\n  PP_GOLDEN=write cargo test -p pp-protocol golden\nand look at what changed in \
         {}; if it is released, protocol/README.md says how a version is added.",
        gone.join("\n"),
        new.join("\n"),
        VersionRange::SPOKEN.newest,
        path.display(),
    );
}

#[test]
fn what_was_sent_is_read_back_as_it_was() {
    fn back<M: Message + PartialEq + std::fmt::Debug>(samples: &[M]) {
        for sample in samples {
            let bytes = samples::encoded(sample);
            let mut input = Input::new(&bytes);
            let read = M::decode(&mut input).expect("a sample can be read");
            assert!(input.is_empty() && read == *sample, "{read:?} instead of {sample:?}");
            let too_short = M::decode(&mut Input::new(&bytes[..bytes.len() - 1]));
            assert!(too_short.is_err(), "a byte of {sample:?} can be left out");
        }
    }
    back::<ToNode>(&samples::to_node());
    back::<FromNode>(&samples::from_node());
}
