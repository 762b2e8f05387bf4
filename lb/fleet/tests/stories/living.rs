//! From the wish for a replica to its serving; names, numbers, versions and old news.

use crate::told::*;
use ringmaster_fleet::{Cause, Event, Limits, Phase};

#[test]
fn a_replica_is_spawned_and_serves_after_its_first_answer() {
    let mut story = Story::new(limits());
    assert_eq!(
        story.step(0, add(&["S1", "S2"])),
        [
            announce("S1", 1, None, Some(Starting), Cause::Added),
            spawn("S1", 1, 1),
            announce("S2", 1, None, Some(Starting), Cause::Added),
            spawn("S2", 2, 1),
        ]
    );
    assert_eq!(story.step(50, answered("S2", 1)), [], "nobody knows yet where it listens");
    assert_eq!(story.step(60, missed("S2", 1)), [], "a start has a deadline instead");
    assert_eq!(story.step(100, spawned("S2", 1)), []);
    let deadline = time(10_000);
    assert_eq!(story.phase("S2"), Phase::Starting { addr: Some(addr(1)), deadline });
    assert!(story.names_serving().is_empty());
    assert_eq!(
        story.step(150, answered("S2", 1)),
        [announce("S2", 1, Some(Starting), Some(Serving), Cause::Answered),]
    );
    assert_eq!(story.phase("S2"), Phase::Serving { addr: addr(1), since: time(150), missed: 0 });
    assert_eq!(story.names_serving(), ["S2"]);
    assert_eq!(story.names_wanted(), ["S1", "S2"]);
    assert_eq!(story.fleet.next_wakeup(), Some(deadline), "that of S1");
}

#[test]
fn a_name_in_use_is_not_added_again() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(story.step(1, add(&["S1"])), []);
    assert_eq!(story.fleet.version(), 1);
}

#[test]
fn no_more_replicas_are_added_than_may_be() {
    let mut story = Story::new(Limits { replicas_max: 2, ..limits() });
    story.step(0, add(&["S1", "S2", "S3"]));
    assert_eq!(story.names_wanted(), ["S1", "S2"]);
}

#[test]
fn a_number_is_the_lowest_free_one_and_free_again_once_its_replica_is_gone() {
    let mut story = Story::serving(limits(), &["a", "b", "c"]);
    story.step(0, remove(&["a"]));
    story.step(0, add(&["d"]));
    assert_eq!(story.replica("d").number, 4, "a still drains");
    story.step(0, drained("a", 1));
    story.step(0, stopped("a", 1));
    story.step(0, add(&["e"]));
    assert_eq!(story.replica("e").number, 1);
}

#[test]
fn the_version_counts_changes_of_the_wanted_set_not_of_health() {
    let mut story = Story::serving(limits(), &["S1", "S2", "S3"]);
    assert_eq!(story.fleet.version(), 1, "one addition of three");
    story.step(0, exited("S1", 1));
    story.step(0, stopped("S1", 1));
    story.step(200, Event::Tick);
    story.step(200, restart("S2"));
    assert_eq!(story.fleet.version(), 1);
    story.step(300, remove(&["S1", "S2"]));
    assert_eq!(story.fleet.version(), 2);
    story.step(300, remove(&["S1", "S2", "S9"]));
    story.step(300, stopped("S1", 2));
    assert_eq!(story.fleet.version(), 2, "they had left the wanted set before");
}

#[test]
fn news_of_an_older_incarnation_or_an_unknown_name_changes_nothing() {
    let mut story = Story::serving(Limits { heartbeat_missed_max: 1, ..limits() }, &["S1"]);
    story.step(0, exited("S1", 1));
    story.step(0, stopped("S1", 1));
    story.step(200, Event::Tick);
    let starting = story.phase("S1");
    for (name, incarnation) in [("S1", 1), ("S1", 3), ("S9", 1)] {
        let all = [spawned, spawn_failed, answered, missed, exited, drained, stopped];
        for news in all.map(|event| event(name, incarnation)) {
            assert_eq!(story.step(300, news), []);
            assert_eq!(story.phase("S1"), starting);
        }
    }
    story.start(300, "S1", 2);
    let serving = story.phase("S1");
    for news in [spawned, spawn_failed, answered, missed, exited, drained, stopped] {
        assert_eq!(story.step(400, news("S1", 1)), []);
        assert_eq!(story.phase("S1"), serving);
    }
}

#[test]
fn a_name_given_again_begins_above_the_incarnations_that_left() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(0, remove(&["S1"]));
    story.step(0, drained("S1", 1));
    story.step(0, stopped("S1", 1));
    assert_eq!(
        story.step(1, add(&["S1"])),
        [announce("S1", 2, None, Some(Starting), Cause::Added), spawn("S1", 1, 2),]
    );
    assert_eq!(story.step(2, exited("S1", 1)), [], "late news of the one before");
}
