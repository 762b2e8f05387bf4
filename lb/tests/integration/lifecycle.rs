//! Start and end: what is printed, what is refused, what is left behind.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::harness::{
    Balancer, Replica, backend::Backend, config_file, http, is_alive, pool_sizes, ringmaster, until,
};

#[tokio::test]
async fn a_taken_port_is_named_with_its_owner() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for (yaml, key) in [
        (format!("listen: {addr}\nadmin: {{ listen: 127.0.0.1:0 }}"), "listen"),
        (format!("listen: 127.0.0.1:0\nadmin: {{ listen: {addr} }}"), "admin.listen"),
    ] {
        let file = config_file(&yaml);
        let output = ringmaster().arg("-c").arg(file.path()).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected =
            format!("ringmaster: {key}: cannot listen on {addr}: the port is in use by ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test]
async fn either_signal_ends_it_and_every_replica() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut balancer = Balancer::start("").await;
        let scratch = files_of(balancer.pid());
        let pids: Vec<u32> = pids(&balancer).await;
        assert_eq!(pids.len(), 3);
        balancer.signal(signal);
        let status = balancer.ended().await;
        assert!(status.success(), "{signal}: {status}\n{}", balancer.output());
        for pid in pids {
            assert!(!is_alive(pid), "{signal}: replica {pid} was left behind");
        }
        for file in scratch {
            assert!(!std::path::Path::new(&file).exists(), "{file} was left behind");
        }
        assert!(tokio::net::TcpStream::connect(balancer.proxy).await.is_err());
    }
}

#[tokio::test]
async fn a_request_in_progress_is_answered_before_the_end() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let gate = backend.hold();
        let mut balancer = Balancer::start(&backend.pool("")).await;
        let proxy = balancer.proxy;
        let request = tokio::spawn(async move { http::get(proxy, "/home").await });
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 1"#).await;
        balancer.signal(Signal::SIGTERM);
        balancer.until_printed("Closing").await;
        gate.add_permits(1);
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(balancer.ended().await.success());
    }
}

#[tokio::test]
async fn a_second_signal_waits_for_nobody() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let _gate = backend.hold();
        let mut balancer =
            Balancer::start(&format!("grace_period_ms: 600000\n{}", backend.pool(""))).await;
        let proxy = balancer.proxy;
        let request = tokio::spawn(async move {
            http::Connection::open(proxy).await.unwrap().send("GET", "/home", &[], "").await
        });
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 1"#).await;
        balancer.signal(Signal::SIGTERM);
        balancer.until_printed("Closing").await;
        balancer.signal(Signal::SIGTERM);
        assert!(balancer.ended().await.success());
        assert!(request.await.unwrap().is_err(), "it was cut off");
    }
}

#[tokio::test]
async fn replicas_outlive_a_crash_of_the_balancer_but_not_for_ever() {
    let mut balancer = Balancer::start("").await;
    let pids = pids(&balancer).await;
    balancer.signal(Signal::SIGKILL);
    balancer.ended().await;
    assert!(pids.iter().all(|&pid| is_alive(pid)), "they can be adopted");
    // Without heartbeats they end after 15 s, sooner than this gives up.
    until("the replicas end", async || pids.iter().all(|&pid| !is_alive(pid)).then_some(()))
        .await
        .expect("none is orphaned");
}

#[tokio::test]
async fn what_does_not_start_is_taken_back_with_the_reason() {
    // The program disappears after the start, as an upgrade by a package manager may have it.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ringmaster");
    std::fs::copy(env!("CARGO_BIN_EXE_ringmaster"), &program).unwrap();
    let yaml = "pools: { default: { start_timeout_ms: 1000 } }";
    let balancer = Balancer::start_program(&program, yaml).await;
    std::fs::remove_file(&program).unwrap();
    refuses_to_add(&balancer, "X", "X did not start in time: cannot start ").await;
    balancer.stop().await;

    // Nobody listens at the second address.
    let replica = Replica::start(&[]).await;
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let balancer = Balancer::start(&format!(
        "pools: {{ default: {{ provider: fixed, replicas: 1, names: [S1], start_timeout_ms: 300,
                               fixed: {{ S1: '{}', S2: '{unused}' }} }} }}",
        replica.addr
    ))
    .await;
    refuses_to_add(&balancer, "S2", "S2 did not start in time: ").await;
    balancer.stop().await;
}

async fn refuses_to_add(balancer: &Balancer, name: &str, reason: &str) {
    let before = balancer.get("/rep").await.json();
    let body = format!(r#"{{"n":1,"hostnames":["{name}"]}}"#);
    let answer = http::send(balancer.proxy, "POST", "/add", &[], &body).await;
    assert_eq!(answer.status, 500, "{}", answer.body);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("<Error> {reason}")), "{message}");
    assert_eq!(balancer.get("/rep").await.json(), before);
    until("it is gone", async || balancer.replica(name).await.is_none().then_some(()))
        .await
        .unwrap();
}

async fn pids(balancer: &Balancer) -> Vec<u32> {
    let replicas = balancer.replicas().await;
    replicas.iter().map(|replica| replica["pid"].as_u64().unwrap() as u32).collect()
}

/// Regular files outside `/proc`, `/dev` and the program itself that a process has open.
fn files_of(pid: u32) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            let target = target.to_string_lossy().into_owned();
            if target.starts_with('/')
                && !target.starts_with("/proc")
                && !target.starts_with("/dev")
            {
                files.push(target);
            }
        }
    }
    files
}
