//! A new balancer adopts the replicas of one that crashed.

use crate::told::*;
use ringmaster_fleet::{Cause, Event, Limits, Phase};

#[test]
fn one_that_runs_keeps_its_incarnation_and_serves_after_its_next_answer() {
    let mut story = Story::new(limits());
    assert_eq!(
        story.step(100, adopt("S1:5000", 3, 7, addr(7))),
        [announce("S1", 7, None, Some(Starting), Cause::Adopted)],
        "it is not spawned"
    );
    assert_eq!(story.phase("S1"), Phase::Starting { addr: Some(addr(7)), deadline: time(10_100) });
    let adopted = story.replica("S1");
    assert_eq!((adopted.host.to_string().as_str(), adopted.number), ("S1:5000", 3));
    assert_eq!((adopted.attempts, &adopted.last_exit), (0, &None));
    assert!(story.names_serving().is_empty(), "whether it is well is yet to be seen");
    assert_eq!(story.names_wanted(), ["S1"]);
    assert_eq!(
        story.step(200, answered("S1", 7)),
        [announce("S1", 7, Some(Starting), Some(Serving), Cause::Answered)]
    );
    assert_eq!(story.phase("S1"), Phase::Serving { addr: addr(7), since: time(200), missed: 0 });
}

#[test]
fn one_that_has_ended_begins_at_once_with_its_next_incarnation() {
    let mut story = Story::new(limits());
    assert_eq!(
        story.step(100, adopt("S1", 3, 7, None)),
        [announce("S1", 8, None, Some(Starting), Cause::Restored), spawn("S1", 3, 8)]
    );
    assert_eq!(story.phase("S1"), Phase::Starting { addr: None, deadline: time(10_100) });
    assert_eq!(story.step(100, exited("S1", 7)), [], "late news of what has ended");
    story.start(200, "S1", 8);
    assert_eq!(
        story.step(300, adopt("S2", 1, 0, None)),
        [announce("S2", 1, None, Some(Starting), Cause::Restored), spawn("S2", 1, 1)],
        "one that was wanted, but not yet started"
    );
}

#[test]
fn an_adopted_one_that_does_not_answer_or_ends_has_failed_and_starts_again() {
    let causes = [
        (Event::Tick, Cause::StartTimeout(ms(10_000))),
        (exited("S1", 7), Cause::Exited("exit 137".to_owned())),
        (stopped("S1", 7), Cause::Stopped),
    ];
    for (event, cause) in causes {
        let mut story = Story::new(limits());
        story.step(0, adopt("S1", 3, 7, addr(7)));
        assert_eq!(story.fleet.next_wakeup(), Some(time(10_000)));
        assert_eq!(
            story.step(10_000, event),
            [announce("S1", 7, Some(Starting), Some(Down), cause.clone()), kill("S1", 7)]
        );
        story.step(10_000, stopped("S1", 7));
        assert_eq!(
            story.step(10_200, Event::Tick),
            [
                announce("S1", 8, Some(Down), Some(Starting), Cause::Retry),
                spawn_after("S1", 3, 8, cause),
            ]
        );
    }
}

#[test]
fn an_adopted_one_is_removed_like_any_other() {
    let mut story = Story::new(limits());
    story.step(0, adopt("S1", 1, 7, addr(7)));
    assert_eq!(
        story.step(1, remove(&["S1"])),
        [announce("S1", 7, Some(Starting), Some(Draining), Cause::RemoveAsked), kill("S1", 7)]
    );
}

#[test]
fn the_same_is_ignored_as_of_an_addition() {
    let mut story = Story::serving(Limits { replicas_max: 2, ..limits() }, &["S1"]);
    for runs in [None, Some(addr(7))] {
        assert_eq!(story.step(1, adopt("S1", 1, 7, runs)), [], "its name is in use");
    }
    story.step(1, adopt("S2", 2, 1, None));
    for runs in [None, Some(addr(7))] {
        assert_eq!(story.step(1, adopt("S3", 3, 7, runs)), [], "there are enough");
    }
    assert_eq!(story.names_wanted(), ["S1", "S2"]);
    assert_eq!(story.replica("S1").incarnation, incarnation(1));
    assert_eq!(story.fleet.version(), 2);

    story.step(2, Event::Shutdown);
    for runs in [None, Some(addr(7))] {
        assert_eq!(story.step(3, adopt("S4", 4, 7, runs)), [], "all are to end");
    }
    assert_eq!(story.fleet.get(&name_of("S4")), None);
}

#[test]
fn a_number_that_is_not_free_is_replaced_by_the_lowest_that_is() {
    let mut story = Story::new(limits());
    let adopted = [("a", 1, 1), ("b", 4, 4), ("c", 4, 2), ("d", 0, 3), ("e", 1, 5)];
    for (name, number, given) in adopted {
        let runs = (number == 4).then(|| addr(1));
        story.step(0, adopt(name, number, 1, runs));
        assert_eq!(story.replica(name).number, given, "{name}");
    }
}

#[test]
fn each_adoption_grows_the_version() {
    let mut story = Story::new(limits());
    story.step(0, adopt("S1", 1, 7, addr(7)));
    assert_eq!(story.fleet.version(), 1);
    story.step(0, adopt("S2", 2, 7, None));
    assert_eq!(story.fleet.version(), 2);
    story.step(0, answered("S1", 7));
    assert_eq!(story.fleet.version(), 2);
}

#[test]
fn no_name_begins_at_an_incarnation_that_was_adopted_or_follows_from_one() {
    let mut story = Story::new(limits());
    story.step(0, adopt("S1", 1, 7, None));
    story.start(0, "S1", 8);
    story.step(0, add(&["S2"]));
    assert_eq!(story.replica("S2").incarnation, incarnation(8), "above 7, which was S1's");

    story.step(1, remove(&["S1"]));
    story.step(1, drained("S1", 8));
    story.step(1, stopped("S1", 8));
    story.step(2, add(&["S1"]));
    assert_eq!(story.replica("S1").incarnation, incarnation(9));
}

#[test]
fn what_was_not_adopted_after_all_is_not_taken_for_a_later_namesake() {
    let mut story = Story::serving(Limits { replicas_max: 1, ..limits() }, &["S1"]);
    story.step(0, adopt("S2", 2, 7, addr(7)));
    story.step(0, remove(&["S1"]));
    assert_eq!(
        story.step(1, add(&["S2"])),
        [announce("S2", 8, None, Some(Starting), Cause::Added), spawn("S2", 2, 8)]
    );
    assert_eq!(story.step(2, exited("S2", 7)), [], "the shell has ended what was left");
}
