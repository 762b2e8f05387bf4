//! Failures of starts and of serving replicas, the back-off, and the respawn.

use crate::told::*;
use ringmaster_fleet::{Cause, Command, Event, Limits, Phase, PhaseName};

/// The commands of a failure.
fn fails(name: &str, incarnation: u64, from: PhaseName, cause: Cause) -> [Command; 2] {
    [announce(name, incarnation, Some(from), Some(Down), cause), kill(name, incarnation)]
}

#[test]
fn the_last_missed_heartbeat_in_a_row_is_a_failure() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(story.step(1_000, missed("S1", 1)), []);
    assert_eq!(story.step(2_000, missed("S1", 1)), []);
    assert_eq!(story.step(3_000, answered("S1", 1)), []);
    assert_eq!(story.step(4_000, missed("S1", 1)), []);
    assert_eq!(story.step(5_000, missed("S1", 1)), []);
    assert_eq!(story.phase("S1"), Phase::Serving { addr: addr(1), since: time(0), missed: 2 });
    let commands = fails("S1", 1, Serving, Cause::MissedHeartbeats(3));
    assert_eq!(story.step(6_000, missed("S1", 1)), commands);
    assert_eq!(story.phase("S1"), Phase::Down { retry_at: time(6_200), stopped: false });
    assert!(story.names_serving().is_empty());
    assert_eq!(story.names_wanted(), ["S1"], "its place in the ring is kept");
}

#[test]
fn an_exit_is_a_failure_and_its_story_is_kept() {
    let mut story = Story::serving(limits(), &["S1"]);
    let commands = fails("S1", 1, Serving, Cause::Exited("exit 137".to_owned()));
    assert_eq!(story.step(1_000, exited("S1", 1)), commands);
    assert_eq!(story.replica("S1").last_exit, Some(exit("exit 137")));
    assert_eq!(story.step(1_000, exited("S1", 1)), [], "told twice");
    for late in [spawned, answered, missed, drained] {
        assert_eq!(story.step(1_000, late("S1", 1)), []);
    }
}

#[test]
fn a_failed_replica_starts_again_once_its_back_off_is_over_and_it_has_stopped() {
    let again = || [announce("S1", 2, Some(Down), Some(Starting), Cause::Retry), spawn("S1", 1, 2)];

    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, exited("S1", 1));
    assert_eq!(story.step(1_050, stopped("S1", 1)), []);
    assert_eq!(story.fleet.next_wakeup(), Some(time(1_200)));
    assert_eq!(story.step(1_199, Event::Tick), []);
    assert_eq!(story.step(1_200, Event::Tick), again());
    assert_eq!(story.phase("S1"), Phase::Starting { addr: None, deadline: time(11_200) });

    let mut story = Story::serving(limits(), &["S1"]);
    story.step(1_000, exited("S1", 1));
    assert_eq!(story.step(5_000, Event::Tick), [], "the old incarnation may live");
    assert_eq!(story.fleet.next_wakeup(), None);
    assert_eq!(story.step(6_000, stopped("S1", 1)), []);
    assert_eq!(story.fleet.next_wakeup(), Some(time(1_200)), "overdue");
    assert_eq!(story.step(6_000, Event::Tick), again());
}

#[test]
fn a_start_fails_when_the_provider_says_so() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    let commands = fails("S1", 1, Starting, Cause::SpawnFailed("no such image".to_owned()));
    assert_eq!(story.step(100, spawn_failed("S1", 1)), commands);
    assert_eq!(story.replica("S1").last_exit, Some(exit("no such image")));
    assert_eq!(story.replica("S1").attempts, 1);
}

#[test]
fn a_start_fails_when_the_replica_ends() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    story.step(50, spawned("S1", 1));
    let commands = fails("S1", 1, Starting, Cause::Exited("exit 137".to_owned()));
    assert_eq!(story.step(100, exited("S1", 1)), commands);
}

#[test]
fn a_start_fails_at_its_deadline() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    story.step(50, spawned("S1", 1));
    assert_eq!(story.step(9_999, Event::Tick), []);
    let commands = fails("S1", 1, Starting, Cause::StartTimeout(ms(10_000)));
    assert_eq!(story.step(10_000, Event::Tick), commands);
    assert_eq!(story.step(10_001, spawned("S1", 1)), [], "too late: it is being killed");
    assert_eq!(story.step(10_002, spawn_failed("S1", 1)), []);
    assert_eq!(story.replica("S1").last_exit, Some(exit("no such image")), "why it took so long");
    assert_eq!(story.replica("S1").attempts, 1, "one failure, however often it is told");
}

#[test]
fn heartbeats_are_believed_rather_than_a_failed_start() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(story.step(1, spawn_failed("S1", 1)), []);
    assert_eq!(story.names_serving(), ["S1"]);
}

#[test]
fn a_replica_stopped_by_another_hand_has_failed() {
    let mut story = Story::serving(limits(), &["S1"]);
    assert_eq!(story.step(1, stopped("S1", 1)), fails("S1", 1, Serving, Cause::Stopped));
}

/// Lets every start of `S1` fail, and returns the waits in milliseconds, from the `attempts`-th start on.
fn waits(story: &mut Story, mut at: u64, mut incarnation: u64, failures: usize) -> Vec<u128> {
    let mut waits = Vec::new();
    for _ in 0..failures {
        story.step(at, spawn_failed("S1", incarnation));
        story.step(at, stopped("S1", incarnation));
        let wakeup = story.fleet.next_wakeup().expect("it is to start again");
        waits.push((wakeup - time(at)).as_millis());
        at = (wakeup - time(0)).as_millis() as u64 + 1;
        story.step(at, Event::Tick);
        incarnation += 1;
    }
    waits
}

#[test]
fn the_back_off_doubles_from_a_fifth_of_a_second_to_half_a_minute() {
    let mut story = Story::new(Limits::default());
    story.step(0, add(&["S1"]));
    let waits = waits(&mut story, 0, 1, 10);
    let nominal = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
    for (wait, nominal) in waits.iter().zip(nominal) {
        assert!((nominal..=(nominal * 6 / 5).min(30_000)).contains(wait), "{waits:?}");
    }
    assert_ne!(waits[..7], nominal[..7], "chance spreads them");
    assert_eq!(story.replica("S1").attempts, 10);
}

#[test]
fn a_minute_of_health_earns_a_new_count() {
    let limits = Limits { backoff_max: ms(30_000), ..limits() };
    for (answer_at, attempts) in [(59_999, 2), (60_000, 1)] {
        let mut story = Story::new(limits.clone());
        story.step(0, add(&["S1"]));
        story.step(0, spawn_failed("S1", 1));
        story.step(0, stopped("S1", 1));
        story.step(1_000, Event::Tick);
        story.start(1_000, "S1", 2);
        story.step(1_000 + answer_at, missed("S1", 2));
        story.step(1_000 + answer_at, answered("S1", 2));
        assert_eq!(story.replica("S1").attempts, attempts - 1);
        story.step(100_000, exited("S1", 2));
        assert_eq!(story.replica("S1").attempts, attempts);
    }
}
