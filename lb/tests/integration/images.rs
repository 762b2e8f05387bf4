//! The images: small, without a shell, not run by root, and well by their own word; and the cluster that compose makes of
//! them. Needs a Docker engine.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{self, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    docker::{an_engine_answers, docker, try_docker},
    http, until,
};

const MEGABYTE: u64 = 1_000_000;

#[tokio::test]
async fn the_images_are_what_they_promise() {
    if !an_engine_answers() {
        return;
    }
    let images = Images::build().await;
    for (name, megabytes_max) in [("ringmaster", 40), ("ringmaster-server", 15)] {
        let image = images.inspect(name).await;
        let size = image["Size"].as_u64().unwrap();
        assert!(size < megabytes_max * MEGABYTE, "{name} has {size} bytes");
        assert_eq!(image["Config"]["User"], "65532:65532", "{name}");
        assert_eq!(image["Config"]["Healthcheck"]["Test"][0], "CMD", "{name} needs a shell");
        let shell = images.run(name, &["--rm", "--entrypoint=/bin/sh"], &["-c", "true"]).await;
        assert_eq!(shell.status.code(), Some(127), "{name}: {}", text(&shell.stderr));
    }

    let replica = images.start("ringmaster-server", &["--hostname=Server7"], &[]).await;
    replica.until_health("healthy").await;
    let home = http::get(replica.address().await, "/home").await;
    let expected = r#"{"message":"Hello from Server: 7","status":"successful","id":"Server7"}"#;
    assert_eq!(home.body, expected);

    let sick = images.start("ringmaster-server", &[], &["--fail-heartbeat-after=0"]).await;
    sick.until_health("unhealthy").await;

    let balancer = images.start("ringmaster", &[], &[]).await;
    balancer.until_health("healthy").await;
    assert_eq!(http::get(balancer.address().await, "/home").await.status, 200);

    let unready = images.start("ringmaster", &[], &["replica"]).await;
    unready.until_health("unhealthy").await;

    an_edited_configuration_is_read_by_a_reload(&images).await;
    compose_uses_and_removes_nothing_but_its_own(&images).await;
}

/// As compose.yaml mounts it. An editor writes a new file, and gives it the name of the old one.
async fn an_edited_configuration_is_read_by_a_reload(images: &Images) {
    let folder = readable(tempfile::tempdir().unwrap());
    let edit = |text: &str| {
        let new = folder.path().join("ringmaster.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, folder.path().join("ringmaster.yaml")).unwrap();
    };
    edit("explain_header: false");
    let mount = format!("--volume={}:/etc/ringmaster:ro", folder.path().display());
    let arguments = ["-c", "/etc/ringmaster/ringmaster.yaml"];
    let balancer = images.start("ringmaster", &[&mount], &arguments).await;
    balancer.until_health("healthy").await;
    let explained = async || {
        let answer = http::get(balancer.address().await, "/home").await;
        answer.headers.contains_key("x-ringmaster")
    };
    assert!(!explained().await);
    edit("explain_header: true");
    docker(&["exec", &balancer.0, "/ringmaster", "reload"]);
    assert!(explained().await);
}

/// Its network exists already, and so does the one that replicas are on by default; both are somebody else's.
async fn compose_uses_and_removes_nothing_but_its_own(images: &Images) {
    let compose = Compose::copy(images);
    if let Err(reason) = compose.is_installed() {
        eprintln!("compose is not tested: {reason}");
        return;
    }
    let name = &compose.name;
    let foreign = docker(&["network", "create", name]);
    let refused = compose.run("up").await;
    let refusal = text(&refused.stderr);
    assert!(!refused.status.success(), "{refusal}");
    assert!(
        refusal.contains(&format!("network {name} exists, and was not made by `make up`")),
        "{refusal}"
    );
    docker(&["network", "rm", &foreign]);

    // The first of the usual subnets is taken.
    let neighbour = format!("{name}-neighbour");
    let subnet = ["--subnet", "172.30.57.0/24"];
    let taken = try_docker(&[&["network", "create"], &subnet[..], &[&neighbour]].concat());
    let up = compose.run("up").await;
    assert!(up.status.success(), "{}\n{}", text(&up.stdout), text(&up.stderr));
    let published = docker(&["port", &compose.balancer(), "5000"]);
    let address = published.lines().next().unwrap().parse().unwrap();
    for path in ["/rep", "/metrics", "/home"] {
        assert_eq!(http::get(address, path).await.status, 200, "{path}");
    }
    for (path, body) in [("/add", "{\"n\":1}"), ("/rm", "{\"n\":1}")] {
        let answer = http::send(address, "POST", path, &[], body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let down = compose.run("down").await;
    assert!(down.status.success(), "{}", text(&down.stderr));
    let label = format!("label=ringmaster.cluster={name}");
    assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", &label]), "");
    let networks = format!("name=^{name}");
    let left = docker(&["network", "ls", "--format", "{{.Name}}", "--filter", &networks]);
    if taken.is_ok() {
        assert_eq!(left, neighbour, "that of somebody else is left");
        docker(&["network", "rm", &neighbour]);
    }
    let foreign = docker(&["network", "create", name]);
    compose.run("down").await;
    assert_eq!(docker(&["network", "inspect", "--format", "{{.Id}}", name]), foreign);
}

/// A copy of what `make up` uses, with names of its own: the cluster of whoever runs the tests is not touched.
struct Compose {
    folder: TempDir,
    name: String,
}

impl Compose {
    fn copy(images: &Images) -> Self {
        let folder = readable(tempfile::tempdir().unwrap());
        let name = format!("ringmaster-compose-{}", images.tag);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in [
            "scripts/compose.sh",
            "scripts/engine.sh",
            "docker/compose.yaml",
            "docker/config/ringmaster.yaml",
        ] {
            let copy = folder.path().join(file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            let text = fs::read_to_string(root.join(file)).unwrap();
            let text = text
                .replace("ringmaster-compose", &name)
                .replace("ringmaster-server:local", &images.name("ringmaster-server"))
                .replace("ringmaster:local", &images.name("ringmaster"))
                .replace(
                    "provider: docker",
                    &format!("provider: docker\n    names: [{name}-1, {name}-2, {name}-3]"),
                );
            fs::write(&copy, text).unwrap();
            fs::set_permissions(&copy, root.join(file).metadata().unwrap().permissions()).unwrap();
        }
        Self { folder, name }
    }

    fn is_installed(&self) -> Result<String, String> {
        let standalone = process::Command::new("docker-compose").arg("version").output();
        match standalone {
            Ok(output) if output.status.success() => Ok(text(&output.stdout)),
            _ => try_docker(&["compose", "version"]),
        }
    }

    async fn run(&self, what: &str) -> Output {
        Command::new(self.folder.path().join("scripts/compose.sh"))
            .arg(what)
            .env("RINGMASTER_PUBLISH", "127.0.0.1:0")
            .env("RINGMASTER_PUBLISH_ADMIN", "127.0.0.1:0")
            .env_remove("OBSERVE")
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap()
    }

    /// The id of the container.
    fn balancer(&self) -> String {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = "label=com.docker.compose.service=balancer";
        docker(&["ps", "--quiet", "--filter", &project, "--filter", service])
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let script = self.folder.path().join("scripts/compose.sh");
        let _ = process::Command::new(script).arg("down").output();
        for network in [&self.name, &format!("{}-neighbour", self.name)] {
            let _ = try_docker(&["network", "rm", network]);
        }
    }
}

/// So that the user in the container can look into it.
fn readable(folder: TempDir) -> TempDir {
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn script(name: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut command = Command::new(scripts.join(name));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Images under a tag of their own. They, and what was made from them, are removed with this.
struct Images {
    tag: String,
}

impl Images {
    /// As `make images` does.
    async fn build() -> Self {
        // Made first, so that half of them is removed, too.
        let images = Self { tag: format!("test-{}", process::id()) };
        let output = script("images.sh")
            .env("TAG", &images.tag)
            // What is tested is the image, not the speed: minutes of optimising would make it no truer.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        images
    }

    fn name(&self, image: &str) -> String {
        format!("{image}:{}", self.tag)
    }

    fn label(&self) -> String {
        format!("ringmaster.test={}", self.tag)
    }

    async fn inspect(&self, image: &str) -> Value {
        inspect(&self.name(image)).await
    }

    /// Runs a container as strictly as compose.yaml does.
    async fn run(&self, image: &str, options: &[&str], args: &[&str]) -> Output {
        Command::new("docker")
            .args(["run", "--label", &self.label(), "--read-only", "--cap-drop=ALL"])
            .args(["--security-opt=no-new-privileges", "--health-interval=300ms"])
            .args(["--health-start-period=1ms", "--health-retries=10"])
            .args(["--publish=127.0.0.1::5000"])
            .args(options)
            .arg(self.name(image))
            .args(args)
            .output()
            .await
            .unwrap()
    }

    async fn start(&self, image: &str, options: &[&str], args: &[&str]) -> Container {
        let output = self.run(image, &[&["--detach"], options].concat(), args).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        Container(text(&output.stdout).trim().to_owned())
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let docker = |args: &[&str]| {
            let output = process::Command::new("docker").args(args).output();
            output.map_or_else(|_| String::new(), |output| text(&output.stdout))
        };
        let label = format!("label={}", self.label());
        for id in docker(&["ps", "--all", "--quiet", "--filter", &label]).lines() {
            docker(&["rm", "--force", "--volumes", id]);
        }
        docker(&["rmi", &self.name("ringmaster"), &self.name("ringmaster-server")]);
    }
}

struct Container(String);

impl Container {
    async fn until_health(&self, status: &str) {
        let health = async || {
            let state = inspect(&self.0).await["State"].take();
            (state["Health"]["Status"] == status).then_some(())
        };
        let reached = until(status, health).await;
        assert!(reached.is_some(), "{}", inspect(&self.0).await["State"]);
    }

    /// Where its port 5000 is published.
    async fn address(&self) -> std::net::SocketAddr {
        let port = inspect(&self.0).await["NetworkSettings"]["Ports"]["5000/tcp"][0].take();
        let address = format!("127.0.0.1:{}", port["HostPort"].as_str().expect("it is published"));
        address.parse().unwrap()
    }
}

async fn inspect(object: &str) -> Value {
    let output = Command::new("docker").args(["inspect", object]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].take()
}
