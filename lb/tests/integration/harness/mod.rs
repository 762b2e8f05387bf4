//! Starts the real binary on free ports and speaks to it over real sockets.
//!
//! Waits are conditions with a deadline. What a balancer leaves behind when a test fails is ended with it: its
//! replicas end themselves without heartbeats.
//!
//! Invariant: no test passes that leaves a balancer without having checked that it is idle ([`idle`]), or having said why
//! that cannot be checked ([`Balancer::abandon`]).

pub(crate) mod backend;
pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod load;
pub(crate) mod relay;
pub(crate) mod swarm;
pub(crate) mod tls;

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use self::{http::Answer, idle::Subject};

/// Longer than anything takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A running balancer.
pub(crate) struct Balancer {
    pub(crate) proxy: SocketAddr,
    /// Over TLS, if that is configured.
    pub(crate) secure: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    child: Child,
    output: Output,
    config: Option<NamedTempFile>,
    /// What it tells its metrics for, where not everybody is trusted.
    token: Option<String>,
    /// Whether its end was checked, or is not to be.
    is_settled: bool,
}

/// A replica that no balancer keeps; it ends with the test.
pub(crate) struct Replica {
    pub(crate) addr: SocketAddr,
    _child: Child,
}

impl Replica {
    /// Starts one with these arguments beside its address.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut child = ringmaster()
            .args(["replica", "--listen", "127.0.0.1:0", "--name", "S1"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let addr = line.unwrap().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { addr, _child: child }
    }
}

/// Everything that a process wrote so far, line by line.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    pub(crate) fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.0.clone();
        tokio::spawn(async move {
            let mut input = BufReader::new(stream).lines();
            while let Ok(Some(line)) = input.next_line().await {
                lines.lock().unwrap().push(line);
            }
        });
    }
}

/// The binary under test, with no configuration yet.
pub(crate) fn ringmaster() -> Command {
    command(env!("CARGO_BIN_EXE_ringmaster").as_ref())
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").kill_on_drop(true);
    command
}

/// A configuration file with `yaml` in it.
pub(crate) fn config_file(yaml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".yaml").unwrap();
    file.write_all(flush_left(yaml).as_bytes()).unwrap();
    file
}

/// Without the indentation that all lines share, so that a configuration can stand inside a test.
fn flush_left(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let shared = lines().map(indent).min().unwrap_or(0);
    lines().map(|line| format!("{}\n", &line[shared..])).collect()
}

/// Where `yaml` does not say where to listen, anywhere.
fn with_free_ports(yaml: &str) -> String {
    let listen = if yaml.contains("\nlisten:") { "" } else { "listen: 127.0.0.1:0\n" };
    let admin = if yaml.contains("admin:") { "" } else { "admin: { listen: 127.0.0.1:0 }\n" };
    format!("{listen}{admin}{}", flush_left(yaml))
}

/// The numbers of replicas with which a promise is checked that does not depend on their number. Which one it is gets
/// printed, and is seen where a test fails.
pub(crate) fn pool_sizes() -> impl Iterator<Item = usize> {
    [1, 2, 3].into_iter().inspect(|size| eprintln!("with {size} replicas"))
}

/// The names of that many replicas that were not given any.
pub(crate) fn server_names(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|number| format!("Server{number}"))
}

/// A pool of that many replicas. Where there is no other, requests wait for one that was killed, however long its start
/// takes on a busy machine; others do not need to wait.
pub(crate) fn healing_pool(size: usize) -> String {
    let hold_ms = if size == 1 { 60_000 } else { 2_000 };
    format!("pools: {{ default: {{ replicas: {size}, hold: {{ timeout_ms: {hold_ms} }} }} }}")
}

impl Balancer {
    /// Starts with free ports and `yaml` beside them, and waits until every replica serves.
    pub(crate) async fn start(yaml: &str) -> Self {
        let balancer = Self::start_unready(yaml).await;
        balancer.until_printed("ready in").await;
        balancer
    }

    /// Starts a copy of the binary.
    pub(crate) async fn start_program(program: &Path, yaml: &str) -> Self {
        let balancer = Self::with_config(command(program), yaml).await;
        balancer.until_printed("ready in").await;
        balancer
    }

    /// Starts, and waits until it listens.
    pub(crate) async fn start_unready(yaml: &str) -> Self {
        Self::with_config(ringmaster(), yaml).await
    }

    /// Starts with an environment of its own.
    pub(crate) async fn start_in(environment: &[(&str, &Path)], yaml: &str) -> Self {
        let mut command = ringmaster();
        command.envs(environment.iter().copied());
        let balancer = Self::with_config(command, yaml).await;
        balancer.until_printed("ready in").await;
        balancer
    }

    async fn with_config(mut command: Command, yaml: &str) -> Self {
        let file = config_file(&with_free_ports(yaml));
        command.arg("-c").arg(file.path());
        Self::launch(command, Some(file)).await
    }

    /// Starts without any argument, on the default ports.
    pub(crate) async fn start_default() -> Self {
        let balancer = Self::launch(ringmaster(), None).await;
        balancer.until_printed("ready in").await;
        balancer
    }

    /// Starts with a command that says where its configuration is.
    pub(crate) async fn launch(mut command: Command, config: Option<NamedTempFile>) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Output::default();
        output.follow(child.stdout.take().unwrap());
        output.follow(child.stderr.take().unwrap());
        let addr = |text: &str, key: &str| -> Option<SocketAddr> {
            text.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok())
        };
        let (proxy, secure, admin) = until("it listens", async || {
            let text = output.text();
            Some((addr(&text, "proxy=")?, addr(&text, "tls="), addr(&text, "admin=")?))
        })
        .await
        .unwrap_or_else(|| panic!("no line with the addresses in:\n{}", output.text()));
        Self { proxy, secure, admin, child, output, config, token: None, is_settled: false }
    }

    /// Writes another configuration into its file.
    pub(crate) fn rewrite_config(&self, yaml: &str) {
        let file = self.config.as_ref().expect("it was started with a file");
        std::fs::write(file.path(), with_free_ports(yaml)).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// Waits until it has printed `text`.
    pub(crate) async fn until_printed(&self, text: &str) {
        let printed = until(text, async || self.output().contains(text).then_some(())).await;
        assert!(printed.is_some(), "{text:?} was not printed; this was:\n{}", self.output());
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        http::get(self.proxy, path).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        let bearer = self.token.as_ref().map(|it| format!("Bearer {it}"));
        let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
        http::send(self.admin, "GET", path, &headers, "").await.json()
    }

    /// Waits until the metrics have this line: a request is counted when it has ended, a moment after its client
    /// has the answer.
    pub(crate) async fn until_counted(&self, line: &str) {
        let metrics = async || http::get(self.admin, "/metrics").await.body;
        let counted = until(line, async || metrics().await.contains(line).then_some(())).await;
        assert!(counted.is_some(), "{line} is not in:\n{}", metrics().await);
    }

    /// The v1 view of the default pool's replicas.
    pub(crate) async fn replicas(&self) -> Vec<Value> {
        let view = self.admin("/api/v1/pools/default/replicas").await;
        view["replicas"].as_array().expect("a list of replicas").clone()
    }

    pub(crate) async fn replica(&self, name: &str) -> Option<Value> {
        self.replicas().await.into_iter().find(|replica| replica["name"] == name)
    }

    /// Waits until `name` serves with a later incarnation than `since`.
    pub(crate) async fn until_serving(&self, name: &str, since: u64) {
        let serves = async || {
            let replica = self.replica(name).await?;
            let again = replica["phase"] == "serving" && replica["incarnation"].as_u64()? > since;
            again.then_some(())
        };
        assert!(
            until("it serves", serves).await.is_some(),
            "{name} does not serve; {:?}\n{}",
            self.replica(name).await,
            self.output()
        );
    }

    /// Which replica serves each of `keys`.
    pub(crate) async fn owners(&self, keys: impl IntoIterator<Item = u32>) -> Vec<String> {
        let mut owners = Vec::new();
        for key in keys {
            let answer =
                http::send(self.proxy, "GET", "/home", &[("x-request-id", &key.to_string())], "")
                    .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            owners.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
        owners
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Waits for its end, which whoever calls this has brought about.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.is_settled = true;
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end; it printed:\n{}", self.output.text()))
            .unwrap()
    }

    /// What is checked when it is stopped.
    pub(crate) fn subject(&self) -> Subject {
        Subject {
            pid: self.pid(),
            admin: self.admin,
            token: self.token.clone(),
            clients: [self.proxy].into_iter().chain(self.secure).collect(),
        }
    }

    /// Sends `token` where operators need one.
    pub(crate) fn authorize(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// Waits until it is idle: nothing is asked of it any more.
    pub(crate) async fn until_idle(&self) {
        if let Err(fault) = self.subject().idle_within(DEADLINE).await {
            panic!(
                "{fault}
it printed:
{}",
                self.output()
            );
        }
    }

    /// Its end is checked elsewhere.
    pub(crate) fn settled(&mut self) {
        self.is_settled = true;
    }

    /// Lets it go unchecked, for a reason.
    pub(crate) fn abandon(mut self, reason: &str) {
        eprintln!("not checked to be idle: {reason}");
        self.settled();
    }

    /// Ends it as an operator would, and checks that it is idle before, and leaves no replica behind.
    pub(crate) async fn stop(mut self) {
        self.until_idle().await;
        let mut pids = Vec::new();
        for pool in self.admin("/api/v1/pools").await["pools"].as_array().expect("a list of pools")
        {
            let name = pool["name"].as_str().expect("a pool has a name");
            let view = self.admin(&format!("/api/v1/pools/{name}/replicas")).await;
            let replicas = view["replicas"].as_array().expect("a list of replicas");
            pids.extend(replicas.iter().filter_map(|replica| replica["pid"].as_u64()));
        }
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.output());
        for pid in pids {
            assert!(!is_alive(pid as u32), "replica {pid} was left behind");
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let is_checked = self.is_settled || std::thread::panicking();
        assert!(is_checked, "a test must stop() its balancer, or abandon() it and say why");
    }
}

/// Whether a process runs. One that has ended may be listed for as long as its parent does not ask for its status,
/// and who adopts the children of a crashed balancer is not ours to say.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state follows it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Kills a replica as the kernel would.
pub(crate) fn kill_9(replica: &Value) {
    let pid = replica["pid"].as_i64().expect("a process has an id");
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

/// Asks `condition` until it has an answer, at most for [`DEADLINE`].
pub(crate) async fn until<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = condition().await {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            eprintln!("not within {DEADLINE:?}: {what}");
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
