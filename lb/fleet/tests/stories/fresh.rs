//! `RespawnName::Fresh`: another replica stands in for one that served and failed.

use crate::told::*;
use ringmaster_fleet::{Cause, Event, Limits, Naming, Phase, RespawnName};

fn fresh() -> Limits {
    Limits { respawn_name: RespawnName::Fresh, backoff_max: ms(30_000), ..limits() }
}

#[test]
fn the_replacement_has_another_name_and_number_and_waits_until_the_failed_one_is_gone() {
    let limits = Limits { backoff_min: ms(30_000), ..fresh() };
    let mut story = Story::serving(limits, &["Server1", "Server2"]);
    assert_eq!(
        story.step(1_000, exited("Server1", 1)),
        [
            announce(
                "Server1",
                1,
                Some(Serving),
                Some(Draining),
                Cause::Exited("exit 137".to_owned())
            ),
            kill("Server1", 1),
            announce("Server3", 1, None, Some(Down), Cause::Replaces(name_of("Server1"))),
        ]
    );
    assert_eq!(story.names_wanted(), ["Server2", "Server3"]);
    assert_eq!(story.fleet.version(), 2);
    let replacement = story.replica("Server3");
    assert_eq!((replacement.number, replacement.attempts), (3, 1));
    assert_eq!(replacement.last_exit, Some(exit("exit 137")), "it explains the wait");
    assert_eq!(replacement.phase, Phase::Down { retry_at: time(31_000), stopped: false });
    assert_eq!(replacement.replaces, Some(name_of("Server1")));

    assert_eq!(
        story.step(1_100, stopped("Server1", 1)),
        [announce("Server1", 1, Some(Draining), None, Cause::Stopped),]
    );
    assert_eq!(
        story.phase("Server3"),
        Phase::Down { retry_at: time(31_000), stopped: true },
        "it waits out the back-off"
    );
    assert_eq!(story.step(30_999, Event::Tick), []);
    assert_eq!(
        story.step(31_000, Event::Tick),
        [
            announce("Server3", 2, Some(Down), Some(Starting), Cause::Retry),
            spawn_after("Server3", 3, 2, exit_137()),
        ]
    );
    assert_eq!(story.fleet.version(), 2);
}

#[test]
fn the_count_of_failures_goes_from_replica_to_replica() {
    let mut story = Story::serving(fresh(), &["Server1"]);
    story.step(0, exited("Server1", 1));
    story.step(0, stopped("Server1", 1));
    story.step(1_000, Event::Tick);
    story.start(1_000, "Server2", 2);
    story.step(2_000, exited("Server2", 2));
    let names: Vec<_> =
        story.fleet.replicas().map(|it| (it.name().as_str(), it.attempts)).collect();
    assert_eq!(names, [("Server2", 2), ("Server1", 2)]);
}

#[test]
fn the_end_of_the_failed_replica_is_known_before_the_replacement_starts() {
    let ends = [
        (exited("Server1", 1), exit_137(), exit("exit 137")),
        (killed("Server1", 1), Cause::MissedHeartbeats(1), exit("killed by signal 9")),
    ];
    for (end, cause, last_exit) in ends {
        let mut story = Story::serving(Limits { heartbeat_missed_max: 1, ..fresh() }, &["Server1"]);
        story.step(20_000, missed("Server1", 1));
        assert_eq!(story.step(20_000, Event::Tick), [], "the failed one may live");
        story.step(20_010, end);
        story.step(20_020, stopped("Server1", 1));
        assert_eq!(
            story.step(20_020, Event::Tick),
            [
                announce("Server2", 2, Some(Down), Some(Starting), Cause::Retry),
                spawn_after("Server2", 2, 2, cause),
            ],
            "at once, as the failed one had served for long"
        );
        assert_eq!(story.replica("Server2").last_exit, Some(last_exit));
    }
}

#[test]
fn a_replacement_can_be_removed_or_restarted_while_the_failed_one_ends() {
    for event in [remove(&["Server2"]), restart("Server2")] {
        let mut story = Story::serving(fresh(), &["Server1"]);
        story.step(0, exited("Server1", 1));
        let restarts = matches!(event, Event::Restart { .. });
        story.step(10, event);
        story.step(20, stopped("Server2", 1));
        story.step(30, stopped("Server1", 1));
        story.step(60_000, Event::Tick);
        assert_eq!(story.fleet.replicas().count(), usize::from(restarts));
    }
}

#[test]
fn one_that_has_not_served_keeps_its_name_however_its_start_fails() {
    let causes = [
        (spawn_failed("Server1", 1), Cause::SpawnFailed("no such image".to_owned())),
        (exited("Server1", 1), Cause::Exited("exit 137".to_owned())),
        (stopped("Server1", 1), Cause::Stopped),
        (Event::Tick, Cause::StartTimeout(ms(10_000))),
    ];
    for (event, cause) in causes {
        let mut story = Story::new(fresh());
        story.step(0, add(&["Server1"]));
        assert_eq!(
            story.step(10_000, event),
            [announce("Server1", 1, Some(Starting), Some(Down), cause), kill("Server1", 1)]
        );
        assert_eq!(story.names_wanted(), ["Server1"]);
        assert_eq!(story.fleet.version(), 1);
    }
}

#[test]
fn a_replacement_keeps_the_name_it_was_given_until_it_has_served() {
    let mut story = Story::serving(fresh(), &["Server1"]);
    story.step(0, exited("Server1", 1));
    story.step(0, stopped("Server1", 1));
    story.step(1_000, Event::Tick);
    story.step(1_000, spawn_failed("Server2", 2));
    assert_eq!(story.names_wanted(), ["Server2"]);
    assert_eq!(story.replica("Server2").attempts, 2);
}

#[test]
fn a_random_name_of_six_digits_is_drawn() {
    let mut story = Story::serving(Limits { naming: Naming::Random, ..fresh() }, &["S1"]);
    story.step(0, exited("S1", 1));
    let digits = story.names_wanted()[0].strip_prefix("Server").expect("a generated name");
    assert_eq!(digits.len(), 6);
    assert!(digits.parse::<u32>().is_ok());
}

#[test]
fn a_uuid_is_drawn_for_each_replacement() {
    let mut story = Story::serving(Limits { naming: Naming::Uuid, ..fresh() }, &["S1"]);
    let mut names = vec!["S1".to_owned()];
    for start in 1..4 {
        let name = names.last().unwrap().clone();
        story.step(start * 60_000, exited(&name, start));
        story.step(start * 60_000, stopped(&name, start));
        story.step(start * 60_000, Event::Tick);
        names.push(story.names_wanted()[0].to_owned());
        story.start(start * 60_000, names.last().unwrap(), start + 1);
    }
    for (at, name) in names.iter().enumerate().skip(1) {
        let parts: Vec<_> = name.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{name}");
        assert!(!names[..at].contains(name), "{names:?}");
    }
}

#[test]
fn a_restart_keeps_the_name() {
    let mut story = Story::serving(fresh(), &["S1"]);
    story.step(0, restart("S1"));
    story.step(0, exited("S1", 1));
    story.step(0, stopped("S1", 1));
    assert_eq!(story.names_wanted(), ["S1"]);
}
