//! The check at the end of every test that starts a balancer finds what it is there for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{
    Balancer,
    backend::Backend,
    http::{self, Connection},
    idle::{Subject, above_zero},
    until,
};

/// Long enough for a balancer that is idle, and not too long for one that never is.
const SOON: Duration = Duration::from_secs(1);

/// One replica at an address where nobody listens, for which requests wait: longer than the check, not as long as its deadline.
const NOBODY: &str = "pools: { default: { provider: fixed, fixed: { S1: '127.0.0.1:1' }, \
                      hold: { timeout_ms: 6000 } } }";

#[tokio::test]
async fn a_process_that_spins_is_not_idle() {
    let backend = Backend::start().await;
    let balancer = Balancer::start(&backend.pool("")).await;
    let mut spinning = tokio::process::Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let subject = Subject { pid: spinning.id().unwrap(), ..balancer.subject() };
    let fault = subject.idle_within(SOON).await.unwrap_err();
    assert!(fault.contains("(sh) for ") && fault.contains(" and waited for nothing"), "{fault}");
    spinning.kill().await.unwrap();
    balancer.stop().await;
}

#[tokio::test]
async fn requests_in_hand_are_not_idle() {
    let backend = Backend::start().await;
    let gate = backend.hold();
    let balancer = Balancer::start(&backend.pool("")).await;
    let proxy = balancer.proxy;
    let asked = tokio::spawn(async move { http::get(proxy, "/").await });
    balancer.until_counted(r#"ringmaster_requests_in_flight{pool="default",replica="S1"} 1"#).await;
    let fault = balancer.subject().idle_within(SOON).await.unwrap_err();
    for gauge in [
        r#"ringmaster_requests_in_flight{pool="default",replica="S1"} 1"#,
        r#"ringmaster_requests_open{pool="default"} 1"#,
    ] {
        assert!(fault.contains(gauge), "{fault}");
    }
    gate.add_permits(1);
    assert_eq!(asked.await.unwrap().status, 200);
    balancer.stop().await;
}

#[tokio::test]
async fn requests_that_wait_for_a_replica_are_not_idle() {
    let balancer = Balancer::start_unready(NOBODY).await;
    let proxy = balancer.proxy;
    let asked = tokio::spawn(async move {
        Connection::open(proxy).await.unwrap().send("GET", "/", &[], "").await
    });
    balancer.until_counted(r#"ringmaster_requests_waiting{pool="default"} 1"#).await;
    let fault = balancer.subject().idle_within(SOON).await.unwrap_err();
    assert!(fault.contains(r#"ringmaster_requests_waiting{pool="default"} 1"#), "{fault}");
    asked.abort();
    balancer.stop().await;
}

#[tokio::test]
async fn a_connection_that_its_client_has_closed_is_not_idle() {
    let backend = Backend::start().await;
    let balancer = Balancer::start(&backend.pool("")).await;
    // This process in the balancer's place: it never closes what it has accepted.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = TcpStream::connect(addr).await.unwrap();
    let from = client.local_addr().unwrap();
    let _kept = listener.accept().await.unwrap();
    let subject = Subject { clients: vec![addr], ..balancer.subject() };
    assert_eq!(subject.idle_within(SOON).await, Ok(()), "its client has it");
    drop(client);
    let fault = subject.idle_within(SOON).await.unwrap_err();
    assert!(fault.contains(&format!("connection {from} → {addr} was closed")), "{fault}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_connection_that_a_test_keeps_is_its_own() {
    let backend = Backend::start().await;
    let balancer = Balancer::start(&backend.pool("")).await;
    let mut kept = Connection::open(balancer.proxy).await.unwrap();
    assert_eq!(kept.send("GET", "/", &[], "").await.unwrap().status, 200);
    assert_eq!(balancer.subject().idle_within(SOON).await, Ok(()));
    drop(kept);
    balancer.stop().await;
}

/// A balancer that was nearly ready once: it waits for what may never come, and must not do so by asking all the time.
#[tokio::test]
async fn a_balancer_that_never_gets_ready_is_idle() {
    let mut backend = Backend::start().await;
    let addr = backend.addr();
    let balancer = Balancer::start_unready(&format!(
        "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}', S2: '127.0.0.1:1' }},
                               heartbeat: {{ interval_ms: 50, timeout_ms: 49 }} }} }}"
    ))
    .await;
    let serving = async |count: usize| {
        let replicas = async || {
            let replicas = balancer.replicas().await;
            let serving = replicas.iter().filter(|it| it["phase"] == "serving").count();
            (serving == count).then_some(())
        };
        until("as many serve", replicas).await.unwrap();
    };
    serving(1).await;
    backend.refuse().await;
    serving(0).await;
    // Longer than the balancer waits for the other replicas of a pool before it is ready without them.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(balancer.subject().idle_within(SOON).await, Ok(()));
    balancer.stop().await;
}

#[test]
fn only_what_is_above_zero_is_a_fault() {
    let metrics = "# HELP ringmaster_connections Connections of clients.\n\
                   ringmaster_connections 2\n\
                   ringmaster_requests_in_flight{pool=\"a\",replica=\"S1\"} 0\n\
                   ringmaster_requests_in_flight{pool=\"a\",replica=\"S2\"} 10\n\
                   ringmaster_requests_waiting{pool=\"a\"} 0\n\
                   ringmaster_retries_in_flight{pool=\"a\"} 3\n\
                   ringmaster_requests_total{pool=\"a\",replica=\"S1\",code=\"2xx\"} 7\n";
    let stuck = [
        "ringmaster_requests_in_flight{pool=\"a\",replica=\"S2\"} 10",
        "ringmaster_retries_in_flight{pool=\"a\"} 3",
    ];
    assert_eq!(above_zero(metrics, 2), stuck);
    assert_eq!(above_zero(metrics, 1)[0], "ringmaster_connections 2, of which 1 are open");
}

#[tokio::test]
async fn a_balancer_that_is_not_stopped_fails_its_test() {
    let backend = Backend::start().await;
    let balancer = Balancer::start(&backend.pool("")).await;
    let panic = catch_unwind(AssertUnwindSafe(|| drop(balancer))).unwrap_err();
    let message = panic.downcast_ref::<&str>().unwrap();
    assert!(message.contains("stop()"), "{message}");
}
