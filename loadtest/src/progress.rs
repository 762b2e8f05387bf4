//! One line that tells a waiting person how far a run is; nothing where standard error is not a
//! terminal.

use std::io::{self, IsTerminal, Write};

/// Replaces the line; an empty text clears it.
pub(crate) fn show(text: &str) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        // Whoever closed the terminal does not wait any more.
        let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
    }
}
