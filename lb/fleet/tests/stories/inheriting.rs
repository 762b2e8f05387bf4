//! A process of a balancer goes on with the replicas of the one that it replaces.

use crate::told::*;
use ringmaster_fleet::{AfterDrain, Cause, Event, Limits, Phase, Replica};

/// `replica` as it is in `story`, told to another fleet.
fn inherit(story: &Story, name: &str) -> Event {
    Event::Inherit { replica: Box::new(story.replica(name).clone()) }
}

/// The fleet after this one.
fn successor(story: &Story, limits: Limits, at: u64) -> Story {
    let mut next = Story::new(limits);
    next.fleet.count_on(story.fleet.version(), story.fleet.floor());
    for replica in story.fleet.replicas() {
        next.step(at, Event::Inherit { replica: Box::new(replica.clone()) });
    }
    next
}

#[test]
fn every_phase_goes_on_with_its_history() {
    let mut story = Story::serving(limits(), &["S1", "S2"]);
    story.step(5, missed("S1", 1));
    story.step(10, exited("S2", 1));
    story.step(10, stopped("S2", 1));
    story.step(20, add(&["S3"]));
    story.step(20, spawned("S3", 1));
    let mut next = Story::new(limits());
    for (name, phase) in [("S1", Serving), ("S2", Down), ("S3", Starting)] {
        assert_eq!(
            next.step(30, inherit(&story, name)),
            [announce(name, 1, None, Some(phase), Cause::Inherited)],
            "nothing is started and nothing ended"
        );
        assert_eq!(next.replica(name), story.replica(name));
    }
    assert_eq!(next.names_serving(), ["S1"]);
    assert_eq!(next.fleet.next_wakeup(), story.fleet.next_wakeup());
    assert_eq!(
        next.step(210, Event::Tick),
        [
            announce("S2", 2, Some(Down), Some(Starting), Cause::Retry),
            spawn_after("S2", 2, 2, exit_137()),
        ],
        "the back-off goes on"
    );
}

#[test]
fn neither_versions_nor_incarnations_come_again() {
    let mut story = Story::serving(limits(), &["S1", "S2", "S3", "S4"]);
    story.step(1, remove(&["S2"]));
    story.step(1, drained("S2", 1));
    story.step(1, stopped("S2", 1));
    let mut next = successor(&story, limits(), 2);
    assert_eq!(next.fleet.version(), story.fleet.version());
    next.step(3, add(&["S2"]));
    assert_eq!(next.fleet.version(), story.fleet.version() + 1);
    assert_eq!(next.replica("S2").incarnation, incarnation(2));
}

#[test]
fn limits_that_are_lowered_end_nothing() {
    let mut story = Story::serving(limits(), &["S1", "S2"]);
    story.step(1, missed("S1", 1));
    story.step(2, missed("S1", 1));
    let lower = Limits { heartbeat_missed_max: 1, ..limits() };
    let next = successor(&story, lower, 3);
    assert_eq!(next.names_serving(), ["S1", "S2"]);
    assert_eq!(next.phase("S1"), Phase::Serving { addr: addr(1), since: time(0), missed: 0 });
}

#[test]
fn what_is_ignored() {
    let story = Story::serving(limits(), &["S1", "S2"]);
    let mut next = Story::serving(limits(), &["S1"]);
    assert_eq!(next.step(1, inherit(&story, "S1")), [], "its name is in use");
    let draining =
        Phase::Draining { addr: None, until: time(9), then: AfterDrain::Remove, stopping: false };
    let replica = Box::new(Replica { phase: draining, ..story.replica("S2").clone() });
    assert_eq!(next.step(1, Event::Inherit { replica }), [], "who drains it ends it");
    next.step(2, inherit(&story, "S2"));
    assert_eq!(next.replica("S2").number, 2);
    next.step(3, Event::Shutdown);
    let replica = Box::new(Replica { host: name_of("S3").into(), ..story.replica("S2").clone() });
    assert_eq!(next.step(4, Event::Inherit { replica }), [], "all are to end");
}
