//! What `ringmaster doctor` says of containers, before they are started and when they do not run.

use crate::harness::{
    Balancer, config_file,
    docker::{Lab, docker},
    ringmaster, until,
};

/// What it prints of a configuration, asking the admin API there.
async fn doctor(config: &str) -> String {
    let config = config_file(config);
    let output = ringmaster().args(["doctor", "-c"]).arg(config.path()).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_stands_in_the_way_of_containers_is_found_before_they_are_started() {
    let Some(lab) = Lab::open() else { return };
    let (image, taken) = (lab.image(), lab.name("taken"));
    docker(&["run", "-d", "--name", &taken, "--network", "none", &lab.id]);
    for (docker_keys, names, expected) in [
        (&*image, vec![], format!("ok    pool default: image {} is there", lab.id)),
        (&image, vec![], format!("ok    pool default: network {} is not there yet", lab.id)),
        (
            "image: 'no.such.registry/x:1'",
            vec![],
            "FAIL  pool default: image no.such.registry/x:1 is not on the engine: `docker pull"
                .into(),
        ),
        (
            &format!("{image}, network: host"),
            vec![],
            "FAIL  pool default: network host has the driver host, not bridge".into(),
        ),
        (
            &image,
            vec![taken.clone()],
            format!("FAIL  pool default: the name {taken} is held by a container of somebody else"),
        ),
        (
            &format!("{image}, socket: /no/such.sock"),
            vec![],
            "FAIL  pool default: no engine at unix:///no/such.sock: ".into(),
        ),
    ] {
        let pool = lab.config(&format!("replicas: 1, names: {names:?}"), docker_keys);
        let out = doctor(&format!("admin: {{ listen: 127.0.0.1:0 }}\n{pool}")).await;
        let told = out.lines().any(|line| line.starts_with(&expected));
        assert!(told, "{expected:?} is not in:\n{out}");
    }
    docker(&["rm", "-f", &taken]);
    assert_eq!(lab.containers(), [""; 0], "looking starts nothing");
}

#[tokio::test]
async fn who_does_not_run_is_named_with_the_reason() {
    let Some(lab) = Lab::open() else { return };
    let keys = format!("{}, command: [--no-such-flag]", lab.image());
    let name = lab.name("1");
    let pool =
        format!("replicas: 1, names: [{name}], backoff: {{ min_ms: 600000, max_ms: 600000 }}");
    let balancer = Balancer::start_unready(&lab.config(&pool, &keys)).await;
    let (proxy, admin) = (balancer.proxy, balancer.admin);
    let config = format!("listen: {proxy}\nadmin: {{ listen: {admin} }}");
    let start = format!("FAIL  pool default, {name}: down, 1 failed starts or runs, next try in ");
    let told = until("the doctor names it", async || {
        let out = doctor(&config).await;
        let line = out.lines().find(|line| line.starts_with(&start));
        line.map(str::to_owned)
    });
    let line = told.await.unwrap_or_else(|| panic!("{}", balancer.output()));
    assert!(line.contains("; last end: exit 2: "), "{line}");
    balancer.stop().await;
}
