//! The classic endpoints: every variant that clients send, every error, each with its exact answer.

use serde_json::{Value, json};

use crate::harness::{Balancer, Replica, http, until};

/// method, path, headers, body → status, body
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, Value);

fn listed(replicas: &[&str]) -> Value {
    json!({"message": {"N": replicas.len(), "replicas": replicas}, "status": "successful"})
}

fn failed(message: &str) -> Value {
    json!({"message": format!("<Error> {message}"), "status": "failure"})
}

async fn check(balancer: &Balancer, rows: &[Row<'_>]) {
    {
        let door = balancer.proxy;
        for (method, path, headers, body, status, expected) in rows {
            let answer = http::send(door, method, path, headers, body).await;
            let row = format!("{method} {path} {body}");
            assert_eq!(answer.json(), *expected, "{row}");
            assert_eq!(answer.status, *status, "{row}");
            assert_eq!(answer.header("content-type"), "application/json", "{row}");
        }
    }
}

#[tokio::test]
async fn every_variant_is_understood() {
    let balancer = Balancer::start("").await;
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
    let s = ["Server1", "Server2", "Server3"];
    check(
        &balancer,
        &[
            ("GET", "/rep", &[], "", 200, listed(&s)),
            ("POST", "/add", &[], "", 200, listed(&[s[0], s[1], s[2], "Server4"])),
            ("DELETE", "/rm", &[], r#"{"n":1,"hostnames":["Server4"]}"#, 200, listed(&s)),
            (
                "POST",
                "/add",
                JSON,
                r#"{"n":4,"hostnames":["S5","S4","S10","S11"]}"#,
                200,
                listed(&[s[0], s[1], s[2], "S5", "S4", "S10", "S11"]),
            ),
            (
                "DELETE",
                "/rm",
                JSON,
                r#"{"n":4,"hostnames":["S5","S4","S10","S11"]}"#,
                200,
                listed(&s),
            ),
            ("POST", "/add", &[], r#"{"n":1}"#, 200, listed(&[s[0], s[1], s[2], "Server4"])),
            ("POST", "/rm", JSON, r#"{"n":1,"specific":"Server4"}"#, 200, listed(&s)),
            ("POST", "/add", FORM, "server_id=S7", 200, listed(&[s[0], s[1], s[2], "S7"])),
            ("POST", "/rm", FORM, "server_id=S7", 200, listed(&s)),
            (
                "POST",
                "/add",
                JSON,
                r#"{"n":1,"hostnames":["server4:5000"]}"#,
                200,
                listed(&[s[0], s[1], s[2], "server4:5000"]),
            ),
            ("DELETE", "/rm", JSON, r#"{"n":1,"hostnames":["server4"]}"#, 200, listed(&s)),
            (
                "POST",
                "/add",
                JSON,
                r#"{"n":1,"hostnames":["server5:5000"]}"#,
                200,
                listed(&[s[0], s[1], s[2], "server5:5000"]),
            ),
            ("DELETE", "/rm", JSON, r#"{"n":1,"hostnames":["server5:5000"]}"#, 200, listed(&s)),
            // A name in use is replaced by a generated one.
            (
                "POST",
                "/add",
                JSON,
                r#"{"n":2,"hostnames":["Server1"]}"#,
                200,
                listed(&[s[0], s[1], s[2], "Server4", "Server5"]),
            ),
            (
                "DELETE",
                "/rm",
                JSON,
                r#"{"n":2,"hostnames":["Server5","Server4"]}"#,
                200,
                listed(&s),
            ),
        ],
    )
    .await;
    let left = http::send(balancer.proxy, "POST", "/rm", &[], "").await.json();
    assert_eq!(left["message"]["N"], 2, "without a body one is picked: {left}");
    balancer.stop().await;
}

#[tokio::test]
async fn every_error_has_its_text_and_changes_nothing() {
    let balancer = Balancer::start("pools: { default: { replicas: 2, replicas_max: 5 } }").await;
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let before = balancer.get("/rep").await.json();
    let cases = [
        (
            "POST",
            "/add",
            r#"{"n":1,"hostnames":["A","B"]}"#,
            "Length of hostname list is more than newly added instances",
        ),
        (
            "DELETE",
            "/rm",
            r#"{"n":1,"hostnames":["Server1","Server2"]}"#,
            "Length of hostname list is more than removable instances",
        ),
        ("POST", "/add", r#"{"n":0}"#, "Invalid number of servers to be added: 0"),
        ("POST", "/add", r#"{"n":-2}"#, "Invalid number of servers to be added: -2"),
        ("DELETE", "/rm", r#"{"n":0}"#, "Invalid number of servers to be removed: 0"),
        (
            "DELETE",
            "/rm",
            r#"{"n":3}"#,
            "No of servers to be removed is more than actual count of servers",
        ),
        (
            "DELETE",
            "/rm",
            r#"{"n":1,"hostnames":["S9"]}"#,
            "Hostname mentioned is not present in the server list: S9",
        ),
        (
            "DELETE",
            "/rm",
            r#"{"n":2,"hostnames":["Server1","S9"]}"#,
            "Hostname mentioned is not present in the server list: S9",
        ),
        ("POST", "/add", r#"{"n":2,"hostnames":["A","A"]}"#, "Duplicate hostnames in payload"),
        (
            "DELETE",
            "/rm",
            r#"{"n":2,"hostnames":["Server1","Server1"]}"#,
            "Duplicate hostnames in payload",
        ),
    ];
    for (method, path, body, message) in cases {
        let answer = http::send(balancer.proxy, method, path, JSON, body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, failed(message)),
            "{method} {path} {body}"
        );
    }
    // Texts with a reason of their own: the beginning is the contract.
    for (method, path, body, beginning) in [
        ("POST", "/add", "{", "<Error> Invalid payload format: "),
        ("POST", "/add", "[1]", "<Error> Invalid payload format: "),
        ("POST", "/add", r#"{"n":"1"}"#, "<Error> Invalid payload format: "),
        ("POST", "/add", r#"{"n":1.5}"#, "<Error> Invalid payload format: "),
        ("POST", "/add", r#"{"n":1,"extra":1}"#, "<Error> Invalid payload format: "),
        ("POST", "/add", r#"{"n":1,"hostnames":"A"}"#, "<Error> Invalid payload format: "),
        ("DELETE", "/rm", r#"{"n":1} trailing"#, "<Error> Invalid payload format: "),
        ("POST", "/add", r#"{"n":1,"hostnames":["a/b"]}"#, "<Error> "),
        ("POST", "/add", r#"{"n":4}"#, "<Error> "),
    ] {
        let answer = http::send(balancer.proxy, method, path, JSON, body).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.body);
        assert_eq!(answer.json()["status"], "failure");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(beginning) && message.len() > beginning.len(), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let huge = format!(r#"{{"n":1,"hostnames":["{}"]}}"#, "x".repeat(100_000));
    let answer = http::send(balancer.proxy, "POST", "/add", JSON, &huge).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(balancer.get("/rep").await.json(), before);
    balancer.stop().await;
}

#[tokio::test]
async fn a_replica_s_answer_is_passed_on_untouched() {
    let balancer = Balancer::start("").await;
    let answer = balancer.get("/home").await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let number = id.strip_prefix("Server").unwrap();
    assert_eq!(
        answer.body,
        format!(r#"{{"message":"Hello from Server: {number}","status":"successful","id":"{id}"}}"#)
    );
    let answer = balancer.get("/other/path?x=%20y").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        r#"{"message":"<Error> '/other/path' endpoint does not exist in server replicas","status":"failure"}"#
    );
    balancer.stop().await;
}

/// Whether a name is of some kind.
type Rule = fn(&str) -> bool;

#[tokio::test]
async fn names_are_generated_as_configured() {
    let is_random = |name: &str| {
        name.strip_prefix("Server").is_some_and(|it| it.len() == 6 && it.parse::<u32>().is_ok())
    };
    let is_uuid = |name: &str| {
        let parts: Vec<&str> = name.split('-').collect();
        let hex = |part: &&str| part.bytes().all(|it| b"0123456789abcdef".contains(&it));
        parts.iter().map(|it| it.len()).eq([8, 4, 4, 4, 12])
            && parts.iter().all(hex)
            && parts[2].starts_with('4')
            && parts[3].starts_with(['8', '9', 'a', 'b'])
    };
    let rows: [(&str, Rule); 2] = [("random", is_random), ("uuid", is_uuid)];
    let mut met = std::collections::BTreeSet::new();
    for (naming, is_generated) in rows {
        let yaml =
            format!("pools: {{ default: {{ naming: {naming}, replicas: 2, names: [First] }} }}");
        let balancer = Balancer::start(&yaml).await;
        let answer = http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":2}"#).await.json();
        let names: Vec<String> =
            serde_json::from_value(answer["message"]["replicas"].clone()).unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(names[0], "First");
        for name in &names[1..] {
            assert!(is_generated(name), "{name}");
            assert!(met.insert(name.clone()), "{name} twice");
            assert_eq!(balancer.replica(name).await.unwrap()["phase"], "serving");
        }
        let body = json!({"n": 1, "hostnames": [names[3]]}).to_string();
        let answer = http::send(balancer.proxy, "DELETE", "/rm", &[], &body).await.json();
        assert_eq!(answer["message"]["N"], 3, "{answer}");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn replicas_call_themselves_by_number_or_name() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = |server_id: &str| {
        format!(
            "state_file: {}\npools: {{ default: {{ replicas: 1, names: [Web], server_id: {server_id} }} }}",
            folder.path().join("state.json").display()
        )
    };
    let until_it_says = async |balancer: &Balancer, expected: &str| {
        let says = async || {
            let answer = balancer.get("/home").await.json();
            (answer["message"] == format!("Hello from Server: {expected}") && answer["id"] == "Web")
                .then_some(())
        };
        until(expected, says).await.expect(expected);
    };
    let mut balancer = Balancer::start(&yaml("name")).await;
    until_it_says(&balancer, "Web").await;

    // A reload replaces the replicas, and so does a balancer that takes over after a crash.
    balancer.rewrite_config(&yaml("number"));
    let answer = http::send(balancer.admin, "POST", "/api/v1/reload", &[], "").await;
    assert_eq!((answer.status, &answer.json()["needs_restart"]), (200, &json!([])));
    until_it_says(&balancer, "1").await;
    balancer.signal(nix::sys::signal::Signal::SIGKILL);
    balancer.ended().await;
    let balancer = Balancer::start(&yaml("name")).await;
    until_it_says(&balancer, "Web").await;
    balancer.stop().await;
}

#[tokio::test]
async fn fixed_replicas_are_listed_by_name_after_those_that_are_configured_first() {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&[]).await);
    }
    let [b, c, a] = [0, 1, 2].map(|at| replicas[at].addr);
    let fixed = format!("fixed: {{ b: '{b}', c: '{c}', a: '{a}' }}");
    for (names, expected) in [("[]", ["a", "b", "c"]), ("[c]", ["c", "a", "b"])] {
        let yaml = format!("pools: {{ default: {{ provider: fixed, names: {names}, {fixed} }} }}");
        let balancer = Balancer::start(&yaml).await;
        assert_eq!(balancer.get("/rep").await.json(), listed(&expected));
        balancer.stop().await;
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let tokens = crate::harness::config_file(
        "admin correct-horse-battery-staple\nread only-to-look-at-things\n",
    );
    std::fs::set_permissions(tokens.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let mut balancer = Balancer::start_unready(&format!(
        "admin: {{ listen: 127.0.0.1:0, trust: [192.0.2.0/24], tokens_file: {} }}",
        tokens.path().display()
    ))
    .await;
    balancer.authorize("only-to-look-at-things");
    balancer.until_printed("ready in").await;
    assert_eq!(balancer.get("/home").await.status, 200, "only reserved paths are guarded");
    let bearer = |token: &str| format!("Bearer {token}");
    for (token, method, path, status) in [
        (None, "GET", "/rep", 401),
        (None, "POST", "/add", 401),
        (None, "GET", "/metrics", 401),
        (Some("wrong-wrong-wrong-wrong"), "GET", "/rep", 401),
        (Some("only-to-look-at-things"), "GET", "/rep", 200),
        (Some("only-to-look-at-things"), "POST", "/add", 403),
        (Some("correct-horse-battery-staple"), "POST", "/add", 200),
    ] {
        let token = token.map(bearer);
        let headers: Vec<_> = token.iter().map(|it| ("authorization", it.as_str())).collect();
        let answer = http::send(balancer.proxy, method, path, &headers, "").await;
        assert_eq!(answer.status, status, "{method} {path} {token:?}: {}", answer.body);
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    balancer.stop().await;

    let closed = Balancer::start_unready("admin: { listen: 127.0.0.1:0, trust: [] }").await;
    closed.until_printed("ready in").await;
    let answer = closed.get("/rep").await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert_eq!(answer.json()["status"], "failure");
    closed.abandon("it tells its metrics to nobody");
}
