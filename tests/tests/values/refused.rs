//! Values that no encoding can carry: an error that says what is wrong, where, and what to do.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pp_dispatcher::{JobError, JobFunction, job};
use serde::{Deserialize, Serialize};

use crate::Ways;
use crate::shapes::List;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Upload {
    name: String,
    files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File {
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OneWay {
    #[serde(skip_serializing)]
    kept: u8,
    other: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TwoNames {
    inner: Vec<Renamed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renamed {
    #[serde(rename(serialize = "written", deserialize = "read"))]
    number: Option<u8>,
}

/// `serde` itself has no 128 bits within what is flattened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    #[serde(flatten)]
    inner: WideInner,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WideInner {
    number: u128,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0..100 => serializer.serialize_newtype_struct("Picky", &self.0),
            _ => Err(serde::ser::Error::custom("a Picky is less than 100")),
        }
    }
}

#[job]
fn upload(number: u8, upload: Upload) -> Upload {
    let _ = number;
    upload
}

#[job]
fn make_upload() -> Upload {
    bad_upload()
}

#[job]
fn one_way(value: OneWay) -> u8 {
    value.other
}

#[job]
fn make_one_way() -> OneWay {
    OneWay { kept: 1, other: 2 }
}

#[job]
fn two_names(value: TwoNames) -> usize {
    value.inner.len()
}

#[job]
fn wide(value: Wide) -> Wide {
    value
}

#[job]
fn picky(value: BTreeMap<u8, Vec<Option<Picky>>>) -> usize {
    value.len()
}

#[job]
fn length_of(list: Option<Box<List>>) -> u32 {
    list.map_or(0, |list| list.value + 1)
}

#[job]
fn list_of(length: u32) -> Option<Box<List>> {
    List::of_length(length)
}

#[job]
fn count(nothings: Vec<()>) -> usize {
    nothings.len()
}

#[job]
fn nothings(count: usize) -> Vec<()> {
    vec![(); count]
}

#[job]
fn worker_id() -> u32 {
    std::process::id()
}

fn bad_upload() -> Upload {
    let bad = std::ffi::OsString::from_vec(vec![0xff]);
    let file = |path: PathBuf| File { path };
    Upload { name: "u".into(), files: vec![file("good".into()), file(bad.into())] }
}

/// Claim that the error says all of `words`, and no worker has ended.
fn refused<A, F>(ways: &Ways, function: F, args: A, words: &[&str])
where
    A: Clone + Serialize,
    F: JobFunction<A, Output: std::fmt::Debug>,
{
    for dispatcher in ways.each() {
        let worker = dispatcher.submit(worker_id, ()).wait();
        let error = dispatcher.submit(function, args.clone()).wait().expect_err("it cannot be sent");
        assert!(matches!(error, JobError::Arguments { .. } | JobError::Result { .. }), "{error:?}");
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(error.len() < 1_000, "it can be read: {error}");
        assert_eq!(dispatcher.submit(worker_id, ()).wait(), worker, "the same worker goes on");
    }
}

pub(crate) fn what_cannot_be_sent_is_refused_with_type_field_and_remedy() {
    let ways = Ways::start();
    let utf8 = ["Upload.files[1].path (File)", "UTF-8", "send"];
    refused(&ways, upload, (1, bad_upload()), &[&utf8[..], &["refused::upload", "argument 2"]].concat());
    refused(&ways, make_upload, (), &[&utf8[..], &["result of", "refused::make_upload"]].concat());
    let missing = ["OneWay: ", "`kept`", "#[serde(default)]"];
    refused(&ways, one_way, (OneWay { kept: 1, other: 2 },), &[&missing[..], &["argument 1"]].concat());
    refused(&ways, make_one_way, (), &missing);
    let renamed = TwoNames { inner: vec![Renamed { number: Some(1) }] };
    refused(&ways, two_names, (renamed,), &["TwoNames.inner[0] (Renamed)", "`written`", "`read`"]);
    refused(&ways, wide, (Wide { inner: WideInner { number: u128::MAX } },), &["128", "flatten"]);
    let picked = BTreeMap::from([(1, vec![]), (2, vec![None, Some(Picky(100))])]);
    refused(&ways, picky, (picked,), &["argument 1", "[entry 2][1]", "a Picky is less than 100"]);
}

pub(crate) fn a_recursion_without_end_is_an_error_on_both_sides() {
    let ways = Ways::start();
    let long = List::of_length(100_000);
    // Moved, as what `refused` does besides needs a copy, which would be made by recursion.
    let error = ways.thread.submit(length_of, (long,)).wait().expect_err("it is too long").to_string();
    assert!(error.contains("List.next.next") && error.contains("levels") && error.contains("Vec"), "{error}");
    refused(&ways, list_of, (100_000,), &["List.next.next", "levels", "Vec"]);
    for dispatcher in ways.each() {
        assert_eq!(dispatcher.submit(length_of, (List::of_length(200),)).wait(), Ok(200));
    }
}

pub(crate) fn lists_of_nothing_without_end_are_refused_at_once() {
    let ways = Ways::start();
    let started = Instant::now();
    for dispatcher in ways.each() {
        let error = dispatcher.submit(count, (vec![(); 1 << 40],)).wait();
        assert!(matches!(error, Err(JobError::ArgumentsTooLarge { .. })), "{error:?}");
        let error = dispatcher.submit(nothings, (1 << 40,)).wait();
        assert!(matches!(error, Err(JobError::TooLarge { .. })), "{error:?}");
        assert_eq!(dispatcher.submit(count, (vec![(); 1_000],)).wait(), Ok(1_000));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
