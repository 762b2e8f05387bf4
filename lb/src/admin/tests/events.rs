//! `/api/v1/events`, from a history that has ended: a stream of known length.

use super::*;
use crate::events::{self, Events, Fact, Reloaded};
use ringmaster_fleet::{Cause, Change, Incarnation, PhaseName, ReplicaName};
use std::sync::Arc;

const EVENTS: &str = "/api/v1/events";

fn change(from: Option<PhaseName>, to: Option<PhaseName>, cause: Cause) -> Change {
    let name = ReplicaName::parse("S2").unwrap();
    Change { name, incarnation: Incarnation::default().next(), from, to, cause }
}

/// A history of these changes, to which none will be added.
fn history(changes: impl IntoIterator<Item = Change>) -> Events {
    let (publisher, events) = events::channel();
    let pool: Arc<str> = Arc::from("default");
    for change in changes {
        publisher.publish(Fact::Moved { pool: pool.clone(), change });
    }
    events
}

fn api(events: Events) -> Api {
    let access = Access::load(&crate::config::Config::default().admin).ok().unwrap();
    let supervisor = fake::start([("default", Algorithm::RoundRobin, 1)]);
    Api::telling(supervisor, access, events)
}

/// With the times left out.
fn timeless(body: &str) -> String {
    let line = |line: &str| match (line.find(r#""at":""#), line.find(r#"","pool""#)) {
        (Some(begin), Some(end)) => format!("{}{}\n", &line[..begin + 6], &line[end..]),
        (_, _) => format!("{line}\n"),
    };
    body.lines().map(line).collect()
}

#[tokio::test]
async fn events_have_the_documented_shape() {
    use PhaseName::{Down, Serving, Starting};
    let events = history([
        change(None, Some(Starting), Cause::Added),
        change(Some(Serving), Some(Down), Cause::Exited("exit 137".to_owned())),
        change(Some(Down), None, Cause::RemoveAsked),
    ]);
    let answer = api(events).send(request("GET", &format!("{EVENTS}?last_event_id=0"), "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(
        timeless(&answer.body),
        concat!(
            "id: 0\n\n",
            "id: 1\n",
            r#"data: {"id":1,"at":"","pool":"default","replica":"S2","from":null,"to":"starting","#,
            r#""cause":"added","incarnation":1}"#,
            "\n\nid: 2\n",
            r#"data: {"id":2,"at":"","pool":"default","replica":"S2","from":"serving","to":"down","#,
            r#""cause":"exit 137","incarnation":1}"#,
            "\n\nid: 3\n",
            r#"data: {"id":3,"at":"","pool":"default","replica":"S2","from":"down","to":null,"#,
            r#""cause":"removal asked for","incarnation":1}"#,
            "\n\n",
        )
    );
}

#[tokio::test]
async fn a_reload_is_told_by_a_name_of_its_own() {
    let (publisher, events) = events::channel();
    let (changed, needs_restart) =
        (vec!["routes".to_owned(), "threads".to_owned()], vec!["threads".to_owned()]);
    publisher.publish(Fact::Reloaded(Reloaded { changed, needs_restart }));
    drop(publisher);
    let answer = api(events).send(request("GET", &format!("{EVENTS}?last_event_id=0"), "")).await;
    let told = answer.body.strip_prefix("id: 0\n\nid: 1\nevent: reload\ndata: ").unwrap();
    CONTRACT.validate("Reload", told);
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!((&told["id"], &told["changed"]), (&json!(1), &json!(["routes", "threads"])));
    assert_eq!(told["needs_restart"], json!(["threads"]));
}

#[tokio::test]
async fn the_last_event_id_says_where_to_go_on() {
    let api = api(history((0..1_034).map(|_| change(None, None, Cause::Stopped))));
    // The stream begins with the place from which it goes on.
    let first = async |query: &str, header: Option<&str>| {
        let mut request = request("GET", &format!("{EVENTS}{query}"), "");
        if let Some(id) = header {
            request = with(request, "last-event-id", id);
        }
        let answer = api.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.split("\n\n").nth(1).unwrap().to_owned()
    };
    assert_eq!(first("", None).await, "", "what is over is not told unasked");
    assert!(first("?last_event_id=1030", None).await.starts_with("id: 1031\n"));
    assert!(first("?last_event_id=20", Some("1032")).await.starts_with("id: 1033\n"));
    assert!(first("", Some("10")).await.starts_with("id: 11\ndata: {\"id\":11,"));
    let gap = "event: gap\nid: 10\ndata: {\"after\":9,\"next\":11}";
    assert_eq!(first("", Some("9")).await, gap);
    let gap = "event: gap\nid: 10\ndata: {\"after\":5000,\"next\":11}";
    assert_eq!(first("", Some("5000")).await, gap);
}

#[tokio::test]
async fn what_is_no_id_is_refused() {
    let api = api(history([]));
    for request in [
        request("GET", &format!("{EVENTS}?last_event_id=-1"), ""),
        request("GET", &format!("{EVENTS}?lastEventId=1"), ""),
        with(request("GET", EVENTS, ""), "last-event-id", "one"),
        with(request("GET", EVENTS, ""), "last-event-id", ""),
    ] {
        let answer = api.send(request).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request".to_owned()));
    }
}

#[tokio::test]
async fn followers_are_counted_and_come_free() {
    let (_publisher, events) = events::channel();
    let api = api(events);
    let mut open = Vec::new();
    for _ in 0..crate::admin::v1::SUBSCRIBERS_MAX {
        let Ok(response) = api.0.clone().oneshot(request("GET", EVENTS, "")).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = api.send(request("GET", EVENTS, "")).await;
    assert_eq!((refused.status, refused.code()), (503, "busy".to_owned()), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
    open.pop();
    let Ok(response) = api.0.clone().oneshot(request("GET", EVENTS, "")).await;
    assert_eq!(response.status(), 200, "whoever leaves makes room");
}
