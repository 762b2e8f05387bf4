//! A replica is wanted because others want it.

use crate::told::*;
use ringmaster_fleet::{Cause, Event, Limits};

#[test]
fn one_that_joins_has_the_number_that_others_gave_it() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(
        story.step(1, join("S7", 7)),
        [announce("S7", 1, None, Some(Starting), Cause::Added), spawn("S7", 7, 1)]
    );
    story.step(1, add(&["S2"]));
    assert_eq!(story.replica("S2").number, 2, "the lowest is free still");
    assert_eq!(story.fleet.version(), 3);
}

#[test]
fn one_that_joins_again_is_not_taken_for_its_namesake() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1, remove(&["S1"]));
    story.step(1, drained("S1", 1));
    assert_eq!(story.step(2, join("S1", 1)), [], "its name is in use until it is gone");
    story.step(3, stopped("S1", 1));
    story.step(4, join("S1", 1));
    assert_eq!(story.replica("S1").incarnation, incarnation(2));
    assert_eq!(story.step(5, exited("S1", 1)), [], "late news of the one before");
}

#[test]
fn the_same_is_ignored_as_of_an_addition() {
    let mut story = Story::serving(Limits { replicas_max: 1, ..limits() }, &["S1"]);
    assert_eq!(story.step(1, join("S2", 2)), [], "there are enough");
    story.step(2, Event::Shutdown);
    assert_eq!(story.step(3, join("S3", 3)), [], "all are to end");
}
