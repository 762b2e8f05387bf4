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
    let again = || {
        [
            announce("S1", 2, Some(Down), Some(Starting), Cause::Retry),
            spawn_after("S1", 1, 2, exit_137()),
        ]
    };

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

/// The limits of the back-off as they are by default, but without jitter where the wait is not the least.
fn ten_seconds() -> Limits {
    Limits { backoff_max: ms(30_000), ..limits() }
}

#[test]
fn a_replica_that_had_served_for_ten_seconds_starts_again_at_once_each_time() {
    let mut story = Story::serving(ten_seconds(), &["S1"]);
    let mut at = 0;
    for incarnation in 1..10 {
        at += 10_000;
        story.step(at, exited("S1", incarnation));
        assert_eq!(story.phase("S1"), Phase::Down { retry_at: time(at), stopped: false });
        assert_eq!(story.replica("S1").attempts, 0);
        story.step(at, stopped("S1", incarnation));
        assert_eq!(
            story.step(at, Event::Tick),
            [
                announce("S1", incarnation + 1, Some(Down), Some(Starting), Cause::Retry),
                spawn_after("S1", 1, incarnation + 1, exit_137()),
            ]
        );
        story.start(at, "S1", incarnation + 1);
    }
}

#[test]
fn a_replica_that_dies_sooner_is_slowed_down_until_it_has_served_for_ten_seconds() {
    let mut story = Story::serving(ten_seconds(), &["S1"]);
    // How long each run serves, and the nominal wait after it.
    let runs = [(9_999, 200), (0, 400), (5_000, 800), (10_000, 0), (9_999, 200), (1, 400)];
    let mut at = 0;
    for (incarnation, (serves, wait)) in (1..).zip(runs) {
        at += serves;
        story.step(at, exited("S1", incarnation));
        story.step(at, stopped("S1", incarnation));
        let retry_at = story.fleet.next_wakeup().expect("it is to start again");
        let waited = (retry_at - time(at)).as_millis();
        assert!((wait..=wait * 6 / 5).contains(&waited), "{waited} ms after run {incarnation}");
        at += 1_000;
        story.step(at, Event::Tick);
        story.start(at, "S1", incarnation + 1);
    }
}

#[test]
fn a_failed_start_is_slowed_down_however_long_the_run_before_had_served() {
    let mut story = Story::serving(ten_seconds(), &["S1"]);
    story.step(60_000, exited("S1", 1));
    story.step(60_000, stopped("S1", 1));
    story.step(60_000, Event::Tick);
    let waits = waits(&mut story, 60_000, 2, 3);
    for (wait, nominal) in waits.iter().zip([200, 400, 800]) {
        assert!((nominal..=nominal * 6 / 5).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_hang_after_ten_seconds_of_service_is_no_crash_loop() {
    let mut story = Story::serving(ten_seconds(), &["S1"]);
    for at in [10_000, 10_500, 11_000] {
        story.step(at, missed("S1", 1));
    }
    assert_eq!(story.phase("S1"), Phase::Down { retry_at: time(11_000), stopped: false });
}

#[test]
fn failures_are_forgotten_after_ten_seconds_of_service() {
    for (answer_at, attempts) in [(9_999, 1), (10_000, 0)] {
        let mut story = Story::new(ten_seconds());
        story.step(0, add(&["S1"]));
        story.step(0, spawn_failed("S1", 1));
        story.step(0, stopped("S1", 1));
        story.step(1_000, Event::Tick);
        story.start(1_000, "S1", 2);
        story.step(1_000 + answer_at, missed("S1", 2));
        story.step(1_000 + answer_at, answered("S1", 2));
        assert_eq!(story.replica("S1").attempts, attempts);
    }
}

#[test]
fn a_crash_that_heartbeats_notice_first_is_put_down_to_the_exit() {
    let mut story = Story::serving(Limits { heartbeat_missed_max: 1, ..limits() }, &["S1"]);
    let noticed = Cause::MissedHeartbeats(1);
    assert_eq!(story.step(1_000, missed("S1", 1)), fails("S1", 1, Serving, noticed));
    let known = announce("S1", 1, Some(Down), Some(Down), exit_137());
    assert_eq!(story.step(1_010, exited("S1", 1)), [known]);
    assert_eq!(story.step(1_010, exited("S1", 1)), [], "told twice");
    assert_eq!(story.replica("S1").last_exit, Some(exit("exit 137")));
    story.step(1_020, stopped("S1", 1));
    assert_eq!(
        story.step(1_200, Event::Tick),
        [
            announce("S1", 2, Some(Down), Some(Starting), Cause::Retry),
            spawn_after("S1", 1, 2, exit_137()),
        ]
    );
    assert_eq!(story.replica("S1").failure, None);
}

#[test]
fn a_hang_stays_a_hang_although_its_replica_is_killed() {
    let mut story = Story::serving(Limits { heartbeat_missed_max: 1, ..limits() }, &["S1"]);
    story.step(1_000, missed("S1", 1));
    assert_eq!(story.step(1_010, killed("S1", 1)), []);
    assert_eq!(story.replica("S1").last_exit, Some(exit("killed by signal 9")));
    assert_eq!(
        story.step(1_200, Event::Tick),
        [
            announce("S1", 2, Some(Down), Some(Starting), Cause::Retry),
            spawn_after("S1", 1, 2, Cause::MissedHeartbeats(1)),
        ]
    );
}

#[test]
fn a_start_that_timed_out_because_its_replica_had_ended_is_put_down_to_the_exit() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    story.step(50, spawned("S1", 1));
    story.step(10_000, Event::Tick);
    let known = announce("S1", 1, Some(Down), Some(Down), exit_137());
    assert_eq!(story.step(10_001, exited("S1", 1)), [known]);
    story.step(10_002, stopped("S1", 1));
    let commands = story.step(10_200, Event::Tick);
    assert_eq!(commands[1..], [spawn_after("S1", 1, 2, exit_137())]);
}

#[test]
fn a_failed_start_keeps_its_own_reason() {
    let mut story = Story::new(limits());
    story.step(0, add(&["S1"]));
    story.step(100, spawn_failed("S1", 1));
    assert_eq!(story.step(101, exited("S1", 1)), []);
    story.step(102, stopped("S1", 1));
    let cause = Cause::SpawnFailed("no such image".to_owned());
    assert_eq!(story.step(300, Event::Tick)[1..], [spawn_after("S1", 1, 2, cause)]);
}

#[test]
fn failures_are_told_from_other_moves() {
    let failures = [
        (Some(Serving), Some(Down), exit_137()),
        (Some(Serving), Some(Draining), Cause::MissedHeartbeats(3)),
        (Some(Down), Some(Down), exit_137()),
        (Some(Draining), Some(Draining), exit_137()),
        (Some(Starting), Some(Down), Cause::StartTimeout(ms(1))),
        (Some(Starting), Some(Down), Cause::SpawnFailed("x".to_owned())),
        (Some(Serving), Some(Down), Cause::Stopped),
    ];
    let others = [
        (None, Some(Starting), Cause::Added),
        (None, Some(Down), Cause::Replaces(name_of("S1"))),
        (Some(Down), Some(Starting), Cause::Retry),
        (Some(Serving), Some(Draining), Cause::RemoveAsked),
        (Some(Draining), Some(Draining), Cause::DrainTimeout(ms(1))),
        (Some(Draining), None, Cause::Stopped),
    ];
    let all = failures.map(|it| (it, true)).into_iter().chain(others.map(|it| (it, false)));
    for ((from, to, cause), expected) in all {
        let Command::Announce(change) = announce("S1", 1, from, to, cause) else { unreachable!() };
        assert_eq!(change.is_failure(), expected, "{change:?}");
    }
}
