//! A-1 through the real binary, against targets that behave well and against some that do not.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

mod harness;

use std::net::SocketAddr;

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::CONNECTION},
    response::IntoResponse,
    routing::get,
};
use ringmaster_server::Replica;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Outcome, experiment, results, serve};

#[tokio::test]
async fn a_single_replica_answers_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(ringmaster_server::run(listener, Replica::new("Server1"), std::future::pending()));

    let run = a1("single", target, &["--requests", "10000"]).await;
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.summary["replicas"], json!([{"replica": "Server1", "requests": 10_000}]));
    assert_eq!((&run.summary["missing"], &run.summary["failed"]), (&json!(0), &json!({})));
    assert!(run.stdout.starts_with("10000 requests in "), "{}", run.stdout);
    assert_eq!(run.file("requests.csv").lines().count(), 10_001);
    assert!(run.file("distribution.svg").contains("<title>Server1: 10000</title>"));
    let manifest: Value = serde_json::from_str(&run.file("manifest.json")).unwrap();
    assert_eq!(manifest["target"], json!(format!("http://{target}")));
    assert_eq!((&manifest["seed"], &manifest["plan"]["requests"]), (&json!(1), &json!(10_000)));
}

#[tokio::test]
async fn failures_and_idle_replicas_are_counted() {
    async fn home(headers: HeaderMap) -> Result<&'static str, StatusCode> {
        let id: u32 = headers["x-request-id"].to_str().unwrap().parse().unwrap();
        match id % 10 {
            0 => Err(StatusCode::SERVICE_UNAVAILABLE),
            1 => Ok("{}"),
            2..5 => Ok(r#"{"id":"S1"}"#),
            _ => Ok(r#"{"id":"S2"}"#),
        }
    }
    let rep = r#"{"message":{"N":3,"replicas":["S2","S3:5000","S1"]},"status":"successful"}"#;
    let target =
        serve(Router::new().route("/home", get(home)).route("/rep", get(async move || rep))).await;

    let mut summaries = Vec::new();
    for out in ["unwell", "unwell-again"] {
        let run = a1(out, target, &["--requests", "1000", "--seed", "7"]).await;
        assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
        let ids = ids(&run);
        let ending = |digits: std::ops::Range<u32>| {
            ids.iter().filter(|id| digits.contains(&(*id % 10))).count()
        };
        assert_eq!(
            run.summary["failed"],
            json!({"status 503": ending(0..1), "body": ending(1..2)})
        );
        assert_eq!(run.summary["missing"], json!(ending(0..2)));
        assert_eq!(
            run.summary["replicas"],
            json!([
                {"replica": "S2", "requests": ending(5..10)},
                {"replica": "S3", "requests": 0},
                {"replica": "S1", "requests": ending(2..5)},
            ])
        );
        summaries.push(ids);
    }
    assert_eq!(summaries[0], summaries[1], "the seed decides the ids");
}

#[tokio::test]
async fn a_target_that_closes_every_connection_is_connected_to_again() {
    let home = async || ([(CONNECTION, "close")], r#"{"id":"S1"}"#).into_response();
    let target = serve(Router::new().route("/home", get(home))).await;
    let run = a1("closing", target, &["--requests", "500", "--connections", "8"]).await;
    assert_eq!((run.code, &run.summary["answered"]), (Some(0), &json!(500)), "{}", run.stdout);
}

#[tokio::test]
async fn a_target_that_never_answers_is_a_result() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let run = a1("silent", target, &["--requests", "100"]).await;
    assert_eq!(
        (run.code, &run.summary["failed"]),
        (Some(1), &json!({"closed": 100})),
        "{}",
        run.stdout
    );
    assert_eq!((&run.summary["missing"], &run.summary["latency"]), (&json!(100), &Value::Null));
}

#[tokio::test]
async fn results_of_another_run_are_not_overwritten() {
    let target = serve(Router::new().route("/home", get(async || r#"{"id":"S1"}"#))).await;
    let arguments = [format!("--target=http://{target}"), "--requests=1".into()];
    let out = results("twice");
    assert_eq!(experiment("a1", &out, &arguments).await.status.code(), Some(0));
    let second = experiment("a1", &out, &arguments).await;
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(error.contains("manifest.json, which must not exist yet"), "{error}");
}

async fn a1(out: &str, target: SocketAddr, arguments: &[&str]) -> Outcome {
    let target = format!("--target=http://{target}");
    let arguments: Vec<_> =
        arguments.iter().map(|&argument| argument.to_owned()).chain([target]).collect();
    Outcome::of("a1", results(out), &arguments).await
}

fn ids(run: &Outcome) -> Vec<u32> {
    let table = run.file("requests.csv");
    table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect()
}
