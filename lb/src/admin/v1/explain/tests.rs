use super::*;
use crate::{admin::tests::fake, config::Config};
use ringmaster_fleet::Algorithm;

/// A pool of `n` replicas; a fixed key and the order in which they are asked for it.
fn pool(n: usize) -> (PoolView, Vec<ReplicaName>) {
    let view = fake::view(Algorithm::Rendezvous { slots: 1_024 }, n);
    let place = view.table.locate(KEY.as_bytes());
    let members = view.table.members();
    let order = view.table.candidates(place);
    let order = order.map(|member| members[member].name.clone()).collect();
    (view, order)
}

const KEY: &str = "alice";

fn replica<'a>(view: &'a mut PoolView, name: &ReplicaName) -> &'a mut ReplicaView {
    let mut replicas = view.replicas.iter_mut();
    replicas.find(|replica| replica.host.name == *name).unwrap()
}

fn word(verdict: Verdict) -> String {
    serde_json::to_value(verdict).unwrap().as_str().unwrap().to_owned()
}

/// The answer without its numbers: `REASON: REPLICA VERDICT (WHY), …`.
fn story(view: &PoolView) -> String {
    told(view, &config())
}

fn config() -> PoolConfig {
    Config::default().pools["default"].clone()
}

fn told(view: &PoolView, config: &PoolConfig) -> String {
    let explain = explain(view, config, KEY).unwrap();
    let candidates: Vec<_> = explain
        .candidates
        .iter()
        .map(|step| format!("{} {} ({})", step.replica, word(step.verdict), step.why))
        .collect();
    let taken = explain.candidates.iter().find(|step| step.verdict == Verdict::Taken);
    assert_eq!(explain.replica, taken.map(|step| step.replica));
    format!("{}: {}", explain.reason, candidates.join(", "))
}

#[test]
fn the_owner_of_the_slot_takes_the_request() {
    let (view, order) = pool(3);
    let [a, b, c] = &order[..] else { unreachable!() };
    assert_eq!(
        story(&view),
        format!("hash: {a} taken (owner of the slot), {b} next (), {c} next ()")
    );
    let place = view.table.locate(KEY.as_bytes());
    let explain = explain(&view, &config(), KEY).unwrap();
    assert_eq!(u64::from_str_radix(&explain.hash, 16).unwrap(), place.hash);
    assert_eq!((explain.hash.len(), explain.slot), (16, place.slot));
}

#[test]
fn who_does_not_serve_is_skipped() {
    let (mut view, order) = pool(4);
    let [a, b, c, d] = &order[..] else { unreachable!() };
    replica(&mut view, a).phase = PhaseName::Down;
    replica(&mut view, a).retry_in = Some(Duration::from_millis(1_234));
    replica(&mut view, b).phase = PhaseName::Starting;
    replica(&mut view, c).phase = PhaseName::Draining;
    assert_eq!(
        story(&view),
        format!(
            "failover-down: {a} skipped (down: retry in 1.2 s), {b} skipped (starting), \
             {c} skipped (draining), {d} taken (first candidate that may take it)"
        )
    );
}

#[test]
fn who_is_at_its_bound_is_skipped() {
    let (mut view, order) = pool(3);
    let [a, b, c] = &order[..] else { unreachable!() };
    let busy = |view: &mut PoolView, name, in_flight| {
        let replica = replica(view, name);
        (replica.in_flight, replica.in_flight_max) = (in_flight, Some(8));
    };
    busy(&mut view, a, 8);
    busy(&mut view, b, 7);
    assert_eq!(
        story(&view),
        format!(
            "spill-bound: {a} skipped (at its bound: 8 of 8 in flight), \
             {b} taken (first candidate that may take it), {c} next ()"
        )
    );
    // The reason is what keeps the owner from it, whatever keeps the others.
    replica(&mut view, b).phase = PhaseName::Down;
    assert!(story(&view).starts_with(&format!(
        "spill-bound: {a} skipped (at its bound: 8 of 8 in flight), {b} skipped (down), {c} taken"
    )));
}

#[test]
fn a_bound_refuses_nobody_but_a_limit_does() {
    let (mut view, order) = pool(2);
    let [a, b] = &order[..] else { unreachable!() };
    for replica in &mut view.replicas {
        (replica.in_flight, replica.in_flight_max) = (9, Some(8));
    }
    let at_bound = "at its bound: 9 of 8 in flight";
    assert_eq!(
        story(&view),
        format!("hash: {a} taken (no other is better: {at_bound}), {b} skipped ({at_bound})")
    );
    let mut config = config();
    config.upstream.in_flight_max = 10;
    replica(&mut view, a).in_flight = 10;
    let at_limit = "at the limit of a replica: 10 in flight";
    assert_eq!(
        told(&view, &config),
        format!(
            "spill-bound: {a} skipped ({at_limit}), {b} taken (no other is better: {at_bound})"
        )
    );
    replica(&mut view, b).in_flight = 10;
    assert_eq!(
        told(&view, &config),
        format!("none: {a} skipped ({at_limit}), {b} skipped ({at_limit})")
    );
}

#[test]
fn who_is_ejected_is_skipped_while_another_serves() {
    let (mut view, order) = pool(3);
    let [a, b, c] = &order[..] else { unreachable!() };
    let eject = |view: &mut PoolView, name| {
        replica(view, name).ejected_for = Some(Duration::from_millis(1_234));
    };
    let ejected = "ejected: it failed requests, for 1.2 s more";
    eject(&mut view, a);
    assert_eq!(
        story(&view),
        format!(
            "failover-down: {a} skipped ({ejected}), {b} taken (first candidate that may take it), {c} next ()"
        )
    );
    eject(&mut view, c);
    let owner = replica(&mut view, b);
    (owner.in_flight, owner.in_flight_max) = (8, Some(8));
    assert_eq!(
        story(&view),
        format!(
            "failover-down: {a} skipped ({ejected}), \
             {b} taken (no other is better: at its bound: 8 of 8 in flight), {c} skipped ({ejected})"
        )
    );
    replica(&mut view, b).phase = PhaseName::Down;
    let only_ejected = format!("{b} skipped (down), {c} skipped ({ejected})");
    assert_eq!(
        story(&view),
        format!("hash: {a} taken (no other is better: {ejected}), {only_ejected}")
    );
    let mut refusing = config();
    refusing.ejection.fail_open = false;
    assert_eq!(told(&view, &refusing), format!("none: {a} skipped ({ejected}), {only_ejected}"));
}

#[test]
fn nobody_takes_it_when_nobody_can() {
    let (mut view, _) = pool(2);
    for replica in &mut view.replicas {
        replica.phase = PhaseName::Starting;
    }
    assert!(story(&view).starts_with("none: "));
    let (empty, _) = pool(0);
    assert_eq!(story(&empty), "none: ");
}

#[test]
fn a_long_list_is_cut_but_the_choice_is_not() {
    let (mut view, order) = pool(130);
    for name in &order[..120] {
        replica(&mut view, name).phase = PhaseName::Down;
    }
    let explain = explain(&view, &config(), KEY).unwrap();
    assert_eq!(explain.candidates.len(), CANDIDATES_MAX);
    assert_eq!(explain.left_out, 30);
    assert_eq!(explain.replica, Some(order[120].as_str()));
    assert_eq!(explain.reason, "failover-down");
}
