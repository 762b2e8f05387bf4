//! What is wrong with a file: [`Fault`], one of the lines, and [`ConfigError`], all of them.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

/// Why there is no configuration: every fault, one a line.
#[derive(Debug)]
pub(crate) struct ConfigError {
    file: Option<PathBuf>,
    faults: Vec<Fault>,
}

impl ConfigError {
    pub(super) fn new(file: Option<&Path>, faults: Vec<Fault>) -> Self {
        Self { file: file.map(Path::to_owned), faults }
    }
}

impl ConfigError {
    /// Every fault, with its file.
    pub(crate) fn faults(&self) -> Vec<String> {
        let file = self.file.as_ref().map(|file| format!("{}: ", file.display()));
        let file = file.unwrap_or_default();
        self.faults.iter().map(|fault| format!("{file}{fault}")).collect()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults().join("\n"))
    }
}

impl Error for ConfigError {}

/// One fault of a file.
#[derive(Debug)]
pub(super) struct Fault {
    /// Of the key; empty for the file as a whole.
    path: String,
    text: String,
}

impl Fault {
    pub(super) fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// Whether it is at `path` or below.
    pub(super) fn is_within(&self, path: &str) -> bool {
        let below = self.path.strip_prefix(path);
        below.is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.text),
            path => write!(f, "{path}: {}", self.text),
        }
    }
}

/// Enough of `text` to recognise it, on one line.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
