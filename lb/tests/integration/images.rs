//! The images: small, without a shell, not run by root, and well by their own word. Needs a Docker engine.

use std::{
    path::Path,
    process::{self, Output, Stdio},
};

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{docker::an_engine_answers, http, until};

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
