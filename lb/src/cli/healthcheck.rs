//! `ringmaster healthcheck`: what a container engine runs to learn whether the balancer is well. An image from
//! scratch holds no other program that could ask.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, ensure};
use http::HeaderMap;

use crate::heartbeat;

/// Shorter than what Docker allows, so that the reason is told before the check is killed.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArgs {
    /// Where the balancer's admin API is served.
    #[arg(
        long,
        value_name = "URL",
        env = "RINGMASTER_ADMIN",
        default_value = "http://127.0.0.1:5001",
        value_parser = address
    )]
    admin: SocketAddr,
}

/// The address in `http://ADDRESS:PORT`. Numeric, as a check should not fail for want of a name service.
fn address(url: &str) -> Result<SocketAddr, &'static str> {
    url.strip_prefix("http://")
        .and_then(|rest| rest.trim_end_matches('/').parse().ok())
        .ok_or("must be http://ADDRESS:PORT with a numeric address")
}

/// Asks once; the engine asks again.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn run(args: &HealthcheckArgs) -> anyhow::Result<()> {
    let admin = args.admin;
    let status = tokio::time::timeout(TIMEOUT, heartbeat::get(admin, "/readyz", &HeaderMap::new()))
        .await
        .with_context(|| format!("{admin} did not answer within {} s", TIMEOUT.as_secs()))?
        .map_err(|error| {
            anyhow!("nobody answers at http://{admin} ({error:#}); is the balancer running?")
        })?;
    ensure!(
        status.is_success(),
        "http://{admin}/readyz answered {status}: a pool was never served"
    );
    Ok(())
}
