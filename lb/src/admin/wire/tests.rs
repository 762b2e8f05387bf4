use super::*;
use crate::{
    admin::tests::fake,
    config::{Config, KeySource},
};
use ringmaster_fleet::{Algorithm, Exit, Move, PhaseName, Plan as FleetPlan, ReplicaName};
use serde_json::to_string;
use std::time::{Duration, UNIX_EPOCH};

const RENDEZVOUS: Algorithm = Algorithm::Rendezvous { slots: 1_024 };

#[test]
fn a_replica_that_serves() {
    let mut view = fake::view(RENDEZVOUS, 1);
    let replica = &mut view.replicas[0];
    replica.uptime = Some(Duration::from_micros(12_400_499));
    replica.pid = Some(4_711);
    replica.in_flight_max = Some(8);
    replica.ejected_for = Some(Duration::from_millis(750));
    assert_eq!(
        to_string(&Replicas::of(&view)).unwrap(),
        concat!(
            r#"{"replicas":[{"name":"Server1","number":1,"phase":"serving","incarnation":1,"#,
            r#""address":"127.0.0.1:9001","in_flight":0,"missed":0,"uptime_s":12.4,"share":1.0,"#,
            r#""attempts":0,"retry_in_s":null,"last_exit":null,"slots":1024,"in_flight_max":8,"#,
            r#""requests":0,"pid":4711,"ejected_for_s":0.75}],"version":"17"}"#
        )
    );
}

#[test]
fn a_replica_that_is_down() {
    let mut view = fake::view(RENDEZVOUS, 1);
    let replica = &mut view.replicas[0];
    replica.phase = PhaseName::Down;
    replica.addr = None;
    replica.uptime = None;
    replica.attempts = 3;
    replica.retry_in = Some(Duration::from_millis(1_600));
    replica.last_exit = Some(Exit {
        code: Some(137),
        reason: "killed".to_owned(),
        log: vec!["out of \"memory\"".to_owned()],
        at: UNIX_EPOCH + Duration::from_millis(1_234_567_890_123),
    });
    assert_eq!(
        to_string(&Replicas::of(&view)).unwrap(),
        concat!(
            r#"{"replicas":[{"name":"Server1","number":1,"phase":"down","incarnation":1,"#,
            r#""address":null,"in_flight":0,"missed":0,"uptime_s":null,"share":1.0,"#,
            r#""attempts":3,"retry_in_s":1.6,"last_exit":{"code":137,"reason":"killed","#,
            r#""at":"2009-02-13T23:31:30.123Z","log":["out of \"memory\""]},"slots":1024,"#,
            r#""in_flight_max":null,"requests":0,"pid":null,"ejected_for_s":null}],"version":"17"}"#
        )
    );
}

#[test]
fn one_that_leaves_has_no_share() {
    let mut view = fake::view(RENDEZVOUS, 2);
    let mut leaving = view.replicas[0].clone();
    leaving.host = "Leaving".parse().unwrap();
    leaving.phase = PhaseName::Draining;
    view.replicas.push(leaving);
    let json = serde_json::to_value(Replicas::of(&view)).unwrap();
    let replicas = json["replicas"].as_array().unwrap();
    assert_eq!(replicas[2]["share"], 0.0);
    assert_eq!(replicas[2]["slots"], 0);
    let of = |index: usize| replicas[index]["share"].as_f64().unwrap();
    assert_eq!(of(0) + of(1), 1.0);
}

#[test]
fn a_pool() {
    let view = fake::view(RENDEZVOUS, 2);
    let mut config = Config::default().pools["default"].clone();
    config.key = KeySource::Cookie("session".to_owned());
    assert_eq!(
        to_string(&Pools { pools: vec![Pool::of(&view, &config)] }).unwrap(),
        concat!(
            r#"{"pools":[{"name":"default","version":"17","provider":"process","trouble":null,"wanted":2,"#,
            r#""actual":{"starting":0,"serving":2,"draining":0,"down":0},"algorithm":"rendezvous","#,
            r#""slots":1024,"key":"cookie:session","limits":{"replicas_max":1000,"#,
            r#""bounded_load":{"factor":1.25,"floor":8},"slow_start_ms":0,"#,
            r#""heartbeat_interval_ms":500,"heartbeat_timeout_ms":400,"heartbeat_missed_max":3,"#,
            r#""start_timeout_ms":10000,"drain_timeout_ms":10000,"hold_timeout_ms":2000,"#,
            r#""hold_requests_max":1000,"attempts_max":3}}]}"#
        )
    );
}

#[test]
fn a_plan() {
    let name = |text| ReplicaName::parse(text).unwrap();
    let planned = Planned {
        version: 17,
        plan: FleetPlan {
            before: vec![(name("S2"), 0.75), (name("S1"), 0.25)],
            after: vec![(name("S1"), 1.0)],
            moved: 0.75,
            ideal: 0.5,
            between_survivors: 0.0,
            moves: vec![Move { from: name("S2"), to: name("S1"), share: 0.75 }],
        },
    };
    assert_eq!(
        to_string(&Plan::of(&planned)).unwrap(),
        concat!(
            r#"{"version":"17","before":{"S2":0.75,"S1":0.25},"after":{"S1":1.0},"moved":0.75,"#,
            r#""ideal":0.5,"between_survivors":0.0,"moves":[{"from":"S2","to":"S1","share":0.75}]}"#
        )
    );
}

#[test]
fn an_explanation() {
    let explain = Explain {
        key: "alice",
        hash: "9f3c000000000001".to_owned(),
        slot: 40_213,
        replica: Some("S2"),
        reason: "hash",
        candidates: vec![Candidate {
            replica: "S2",
            verdict: Verdict::Taken,
            why: "owner of the slot".to_owned(),
        }],
        left_out: 0,
    };
    assert_eq!(
        to_string(&explain).unwrap(),
        concat!(
            r#"{"key":"alice","hash":"9f3c000000000001","slot":40213,"replica":"S2","reason":"hash","#,
            r#""candidates":[{"replica":"S2","verdict":"taken","why":"owner of the slot"}],"left_out":0}"#
        )
    );
}

#[test]
fn a_distribution() {
    let mut view = fake::view(RENDEZVOUS, 1);
    view.replicas[0].requests = 12;
    assert_eq!(
        to_string(&Distribution::of(&view)).unwrap(),
        concat!(
            r#"{"algorithm":"rendezvous","slots":1024,"max_over_mean":1.0,"#,
            r#""coefficient_of_variation":0.0,"replicas":[{"name":"Server1","slots":1024,"#,
            r#""share":1.0,"requests":12}]}"#
        )
    );
    let json = serde_json::to_value(Distribution::of(&fake::view(RENDEZVOUS, 0))).unwrap();
    assert_eq!(json["max_over_mean"], serde_json::Value::Null);
}

#[test]
fn evenness_is_that_of_the_textbook() {
    let figures = distribution::Evenness::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
    assert_eq!(figures.max_over_mean, 9.0 / 5.0);
    assert_eq!(figures.coefficient_of_variation, 2.0 / 5.0);
    assert!(distribution::Evenness::of(&[0.0, 0.0]).is_none());
}

#[test]
fn faults_in_both_shapes() {
    assert_eq!(
        to_string(&Error::new(Code::NotFound, "no \"x\"", &[])).unwrap(),
        r#"{"error":{"code":"not_found","message":"no \"x\""}}"#
    );
    assert_eq!(
        to_string(&ClassicError::new("Duplicate hostnames in payload")).unwrap(),
        r#"{"message":"<Error> Duplicate hostnames in payload","status":"failure"}"#
    );
}

#[test]
fn the_classic_list_has_who_serves_as_it_was_named() {
    let mut view = fake::view(RENDEZVOUS, 4);
    view.replicas[0].host = "Server1:5000".parse().unwrap();
    view.replicas[1].phase = PhaseName::Starting;
    view.replicas[2].phase = PhaseName::Draining;
    view.replicas.swap(0, 3);
    assert_eq!(
        to_string(&ClassicFleet::of(&view)).unwrap(),
        r#"{"message":{"N":2,"replicas":["Server4","Server1:5000"]},"status":"successful"}"#
    );
}
