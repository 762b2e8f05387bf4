//! A backend that reads requests as strictly as it can, remembers them, and answers with given bytes. It may be several
//! replicas of a pool at once: each has an address of its own, and all of them one script and one memory.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

/// Connections that wait to be accepted: few enough that the queue can be filled.
const BACKLOG: u32 = 128;

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What the backend says to requests.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) answer: Vec<u8>,
    pub(crate) then_close: bool,
    /// Requests are neither answered nor is their connection closed in good order.
    then_reset: bool,
    /// Each answer takes a permit, and waits for one.
    gate: Option<Arc<Semaphore>>,
}

/// One or more replicas of a pool with `provider: fixed`.
pub(crate) struct Backend {
    addrs: Vec<SocketAddr>,
    sender: mpsc::UnboundedSender<Result<Recorded, String>>,
    requests: mpsc::UnboundedReceiver<Result<Recorded, String>>,
    script: Arc<Mutex<Script>>,
    /// One for each address, where it listens.
    listeners: Vec<Arc<TcpListener>>,
    accepting: JoinSet<()>,
    /// Connections that nobody accepts.
    clogging: Vec<TcpStream>,
}

impl Backend {
    /// One replica. It answers everything with [`OK`] at first.
    pub(crate) async fn start() -> Self {
        Self::with_replicas(1).await
    }

    /// As many replicas as that, which nobody can tell from each other.
    pub(crate) async fn with_replicas(count: usize) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let script =
            Script { answer: OK.to_vec(), then_close: false, then_reset: false, gate: None };
        let mut backend = Self {
            addrs: vec!["127.0.0.1:0".parse().unwrap(); count],
            sender,
            requests,
            script: Arc::new(Mutex::new(script)),
            listeners: Vec::new(),
            accepting: JoinSet::new(),
            clogging: Vec::new(),
        };
        backend.accept().await;
        backend
    }

    /// As many backends as that, each with a script of its own.
    pub(crate) async fn start_many(count: usize) -> Vec<Self> {
        let mut backends = Vec::new();
        for _ in 0..count {
            backends.push(Self::start().await);
        }
        backends
    }

    /// Takes connections, if it is not doing so already.
    pub(crate) async fn accept(&mut self) {
        for addr in &mut self.addrs {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(*addr).unwrap();
            let listener = Arc::new(socket.listen(BACKLOG).unwrap());
            *addr = listener.local_addr().unwrap();
            self.listeners.push(listener.clone());
            let (sender, script) = (self.sender.clone(), self.script.clone());
            self.accepting.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, sender.clone(), script.clone()));
                }
            });
        }
    }

    /// Where its first replica listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// A configuration of a pool with only its replicas, called S1, S2 and so on.
    pub(crate) fn pool(&self, more: &str) -> String {
        pool(std::slice::from_ref(self), more.trim_start_matches([',', ' ']))
    }

    pub(crate) fn says(&self, answer: &[u8], then_close: bool) {
        let mut script = self.script.lock().unwrap();
        (script.answer, script.then_close) = (answer.to_vec(), then_close);
    }

    /// From here on requests are answered only as permits are added.
    pub(crate) fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.script.lock().unwrap().gate = Some(gate.clone());
        gate
    }

    /// Reads requests, and resets their connections without an answer.
    pub(crate) fn resets(&self) {
        self.script.lock().unwrap().then_reset = true;
    }

    /// Refuses further connections.
    pub(crate) async fn refuse(&mut self) {
        self.stop_accepting().await;
        self.listeners.clear();
    }

    /// Resets further connections before it has read anything from them, heartbeats included.
    pub(crate) async fn reset_connections(&mut self) {
        self.stop_accepting().await;
        for listener in &self.listeners {
            let listener = listener.clone();
            self.accepting.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    reset(stream);
                }
            });
        }
    }

    /// Neither accepts nor refuses further connections, as behind a firewall that drops packets.
    pub(crate) async fn ignore(&mut self) {
        self.stop_accepting().await;
        let connect = async |addr| {
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr)).await
        };
        for addr in &self.addrs {
            while let Ok(stream) = connect(*addr).await {
                self.clogging.push(stream.unwrap());
            }
        }
    }

    async fn stop_accepting(&mut self) {
        self.accepting.shutdown().await;
    }

    /// Every request that was received since the last call; what is no request fails the test.
    pub(crate) fn received(&mut self) -> Vec<Recorded> {
        let mut received = Vec::new();
        while let Ok(request) = self.requests.try_recv() {
            received.push(request.unwrap_or_else(|bytes| panic!("no request: {bytes:?}")));
        }
        received
    }
}

/// A configuration of a pool with the replicas of all of them, called S1, S2 and so on.
pub(crate) fn pool(backends: &[Backend], more: &str) -> String {
    let addrs = backends.iter().flat_map(|it| &it.addrs);
    let fixed: Vec<_> =
        (1..).zip(addrs).map(|(number, addr)| format!("S{number}: '{addr}'")).collect();
    let fixed = fixed.join(", ");
    format!("pools: {{ default: {{ provider: fixed, fixed: {{ {fixed} }}, {more} }} }}")
}

async fn serve(
    mut stream: TcpStream,
    requests: mpsc::UnboundedSender<Result<Recorded, String>>,
    script: Arc<Mutex<Script>>,
) {
    let mut unread = Vec::new();
    loop {
        let request = match next(&mut stream, &mut unread).await {
            Ok(Some(request)) => request,
            // It ended between two requests, or broke off in one: nothing was asked.
            Ok(None) => return,
            Err(bytes) => {
                let _ = requests.send(Err(bytes));
                return;
            }
        };
        if request.line == "GET /heartbeat" {
            let _ = stream.write_all(OK).await;
            continue;
        }
        let said = script.lock().unwrap().clone();
        let _ = requests.send(Ok(request));
        if let Some(gate) = said.gate {
            gate.acquire().await.unwrap().forget();
        }
        if said.then_reset {
            return reset(stream);
        }
        if stream.write_all(&said.answer).await.is_err() || said.then_close {
            return;
        }
    }
}

/// Closes a connection by a reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// Reads one request with one meaning; `Err` with the bytes that are not one.
async fn next(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<Option<Recorded>, String> {
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let end = loop {
        if let Some(end) = find(unread, b"\r\n\r\n") {
            break end + 4;
        }
        if !more(stream, unread).await {
            return if unread.is_empty() { Ok(None) } else { Err(shown(unread)) };
        }
    };
    let head: Vec<u8> = unread.drain(..end).collect();
    let Ok(head) = String::from_utf8(head.clone()) else { return Err(shown(&head)) };
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default();
    let Some(line) = line.strip_suffix(" HTTP/1.1").or(line.strip_suffix(" HTTP/1.0")) else {
        return Err(shown(head.as_bytes()));
    };
    let mut length = None;
    let mut hosts = 0;
    for field in lines {
        let Some((name, value)) = field.split_once(": ") else {
            return Err(shown(head.as_bytes()));
        };
        let is_strange = |it: char| it.is_control() || it == ' ';
        if name.contains(is_strange) || value.contains(['\r', '\n', '\0']) {
            return Err(shown(head.as_bytes()));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" | "transfer-encoding" if length.is_some() => {
                return Err(shown(head.as_bytes()));
            }
            "content-length" => length = Some(value.parse().map_err(|_| shown(head.as_bytes()))?),
            "transfer-encoding" if value == "chunked" => length = Some(usize::MAX),
            "transfer-encoding" => return Err(shown(head.as_bytes())),
            _ => {}
        }
    }
    if hosts != 1 {
        return Err(shown(head.as_bytes()));
    }
    let body = match length {
        None => Some(Vec::new()),
        Some(usize::MAX) => chunked(stream, unread).await?,
        Some(length) => exactly(stream, unread, length).await,
    };
    Ok(body.map(|body| Recorded { line: line.to_owned(), head: head.clone(), body }))
}

async fn chunked(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        while find(unread, b"\r\n").is_none() {
            if !more(stream, unread).await {
                return Ok(None);
            }
        }
        let end = find(unread, b"\r\n").unwrap_or_default();
        let size: Vec<u8> = unread.drain(..end + 2).take(end).collect();
        let size = String::from_utf8_lossy(&size).into_owned();
        let length = usize::from_str_radix(&size, 16).map_err(|_| size)?;
        let Some(chunk) = exactly(stream, unread, length + 2).await else { return Ok(None) };
        let Some(chunk) = chunk.strip_suffix(b"\r\n") else { return Err("a chunk".to_owned()) };
        if length == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
    }
}

async fn exactly(stream: &mut TcpStream, unread: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while unread.len() < length {
        if !more(stream, unread).await {
            return None;
        }
    }
    Some(unread.drain(..length).collect())
}

async fn more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(unread).await, Ok(1..))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}
