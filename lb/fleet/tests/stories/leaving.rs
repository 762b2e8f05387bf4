//! Removal and shutdown.

use crate::told::*;
use ringmaster_fleet::{AfterDrain, Cause, Event, Limits, Phase};

fn draining(until: u64, stopping: bool) -> Phase {
    let then = AfterDrain::Remove;
    Phase::Draining { addr: Some(addr(1)), until: time(until), then, stopping }
}

#[test]
fn a_serving_replica_drains_stops_and_is_gone() {
    let mut story = Story::serving(limits(), &["S1", "S2"]);
    assert_eq!(
        story.step(1_000, remove(&["S1"])),
        [announce("S1", 1, Some(Serving), Some(Draining), Cause::RemoveAsked),]
    );
    assert_eq!(story.phase("S1"), draining(11_000, false));
    assert_eq!(story.names_serving(), ["S2"]);
    assert_eq!(story.names_wanted(), ["S2"]);
    assert_eq!(story.fleet.replicas().count(), 2);
    for ignored in [spawned, spawn_failed, answered, missed] {
        assert_eq!(story.step(1_500, ignored("S1", 1)), []);
    }
    assert_eq!(story.step(1_500, remove(&["S1"])), [], "asked for twice");
    assert_eq!(
        story.step(2_000, drained("S1", 1)),
        [announce("S1", 1, Some(Draining), Some(Draining), Cause::Drained), stop("S1", 1),]
    );
    assert_eq!(story.fleet.next_wakeup(), None);
    for ignored in [drained, exited] {
        assert_eq!(story.step(2_100, ignored("S1", 1)), []);
    }
    assert_eq!(
        story.step(2_200, stopped("S1", 1)),
        [announce("S1", 1, Some(Draining), None, Cause::Stopped),]
    );
    assert_eq!(story.fleet.get(&name_of("S1")), None);
}

#[test]
fn a_drain_has_its_time() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, remove(&["S1"]));
    assert_eq!(story.fleet.next_wakeup(), Some(time(11_000)));
    assert_eq!(story.step(10_999, Event::Tick), []);
    assert_eq!(
        story.step(11_000, Event::Tick),
        [
            announce("S1", 1, Some(Draining), Some(Draining), Cause::DrainTimeout(ms(10_000))),
            stop("S1", 1),
        ]
    );
    assert_eq!(story.step(12_000, Event::Tick), []);
}

#[test]
fn a_replica_that_ends_while_it_drains_is_cleaned_up_and_gone() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, remove(&["S1"]));
    assert_eq!(
        story.step(2_000, exited("S1", 1)),
        [
            announce("S1", 1, Some(Draining), Some(Draining), Cause::Exited("exit 137".to_owned())),
            kill("S1", 1),
        ]
    );
    assert_eq!(story.phase("S1"), draining(2_000, true));
    story.step(2_000, stopped("S1", 1));
    assert_eq!(story.fleet.replicas().count(), 0);
}

#[test]
fn a_starting_replica_is_killed() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    assert_eq!(
        story.step(100, remove(&["S1"])),
        [announce("S1", 1, Some(Starting), Some(Draining), Cause::RemoveAsked), kill("S1", 1),]
    );
    for late in [spawned, answered, spawn_failed, exited, drained] {
        assert_eq!(story.step(200, late("S1", 1)), []);
    }
    assert_eq!(
        story.step(300, stopped("S1", 1)),
        [announce("S1", 1, Some(Draining), None, Cause::Stopped),]
    );
}

#[test]
fn a_replica_that_is_down_is_gone_as_soon_as_it_has_stopped() {
    let mut story = Story::serving(limits(), &["S1", "S2"]);
    story.step(0, exited("S1", 1));
    assert_eq!(
        story.step(100, remove(&["S1"])),
        [announce("S1", 1, Some(Down), Some(Draining), Cause::RemoveAsked), kill("S1", 1),]
    );
    story.step(100, stopped("S1", 1));
    assert_eq!(story.fleet.get(&name_of("S1")), None);

    story.step(200, exited("S2", 1));
    story.step(200, stopped("S2", 1));
    assert_eq!(
        story.step(300, remove(&["S2"])),
        [announce("S2", 1, Some(Down), Some(Draining), Cause::RemoveAsked), kill("S2", 1),],
        "nothing of it runs, but something of it may be left"
    );
    story.step(400, stopped("S2", 1));
    assert_eq!(story.fleet.replicas().count(), 0);
    assert_eq!(story.fleet.version(), 3);
}

#[test]
fn shutdown_ends_every_replica_and_lets_none_come() {
    let mut story =
        Story::serving(Limits::default(), &["serves", "starts", "is-down", "was-down", "leaves"]);
    story.step(0, exited("starts", 1));
    story.step(0, stopped("starts", 1));
    story.step(1_000, Event::Tick);
    story.step(1_000, exited("is-down", 1));
    story.step(1_000, exited("was-down", 1));
    story.step(1_000, stopped("was-down", 1));
    story.step(1_000, remove(&["leaves"]));
    assert_eq!(
        story.step(1_000, Event::Shutdown),
        [
            announce("serves", 1, Some(Serving), Some(Draining), Cause::Shutdown),
            announce("starts", 2, Some(Starting), Some(Draining), Cause::Shutdown),
            kill("starts", 2),
            announce("is-down", 1, Some(Down), Some(Draining), Cause::Shutdown),
            kill("is-down", 1),
            announce("was-down", 1, Some(Down), Some(Draining), Cause::Shutdown),
            kill("was-down", 1),
        ]
    );
    assert_eq!(story.step(1_000, Event::Shutdown), []);
    assert_eq!(story.step(1_000, add(&["new"])), []);
    assert_eq!(story.step(1_000, restart("serves")), []);
    story.step(2_000, drained("serves", 1));
    story.step(11_000, Event::Tick);
    let left = [("serves", 1), ("starts", 2), ("is-down", 1), ("was-down", 1), ("leaves", 1)];
    for (name, incarnation) in left {
        assert_eq!(
            story.step(12_000, stopped(name, incarnation)),
            [announce(name, incarnation, Some(Draining), None, Cause::Stopped),]
        );
    }
    assert_eq!(story.fleet.replicas().count(), 0);
    assert_eq!(story.fleet.next_wakeup(), None);
}
