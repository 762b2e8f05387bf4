use super::*;
use crate::admin::tests::fake;
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
    let explain = explain(view, KEY).unwrap();
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
    let explain = explain(&view, KEY).unwrap();
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
    let explain = explain(&view, KEY).unwrap();
    assert_eq!(explain.candidates.len(), CANDIDATES_MAX);
    assert_eq!(explain.left_out, 30);
    assert_eq!(explain.replica, Some(order[120].as_str()));
    assert_eq!(explain.reason, "failover-down");
}
