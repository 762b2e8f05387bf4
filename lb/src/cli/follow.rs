//! `ringmaster events`: follows the stream of events, and comes back to it where it broke off.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use super::{
    Failure,
    client::{Client, ClientError},
    render,
};

/// The balancer breaks silences of 15 s; a longer one is a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// How long a balancer that was there may be away, as for an upgrade.
const ABSENCE_MAX: Duration = Duration::from_secs(30);

/// Before each attempt to come back.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest line of the stream, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Prints what comes after the event `seen`, until nobody reads it or the balancer stays away.
pub(super) async fn follow(
    client: &Client,
    mut seen: Option<u64>,
    json: bool,
) -> Result<(), Failure> {
    let mut stream = Stream::new(client.events(seen).await?);
    loop {
        let Some(message) = stream.next(&mut seen).await else {
            // Not on standard output, which scripts read.
            let _ = writeln!(io::stderr(), "ringmaster: the stream broke off; trying again");
            stream = Stream::new(come_back(client, seen).await?);
            continue;
        };
        let text = if json { format!("{}\n", message.data) } else { human(client, &message)? };
        if io::stdout().write_all(text.as_bytes()).is_err() {
            return Ok(());
        }
    }
}

async fn come_back(client: &Client, seen: Option<u64>) -> Result<Incoming, ClientError> {
    let deadline = Instant::now() + ABSENCE_MAX;
    loop {
        sleep(PAUSE).await;
        match client.events(seen).await {
            Ok(stream) => return Ok(stream),
            Err(
                ClientError::Unreachable { .. }
                | ClientError::Silent { .. }
                | ClientError::Broken { .. },
            ) if Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

fn human(client: &Client, message: &Message) -> Result<String, ClientError> {
    Ok(match message.kind.as_str() {
        "gap" => render::gap(client.parse(&message.data)?),
        "reload" => render::reload(client.parse(&message.data)?),
        _ => render::event(client.parse(&message.data)?),
    })
}

/// An event of the stream.
#[derive(Debug, Default, PartialEq)]
struct Message {
    kind: String,
    data: String,
}

/// The stream, read by the rules of the HTML standard, 9.2.6 "Interpreting an event stream".
struct Stream {
    body: Incoming,
    read: Vec<u8>,
}

impl Stream {
    fn new(body: Incoming) -> Self {
        Self { body, read: Vec::new() }
    }

    /// The next message; `seen` follows the ids that come by, also without one. `None` when the stream is over.
    async fn next(&mut self, seen: &mut Option<u64>) -> Option<Message> {
        let mut message = Message::default();
        loop {
            let line = self.line().await?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => *seen = value.parse().ok().or(*seen),
                "event" => message.kind = value.to_owned(),
                "data" => message.data.push_str(value),
                // A blank line ends a message, if there was one.
                "" if line.is_empty() && !message.data.is_empty() => return Some(message),
                _ => {}
            }
        }
    }

    /// The next line without its end.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            let frame = timeout(SILENCE_MAX, self.body.frame()).await.ok()??.ok()?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
            if self.read.len() > LINE_BYTES_MAX {
                return None;
            }
        }
    }
}
