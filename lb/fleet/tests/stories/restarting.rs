//! Restarts on request.

use crate::told::*;
use ringmaster_fleet::{Cause, Command, Phase};

fn starts_again(from: u64) -> [Command; 2] {
    let cause = Cause::RestartAsked;
    starts_again_after(from, cause)
}

fn starts_again_after(from: u64, ended_by: Cause) -> [Command; 2] {
    let cause = Cause::RestartAsked;
    [
        announce("S1", from + 1, Some(Draining), Some(Starting), cause),
        spawn_after("S1", 1, from + 1, ended_by),
    ]
}

#[test]
fn a_serving_replica_drains_and_starts_again_at_once() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(
        story.step(1_000, restart("S1")),
        [announce("S1", 1, Some(Serving), Some(Draining), Cause::RestartAsked),]
    );
    assert!(story.names_serving().is_empty());
    assert_eq!(story.names_wanted(), ["S1"], "its keys come home");
    assert_eq!(story.step(1_100, restart("S1")), [], "asked for twice");
    assert_eq!(
        story.step(2_000, drained("S1", 1)),
        [announce("S1", 1, Some(Draining), Some(Draining), Cause::Drained), stop("S1", 1),]
    );
    assert_eq!(story.step(2_500, stopped("S1", 1)), starts_again(1));
    assert_eq!(story.phase("S1"), Phase::Starting { addr: None, deadline: time(12_500) });
    assert_eq!(story.replica("S1").attempts, 0, "it did not fail");
}

#[test]
fn a_replica_that_ends_before_it_has_drained_starts_again_all_the_same() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, restart("S1"));
    assert_eq!(
        story.step(1_100, exited("S1", 1)),
        [
            announce("S1", 1, Some(Draining), Some(Draining), Cause::Exited("exit 137".to_owned())),
            kill("S1", 1),
        ]
    );
    assert_eq!(story.step(1_200, stopped("S1", 1)), starts_again(1));
}

#[test]
fn a_starting_replica_is_killed_and_starts_again() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    assert_eq!(
        story.step(100, restart("S1")),
        [announce("S1", 1, Some(Starting), Some(Draining), Cause::RestartAsked), kill("S1", 1),]
    );
    assert_eq!(story.step(200, stopped("S1", 1)), starts_again(1));
}

#[test]
fn a_replica_that_is_down_does_not_wait_for_its_back_off() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, exited("S1", 1));
    assert_eq!(
        story.step(1_010, restart("S1")),
        [announce("S1", 1, Some(Down), Some(Draining), Cause::RestartAsked), kill("S1", 1),]
    );
    assert_eq!(story.step(1_020, stopped("S1", 1)), starts_again_after(1, exit_137()));
    assert_eq!(story.replica("S1").attempts, 1, "unchanged");

    story.step(1_030, exited("S1", 2));
    story.step(1_030, stopped("S1", 2));
    assert_eq!(
        story.step(1_040, restart("S1")),
        [
            announce("S1", 3, Some(Down), Some(Starting), Cause::RestartAsked),
            spawn_after("S1", 1, 3, exit_137()),
        ]
    );
}

#[test]
fn a_removal_overrides_a_restart_and_is_not_taken_back() {
    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, restart("S1"));
    assert_eq!(
        story.step(2_000, remove(&["S1"])),
        [announce("S1", 1, Some(Draining), Some(Draining), Cause::RemoveAsked),]
    );
    assert!(story.names_wanted().is_empty());
    assert_eq!(story.fleet.version(), 2);
    assert_eq!(story.fleet.next_wakeup(), Some(time(11_000)), "the drain has begun before");
    assert_eq!(story.step(3_000, restart("S1")), []);
    story.step(4_000, drained("S1", 1));
    assert_eq!(
        story.step(5_000, stopped("S1", 1)),
        [announce("S1", 1, Some(Draining), None, Cause::Stopped),]
    );
}

#[test]
fn an_unknown_replica_is_not_restarted() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(story.step(0, restart("S9")), []);
}
