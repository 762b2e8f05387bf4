//! What replicas have served, by their own records.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context;

/// How often each request was served, by its id.
#[derive(Debug, Default)]
pub(crate) struct Served(HashMap<u32, u32>);

impl Served {
    /// Reads the file that replicas wrote; one that does not exist has no requests.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let told = || format!("reading {}", file.display());
        if !file.exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(file).with_context(told)?).with_context(told)
    }

    /// `NAME METHOD ID` in each line. Ids that are no numbers are those of other requests, which are not counted.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut times = HashMap::new();
        for line in text.lines() {
            let id = line.split(' ').nth(2).with_context(|| format!("{line:?} has no id"))?;
            if let Ok(id) = id.parse() {
                *times.entry(id).or_default() += 1;
            }
        }
        Ok(Self(times))
    }

    /// How often the request with this id was served.
    pub(crate) fn times(&self, id: u32) -> u32 {
        self.0.get(&id).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_counts_for_its_id() {
        let text = "S1 GET 7\nS2 POST 8\nS2 GET 7\nS1 GET 0197-ab\nS1 GET -\n";
        let served = Served::parse(text).unwrap();
        assert_eq!([7, 8, 9].map(|id| served.times(id)), [2, 1, 0]);
        assert_eq!(Served::parse("S1 GET\n").unwrap_err().to_string(), "\"S1 GET\" has no id");
    }
}
