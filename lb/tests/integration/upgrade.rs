//! Another process takes over: from a running balancer, with its sockets and its replicas, while it is used.

mod containers;
mod load;
mod refused;
mod secure;
mod successor;
mod systemd;
mod tunnel;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::{load::Mixed, successor::Service, tunnel::Tunnel};
use crate::{
    cli::run,
    harness::{
        Balancer, backend::Backend, config_file, http, is_alive, pool_sizes, ringmaster, until,
    },
};

/// name → what must not change.
async fn facts(admin: std::net::SocketAddr) -> BTreeMap<String, Value> {
    let view = http::get(admin, "/api/v1/pools/default/replicas").await.json();
    let fact = |it: &Value| {
        let name = it["name"].as_str().unwrap().to_owned();
        (name, json!([it["number"], it["incarnation"], it["address"], it["pid"], it["phase"]]))
    };
    view["replicas"].as_array().unwrap().iter().map(fact).collect()
}

fn keys() -> impl Iterator<Item = u32> {
    (0..100).map(|it| 100_000 + it * 8_971)
}

#[tokio::test]
async fn twenty_upgrades_under_load_are_not_noticed() {
    for size in pool_sizes() {
        let mut service =
            Service::start(&format!("pools: {{ default: {{ replicas: {size} }} }}")).await;
        let (proxy, admin) = (service.proxy, service.admin);
        let added = r#"{"n":1,"hostnames":["Extra"]}"#;
        assert_eq!(http::send(proxy, "POST", "/add", &[], added).await.status, 200);
        let removed = format!(r#"{{"n":1,"hostnames":["Server{size}"]}}"#);
        assert_eq!(http::send(proxy, "DELETE", "/rm", &[], &removed).await.status, 200);
        let before = facts(admin).await;
        let owners = service.owners(keys()).await;
        let version = http::get(admin, "/api/v1/pools/default").await.json()["version"].take();
        let load = Mixed::start(proxy, admin);
        for _ in 0..if size == 3 { 20 } else { 5 } {
            load.until_each_has_sent(20).await;
            service.upgrade("").await;
            assert_eq!(
                facts(admin).await,
                before,
                "no replica restarts, and none changes its phase"
            );
        }
        load.until_each_has_sent(20).await;
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {:?}", outcome.sent);
        assert_eq!(service.owners(keys()).await, owners, "no key moves");
        let pool = http::get(admin, "/api/v1/pools/default").await.json();
        assert_eq!(pool["version"], version, "nor does the version");
        // They are kept as if they were its own: a death is noticed, and mended.
        let pid = before["Extra"][3].as_u64().unwrap();
        service.kill(pid);
        let mended = async || (facts(admin).await["Extra"][1] == 2).then_some(());
        assert!(until("it is started again", mended).await.is_some(), "{}", service.output());
        service.stop().await;
    }
}

#[tokio::test]
async fn what_was_written_down_is_kept_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let yaml =
        format!("state_file: {}\nclient: {{ keepalive_min_timeout_ms: 600000 }}", path.display());
    let mut service = Service::start(&yaml).await;
    let added = r#"{"n":1,"hostnames":["Extra"]}"#;
    assert_eq!(http::send(service.proxy, "POST", "/add", &[], added).await.status, 200);
    let before = facts(service.admin).await;
    for _ in 0..3 {
        service.upgrade("").await;
        assert_eq!(facts(service.admin).await, before);
    }
    let another =
        config_file(&format!("listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\n{yaml}"));
    let refused = ringmaster().arg("-c").arg(another.path()).output().await.unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("another balancer uses it"), "{text}");

    // A crash after an upgrade is survived like any other, also while the process before has a client.
    let mut idle = http::Connection::open(service.proxy).await.unwrap();
    assert_eq!(idle.send("GET", "/home", &[], "").await.unwrap().status, 200);
    let old = service.pid();
    service.upgrade("").await;
    let rep = http::get(service.proxy, "/rep").await.json();
    service.crash().await;
    assert!(is_alive(old));
    let balancer = Balancer::start(&yaml).await;
    assert_eq!(facts(balancer.admin).await, before);
    assert_eq!(balancer.get("/rep").await.json(), rep);
    drop(idle);
    balancer.stop().await;
}

#[tokio::test]
async fn requests_in_progress_end_in_the_old_process_and_new_ones_go_to_the_new_one() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let gate = backend.hold();
        let mut service = Service::start(&backend.pool("")).await;
        let proxy = service.proxy;
        let asked = tokio::spawn(async move { http::get(proxy, "/home").await });
        service.until_open(1).await;
        let old = service.pid();
        service.upgrade("").await;
        assert_eq!(facts(service.admin).await["S1"][4], "serving");
        let meanwhile = tokio::spawn(async move { http::get(proxy, "/home").await });
        service.until_open(1).await;
        assert!(is_alive(old) && !asked.is_finished(), "it has a request in hand");
        gate.add_permits(2);
        assert_eq!(asked.await.unwrap().status, 200);
        assert_eq!(meanwhile.await.unwrap().status, 200);
        service.until_alone().await;
        service.stop().await;
    }
}

#[tokio::test]
async fn a_websocket_lives_on_in_the_old_process() {
    let mut service = Service::start(&tunnel::pool().await).await;
    let mut tunnel = Tunnel::open(service.proxy).await;
    let old = service.pid();
    service.upgrade("").await;
    assert!(tunnel.passes("still here").await, "{}", service.output());
    assert!(is_alive(old));
    drop(tunnel);
    service.until_alone().await;
    service.stop().await;
}

#[tokio::test]
async fn what_is_down_stays_so_with_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ringmaster");
    std::fs::copy(env!("CARGO_BIN_EXE_ringmaster"), &program).unwrap();
    let mut service = Service::start_program(&program, "").await;
    // Nothing can be started for now, so that the one that is killed waits longer and longer.
    let away = folder.path().join("away");
    std::fs::rename(&program, &away).unwrap();
    let victim = facts(service.admin).await["Server1"].clone();
    service.kill(victim[3].as_u64().unwrap());
    let view = async |admin| {
        let view = http::get(admin, "/api/v1/pools/default/replicas").await.json();
        view["replicas"][0].clone()
    };
    let admin = service.admin;
    let waits = async || {
        let replica = view(admin).await;
        (replica["attempts"].as_u64()? >= 5 && replica["phase"] == "down").then_some(replica)
    };
    let before = until("it waits", waits).await.unwrap();
    service.upgrade(away.to_str().unwrap()).await;
    let after = view(admin).await;
    assert_eq!(after["phase"], "down", "{after}");
    assert!(after["attempts"].as_u64() >= before["attempts"].as_u64(), "{after}");
    let reason = after["last_exit"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot start "), "{after}");
    // The new process runs replicas of its own program, which is there.
    let mended = async || (view(admin).await["phase"] == "serving").then_some(());
    assert!(until("it serves", mended).await.is_some(), "{}", service.output());
    service.stop().await;
}

#[tokio::test]
async fn another_configuration_takes_effect_as_a_whole() {
    let mut service = Service::start("grace_period_ms: 4000").await;
    let before = facts(service.admin).await;
    service.rewrite_config("grace_period_ms: 5000\nthreads: 3\nexplain_header: true");
    service.upgrade("").await;
    let config = http::get(service.admin, "/api/v1/config").await.json();
    assert_eq!((&config["threads"], &config["grace_period_ms"]), (&json!(3), &json!(5000)));
    assert_ne!(http::get(service.proxy, "/home").await.header("x-ringmaster"), "");
    assert_eq!(facts(service.admin).await, before);
    service.stop().await;
}

#[tokio::test]
async fn the_command_says_who_serves() {
    let mut service = Service::start("").await;
    let old = service.pid();
    let out = run(service.admin, "upgrade").await.out();
    let pid: u32 = out.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(
        out.starts_with(&format!("process {pid} serves: {}", env!("CARGO_PKG_VERSION"))),
        "{out}"
    );
    assert!(out.ends_with(&format!("; process {old} ends with its last requests\n")), "{out}");
    service.follow(pid).await;
    let told = run(service.admin, "upgrade --json --timeout 60").await.json();
    assert_eq!(told["predecessor"], pid);
    service.follow(told["pid"].as_u64().unwrap() as u32).await;
    service.until_alone().await;
    service.stop().await;
}
