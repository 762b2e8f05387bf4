//! The loads that `wrk` makes, and what it says of them.

use std::{fmt, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Scenario {
    Json,
    JsonLogged,
    JsonTwoThreads,
    Kib10,
    Mib1,
    Post10,
    Connect,
    Tls,
    TlsConnect,
}

/// What one run of `wrk` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) elapsed_us: u64,
}

/// Keep-alive connections of every load.
pub(super) const CONNECTIONS: u64 = 64;

impl Scenario {
    pub(super) const ALL: [Self; 9] = [
        Self::Json,
        Self::Kib10,
        Self::Mib1,
        Self::Post10,
        Self::Connect,
        Self::Tls,
        Self::TlsConnect,
        Self::JsonLogged,
        Self::JsonTwoThreads,
    ];

    pub(super) fn threads(self) -> usize {
        if self == Self::JsonTwoThreads { 2 } else { 1 }
    }

    pub(super) fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::TlsConnect)
    }

    /// In tables of figures.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::JsonLogged => "json-logged",
            Self::JsonTwoThreads => "json-2-threads",
            Self::Kib10 => "10k",
            Self::Mib1 => "1m",
            Self::Post10 => "post-10k",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::TlsConnect => "tls-connect",
        }
    }

    pub(super) fn from_key(key: &str) -> anyhow::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|it| it.key() == key)
            .with_context(|| format!("no scenario is called {key:?}"))
    }

    /// Method, path, bytes of the request's body, and `close` for a connection per request.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Json | Self::JsonLogged | Self::JsonTwoThreads | Self::Tls => {
                ["GET", "/home", "0", "keep"]
            }
            Self::Kib10 => ["GET", "/10k", "0", "keep"],
            Self::Mib1 => ["GET", "/1m", "0", "keep"],
            Self::Post10 => ["POST", "/home", "10240", "keep"],
            Self::Connect | Self::TlsConnect => ["GET", "/home", "0", "close"],
        }
    }

    /// Runs `wrk` for so long; `dir` holds its script.
    pub(super) fn drive(
        self,
        address: SocketAddr,
        dir: &Path,
        connections: u64,
        seconds: u64,
    ) -> anyhow::Result<Load> {
        let output = Command::new("wrk")
            .args([
                "-t",
                "1",
                "-c",
                &connections.to_string(),
                "-d",
                &format!("{seconds}s"),
                "--timeout",
                "10s",
            ])
            .arg("-s")
            .arg(dir.join("requests.lua"))
            .arg(format!("{}://{address}", if self.is_secure() { "https" } else { "http" }))
            .arg("--")
            .args(self.arguments())
            .output()
            .context("running wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "wrk failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        parsed(&text)
    }
}

/// The line that the script's `done` prints.
fn parsed(text: &str) -> anyhow::Result<Load> {
    let line =
        text.lines().find_map(|it| it.strip_prefix("result,")).context("wrk printed no result")?;
    let numbers: Vec<u64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, errors, elapsed_us] = numbers[..] else { anyhow::bail!("wrk printed {line:?}") };
    Ok(Load { requests, errors, elapsed_us })
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "60-byte JSON",
            Self::JsonLogged => "60-byte JSON, access log on",
            Self::JsonTwoThreads => "60-byte JSON, 2 threads",
            Self::Kib10 => "10 KiB answer",
            Self::Mib1 => "1 MiB answer",
            Self::Post10 => "POST of 10 KiB",
            Self::Connect => "new connection per request",
            Self::Tls => "60-byte JSON over TLS",
            Self::TlsConnect => "new TLS connection per request",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_among_what_wrk_prints() {
        let load = Load { requests: 12, errors: 0, elapsed_us: 2_000_000 };
        assert_eq!(parsed("Running 2s test\n\nresult,12,0,2000000\n").unwrap(), load);
        for bad in ["", "result,1,2\n", "result,a,0,1\n"] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_read_as_written() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::from_key(scenario.key()).unwrap(), scenario);
        }
    }
}
