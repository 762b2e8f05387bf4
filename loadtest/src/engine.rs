//! Engines of containers, through the `docker` command: the one of this machine, and one of the experiment's own.

mod guest;
mod own;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_yaml::{Mapping, Value};
use tempfile::TempDir;

pub(crate) use self::{guest::Guest, own::OwnEngine};
use crate::running::beside;

/// Where a replica in a container writes down what it serves: the only place there that it can write to.
const SERVED_LOG: &str = "/dev/shm/served.log";

/// The `docker` command, and which engine it speaks to.
pub(crate) struct Docker {
    /// `None`: the one that it speaks to by itself.
    host: Option<String>,
}

impl Docker {
    /// Speaks to the engine of this machine, or to that which the environment names.
    pub(crate) fn of_machine() -> Self {
        Self { host: None }
    }

    /// What it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["--host", host]);
        }
        let told = || format!("docker {}", arguments.join(" "));
        let output = command.args(arguments).stdin(Stdio::null()).output().with_context(told)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", told(), said.trim_end());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Makes an image of the replica that is built together with this program, and of the libraries that it loads.
    pub(crate) fn import_replica(&self, image: &str) -> anyhow::Result<()> {
        let dir = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
        let root = dir.path().join("root");
        let program = beside("ringmaster")?;
        copy(&program, &root.join("ringmaster"))?;
        for library in libraries(&program)? {
            copy(Path::new(&library), &root.join(library.trim_start_matches('/')))?;
        }
        let archive = dir.path().join("image.tar");
        let tar =
            Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").status();
        ensure!(tar.context("starting tar")?.success(), "tar failed");
        let archive = archive.display().to_string();
        let entry = r#"ENTRYPOINT ["/ringmaster", "replica"]"#;
        self.run(&["import", "--change", entry, "--change", "USER 65534", &archive, image])?;
        Ok(())
    }

    /// The keys of a pool whose replicas are containers of the `image`, which it made before, on a `network`.
    pub(crate) fn pool(&self, image: &str, network: &str) -> Mapping {
        let environment = Mapping::from_iter([("SERVED_LOG".into(), SERVED_LOG.into())]);
        let socket = self.host.as_deref().and_then(|it| it.strip_prefix("unix://"));
        let docker = Mapping::from_iter([
            ("image".into(), image.into()),
            ("network".into(), network.into()),
            ("environment".into(), Value::Mapping(environment)),
            ("socket".into(), socket.map_or(Value::Null, Value::from)),
        ]);
        Mapping::from_iter([
            ("provider".into(), "docker".into()),
            ("docker".into(), Value::Mapping(docker)),
        ])
    }
}

/// What the loader finds for a program; nothing for one that is static.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path =
        |line: &str| line.split_whitespace().find(|it| it.starts_with('/')).map(str::to_owned);
    Ok(text.lines().filter_map(path).collect())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let told = || format!("copying {} to {}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(told)?;
    }
    fs::copy(from, to).map(drop).with_context(told)
}
