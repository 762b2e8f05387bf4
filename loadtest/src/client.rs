//! One keep-alive connection to a target.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{failure::Failure, target::Target};

/// The longest answer that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// One keep-alive connection, opened when it is first needed and again after it was closed.
pub(crate) struct Connection {
    target: Target,
    timeout: Duration,
    /// Only a connection whose last answer was read to its end is kept.
    idle: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// A connection on which every request may take `timeout`.
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout, idle: None }
    }

    /// Asks `/home` with `request_id`; returns the name of the replica that answered. A POST has the id as its body.
    pub(crate) async fn home(
        &mut self,
        method: Method,
        request_id: u32,
    ) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Home {
            id: String,
        }
        let id = request_id.to_string();
        let body = if method == Method::POST { id.clone() } else { String::new() };
        let (status, body) = self.ask(method, "/home", &[("x-request-id", &id)], body).await?;
        let body = only_200(status, body)?;
        let Home { id } = serde_json::from_slice(&body).map_err(|_| Failure::Body)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if id.is_empty() || !id.chars().all(allowed) {
            return Err(Failure::Body);
        }
        Ok(id)
    }

    /// The body of the 200 that answers a GET of `path`, which must be valid in a request.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, Failure> {
        let (status, body) = self.ask(Method::GET, path, &[], String::new()).await?;
        only_200(status, body)
    }

    /// The status and body of whatever answers a request; its path and headers must be valid.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.authority());
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::from(body))
            .expect("a path and headers of our own and the authority of a URL make a request");
        timeout(self.timeout, self.exchange(request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (response, connection) = self.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        if body.is_ok() {
            self.idle = Some(connection);
        }
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(_) if status != StatusCode::OK => Err(Failure::Status(status.as_u16())),
            Err(_) => Err(Failure::Body),
        }
    }

    async fn send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Failure> {
        let mut request = request;
        if let Some(mut connection) = self.idle.take()
            && connection.ready().await.is_ok()
        {
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                // Given back only if the idle connection was closed before a byte of the request
                // was written. In any other case the target may have seen it, and the failure must
                // be counted.
                Err(mut error) => request = error.take_message().ok_or(Failure::Closed)?,
            }
        }
        let mut connection = self.connect().await.map_err(|_| Failure::Connect)?;
        let response = connection.send_request(request).await.map_err(|_| Failure::Closed)?;
        Ok((response, connection))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = self.target.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection); // Its errors reach whoever sends on it.
        Ok(sender)
    }
}

fn only_200(status: StatusCode, body: Bytes) -> Result<Bytes, Failure> {
    match status {
        StatusCode::OK => Ok(body),
        status => Err(Failure::Status(status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    const HOME: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"id\":\"S1\"}";

    /// A target that answers one request per connection and closes it, at once or when a second
    /// request came; counts its connections.
    async fn closing_target(wait_for_second: bool) -> (Target, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Arc::new(AtomicU32::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(HOME).await;
                if wait_for_second {
                    let _ = stream.read(&mut request).await;
                }
            }
        });
        (target, connections)
    }

    #[tokio::test]
    async fn a_connection_closed_while_idle_is_no_failure() {
        let (target, connections) = closing_target(false).await;
        let mut connection = Connection::new(target, DEADLINE);
        for _ in 0..2 {
            assert_eq!(connection.home(Method::GET, 132_574).await, Ok("S1".into()));
            let closed = async {
                while !connection.idle.as_ref().is_some_and(SendRequest::is_closed) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(DEADLINE, closed).await.expect("the target closes the connection");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_request_that_the_target_may_have_seen_is_not_sent_again() {
        let (target, connections) = closing_target(true).await;
        let mut connection = Connection::new(target, DEADLINE);
        assert_eq!(connection.home(Method::GET, 132_574).await, Ok("S1".into()));
        assert_eq!(connection.home(Method::GET, 132_574).await, Err(Failure::Closed));
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_answer_outside_the_contract_is_a_failure() {
        let answers = [
            ("200 OK", r#"{"id":"S1"}"#, Ok("S1".to_owned())),
            ("200 OK", r#"{"id":"S,1"}"#, Err(Failure::Body)),
            ("200 OK", r#"{"id":""}"#, Err(Failure::Body)),
            ("200 OK", r#"{"id":1}"#, Err(Failure::Body)),
            ("200 OK", "", Err(Failure::Body)),
            ("204 No Content", "", Err(Failure::Status(204))),
            ("503 Service Unavailable", r#"{"id":"S1"}"#, Err(Failure::Status(503))),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target: Target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        for (status, body, expected) in answers {
            let mut connection = Connection::new(target.clone(), DEADLINE);
            let answer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            };
            let (found, request) = tokio::join!(connection.home(Method::GET, 132_574), answer);
            assert_eq!(found, expected, "{status} {body}");
            assert!(request.contains("x-request-id: 132574\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target: Target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut connection = Connection::new(target, Duration::from_millis(20));
        assert_eq!(connection.home(Method::GET, 132_574).await, Err(Failure::Timeout));
    }
}
