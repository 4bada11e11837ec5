use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::source::SHARED_BYTES;
use super::*;

fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: T) {
    let mut bytes = bytes_of(&value);
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
    bytes.push(0);
    assert!(decode::<T>(&bytes).is_err(), "what is left over is an error");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(i64),
    Perhaps(Option<bool>),
    Text(String),
    Many(Vec<Any>),
    Struct { inner: Box<Any>, rest: Option<u8> },
    Map(BTreeMap<String, Any>),
    Bytes(Bytes),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Number(i128),
    Pair(Box<Tree>, Box<Tree>),
    Named {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        below: Vec<Tree>,
        #[serde(skip_serializing_if = "is_zero", default)]
        weight: u32,
        last: Option<Option<u16>>,
    },
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[test]
fn what_is_small_takes_as_few_bytes_as_it_would_by_position() {
    assert_eq!(bytes_of(&5_u64), [5]);
    assert_eq!(bytes_of(&300_u64), [kind::NUMBER_2, 44, 1]);
    assert_eq!(bytes_of(&-1_i32), [kind::NEGATIVE]);
    assert_eq!(bytes_of("abc").len(), 4);
    assert_eq!(bytes_of(&vec![1_u16, 2, 3]).len(), 4);
    assert_eq!(bytes_of(&vec![7_u8; 1_000]).len(), 1_004);
    assert_eq!(bytes_of(&vec![0.5_f64; 100]).len(), 802);
    let mut arguments = Vec::new();
    encode_arguments(&(5_u8, true), &mut arguments).unwrap();
    assert_eq!(arguments.len(), 2, "nothing but the arguments");
    arguments.clear();
    encode_arguments(&(), &mut arguments).unwrap();
    assert_eq!(arguments.len(), 0);
    let points = |count| bytes_of(&vec![Point { x: 1.0, y: 2.0 }; count]).len();
    assert_eq!(points(10) - points(9), 19, "names once, then a byte a struct");
}

#[test]
fn numbers_at_every_edge_come_back() {
    for bits in 0..128 {
        let power = 1_i128.wrapping_shl(bits);
        for number in [power, power.wrapping_sub(1), power.wrapping_neg(), !power, !power.wrapping_add(1)] {
            comes_back(number);
            comes_back(number as u128);
            comes_back(number as i64);
            comes_back(number as u64);
            comes_back(number as i32);
            comes_back(number as u32);
            comes_back(number as i16);
            comes_back(number as u16);
            comes_back(number as i8);
            comes_back(number as u8);
        }
    }
    comes_back((i128::MIN, i128::MAX, u128::MAX, i64::MIN, u64::MAX));
    assert!(decode::<u8>(&bytes_of(&256)).unwrap_err().to_string().contains("256"));
    assert!(decode::<u64>(&bytes_of(&-1)).unwrap_err().to_string().contains("-1"));
}

#[test]
fn large_bytes_are_not_copied_and_everything_else_is() {
    let values =
        (7_u64, Bytes::from(vec![5; 2 * SHARED_BYTES]), Bytes::from(vec![6; 9]), vec![8_u8; 100_000]);
    let mut bytes = Vec::new();
    encode_arguments(&values, &mut bytes).unwrap();
    let memory = Bytes::from(bytes);
    let is_within = |part: &[u8]| memory.as_ptr_range().contains(&part.as_ptr());
    for shared in [true, false] {
        let mut source = if shared { Source::shared(&memory) } else { Source::new(&memory) };
        let taken = (
            source.take::<u64>().unwrap(),
            source.take::<Bytes>().unwrap(),
            source.take::<Bytes>().unwrap(),
            source.take::<Vec<u8>>().unwrap(),
        );
        source.end().unwrap();
        assert_eq!(taken, values);
        assert_eq!((is_within(&taken.1), is_within(&taken.2)), (shared, false));
    }
    assert!(Source::shared(&memory.slice(1..100)).take::<Bytes>().is_err(), "there is less than announced");
}

#[test]
fn more_shapes_and_variants_than_a_byte_tells_come_back() {
    /// A struct within so many others, each of another shape.
    fn nested(depth: u32) -> Tree {
        let name = depth.is_multiple_of(3).then(|| "n".repeat(depth as usize % 20));
        let below = if depth == 0 { vec![] } else { vec![nested(depth - 1)] };
        Tree::Named {
            name,
            below,
            weight: depth % 2,
            last: [None, Some(None), Some(Some(1))][depth as usize % 3],
        }
    }
    comes_back(nested(80));

    /// A map that is written as a struct of as many fields as it has entries.
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(transparent)]
    struct AsStruct(BTreeMap<String, u8>);
    impl Serialize for AsStruct {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let mut fields = serializer.serialize_struct("AsStruct", self.0.len())?;
            for (name, value) in &self.0 {
                let name = NAMES.iter().find(|known| *known == name).unwrap();
                fields.serialize_field(name, value)?;
            }
            fields.end()
        }
    }
    let subset = |bits: u32| {
        let names = (b'a'..=b'h').filter(|name| bits >> (name - b'a') & 1 == 1);
        AsStruct(names.map(|name| (char::from(name).to_string(), name)).collect())
    };
    comes_back((0..256).map(subset).collect::<Vec<_>>());
    comes_back((0..256).map(|bits| (subset(bits), subset(255 - bits))).collect::<Vec<_>>());
}

#[test]
fn another_struct_of_the_same_fields_may_read_it() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Swapped {
        y: f64,
        #[serde(default)]
        z: u8,
        x: f64,
    }
    let point = Point { x: 1.0, y: 2.0 };
    assert_eq!(decode::<Swapped>(&bytes_of(&point)).unwrap(), Swapped { y: 2.0, z: 0, x: 1.0 });
    let map: HashMap<String, f64> = decode(&bytes_of(&point)).unwrap();
    assert_eq!((map["x"], map["y"]), (1.0, 2.0));
    assert_eq!(decode::<Point>(&bytes_of(&map)).unwrap(), point);
    assert!(decode::<(f64, f64)>(&bytes_of(&point)).is_err(), "fields have names");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn number(&mut self) -> u64 {
        let bits = self.below(65) as u32;
        self.below(u64::MAX) & u64::MAX.checked_shr(64 - bits).unwrap_or(0)
    }

    fn text(&mut self) -> String {
        (0..self.below(20)).map(|_| ['a', 'é', '\u{10000}', '\0'][self.below(4) as usize]).collect()
    }

    fn tree(&mut self, depth: u64) -> Tree {
        match self.below(if depth == 0 { 2 } else { 4 }) {
            0 => Tree::Leaf,
            1 => Tree::Number(i128::from(self.number()) * i128::from(self.number() as i64)),
            2 => Tree::Pair(Box::new(self.tree(depth - 1)), Box::new(self.tree(depth - 1))),
            _ => Tree::Named {
                name: (self.below(2) == 0).then(|| self.text()),
                below: (0..self.below(4)).map(|_| self.tree(depth - 1)).collect(),
                weight: self.below(3) as u32,
                last: [None, Some(None), Some(Some(self.number() as u16))][self.below(3) as usize],
            },
        }
    }

    fn any(&mut self, depth: u64) -> Any {
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => Any::Number(self.number() as i64),
            1 => Any::Perhaps([None, Some(true), Some(false)][self.below(3) as usize]),
            2 => Any::Text(self.text()),
            // Bytes that are UTF-8 are a text to serde, if that comes first.
            3 => Any::Bytes([self.text().as_bytes(), &[0xff]].concat().into()),
            4 => Any::Many((0..1 + self.below(4)).map(|_| self.any(depth - 1)).collect()),
            5 => Any::Struct { inner: Box::new(self.any(depth - 1)), rest: Some(self.number() as u8) },
            _ => Any::Map((0..self.below(4)).map(|_| (self.text(), self.any(depth - 1))).collect()),
        }
    }
}

fn seed() -> u64 {
    let seed = std::env::var("VALUES_SEED").ok().and_then(|text| text.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = seed.unwrap_or_else(now);
    eprintln!("repeat with VALUES_SEED={seed}");
    seed
}

#[test]
fn random_values_come_back_as_they_were() {
    let mut random = Random(seed());
    for _ in 0..500 {
        comes_back((random.tree(6), random.number(), random.text()));
        let bytes = (0..random.below(3_000)).map(|_| random.below(256) as u8).collect::<Vec<_>>();
        let reals = (0..random.below(300)).map(|_| random.number() as f64).collect::<Vec<_>>();
        comes_back((bytes, reals, random.any(4)));
    }
}

/// Nothing but an error, or another value, may come of that, and little memory is taken for it.
#[test]
fn damaged_and_random_bytes_are_survived_by_every_type() {
    fn survive(bytes: &[u8]) {
        let _ = decode::<(Tree, u64, String)>(bytes);
        let _ = decode::<Vec<Tree>>(bytes);
        let _ = decode::<Any>(bytes);
        let _ = decode::<Vec<Any>>(bytes);
        let _ = decode::<(Vec<u8>, Vec<f64>, Vec<f32>)>(bytes);
        let _ = decode::<HashMap<Option<String>, Point>>(bytes);
        let _ = decode::<Vec<()>>(bytes);
        let _ = decode::<Bytes>(bytes);
        let _ = decode::<serde::de::IgnoredAny>(bytes);
    }
    let mut random = Random(seed());
    for _ in 0..2_000 {
        let whole = match random.below(2) {
            0 => bytes_of(&(random.tree(4), random.number(), random.text())),
            _ => bytes_of(&random.any(4)),
        };
        let mut damaged = whole.clone();
        for _ in 0..1 + random.below(4) {
            let place = random.below(damaged.len() as u64) as usize;
            damaged[place] = random.below(256) as u8;
        }
        survive(&damaged);
        survive(&whole[..random.below(whole.len() as u64) as usize]);
        let noise: Vec<_> = (0..random.below(60)).map(|_| (0xa0 + random.below(0x60)) as u8).collect();
        survive(&noise);
    }
}

#[test]
fn a_length_beyond_the_input_is_an_error_not_an_allocation() {
    for length in [u64::MAX, 1 << 40, 1 << 31, 100] {
        for kind in kind::LONG_TEXT..=kind::PACKED_REALS_8 {
            let mut bytes = vec![kind];
            encode(&length, &mut bytes).unwrap();
            bytes.extend([0; 20]);
            assert!(decode::<Vec<u8>>(&bytes).is_err());
            assert!(decode::<Vec<()>>(&bytes).is_err());
            assert!(decode::<String>(&bytes).is_err());
            assert!(decode::<HashMap<u8, Vec<f64>>>(&bytes).is_err());
            assert!(decode::<Any>(&bytes).is_err());
        }
        let mut names = vec![kind::NAMES, 6, 0, 0, 0, kind::SHAPE];
        encode(&length, &mut names).unwrap();
        assert!(decode::<Point>(&names).is_err());
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    number: u32,
    next: Option<Box<List>>,
}

impl Drop for List {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut list) = next {
            next = list.next.take();
        }
    }
}

fn list(length: u32) -> List {
    (1..length)
        .fold(List { number: 0, next: None }, |next, number| List { number, next: Some(Box::new(next)) })
}

/// On a stack of the usual size, in whatever way it is read.
#[test]
fn what_is_nested_too_deeply_is_an_error_before_the_stack_is_full() {
    let deep = |kinds: &[u8]| [kinds.repeat(1 << 20), vec![kind::UNIT]].concat();
    let mut bytes = Vec::new();
    let error = encode(&list(1 << 20), &mut bytes).unwrap_err().to_string();
    assert!(error.starts_with("List.next.next") && error.contains("levels") && error.len() < 400, "{error}");
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only read")]
    enum Nested {
        Nothing,
        Some(Option<Box<Nested>>),
        Many(Vec<Nested>),
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Wrapped(Option<Box<Wrapped>>);
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Lists(Vec<Lists>);
    for kinds in [&[kind::SOME][..], &[kind::LIST + 1], &[kind::OPEN_LIST], &[kind::MAP, 1, 1]] {
        let bytes = deep(kinds);
        assert!(decode::<Nested>(&bytes).is_err());
        assert!(decode::<Wrapped>(&bytes).is_err());
        assert!(decode::<Lists>(&bytes).is_err());
        let is_skipped = decode::<serde::de::IgnoredAny>(&bytes).is_ok();
        assert_eq!(is_skipped, kinds == [kind::SOME], "that takes no stack");
        assert!(decode::<u8>(&bytes).is_err());
    }
    let sent = |length| encode(&list(length), &mut Vec::new()).is_ok();
    let longest = (1..1_000).take_while(|length| sent(*length)).last().unwrap();
    assert!(longest >= nesting::LEVELS as u32 / 2 - 1, "{longest}");
    assert_eq!(
        decode::<List>(&bytes_of(&list(longest))).unwrap().number,
        longest - 1,
        "what is sent is received"
    );
}

/// Values that `serde` keeps and reads again are out of sight of this decoder: it may be less deep.
#[test]
fn what_is_kept_by_serde_is_read_again_within_a_stack_of_the_usual_size() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Last,
        Deeper { next: Option<Box<Tagged>> },
    }
    let tagged =
        |depth| (0..depth).fold(Tagged::Last, |next, _| Tagged::Deeper { next: Some(Box::new(next)) });
    let listed = |depth| (0..depth).fold(Any::Number(1), |within, _| Any::Many(vec![within]));
    let longest = nesting::UNKNOWN_LEVELS;
    comes_back(tagged(longest / 2 - 1));
    comes_back(listed(longest - 1));
    let error = decode::<Tagged>(&bytes_of(&tagged(longest))).unwrap_err().to_string();
    assert!(error.contains("nested more than"), "{error}");
    assert!(decode::<Any>(&bytes_of(&listed(longest + 1))).is_err());
}

/// Keeps errors within it to itself.
#[derive(Debug, PartialEq)]
struct Forgiving(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Forgiving {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).ok()))
    }
}

#[test]
fn an_error_that_a_type_keeps_to_itself_changes_no_other_value() {
    let read = decode::<Vec<Forgiving>>(&bytes_of(&(vec![1_u16, 2], "text", vec![3_u16]))).unwrap();
    assert_eq!(read, [Forgiving(Some(vec![1, 2])), Forgiving(None), Forgiving(Some(vec![3]))]);
    let error = decode::<Vec<Forgiving>>(&bytes_of(&(vec![1, 300, 2], vec![3_u16]))).unwrap_err();
    assert!(error.to_string().contains("return the error"), "{error}");
}

/// Does not look at what it is to be read from.
#[derive(Debug)]
struct Absent;

impl<'de> Deserialize<'de> for Absent {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[test]
fn a_field_without_name_that_is_left_out_is_not_read_as_another() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both(#[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>, #[serde(default)] u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Both(#[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>, #[serde(default)] u8),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped(u8, #[serde(skip)] u8, u8);
    comes_back(Both(Some(1), 5));
    comes_back(Choice::Both(Some(1), 5));
    comes_back(Skipped(1, 0, 2));
    let told = |error: ValueError, name: &str| {
        let error = error.to_string();
        assert!(
            [name, "1 of its fields", "skip_serializing_if"].iter().all(|part| error.contains(part)),
            "{error}"
        );
    };
    let all = decode::<Vec<Both>>(&bytes_of(&vec![Both(Some(2), 3), Both(None, 5)]));
    told(all.unwrap_err(), "[1] (Both): ");
    told(decode::<Choice>(&bytes_of(&Choice::Both(None, 5))).unwrap_err(), "Choice::Both: ");
}

#[test]
fn a_part_that_is_not_read_is_not_read_as_the_next_one() {
    #[derive(Serialize)]
    struct Written {
        a: Option<u8>,
        b: u8,
        c: u8,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Read {
        a: Option<Absent>,
        b: u8,
        #[serde(default)]
        c: u8,
    }
    let bytes = bytes_of(&Written { a: Some(1), b: 2, c: 3 });
    let error = decode::<Read>(&bytes).unwrap_err().to_string();
    assert!(error.contains("Read.a") && error.contains("IgnoredAny"), "{error}");
    assert!(decode::<(Absent, u8)>(&bytes_of(&(1_u8, 2_u8))).is_err());
    assert!(decode::<Absent>(&bytes_of(&1_u8)).is_err());
}
