//! The directory of one run. Nothing in it is ever overwritten: a result stays what it was.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const REQUESTS: &str = "requests.csv";
pub(crate) const SUMMARY: &str = "summary.json";

/// Where the files of one run are.
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// Opens `path`, by default `results/EXPERIMENT-SECONDS`.
    pub(crate) fn open(path: Option<PathBuf>, experiment: &str) -> anyhow::Result<Self> {
        let path = path.unwrap_or_else(|| {
            let seconds = unix_time_ms() / 1_000;
            PathBuf::from(format!("results/{experiment}-{seconds}"))
        });
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where something else of the same run is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that must not exist yet.
    pub(crate) fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.join(file);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}, which must not exist yet", path.display()))
    }

    pub(crate) fn write_json(&self, file: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.write(file, &(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Reads `file` and parses it; an error names the file.
    pub(crate) fn read<T>(
        &self,
        file: &str,
        parse: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.0.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        parse(&text).with_context(|| format!("reading {}", path.display()))
    }

    pub(crate) fn read_json<T: DeserializeOwned>(&self, file: &str) -> anyhow::Result<T> {
        self.read(file, |text| Ok(serde_json::from_str(text)?))
    }

    /// The last line of every report.
    pub(crate) fn signpost(&self) -> String {
        format!("files in {}\n", self.0.display())
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set after 1970");
    u64::try_from(since.as_millis()).expect("64 bits of milliseconds last 500 million years")
}
