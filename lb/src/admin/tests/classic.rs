//! The classic endpoints, body by body.

use super::*;
use crate::supervisor::handle::AskError;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

fn fleet(names: &[&str]) -> String {
    let (n, names) = (names.len(), serde_json::to_string(names).unwrap());
    format!(r#"{{"message":{{"N":{n},"replicas":{names}}},"status":"successful"}}"#)
}

fn failure(message: &str) -> String {
    let message = serde_json::to_string(&format!("<Error> {message}")).unwrap();
    format!(r#"{{"message":{message},"status":"failure"}}"#)
}

#[tokio::test]
async fn rep_lists_who_serves() {
    let api = Api::start();
    let expected = fleet(&["Server1", "Server2", "Server3"]);
    assert_eq!(api.ask("GET", "/rep", "").await, (200, expected));
    let head = api.send(request("HEAD", "/rep", "")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn add_and_rm_answer_with_what_there_is_then() {
    let api = Api::start();
    for (method, target, body, names) in [
        ("POST", "/add", "", &["Server1", "Server2", "Server3", "Server4"][..]),
        (
            "POST",
            "/add",
            r#"{"n":2,"hostnames":["S5:5000"]}"#,
            &["Server1", "Server2", "Server3", "Server4", "S5:5000", "Server5"],
        ),
        // A name in use is replaced.
        (
            "POST",
            "/add",
            r#"{"n":1,"hostnames":["S5"]}"#,
            &["Server1", "Server2", "Server3", "Server4", "S5:5000", "Server5", "Server6"],
        ),
        (
            "DELETE",
            "/rm",
            r#"{"n":2,"hostnames":["S5","Server1:80"]}"#,
            &["Server2", "Server3", "Server4", "Server5", "Server6"],
        ),
        (
            "POST",
            "/rm",
            r#"{"n":1,"specific":"Server5"}"#,
            &["Server2", "Server3", "Server4", "Server6"],
        ),
        ("POST", "/rm", "server_id=Server4", &["Server2", "Server3", "Server6"]),
        ("POST", "/rm", "", &["Server2", "Server3"]),
        ("DELETE", "/rm", r#"{"n":2}"#, &[]),
        ("POST", "/add", "server_id=a", &["a"]),
    ] {
        let answer = api.ask(method, target, body).await;
        assert_eq!(answer, (200, fleet(names)), "{method} {target} {body}");
    }
}

#[tokio::test]
async fn every_fault_has_its_text_and_changes_nothing() {
    let api = Api::start();
    let rule = "1 to 63 characters, the first a letter or digit, the others letters, digits, '_', '.' or '-'";
    for (target, body, message) in [
        (
            "/add",
            r#"{"n":1,"hostnames":["A","B"]}"#,
            "Length of hostname list is more than newly added instances",
        ),
        (
            "/rm",
            r#"{"n":1,"hostnames":["Server1","Server2"]}"#,
            "Length of hostname list is more than removable instances",
        ),
        ("/add", r#"{"n":0}"#, "Invalid number of servers to be added: 0"),
        ("/rm", r#"{"n":0}"#, "Invalid number of servers to be removed: 0"),
        ("/rm", r#"{"n":4}"#, "No of servers to be removed is more than actual count of servers"),
        (
            "/rm",
            r#"{"n":9223372036854775807}"#,
            "No of servers to be removed is more than actual count of servers",
        ),
        (
            "/rm",
            r#"{"n":2,"hostnames":["Server1","S9:5000"]}"#,
            "Hostname mentioned is not present in the server list: S9",
        ),
        ("/add", r#"{"n":2,"hostnames":["A","A:1"]}"#, "Duplicate hostnames in payload"),
        ("/rm", r#"{"n":2,"hostnames":["Server1","Server1"]}"#, "Duplicate hostnames in payload"),
        ("/add", r#"{"hostnames":["a b"]}"#, &format!("bad name \"a b\": {rule}")),
        (
            "/add",
            r#"{"n":10}"#,
            "10 more than the 3 that exist is above replicas_max (12): at most 9 can be added",
        ),
        ("/add", "{", "Invalid payload format: EOF while parsing an object at line 1 column 1"),
    ] {
        let answer = api.ask("POST", target, body).await;
        assert_eq!(answer, (400, failure(message)), "{target} {body}");
    }
    let expected = fleet(&["Server1", "Server2", "Server3"]);
    assert_eq!(api.ask("GET", "/rep", "").await, (200, expected));
}

#[tokio::test]
async fn what_does_not_start_is_not_the_clients_fault() {
    let api = Api::start();
    let body = format!(r#"{{"hostnames":["{}"]}}"#, fake::BROKEN);
    let expected = failure("Broken did not start: exit 1: no such file");
    assert_eq!(api.ask("POST", "/add", &body).await, (500, expected));
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let api = Api::start();
    let limit = super::super::extract::BODY_BYTES_MAX;
    let padded = |length: usize| format!("{}{}", r#"{"n":1}"#, " ".repeat(length - 7));
    assert_eq!(api.ask("POST", "/add", &padded(limit)).await.0, 200);
    let expected = failure("the body is longer than 65536 bytes");
    let answer = api.ask("POST", "/add", &padded(limit + 1)).await;
    assert_eq!(answer, (413, expected));
}

#[tokio::test]
async fn other_methods_are_told_which_would_do() {
    let api = Api::start();
    for (method, target, allow) in [
        ("POST", "/rep", &["GET", "HEAD"][..]),
        ("DELETE", "/rep", &["GET", "HEAD"]),
        ("GET", "/add", &["POST"]),
        ("DELETE", "/add", &["POST"]),
        ("GET", "/rm", &["DELETE", "POST"]),
        ("PUT", "/rm", &["DELETE", "POST"]),
    ] {
        let answer = api.send(request(method, target, "")).await;
        let message = format!("{method} is not allowed on {target}: see the Allow header");
        assert_eq!((answer.status, &answer.body), (405, &failure(&message)));
        let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{method} {target}");
    }
}

#[tokio::test]
async fn a_supervisor_without_ears_is_busy_or_gone() {
    let access = || Access::load(&crate::config::Config::default().admin).ok().unwrap();
    let (handle, inbox) = Handle::new(1);
    let api = Api::over(handle.clone(), access());
    // The first question fills the inbox, and nobody reads it.
    let mut waiting = pin!(handle.view("default"));
    let pending = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
    assert!(pending.await);
    let answer = api.send(request("GET", "/rep", "")).await;
    let message = failure("too many changes wait already; try again");
    assert_eq!((answer.status, answer.body.as_str()), (503, message.as_str()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let unready = r#"{"ready":false,"waiting_for":["any","default"]}"#.to_owned();
    assert_eq!(api.ask("GET", "/readyz", "").await, (503, unready.clone()));

    drop(inbox);
    let message = failure("the balancer is shutting down");
    assert_eq!(api.ask("GET", "/rep", "").await, (503, message));
    assert_eq!(api.ask("GET", "/readyz", "").await, (503, unready));
    assert!(matches!(waiting.await, Err(AskError::Stopped)));
}
