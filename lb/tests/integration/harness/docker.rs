//! A real Docker engine, the one that `docker` on this machine speaks to, and everything that a test makes on it.
//!
//! What a [`Lab`] makes carries its name, and goes with it, also when the test fails. Replicas have names of their own
//! in each test, since names are shared by all who use the engine.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Mutex, MutexGuard, Once, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::DEADLINE;

/// The tests that need an engine, for counting those that were not run.
const SOURCES: [&str; 15] = [
    include_str!("../docker/adoption.rs"),
    include_str!("../docker/classic.rs"),
    include_str!("../docker/doctor.rs"),
    include_str!("../docker/engine.rs"),
    include_str!("../docker/faults.rs"),
    include_str!("../docker/holds.rs"),
    include_str!("../docker/life.rs"),
    include_str!("../docker/networks.rs"),
    include_str!("../docker/refused.rs"),
    include_str!("../docker/renames.rs"),
    include_str!("../docker/tls.rs"),
    include_str!("../spawner/life.rs"),
    include_str!("../spawner/refused.rs"),
    include_str!("../swarm.rs"),
    include_str!("../upgrade/containers.rs"),
];

/// What the image consists of.
const PROGRAMS: [&str; 2] = ["ringmaster-server", "hog"];

/// So that a container which is slow to start means something.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a test makes on the engine.
pub(crate) struct Lab {
    /// The cluster, the network, the image and the beginning of each replica's name.
    pub(crate) id: String,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Waits for its turn. Without an engine there is none, which is said once; if the environment has
    /// `RINGMASTER_DOCKER=require`, the test fails instead.
    pub(crate) fn open() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if !an_engine_answers() {
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("rt{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { id, _turn: turn };
        lab.import(programs());
        Some(lab)
    }

    /// The name of a replica of this test.
    pub(crate) fn name(&self, suffix: impl std::fmt::Display) -> String {
        format!("{}-{suffix}", self.id)
    }

    /// Replicas `…-1` to `…-n`.
    pub(crate) fn names(&self, n: usize) -> Vec<String> {
        (1..=n).map(|number| self.name(number)).collect()
    }

    /// A configuration with `keys` for the pool and `docker` for its containers beside what each test needs.
    pub(crate) fn config(&self, keys: &str, docker: &str) -> String {
        self.config_of("docker", keys, docker)
    }

    /// The same for another provider of containers.
    pub(crate) fn config_of(&self, provider: &str, keys: &str, docker: &str) -> String {
        let id = &self.id;
        let network = match docker.contains("network:") {
            true => String::new(),
            false => format!("network: {id}, "),
        };
        format!(
            "cluster: {id}\n\
             pools: {{ default: {{ provider: {provider}, docker: {{ {network}{docker} }}, {keys} }} }}"
        )
    }

    /// The image of the replica, as a key of the configuration.
    pub(crate) fn image(&self) -> String {
        format!("image: '{}'", self.id)
    }

    /// The containers of the cluster, running or not, in order of their names.
    pub(crate) fn containers(&self) -> Vec<String> {
        list(&format!("label=ringmaster.cluster={}", self.id))
    }

    /// The volumes by which balancers claim the cluster.
    pub(crate) fn claims(&self) -> Vec<String> {
        let filter = format!("label=ringmaster.claim={}", self.id);
        let names = docker(&["volume", "ls", "--quiet", "--filter", &filter]);
        names.lines().map(str::to_owned).collect()
    }

    /// The ids of the networks with the name of this test.
    pub(crate) fn networks(&self) -> String {
        docker(&["network", "ls", "--quiet", "--filter", &format!("name=^{}$", self.id)])
    }

    fn import(&self, folder: &Path) {
        let mut archive = Command::new("tar")
            .arg("-cC")
            .arg(folder)
            .args(PROGRAMS)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Command::new("docker")
            .args(["import", "--change", r#"ENTRYPOINT ["/ringmaster-server"]"#])
            .args(["--change", "USER 65534", "-", &self.id])
            .stdin(archive.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(archive.wait().unwrap().success());
        answer(&output).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The engine may still carry out what it was asked before the balancer was killed.
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            // Some have generated names, some were not made by a balancer.
            let mut containers = list(&format!("name=^/?{}-", self.id));
            containers.extend(self.containers());
            if containers.is_empty() {
                break;
            }
            for name in containers {
                let _ = try_docker(&["rm", "-fv", &name]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for claim in self.claims() {
            let _ = try_docker(&["volume", "rm", &claim]);
        }
        let _ = try_docker(&["network", "rm", &self.id]);
        let _ = try_docker(&["rmi", &self.id]);
    }
}

/// Runs `docker` with these arguments; answers what it prints.
pub(crate) fn docker(args: &[&str]) -> String {
    try_docker(args).unwrap_or_else(|error| panic!("docker {}: {error}", args.join(" ")))
}

/// What the engine knows of a container.
pub(crate) fn inspect(name: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", name])).unwrap()[0].take()
}

fn list(filter: &str) -> Vec<String> {
    let names = docker(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]);
    let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// The same where a failure is an answer.
pub(crate) fn try_docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output();
    answer(&output.map_err(|error| error.to_string())?)
}

fn answer(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Whether an engine answers. If not, that is said once; where one is required, the test fails instead.
pub(crate) fn an_engine_answers() -> bool {
    if let Err(reason) = engine() {
        let required = std::env::var("RINGMASTER_DOCKER").is_ok_and(|it| it == "require");
        assert!(!required, "no engine answers: {reason}");
        report_not_run(reason);
    }
    engine().is_ok()
}

/// Whether an engine answers; if not, why.
fn engine() -> &'static Result<String, String> {
    static ENGINE: OnceLock<Result<String, String>> = OnceLock::new();
    ENGINE.get_or_init(|| try_docker(&["version", "--format", "{{.Server.Version}}"]))
}

fn report_not_run(reason: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tests: usize =
            SOURCES.iter().map(|source| source.matches("#[tokio::test]\n").count()).sum();
        let reason = reason.lines().next().unwrap_or("");
        // Not by a macro, whose output a test that passes swallows.
        let line = format!("{tests} docker tests not run: no engine answers: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    });
}

/// The folder with [`PROGRAMS`], which need nothing around them. Built once.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        const STATIC: &str = "-Ctarget-feature=+crt-static";
        let target = Path::new(env!("CARGO_BIN_EXE_ringmaster")).ancestors().nth(2).unwrap();
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        // A target directory of its own: other flags would throw away what is built there.
        let target = target.join("static-dev");
        let server = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "ringmaster-server", "--target", &triple])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", STATIC)
            .output()
            .unwrap();
        answer(&server).unwrap();
        let folder = target.join(triple).join("debug");
        let hog = Command::new("rustc")
            .args([STATIC, "tests/integration/docker/hog.rs", "-o"])
            .arg(folder.join("hog"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        answer(&hog).unwrap();
        folder
    })
}
