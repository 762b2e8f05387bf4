//! Probes one incarnation of a replica, and tells answers from silences.
//!
//! Decides nothing: how many silences make a failure is the fleet's to say.

use std::{net::SocketAddr, pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::{config::HeartbeatConfig, suspicion::Suspicions};

/// The first pause while a replica starts; it doubles up to the interval, so that a quick start is seen at once
/// and a slow one is not flooded.
const START_PAUSE: Duration = Duration::from_millis(5);

/// A suspicion brings the next probe forward to this part of the interval, no further.
const HURRY: u32 = 8;

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// It answered; what was suspected of it up to this number is settled.
    Answered {
        suspicion: u64,
    },
    Missed,
}

/// The heartbeats of one incarnation.
pub(crate) struct Pulse<'a> {
    addr: SocketAddr,
    config: &'a HeartbeatConfig,
    /// Bring the next probe forward.
    suspicions: &'a Suspicions,
    /// When the last probe began, and how long after that the next one is due; none before the first.
    last: Option<(Instant, Duration)>,
}

impl<'a> Pulse<'a> {
    pub(crate) fn new(
        addr: SocketAddr,
        config: &'a HeartbeatConfig,
        suspicions: &'a Suspicions,
    ) -> Self {
        Self { addr, config, suspicions, last: None }
    }

    /// Waits until the next heartbeat is due, and probes.
    pub(crate) async fn beat(&mut self) -> Beat {
        let interval = self.config.interval;
        if let Some((began, pause)) = self.last {
            // Requests that fail in their hundreds must not have it probed to death within a millisecond.
            let soonest = began + pause.min(interval / HURRY);
            tokio::select! {
                () = sleep_until(began + pause) => {}
                () = self.suspicions.raised() => sleep_until(soonest).await,
            }
        }
        let began = Instant::now();
        // Read before the probe begins: an answer says nothing about what happens while it is on its way.
        let suspicion = self.suspicions.last();
        let beat = match is_alive(self.addr, self.config).await {
            true => Beat::Answered { suspicion },
            false => Beat::Missed,
        };
        let pause = match (beat, self.last) {
            (Beat::Answered { .. }, _) => interval,
            (Beat::Missed, None) => START_PAUSE.min(interval),
            (Beat::Missed, Some((_, pause))) => (pause * 2).min(interval),
        };
        self.last = Some((began, pause));
        beat
    }
}

/// One request on a connection of its own: what a client without a pooled connection would meet.
async fn is_alive(addr: SocketAddr, config: &HeartbeatConfig) -> bool {
    let answer = timeout(config.timeout, get(addr, &config.path, &config.fields)).await;
    matches!(answer, Ok(Ok(status)) if config.statuses.contain(status))
}

/// The status of the answer to `GET path`, on a connection of its own. `fields` are sent in addition to the probe's own,
/// or in their place.
pub(crate) async fn get(
    addr: SocketAddr,
    path: &str,
    fields: &HeaderMap,
) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path)
        .header(header::HOST, addr.to_string())
        .header(header::USER_AGENT, "ringmaster-heartbeat")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    for (name, value) in fields {
        request.headers_mut().insert(name, value.clone());
    }
    // The connection is driven here rather than in a task, so that giving up closes it.
    let mut answer = pin!(sender.send_request(request));
    tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer?.status()),
        ended = connection => ended?,
    }
    // The answer may have come with the connection's end.
    Ok(answer.await?.status())
}
