//! A library with a job, which is compiled in two versions.

/// Tells its version.
#[pp_dispatcher::job]
pub fn step(n: u64) -> String {
    format!("{} step {n}", env!("CARGO_PKG_VERSION"))
}
