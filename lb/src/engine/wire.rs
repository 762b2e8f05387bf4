//! What a balancer and its spawner say to each other over a unix socket: one request for each connection.
//!
//! ```text
//! spawner:  {"Ok":2}                              the version that it speaks
//! balancer: {"inspect":{"cluster":"default"}}
//! spawner:  {"Ok":[…]}                            to `events`, a line for each happening, and null now and then
//! ```
//!
//! Lines are JSON and have a limit. Where `Ok` could stand, `{"Err":…}` is the last line of its connection. The
//! language has no word for a mount, a privilege, a capability or a device, and what it does not know is an error.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{Claim, EngineError, Order};

/// Two sides that speak different ones do not understand each other.
pub(super) const VERSION: u32 = 2;

/// Of a request, in bytes: an order with a long command and environment.
pub(super) const REQUEST_MAX: usize = 64 << 10;
/// Of an answer, in bytes: some ten thousand containers.
pub(super) const ANSWER_MAX: usize = 4 << 20;

/// How long one side may take to say or to take in what costs no work: a greeting, a request.
pub(super) const TALK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take to be carried out, beside the grace that it gives a container.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a stream of events says that it lives.
pub(super) const PULSE: Duration = Duration::from_secs(5);

/// One of the seven verbs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    Ensure(Order),
    Stop { cluster: String, name: String, incarnation: u64, grace_ms: Option<u64> },
    Inspect { cluster: String },
    Logs { cluster: String, name: String, lines: usize },
    Events { cluster: String },
    Claim { cluster: String, claim: Option<Claim> },
    Release { cluster: String, session: String },
}

impl Request {
    /// How long it may take.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Stop { grace_ms, .. } => {
                WORK_TIMEOUT + Duration::from_millis(grace_ms.unwrap_or(0))
            }
            Self::Ensure(_)
            | Self::Inspect { .. }
            | Self::Logs { .. }
            | Self::Events { .. }
            | Self::Claim { .. }
            | Self::Release { .. } => WORK_TIMEOUT,
        }
    }
}

/// What follows a request.
pub(super) type Answer<T> = Result<T, EngineError>;

/// One end of a connection.
pub(super) type Stream = BufReader<UnixStream>;

/// Writes `message` as a line.
pub(super) async fn say(
    output: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line).await
}

/// Reads a message from a line of at most `max` bytes; `None` at the end of the stream.
pub(super) async fn hear<T: DeserializeOwned>(
    input: &mut (impl AsyncBufRead + Unpin),
    max: usize,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    // The newline is not counted.
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    input.take(limit).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) if line.len() < max => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => {
            let text = format!("a line is longer than {max} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(mut input: &[u8]) -> Result<Option<u32>, String> {
        hear(&mut input, 4).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_line_has_an_end_and_a_limit() {
        assert_eq!(heard(b"").await, Ok(None));
        assert_eq!(heard(b"1234\n5").await, Ok(Some(1234)));
        assert_eq!(heard(b"12345\n").await, Err("a line is longer than 4 bytes".to_owned()));
        assert_eq!(heard(b"12345").await, Err("a line is longer than 4 bytes".to_owned()));
        assert_eq!(heard(b"1234").await, Err("unexpected end of file".to_owned()));
        assert!(heard(b"\n").await.unwrap_err().starts_with("EOF while parsing"));
    }

    #[tokio::test]
    async fn a_message_is_one_line_whatever_is_in_it() {
        let mut line = Vec::new();
        say(&mut line, &"a\nb\r\u{0}").await.unwrap();
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let heard: Option<String> = hear(&mut &line[..], 100).await.unwrap();
        assert_eq!(heard.as_deref(), Some("a\nb\r\u{0}"));
    }
}
