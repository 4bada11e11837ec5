//! Functions that can be jobs compile, whatever they are called; those that cannot say why, once. The compiler itself
//! is asked, about all of it at once: it reads what this test was built with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use serde::Deserialize;

#[test]
fn what_can_be_a_job_compiles_whatever_it_is_called() {
    let compiled = check(&case("accepted"), &library());
    assert!(compiled.status.success(), "{}", rendered(&compiled));
}

#[test]
fn two_versions_of_one_library_are_told_apart() {
    let (dispatcher, out) = (library(), tempfile::tempdir().expect("a directory"));
    let versions = ["1.0.0", "2.0.0"].map(|version| {
        let file = out.path().join(format!("liblibrary-{version}.rlib"));
        let mut compiler = compiler(&case("library"), &dispatcher);
        compiler.args(["--crate-type", "lib", "-C"]).arg(format!("metadata={version}"));
        build(compiler.env("CARGO_PKG_VERSION", version), &file);
        file
    });
    let program = out.path().join("program");
    let mut compiler = compiler(&case("versions"), &dispatcher);
    for (name, file) in ["library_old", "library_new"].iter().zip(&versions) {
        compiler.arg("--extern").arg(format!("{name}={}", file.display()));
    }
    build(&mut compiler, &program);
    let ran = Command::new(program).env_remove("PP_LOG").output().expect("it was compiled");
    let said = String::from_utf8_lossy(&ran.stdout);
    let expected =
        ["1.0.0 step 0", "2.0.0 step 0", "1.0.0 step 1", "2.0.0 step 1", "1.0.0 step 2", "2.0.0 step 2"];
    assert!(said.lines().eq(expected), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn what_cannot_be_a_job_says_why_once() {
    let case = case("refused");
    let source = std::fs::read_to_string(&case).expect("the source");
    let compiled = check(&case, &library());
    let mut said = errors(&compiled);
    for (number, line) in (1..).zip(source.lines()) {
        let Some((_, expected)) = line.split_once("//~ ") else { continue };
        let here: Vec<_> = said.extract_if(.., |error| error.line == number).collect();
        let [Said { message, .. }] = &here[..] else { panic!("line {number} is to be told once: {here:#?}") };
        assert!(message.contains(expected), "line {number}: {message}, not {expected}");
    }
    assert!(said.is_empty(), "and nothing else: {said:#?}");
}

/// An error of the compiler.
#[derive(Debug)]
struct Said {
    line: u32,
    message: String,
}

#[derive(Deserialize)]
struct Diagnostic {
    message: String,
    level: String,
    spans: Vec<Span>,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Span {
    line_start: u32,
    is_primary: bool,
}

fn diagnostics(compiled: &Output) -> Vec<Diagnostic> {
    let lines = String::from_utf8_lossy(&compiled.stderr);
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn errors(compiled: &Output) -> Vec<Said> {
    let errors = diagnostics(compiled).into_iter().filter(|diagnostic| diagnostic.level == "error");
    let located = errors.filter_map(|Diagnostic { message, spans, .. }| {
        let line = spans.iter().find(|span| span.is_primary)?.line_start;
        Some(Said { line, message })
    });
    located.collect()
}

fn rendered(compiled: &Output) -> String {
    diagnostics(compiled).into_iter().filter_map(|diagnostic| diagnostic.rendered).collect()
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attribute").join(name).with_extension("rs")
}

/// Output of the compiler about a library, with nothing written.
fn check(source: &Path, library: &Path) -> Output {
    let out = tempfile::tempdir().expect("a directory");
    let mut compiler = compiler(source, library);
    compiler.args(["--crate-type", "lib", "--emit", "metadata", "--out-dir"]).arg(out.path());
    compiler.output().expect("the compiler can be started")
}

fn build(compiler: &mut Command, file: &Path) {
    let compiled = compiler.arg("-o").arg(file).output().expect("the compiler can be started");
    assert!(compiled.status.success(), "{}", rendered(&compiled));
}

fn compiler(source: &Path, library: &Path) -> Command {
    let name = source.file_stem().and_then(|name| name.to_str()).expect("a name");
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler
        .env("CARGO_PKG_VERSION", "0.0.0")
        .args(["--edition", "2024", "--crate-name", name, "--error-format", "json", "--extern"])
        .arg(format!("pp_dispatcher={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", dependencies().display()))
        .arg(source);
    compiler
}

/// Folder of the libraries that this test was built with.
fn dependencies() -> PathBuf {
    std::env::current_exe().expect("a path").parent().expect("a directory").to_owned()
}

/// The build of the library that this test was built with: the newest that can be used.
fn library() -> PathBuf {
    let mut builds: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(dependencies())
        .expect("the directory can be read")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libpp_dispatcher-") && name.ends_with(".rlib")
        })
        .filter_map(|path| Some((path.metadata().and_then(|metadata| metadata.modified()).ok()?, path)))
        .collect();
    builds.sort();
    let smallest = case("library");
    let newest_first = builds.into_iter().rev().map(|(_, path)| path);
    let mut usable = newest_first.filter(|library| check(&smallest, library).status.success());
    usable.next().expect("this test was built with one")
}
