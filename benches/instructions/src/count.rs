//! Counting: this program, started again under Valgrind.

use std::io;
use std::process::Command;

use anyhow::{Context, bail};

/// Two counts are made: the start, and memory that grows, take the same in both, or little beside the difference.
const FEW_JOBS: u32 = 2_000;
const MANY_JOBS: u32 = 12_000;

/// Instructions a job in a piece.
pub(crate) fn per_job(piece: &str) -> anyhow::Result<f64> {
    let (few, many) = (instructions(piece, FEW_JOBS)?, instructions(piece, MANY_JOBS)?);
    let Some(difference) = many.checked_sub(few) else {
        bail!(
            "{piece} took {few} instructions for {FEW_JOBS} jobs and {many} for {MANY_JOBS}: it does not run them"
        );
    };
    Ok(difference as f64 / f64::from(MANY_JOBS - FEW_JOBS))
}

/// Instructions of a run with so many jobs.
fn instructions(piece: &str, jobs: u32) -> anyhow::Result<u64> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    // Cachegrind without a cache is the fastest of the tools that count.
    let counted = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args(["measure", piece, &jobs.to_string()])
        .env("LC_ALL", "C")
        .env("RUST_BACKTRACE", "0")
        // It would change what memory costs.
        .env_remove("GLIBC_TUNABLES")
        .output();
    let counted = match counted {
        Ok(counted) => counted,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "valgrind is missing, which counts the instructions; install it (Debian, Ubuntu: apt-get install \
             valgrind; Fedora: dnf install valgrind) and start this again"
        ),
        Err(error) => return Err(error).context("cannot start valgrind"),
    };
    let said = String::from_utf8_lossy(&counted.stderr);
    if !counted.status.success() {
        bail!("{piece} with {jobs} jobs failed under valgrind ({}); it said:\n{said}", counted.status);
    }
    total(&said)
        .with_context(|| format!("valgrind did not say how many instructions there were; it said:\n{said}"))
}

/// The number in a line like `==7== I   refs:      1,234`.
fn total(said: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        let (before, number) = line.split_once("refs:")?;
        let is_total = before.split_whitespace().last() == Some("I");
        is_total.then(|| number.trim().replace(',', "").parse().ok()).flatten()
    })
}

/// Versions that a count depends on beside the source.
pub(crate) fn made_with() -> String {
    let library = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let library = library.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    let library = library.ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "another C library".into());
    format!("{}, {library}, {}{}", env!("COMPILER"), std::env::consts::ARCH, processor())
}

#[cfg(target_arch = "x86_64")]
fn processor() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx2") { "" } else { " without AVX2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> &'static str {
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_what_valgrind_says() {
        let said = "==7== Cachegrind, a profiler\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(total(said), Some(1_234_567));
        assert_eq!(total("==7== I refs:        89\n==7== D refs: 5\n"), Some(89));
        assert_eq!(total("==7== LLi refs: 5\n"), None);
    }
}
