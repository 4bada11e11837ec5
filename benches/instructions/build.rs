//! Notes which compiler builds the program: what is counted depends on it.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(&compiler).arg("--version").output().expect("the compiler can be started");
    let version = String::from_utf8_lossy(&answer.stdout);
    println!("cargo::rustc-env=COMPILER={}", version.trim());
}
