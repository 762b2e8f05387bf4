//! Speaks to the admin API of a running balancer: a connection for each request, and a limit to every wait.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

use crate::{banner, encoding::without_mark};

/// How long whoever answers at once may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer, in bytes: a thousand replicas with long last words fit.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where the admin API is: `http://HOST:PORT`.
#[derive(Clone, Debug)]
pub(super) struct Admin(Authority);

/// Why a text is no [`Admin`].
#[derive(Debug, thiserror::Error)]
#[error("must be http://HOST:PORT, such as http://127.0.0.1:5001")]
pub(super) struct AdminError;

impl FromStr for Admin {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let authority: Authority = authority.parse().map_err(|_| AdminError)?;
        let is_plain = !authority.as_str().contains('@') && authority.port_u16().is_some();
        is_plain.then_some(Self(authority)).ok_or(AdminError)
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self(Authority::from_static("127.0.0.1:5001"))
    }
}

impl From<SocketAddr> for Admin {
    /// Of a balancer that listens there.
    fn from(listen: SocketAddr) -> Self {
        let authority = banner::reachable(listen).to_string();
        Self(authority.parse().expect("an address with its port is an authority"))
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// Why there is no token to send.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("--token-file: {} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("--token-file: {} must hold one token and nothing else", path.display())]
    Malformed { path: PathBuf },
}

/// Why a question got no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("nobody answers at {admin} ({cause}); is the balancer running? --admin says where")]
    Unreachable { admin: Admin, cause: String },
    #[error(
        "{admin} did not answer within {} s; what was asked for may be under way",
        waited.as_secs()
    )]
    Silent { admin: Admin, waited: Duration },
    #[error("the connection to {admin} broke: {cause}")]
    Broken { admin: Admin, cause: String },
    /// The API's own words.
    #[error("{0}")]
    Refused(String),
    #[error(
        "{admin} is not the admin API of a ringmaster like this one ({cause}); --admin says where that is"
    )]
    Foreign { admin: Admin, cause: String },
}

/// A way to the admin API.
pub(super) struct Client {
    admin: Admin,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Sends the token in the file with every request, if there is one.
    pub(super) fn new(admin: Admin, token_file: Option<&Path>) -> Result<Self, TokenError> {
        Ok(Self { admin, authorization: token_file.map(bearer).transpose()? })
    }

    pub(super) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// What the API answers to a question: one JSON document.
    pub(super) async fn get(&self, path: &str) -> Result<String, ClientError> {
        self.ask(Method::GET, path, String::new(), PATIENCE).await
    }

    /// What the API answers once a change is true, which may take as long as `patience`.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        patience: Duration,
    ) -> Result<String, ClientError> {
        let request = Request::builder().method(method).uri(path);
        let exchange = async {
            let response = self.send(request, body).await?;
            self.read(response).await
        };
        self.within(patience, exchange).await
    }

    /// The stream of the events after `seen`; without it, of those to come.
    pub(super) async fn events(&self, seen: Option<u64>) -> Result<Incoming, ClientError> {
        let mut request = Request::get("/api/v1/events");
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let response = self.within(PATIENCE, self.send(request, String::new())).await?;
        Ok(response.into_body())
    }

    async fn within<T>(
        &self,
        patience: Duration,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let silent = || ClientError::Silent { admin: self.admin.clone(), waited: patience };
        timeout(patience, exchange).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn send(
        &self,
        mut request: request::Builder,
        body: String,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |error: io::Error| ClientError::Unreachable {
            admin: self.admin.clone(),
            cause: cause(&error),
        };
        let stream = TcpStream::connect(self.admin.0.as_str()).await.map_err(unreachable)?;
        // The API answers to addresses only; a name could have been made to point at it by anybody.
        let host = stream.peer_addr().map_err(unreachable)?.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // It ends with the answer's body, or with the process.
        tokio::spawn(connection);

        request = request.header(header::HOST, host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(refusal(&self.admin, status, &self.read(response).await?))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<String, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.broken(error))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// What an answer means, or a part of one.
    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| ClientError::Foreign {
            admin: self.admin.clone(),
            cause: error.to_string(),
        })
    }

    fn broken(&self, error: impl fmt::Display) -> ClientError {
        ClientError::Broken { admin: self.admin.clone(), cause: error.to_string() }
    }
}

fn refusal(admin: &Admin, status: StatusCode, text: &str) -> ClientError {
    #[derive(Deserialize)]
    struct Body {
        error: Fault,
    }
    #[derive(Deserialize)]
    struct Fault {
        message: String,
    }
    match serde_json::from_str(text) {
        Ok(Body { error }) if status == StatusCode::UNAUTHORIZED => ClientError::Refused(format!(
            "{}; --token-file says which token to send",
            error.message
        )),
        Ok(Body { error }) => ClientError::Refused(error.message),
        Err(_) => ClientError::Foreign {
            admin: admin.clone(),
            cause: format!("it answers with status {}", status.as_u16()),
        },
    }
}

/// In words, without the number that the system has for it.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

/// The header that carries the token in a file.
fn bearer(path: &Path) -> Result<HeaderValue, TokenError> {
    let text = fs::read_to_string(path)
        .map_err(|error| TokenError::Unreadable { path: path.to_owned(), error })?;
    let malformed = || TokenError::Malformed { path: path.to_owned() };
    let token = without_mark(&text).trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(value)
}

/// As a path segment or the value of a query (RFC 3986, 2.1): all but unreserved characters as `%XX`.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_api_is() {
        for (text, shown) in [
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
            ("http://[::1]:5001/", "http://[::1]:5001"),
            ("balancer:80", "http://balancer:80"),
        ] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), shown);
        }
        for text in ["", "http://", "https://127.0.0.1:5001", "127.0.0.1", "http://h:1/x", "u@h:1"]
        {
            assert!(text.parse::<Admin>().is_err(), "{text}");
        }
    }

    #[test]
    fn any_text_is_one_segment() {
        assert_eq!(encoded("al ice+é%/?~"), "al%20ice%2B%C3%A9%25%2F%3F~");
    }
}
