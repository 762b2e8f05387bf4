//! Runs an experiment through the real binary and reads what it leaves.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use axum::Router;
use serde_json::Value;
use tokio::{net::TcpListener, process::Command};

/// What a run left behind.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) summary: Value,
    out: PathBuf,
}

impl Outcome {
    pub(crate) async fn of(name: &str, out: PathBuf, arguments: &[String]) -> Self {
        let output = experiment(name, &out, arguments).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        let summary =
            fs::read(out.join("summary.json")).unwrap_or_else(|_| panic!("no summary: {stderr}"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr,
            summary: serde_json::from_slice(&summary).unwrap(),
            out,
        }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.out.join(name)).unwrap()
    }
}

/// An empty directory for the results of one run.
pub(crate) fn results(name: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

pub(crate) async fn experiment(name: &str, out: &Path, arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster-loadtest"));
    command.arg(name).arg("--out").arg(out).args(arguments).output().await.unwrap()
}

pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
