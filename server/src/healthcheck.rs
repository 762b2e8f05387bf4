//! The health check of a container. An image from scratch holds no other program that could ask the replica.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Shorter than what Docker allows, so that the reason is told before the check is killed.
const TIMEOUT: Duration = Duration::from_secs(2);

const STATUS_GOOD: &str = "HTTP/1.1 200 ";

/// Asks the replica that listens on `listen` for a heartbeat, which counts as any other, and fails unless it answers
/// 200 in time. An unspecified address stands for this machine, as Linux connects it there.
pub(crate) async fn healthcheck(listen: SocketAddr) -> anyhow::Result<()> {
    let answer = timeout(TIMEOUT, heartbeat(listen))
        .await
        .with_context(|| format!("{listen} did not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("asking {listen} for a heartbeat"))?;
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.starts_with(STATUS_GOOD), "{listen} answered {status:?}, not 200");
    Ok(())
}

async fn heartbeat(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /heartbeat HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    // The head of an answer without a body; whatever else listens there is not read to the end of memory.
    stream.take(4096).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Replica, run};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn tells_a_replica_that_answers_from_one_that_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut replica = Replica::new("S1");
        replica.behaviour.fail_heartbeat_after = Some(1);
        let replica = tokio::spawn(run(listener, replica, std::future::pending()));
        healthcheck(addr).await.unwrap();
        let sick = healthcheck(addr).await.unwrap_err().to_string();
        assert!(sick.contains("500"), "{sick}");

        replica.abort();
        let _ = replica.await;
        let gone = format!("{:#}", healthcheck(addr).await.unwrap_err());
        assert!(gone.contains("refused"), "{gone}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_hangs_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hung = healthcheck(listener.local_addr().unwrap()).await.unwrap_err().to_string();
        assert!(hung.contains("within 2 s"), "{hung}");
    }
}
