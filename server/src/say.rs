//! Lines for whoever started this process.
//!
//! The balancer that reads our pipes may die, and the replica must live on to be adopted by the
//! next one. So a line that nobody can read is lost without a word, where `println!` and
//! `eprintln!` would panic.

use std::io::{self, Write};

/// Writes one line to standard output at once, or loses it.
pub(crate) fn out(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Writes one line to standard error, or loses it.
pub(crate) fn log(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
