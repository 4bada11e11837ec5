//! Types of every shape that `serde` knows, and one or more values of each.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pp_dispatcher::job;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use crate::{Ways, same};

/// The struct of the fault that this file began with: read by position, its fields move up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u8>,
    pub(crate) pair: (u8, u8),
    pub(crate) last: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Nothing,
    Wait(Duration),
    Move(i32, i32),
    Turn {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        by: u16,
        then: Option<Box<Step>>,
    },
    #[serde(skip)]
    Secret,
    Last,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeavesOut {
    a: u8,
    #[serde(skip)]
    b: u8,
    #[serde(skip_serializing, default)]
    c: u8,
    #[serde(skip_deserializing)]
    d: u8,
    #[serde(alias = "older", rename = "newer")]
    e: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outer {
    name: String,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    depth: Option<u32>,
    at: IpAddr,
    nested: Option<Option<bool>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Nothing,
    Number(i64),
    Real(f64),
    Text(String),
    Point { x: f32, y: f32 },
    Many(Vec<Untagged>),
    Perhaps { inner: Option<Step> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    Struct { from: SocketAddr, bytes: Vec<u8> },
    Newtype(Config),
    Deeper { next: Box<Internal> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    Newtype(u128),
    Tuple(u8, String),
    Struct { a: i128 },
}

/// Tagged, flattened, perhaps not there, written as text: all at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(with = "as_text")]
    event_id: u64,
    #[serde(flatten)]
    what: Internal,
    #[serde(flatten)]
    perhaps: Option<ReadableWithin>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    count: NonZeroU32,
    range: RangeInclusive<i8>,
    same: Transparent,
    converted: Celsius,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    inner: Option<Key>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
struct Celsius(f64);

impl TryFrom<f64> for Celsius {
    type Error = String;

    fn try_from(degrees: f64) -> Result<Self, String> {
        if degrees < -273.15 { Err("colder than possible".into()) } else { Ok(Self(degrees)) }
    }
}

impl From<Celsius> for f64 {
    fn from(degrees: Celsius) -> Self {
        degrees.0
    }
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn is_one(number: &NonZeroU32) -> bool {
    *number == one()
}

mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Key {
    Whole,
    Part(u8, u8),
    Named { name: String },
}

type Keyed = BTreeMap<(u8, i8), BTreeSet<Option<String>>>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Empty;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Braces {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Vec<Option<Newtype>>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shared {
    arc: Arc<Config>,
    text: Arc<str>,
    cow: Cow<'static, str>,
    bytes: Bytes,
    block: Vec<u8>,
    reals: Vec<f64>,
    array: [i16; 3],
}

/// In seconds, as a number or as text, as people like it.
#[derive(Clone, Debug, PartialEq)]
struct Readable(u64);

impl Serialize for Readable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{} s", self.0))
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let number = text.strip_suffix(" s").and_then(|number| number.parse().ok());
            number.map(Self).ok_or_else(|| D::Error::custom("not so many seconds"))
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AsksWhoReads {
    plain: Readable,
    #[serde(flatten)]
    within: ReadableWithin,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ReadableWithin {
    flat: Readable,
}

/// Says how many elements there will be: truly, wrongly or not at all.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "(i64, Vec<u32>, BTreeMap<u8, u8>)")]
struct Announces(Option<usize>, Vec<u32>, BTreeMap<u8, u8>);

impl From<(i64, Vec<u32>, BTreeMap<u8, u8>)> for Announces {
    fn from((announced, list, map): (i64, Vec<u32>, BTreeMap<u8, u8>)) -> Self {
        Self(usize::try_from(announced).ok(), list, map)
    }
}

impl Serialize for Announces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct List<'a>(Option<usize>, &'a [u32]);
        impl Serialize for List<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(self.0)?;
                self.1.iter().try_for_each(|element| list.serialize_element(element))?;
                list.end()
            }
        }
        struct Map<'a>(Option<usize>, &'a BTreeMap<u8, u8>);
        impl Serialize for Map<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(self.0)?;
                self.1.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
        let announced = self.0.map_or(-1, |announced| announced as i64);
        (announced, List(self.0, &self.1), Map(self.0, &self.2)).serialize(serializer)
    }
}

/// Written by hand, by somebody who has only seen formats with names.
#[derive(Clone, Debug, PartialEq)]
struct ByHand(u8, String);

impl Serialize for ByHand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_struct("ByHand", 2)?;
        parts.serialize_field("number", &self.0)?;
        parts.serialize_field("text", &self.1)?;
        parts.end()
    }
}

impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = ByHand;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a ByHand")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ByHand, A::Error> {
                let (mut number, mut text) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "number" => number = Some(map.next_value()?),
                        _ => text = Some(map.next_value()?),
                    }
                }
                let missing = || A::Error::custom("something is missing");
                Ok(ByHand(number.ok_or_else(missing)?, text.ok_or_else(missing)?))
            }
        }
        deserializer.deserialize_struct("ByHand", &["number", "text"], ByName)
    }
}

/// Reads a list of any form.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct AnyList(Vec<f32>);

impl<'de> Deserialize<'de> for AnyList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = AnyList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<AnyList, D::Error> {
                inner.deserialize_any(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyList, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = list.next_element()? {
                    all.push(element);
                }
                Ok(AnyList(all))
            }
        }
        deserializer.deserialize_any(List)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) value: u32,
    pub(crate) next: Option<Box<List>>,
}

impl List {
    pub(crate) fn of_length(length: u32) -> Option<Box<Self>> {
        (0..length).fold(None, |next, value| Some(Box::new(Self { value, next })))
    }
}

/// Long lists would otherwise be dropped by recursion.
impl Drop for List {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut list) = next {
            next = list.next.take();
        }
    }
}

macro_rules! echoes {
    ($($name:ident: $type:ty,)*) => {
        $(
            #[job]
            fn $name(value: $type) -> $type {
                value
            }
        )*
    };
}

echoes! {
    config_: Config,
    configs: Vec<Config>,
    config_map: BTreeMap<String, Config>,
    step: Vec<Step>,
    leaves_out: LeavesOut,
    outer: Outer,
    untagged: Vec<Untagged>,
    internal: Vec<Internal>,
    adjacent: Vec<Adjacent>,
    event: Vec<Event>,
    json: serde_json::Value,
    wide: (i128, u128, i64, u64, i8, char, bool, f32, f64),
    bits: (u32, u64),
    options: Vec<Option<Option<u8>>>,
    units: (Option<()>, Option<()>, (), Empty, Braces),
    newtype: Newtype,
    shared_forms: Shared,
    std_types: (Duration, SystemTime, PathBuf, IpAddr, SocketAddr, OsString),
    keys: HashMap<Key, Keyed>,
    readable: AsksWhoReads,
    announces: Announces,
    by_hand: Vec<ByHand>,
    any_list: AnyList,
    results: Vec<Result<(), String>>,
    queue: VecDeque<u8>,
    nothings: Vec<()>,
    pub_list: Option<Box<List>>,
}

#[job]
fn floats(single: f32, double: f64) -> (u32, u64) {
    (single.to_bits(), double.to_bits())
}

pub(crate) fn every_shape_arrives_as_it_was_sent() {
    let ways = Ways::start();
    let config = |limit| Config { limit, pair: (0, 5), last: Some(0) };
    same(&ways, config_, config(None));
    same(&ways, config_, config(Some(9)));
    same(&ways, configs, vec![config(None), config(Some(1)), config(None)]);
    same(&ways, config_map, [("a".into(), config(None)), ("b".into(), config(Some(3)))].into());
    let turn = |name: Option<&str>, then| Step::Turn { name: name.map(Into::into), by: 3, then };
    same(
        &ways,
        step,
        vec![
            Step::Nothing,
            Step::Wait(Duration::from_nanos(5)),
            Step::Move(-7, i32::MAX),
            turn(None, Some(Box::new(turn(Some("x"), None)))),
            Step::Last,
        ],
    );
    for dispatcher in ways.each() {
        let error = dispatcher.submit(step, (vec![Step::Last, Step::Secret],)).wait();
        let error = error.expect_err("it is skipped").to_string();
        assert!(error.contains("argument 1, [1]") && error.contains("Step::Secret"), "{error}");
    }
    let left_out = LeavesOut { a: 1, b: 0, c: 0, d: 0, e: 5 };
    same(&ways, leaves_out, left_out);
    let some_json =
        serde_json::json!({"a": [1, -2, 3.5, null, "text", {"deep": true}], "b": u64::MAX, "c": 1e300});
    let inner = |nested| Inner { depth: Some(3), at: IpAddr::from([1, 2, 3, 4]), nested };
    for nested in [None, Some(Some(true))] {
        let rest = [("more".to_owned(), some_json.clone()), ("null".to_owned(), serde_json::Value::Null)];
        same(&ways, outer, Outer { name: "n".into(), inner: inner(nested), rest: rest.into() });
    }
    same(
        &ways,
        untagged,
        vec![
            Untagged::Nothing,
            Untagged::Number(-5),
            Untagged::Number(5),
            Untagged::Real(2.0),
            Untagged::Text("5".into()),
            Untagged::Point { x: 0.1, y: -0.0 },
            Untagged::Many(vec![Untagged::Nothing, Untagged::Many(vec![])]),
            Untagged::Perhaps { inner: Some(turn(None, None)) },
            Untagged::Perhaps { inner: Some(Step::Nothing) },
            Untagged::Perhaps { inner: Some(Step::Move(1, 2)) },
            Untagged::Perhaps { inner: None },
        ],
    );
    let from = "[fe80::1%3]:5".parse().expect("an address");
    let structure = Internal::Struct { from, bytes: vec![0, 200, 255] };
    same(
        &ways,
        internal,
        vec![
            Internal::Unit,
            structure.clone(),
            Internal::Newtype(config(None)),
            Internal::Deeper { next: Box::new(Internal::Deeper { next: Box::new(structure) }) },
        ],
    );
    same(
        &ways,
        adjacent,
        vec![
            Adjacent::Unit,
            Adjacent::Newtype(u128::MAX),
            Adjacent::Tuple(1, "x".into()),
            Adjacent::Struct { a: i128::MIN },
        ],
    );
    let event = |what: Internal, perhaps, count| Event {
        event_id: u64::MAX,
        what,
        perhaps,
        count: NonZeroU32::new(count).expect("it is not 0"),
        range: -5..=5,
        same: Transparent { inner: Some(Key::Part(1, 2)) },
        converted: Celsius(-0.5),
    };
    let readable_within = || Some(ReadableWithin { flat: Readable(1) });
    same(
        &ways,
        self::event,
        vec![event(Internal::Unit, None, 1), event(Internal::Newtype(config(None)), readable_within(), 2)],
    );
    same(&ways, json, some_json);
    same(&ways, json, serde_json::Value::Null);
    same(
        &ways,
        wide,
        (i128::MIN, u128::MAX, i64::MIN, u64::MAX, -17, '\u{10ffff}', true, f32::MIN, f64::MAX),
    );
    same(&ways, wide, (-1, 127, -16, 128, -128, 'a', false, -0.0, 5e-324));
    let nan = (f32::from_bits(0x7fc0_1234), f64::from_bits(0xfff8_0000_dead_beef));
    for dispatcher in ways.each() {
        let bits = dispatcher.submit(floats, nan).wait();
        assert_eq!(bits, Ok((0x7fc0_1234, 0xfff8_0000_dead_beef)), "every bit of what is not a number");
    }
    same(&ways, bits, (u32::MAX, 1 << 63));
    same(&ways, options, vec![None, Some(None), Some(Some(0)), Some(Some(255))]);
    same(&ways, units, (None, Some(()), (), Empty, Braces {}));
    same(&ways, newtype, Newtype(vec![None, Some(Newtype(vec![])), Some(Newtype(vec![None]))]));
    same(
        &ways,
        shared_forms,
        Shared {
            arc: config(None).into(),
            text: "arc".into(),
            cow: "cow".into(),
            bytes: Bytes::from_static(&[0, 128, 255]),
            block: (0..=255).collect(),
            reals: vec![0.5, -0.0, f64::INFINITY],
            array: [i16::MIN, 0, i16::MAX],
        },
    );
    same(
        &ways,
        std_types,
        (
            Duration::new(u64::MAX, 999_999_999),
            SystemTime::UNIX_EPOCH + Duration::from_nanos(1),
            "a/b".into(),
            IpAddr::from([0, 0, 0, 0, 0, 0xffff, 1, 2]),
            from,
            std::os::unix::ffi::OsStringExt::from_vec(vec![0xff, 0x61]),
        ),
    );
    let key = |name: &str| Key::Named { name: name.into() };
    let within = |text: Option<&str>| BTreeMap::from([((1, -1), BTreeSet::from([text.map(Into::into)]))]);
    same(
        &ways,
        keys,
        [(Key::Whole, within(None)), (Key::Part(1, 2), within(Some(""))), (key("a"), BTreeMap::new())].into(),
    );
    same(
        &ways,
        readable,
        AsksWhoReads { plain: Readable(3), within: ReadableWithin { flat: Readable(u64::MAX) } },
    );
    for announced in [None, Some(0), Some(3), Some(5), Some(40)] {
        same(&ways, announces, Announces(announced, vec![9, 300, 1], [(1, 2), (3, 4), (5, 6)].into()));
        same(&ways, announces, Announces(announced, (0..50).collect(), (0..50).zip(50..).collect()));
    }
    same(&ways, by_hand, vec![ByHand(1, "a".into()), ByHand(2, "b".into())]);
    same(&ways, any_list, AnyList(vec![1.5, f32::MAX]));
    same(&ways, results, vec![Ok(()), Err("e".into())]);
    same(&ways, queue, (0..200).collect());
    same(&ways, nothings, vec![(); 1_000]);
    same(&ways, pub_list, List::of_length(100));
}
