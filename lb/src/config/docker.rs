//! The section of a pool whose replicas are containers.

use super::{DockerConfig, ServerId, forms, reader::Reader};

/// The least that the engine takes, and one TiB.
const MEMORY_MB: std::ops::RangeInclusive<u64> = 6..=1 << 20;
/// The least that the engine takes, and more cores than a machine has.
const CPU_MILLIS: std::ops::RangeInclusive<u64> = 10..=1_024_000;
/// As many as the kernel can count.
const PIDS: std::ops::RangeInclusive<u64> = 1..=1 << 22;

/// Reads it; `None` if it names no image.
pub(super) fn docker(docker: &mut Reader<'_>) -> Option<DockerConfig> {
    let image = docker.text("image", None, &forms::IMAGE);
    let config = DockerConfig {
        image: image.clone().unwrap_or_default(),
        command: docker.texts("command", Vec::new(), &forms::WORD),
        environment: docker.texts_by_text("environment", &forms::VARIABLE, &forms::WORD),
        network: docker.text("network", "net1".to_owned(), &forms::CLUSTER),
        port: docker.number("port", 5000, 1..=u16::MAX),
        memory_mb: docker.number("memory_mb", 256, MEMORY_MB),
        cpu_millis: docker.number("cpu_millis", 1_000, CPU_MILLIS),
        pids: docker.number("pids", 128, PIDS),
        read_only: docker.flag("read_only", true),
        socket: docker.text("socket", None, &forms::FILE),
        spawner: docker.text("spawner", None, &forms::FILE),
        // The pool's section says it.
        server_id: ServerId::Number,
    };
    docker.rule(
        config.socket.is_none() || config.spawner.is_none(),
        &["spawner", "socket"],
        || "not together with socket, which the spawner has instead".to_owned(),
    );
    image.map(|_| config)
}
