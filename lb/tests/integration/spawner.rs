//! `ringmaster spawner`, spoken to over its socket by a balancer and by whoever is not one.

mod life;
mod refused;

use std::{path::PathBuf, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
};

use crate::harness::{DEADLINE, Output, docker::Lab, ringmaster, until};

/// A running spawner.
struct Spawner {
    folder: TempDir,
    child: Child,
    output: Output,
}

impl Spawner {
    /// Keeps the cluster of `lab`: its image, on its network.
    async fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, output) = launch(&folder, lab).await;
        Self { folder, child, output }
    }

    /// Kills it as the kernel would, and starts another one in its place.
    async fn restart(&mut self, lab: &Lab) {
        self.child.kill().await.unwrap();
        (self.child, self.output) = launch(&self.folder, lab).await;
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The key of a pool's `docker` that names it.
    fn key(&self) -> String {
        format!("spawner: '{}'", self.socket().display())
    }

    /// What it answers to `bytes` after its greeting, up to the end of the connection.
    async fn ask(&self, bytes: &[u8]) -> String {
        let connection = async {
            let mut stream = UnixStream::connect(self.socket()).await.unwrap();
            // It may have heard enough before the end.
            let _ = stream.write_all(bytes).await;
            let mut heard = Vec::new();
            // Closed with something unread, a unix socket is reset: what came before is there all the same.
            let _ = stream.read_to_end(&mut heard).await;
            String::from_utf8(heard).unwrap()
        };
        let heard = tokio::time::timeout(DEADLINE, connection).await.unwrap();
        let answer = heard.strip_prefix("{\"Ok\":2}\n").unwrap_or_else(|| panic!("{heard:?}"));
        assert_eq!(answer.lines().count(), 1, "{answer}");
        answer.to_owned()
    }

    async fn request(&self, request: &Value) -> Value {
        serde_json::from_str(&self.ask(format!("{request}\n").as_bytes()).await).unwrap()
    }

    /// Ends it as an operator would.
    async fn stop(mut self) {
        let pid = self.child.id().expect("it runs");
        kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}\n{}", self.output.text());
        assert!(!self.socket().exists(), "its socket was left behind");
    }
}

async fn launch(folder: &TempDir, lab: &Lab) -> (Child, Output) {
    let mut child = command(folder, lab).spawn().unwrap();
    let output = Output::default();
    output.follow(child.stdout.take().unwrap());
    output.follow(child.stderr.take().unwrap());
    let ready = format!("ready at {}", folder.path().join("socket").display());
    let printed = until(&ready, async || output.text().contains(&ready).then_some(())).await;
    assert!(printed.is_some(), "{ready:?} was not printed; this was:\n{}", output.text());
    (child, output)
}

fn command(folder: &TempDir, lab: &Lab) -> Command {
    let mut command = ringmaster();
    command
        .arg("spawner")
        .arg("--socket")
        .arg(folder.path().join("socket"))
        .args(["--cluster", &lab.id, "--image", &lab.id, "--network", &lab.id])
        .args(["--replicas-max", "4"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// An order that is allowed.
fn order(lab: &Lab, name: &str) -> Value {
    json!({
        "cluster": lab.id,
        "pool": "default",
        "name": name,
        "number": 1,
        "incarnation": 1,
        "image": lab.id,
        "command": [],
        "environment": {"SERVER_ID": "1"},
        "network": lab.id,
        "port": 5000,
        "limits": {"memory_bytes": 64 << 20, "cpu_millis": 500, "pids": 50},
        "read_only": true,
    })
}
