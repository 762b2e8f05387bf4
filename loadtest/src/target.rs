//! Where requests go.

use std::{fmt, io, net::SocketAddr, str::FromStr};

use anyhow::{Context, ensure};
use hyper::Uri;
use tokio::net::{TcpStream, lookup_host};

/// A server: `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Fails unless every address of the target is one of this machine's loopback addresses.
    pub(crate) async fn ensure_loopback(&self) -> anyhow::Result<()> {
        let mut addresses =
            lookup_host(self.address()).await.with_context(|| format!("finding {self}"))?;
        ensure!(
            addresses.all(|address| address.ip().is_loopback()),
            "{self} is not on this machine: only processes here can be killed"
        );
        Ok(())
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Without the brackets that a URL puts around an IPv6 address.
    fn address(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// As the `Host` header and a URL have it.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(it) => it.ip().to_string(),
            SocketAddr::V6(it) => format!("[{}]", it.ip()),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse().ok().filter(is_origin).context("must be http://HOST[:PORT]")?;
        let host = uri.host().expect("an origin has a host");
        Ok(Self { host: host.into(), port: uri.port_u16().unwrap_or(80) })
    }
}

fn is_origin(uri: &Uri) -> bool {
    let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    plain && uri.host().is_some_and(|host| !host.is_empty())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_origin() {
        let cases = [
            ("http://127.0.0.1:5000", Some("http://127.0.0.1:5000")),
            ("http://[::1]:5000/", Some("http://[::1]:5000")),
            ("http://balancer", Some("http://balancer:80")),
            ("https://127.0.0.1:5000", None),
            ("http://127.0.0.1:5000/home", None),
            ("http://127.0.0.1:5000/?a=b", None),
            ("127.0.0.1:5000", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = text.parse::<Target>().ok().map(|target| target.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn only_this_machine_is_loopback() {
        for (text, loopback) in
            [("http://127.0.0.1", true), ("http://[::1]:1", true), ("http://192.0.2.1", false)]
        {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.ensure_loopback().await.is_ok(), loopback, "{text}");
        }
    }
}
