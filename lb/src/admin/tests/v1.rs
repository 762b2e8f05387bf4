//! `/api/v1`, the probes and the metrics.

use super::*;

const REPLICAS: &str = "/api/v1/pools/default/replicas";

/// The names of all replicas in a list of them.
fn names(json: &Value) -> Vec<&str> {
    let replicas = json["replicas"].as_array().unwrap().iter();
    replicas.map(|replica| replica["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pools_are_listed_and_shown() {
    let api = Api::start();
    let list = api.send(request("GET", "/api/v1/pools", "")).await.json();
    assert_eq!(list["pools"].as_array().unwrap().len(), 2);
    let answer = api.send(request("GET", "/api/v1/pools/default", "")).await;
    assert_eq!(answer.header("etag"), Some("\"1\""));
    let pool = answer.json();
    assert_eq!((&pool["version"], &pool["wanted"]), (&json!("1"), &json!(3)));
    assert_eq!(pool["key"], "request_id");
    assert_eq!(list["pools"][1], pool);
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_reload() {
    let supervisor = fake::start([("default", Algorithm::RoundRobin, 1)]);
    let access = Access::trusting(&["127.0.0.0/8"], "");
    let api = Api::reading(supervisor, access, crate::events::channel().1, None);
    let (status, body) = api.ask("POST", "/api/v1/reload", "").await;
    assert_eq!(status, 400);
    let expected =
        "the balancer was started without a configuration: start it with -c FILE to reload";
    let error = json!({"error": {"code": "bad_config", "message": expected}});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), error);
}

#[tokio::test]
async fn replicas_come_and_go() {
    let api = Api::start();
    let answer = api.send(request("GET", REPLICAS, "")).await;
    assert_eq!(names(&answer.json()), ["Server1", "Server2", "Server3"]);
    assert_eq!(answer.header("etag"), Some("\"1\""));

    let answer = api.send(request("POST", REPLICAS, r#"{"n":2,"names":["A"]}"#)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(names(&answer.json()), ["Server1", "Server2", "Server3", "A", "Server4"]);
    assert_eq!(answer.header("etag"), Some("\"2\""));

    let answer = api.send(request("DELETE", &format!("{REPLICAS}/A"), "")).await;
    assert_eq!(names(&answer.json()), ["Server1", "Server2", "Server3", "Server4"]);

    let target = format!("{REPLICAS}/Server2/restart");
    let replicas = api.send(request("POST", &target, "")).await.json();
    assert_eq!(replicas["replicas"][1]["incarnation"], 2);
    assert_eq!(replicas["version"], "3", "a restart leaves the wanted set as it is");
    let answer = api.send(request("POST", REPLICAS, "")).await;
    assert_eq!(names(&answer.json()).len(), 5);

    let answer = api.send(request("DELETE", REPLICAS, r#"{"n":4,"names":["Server4"]}"#)).await;
    assert_eq!(names(&answer.json()).len(), 1, "{}", answer.body);
    assert_eq!(names(&api.send(request("DELETE", REPLICAS, "")).await.json()).len(), 0);
}

#[tokio::test]
async fn a_dry_run_plans_and_changes_nothing() {
    let api = Api::start();
    for (method, target, members) in [
        ("POST", REPLICAS.to_owned(), 4),
        ("DELETE", REPLICAS.to_owned(), 2),
        ("DELETE", format!("{REPLICAS}/Server1"), 2),
        ("POST", format!("{REPLICAS}/Server1/restart"), 3),
    ] {
        let dry = format!("{target}?dry_run=true");
        let plan = api.send(request(method, &dry, "")).await.json();
        assert_eq!(plan["version"], "1");
        assert_eq!(plan["after"].as_object().unwrap().len(), members, "{dry}");
    }
    let replicas = api.send(request("GET", REPLICAS, "")).await.json();
    assert_eq!(replicas["version"], "1");
    // The way to the change is one word away from the plan, so it is not guessed.
    for query in ["?dryrun=true", "?dry_run=yes", "?dry_run=true&dry_run=false", "?x"] {
        let answer = api.send(request("POST", &format!("{REPLICAS}{query}"), "")).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request".to_owned()), "{query}");
    }
    let wet = format!("{REPLICAS}?dry_run=false");
    assert_eq!(api.ask("POST", &wet, "").await.0, 200);
}

#[tokio::test]
async fn if_match_guards_against_another_operator() {
    let api = Api::start();
    for target in [REPLICAS.to_owned(), format!("{REPLICAS}?dry_run=true")] {
        for (value, status) in [
            ("\"9\"", 409),
            ("1", 400),
            ("W/\"1\"", 400),
            ("\"\"", 400),
            ("\"", 400),
            ("\"x\"", 400),
            ("\"1\", \"2\"", 400),
        ] {
            let request = with(request("POST", &target, ""), "if-match", value);
            assert_eq!(api.send(request).await.status, status, "{target} {value}");
        }
    }
    let stale = with(request("POST", REPLICAS, ""), "if-match", "\"9\"");
    assert_eq!(
        api.send(stale).await.body,
        r#"{"error":{"code":"fleet_changed","message":"the fleet changed: its version is \"1\", not \"9\""}}"#
    );
    for (value, version) in [("\"1\"", "2"), ("*", "3")] {
        let request = with(request("POST", REPLICAS, ""), "if-match", value);
        assert_eq!(api.send(request).await.json()["version"], version);
    }
}

#[tokio::test]
async fn a_key_is_explained() {
    let api = Api::start();
    let path = "/api/v1/pools/default/explain";
    let by_key = api.send(request("GET", &format!("{path}?key=al%20ice"), "")).await;
    let explain = by_key.json();
    assert_eq!((&explain["key"], &explain["reason"]), (&json!("al ice"), &json!("hash")));
    assert_eq!(explain["candidates"].as_array().unwrap().len(), 3);
    for name in ["path", "header"] {
        let (status, body) = api.ask("GET", &format!("{path}?{name}=al+ice"), "").await;
        assert_eq!((status, body), (200, by_key.body.clone()), "{name}");
    }
    for query in ["", "?key=a&path=b", "?kee=a", "?key=a&key=b"] {
        let answer = api.send(request("GET", &format!("{path}{query}"), "")).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request".to_owned()), "{query}");
    }
    let unkeyed = request("GET", "/api/v1/pools/any/explain?key=a", "");
    let answer = api.send(unkeyed).await;
    assert_eq!((answer.status, answer.code()), (400, "not_keyed".to_owned()));
}

#[tokio::test]
async fn a_plan_is_one_change() {
    let api = Api::start();
    let path = "/api/v1/pools/default/plan";
    for (query, members) in [("?add=2", 5), ("?remove=Server1,Server3", 1)] {
        let plan = api.send(request("GET", &format!("{path}{query}"), "")).await.json();
        assert_eq!(plan["before"].as_object().unwrap().len(), 3);
        assert_eq!(plan["after"].as_object().unwrap().len(), members, "{query}");
        assert!(plan["moved"].as_f64().unwrap() > 0.0, "{query}");
    }
    for query in ["", "?add=0", "?add=-1", "?add=x", "?add=1&remove=Server1", "?remove=", "?add=99"]
    {
        let answer = api.send(request("GET", &format!("{path}{query}"), "")).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_distribution_adds_up() {
    let api = Api::start();
    let path = "/api/v1/pools/default/distribution";
    let json = api.send(request("GET", path, "")).await.json();
    let parts = json["replicas"].as_array().unwrap();
    let slots: u64 = parts.iter().map(|part| part["slots"].as_u64().unwrap()).sum();
    assert_eq!((slots, &json["slots"]), (1_024, &json!(1_024)));
    assert!(json["max_over_mean"].as_f64().unwrap() >= 1.0);
}

#[tokio::test]
async fn faults_come_in_our_shape() {
    let api = Api::start();
    for (method, target, body, status, code) in [
        ("GET", "/", "", 404, "not_found"),
        ("GET", "/api/v1", "", 404, "not_found"),
        ("GET", "/rep/", "", 404, "not_found"),
        ("GET", "/api/v1/pools/none", "", 404, "unknown_pool"),
        ("GET", "/api/v1/pools/none/replicas", "", 404, "unknown_pool"),
        ("POST", "/api/v1/pools/none/replicas", "", 404, "unknown_pool"),
        ("GET", "/api/v1/pools/%FF", "", 400, "bad_request"),
        ("DELETE", "/api/v1/pools/default/replicas/S9", "", 404, "unknown_replica"),
        ("DELETE", "/api/v1/pools/default/replicas/a%2Fb", "", 400, "bad_request"),
        ("POST", "/api/v1/pools/default/replicas/S9/restart", "", 404, "unknown_replica"),
        ("GET", "/api/v1/pools/default/plan?remove=S9", "", 404, "unknown_replica"),
        ("PUT", "/api/v1/pools", "", 405, "method_not_allowed"),
        ("POST", REPLICAS, "x", 400, "bad_request"),
        ("POST", REPLICAS, "[2]", 400, "bad_request"),
        ("POST", REPLICAS, r#"{"n":0}"#, 400, "bad_request"),
        ("POST", REPLICAS, r#"{"n":1.5}"#, 400, "bad_request"),
        ("POST", REPLICAS, r#"{"n":1,"hostnames":[]}"#, 400, "bad_request"),
        ("POST", REPLICAS, r#"{"n":1} "#, 200, ""),
        ("POST", REPLICAS, r#"{"n":1,"names":["A","B"]}"#, 400, "bad_request"),
        ("POST", REPLICAS, r#"{"names":["Broken"]}"#, 500, "not_started"),
        ("DELETE", REPLICAS, "[2]", 400, "bad_request"),
        ("DELETE", REPLICAS, r#"{"n":99}"#, 400, "bad_request"),
        ("DELETE", REPLICAS, r#"{"names":["S9"]}"#, 404, "unknown_replica"),
    ] {
        let answer = api.send(request(method, target, body)).await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, code.to_owned()), "{method} {target} {body}");
    }
    let long = " ".repeat(super::super::extract::BODY_BYTES_MAX + 1);
    let answer = api.send(request("POST", REPLICAS, &long)).await;
    assert_eq!((answer.status, answer.code()), (413, "too_large".to_owned()));
}

#[tokio::test]
async fn readiness_comes_with_the_first_replicas_and_stays() {
    let access = Access::load(&crate::config::Config::default().admin).ok().unwrap();
    let unkeyed = |name, n| (name, Algorithm::RoundRobin, n);
    let api = Api::over(fake::start([unkeyed("default", 1), unkeyed("any", 0)]), access);
    let waiting = r#"{"ready":false,"waiting_for":["any"]}"#.to_owned();
    assert_eq!(api.ask("GET", "/readyz", "").await, (503, waiting));
    assert_eq!(api.ask("POST", "/api/v1/pools/any/replicas", "").await.0, 200);
    let ready = (200, r#"{"ready":true,"waiting_for":[]}"#.to_owned());
    assert_eq!(api.ask("GET", "/readyz", "").await, ready);
    assert_eq!(api.ask("DELETE", "/rm", "").await.0, 200);
    assert_eq!(api.ask("GET", "/readyz", "").await, ready);
    let health = (200, r#"{"status":"ok"}"#.to_owned());
    assert_eq!(api.ask("GET", "/healthz", "").await, health);
}

#[tokio::test]
async fn metrics_are_text() {
    let answer = Api::start().send(request("GET", "/metrics", "")).await;
    assert_eq!(answer.body, "ringmaster_build_info 1\n");
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[tokio::test]
async fn an_upgrade_that_comes_to_nothing_says_why() {
    let api = Api::start();
    for (body, status, code, words) in [
        ("", 502, "upgrade_failed", "cannot start /no/such/program"),
        (r#"{"timeout_s":5}"#, 502, "upgrade_failed", "the balancer goes on as it was: "),
        (r#"{"binary":"/no/such/one"}"#, 400, "bad_request", "/no/such/one: No such file"),
        (r#"{"binary":"ringmaster"}"#, 400, "bad_request", "not an absolute path"),
        (r#"{"timeout_s":3601}"#, 400, "bad_request", "3601 is more than 3600"),
        (r#"{"timeout_s":0}"#, 400, "bad_request", "nonzero"),
        (r#"{"program":"/bin/true"}"#, 400, "bad_request", "unknown field"),
        ("[]", 400, "bad_request", "must be a JSON object"),
    ] {
        let answer = api.send(request("POST", "/api/v1/upgrade", body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
        assert!(answer.body.contains(words), "{}", answer.body);
    }
}
