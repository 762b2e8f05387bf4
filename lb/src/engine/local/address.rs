//! Where the engine is and how it is spoken to, from the variables that the `docker` command goes by.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use http::Uri;

use super::CLIENT_TIMEOUT;

/// Where the engine is if nobody says.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

const PORT: u16 = 2375;
const PORT_WITH_TLS: u16 = 2376;

/// An engine's address.
#[derive(Debug, PartialEq)]
pub(super) struct Address {
    /// As in `DOCKER_HOST`.
    pub(super) host: String,
    /// The folder of the certificates, if the engine is spoken to over TLS.
    pub(super) certificates: Option<PathBuf>,
}

impl Address {
    /// `socket` is a unix socket; without it, the environment or Docker's default counts.
    pub(super) fn new(socket: Option<&Path>) -> Self {
        match socket {
            Some(socket) => {
                Self { host: format!("unix://{}", socket.display()), certificates: None }
            }
            None => Self::of(|name| env::var_os(name)),
        }
    }

    /// An empty variable is as good as none.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name| variable(name).filter(|it| !it.is_empty());
        let host = variable("DOCKER_HOST")
            .map_or_else(|| DEFAULT_HOST.to_owned(), |it| it.to_string_lossy().into_owned());
        let is_asked_for = host.starts_with("tcp://") && variable("DOCKER_TLS_VERIFY").is_some();
        let certificates = (is_asked_for || host.starts_with("https://")).then(|| {
            let named = variable("DOCKER_CERT_PATH").or_else(|| variable("DOCKER_CONFIG"));
            let home = || Path::new(&variable("HOME").unwrap_or_default()).join(".docker");
            named.map_or_else(home, PathBuf::from)
        });
        Self { host: with_port(host, certificates.is_some()), certificates }
    }

    /// A client, which has not connected yet.
    pub(super) fn client(&self) -> Result<Docker, Error> {
        let client = match &self.certificates {
            Some(folder) => Docker::connect_with_ssl(
                &self.host,
                &folder.join("key.pem"),
                &folder.join("cert.pem"),
                &folder.join("ca.pem"),
                CLIENT_TIMEOUT.as_secs(),
                API_DEFAULT_VERSION,
            ),
            // TLS is for this module to decide, not for a variable that may be empty.
            None if self.host.starts_with("tcp://") => {
                Docker::connect_with_http(&self.host, CLIENT_TIMEOUT.as_secs(), API_DEFAULT_VERSION)
            }
            None => Docker::connect_with_host(&self.host),
        };
        Ok(client?.with_timeout(CLIENT_TIMEOUT))
    }
}

/// Docker's own port, where `host` has none.
fn with_port(host: String, tls: bool) -> String {
    let parsed = host.strip_prefix("tcp://").and_then(|it| it.parse::<Uri>().ok());
    match parsed {
        Some(uri) if uri.port().is_none() && uri.path().is_empty() => {
            format!("{host}:{}", if tls { PORT_WITH_TLS } else { PORT })
        }
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_docker_reads_it() {
        let tls = ("DOCKER_TLS_VERIFY", "1");
        let tcp = ("DOCKER_HOST", "tcp://a:1");
        let home = ("HOME", "/h");
        for (variables, host, certificates) in [
            (&[][..], "unix:///var/run/docker.sock", None),
            (&[("DOCKER_HOST", ""), tls], "unix:///var/run/docker.sock", None),
            (&[("DOCKER_HOST", "unix:///s"), tls], "unix:///s", None),
            (&[tcp], "tcp://a:1", None),
            (&[tcp, ("DOCKER_TLS_VERIFY", "")], "tcp://a:1", None),
            (&[tcp, tls, home], "tcp://a:1", Some("/h/.docker")),
            (&[tcp, tls, home, ("DOCKER_CONFIG", "/c")], "tcp://a:1", Some("/c")),
            (
                &[tcp, tls, ("DOCKER_CONFIG", "/c"), ("DOCKER_CERT_PATH", "/d")],
                "tcp://a:1",
                Some("/d"),
            ),
            (&[("DOCKER_HOST", "https://a:1"), home], "https://a:1", Some("/h/.docker")),
            (&[("DOCKER_HOST", "tcp://a")], "tcp://a:2375", None),
            (&[("DOCKER_HOST", "tcp://[::1]"), tls, home], "tcp://[::1]:2376", Some("/h/.docker")),
            (&[("DOCKER_HOST", "ssh://a")], "ssh://a", None),
        ] {
            let of = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            };
            let expected =
                Address { host: host.to_owned(), certificates: certificates.map(PathBuf::from) };
            assert_eq!(Address::of(of), expected, "{variables:?}");
        }
    }
}
