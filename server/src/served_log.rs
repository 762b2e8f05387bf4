//! What was served, written down for whoever counts it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;

/// A file with one line `NAME METHOD ID` for each request, written before its answer: who is killed in between has served
/// it as far as anybody can know. Several replicas may share a file.
#[derive(Debug)]
pub struct ServedLog(File);

impl ServedLog {
    /// Opens `path` for appending; it need not exist.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("opening the served log {}", path.display()))?))
    }

    /// One write, so that lines of several processes do not mix. What it wrote outlives the process, not the machine.
    pub(crate) fn write(&self, name: &str, method: &str, id: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{name} {method} {id}\n").as_bytes())
    }
}
