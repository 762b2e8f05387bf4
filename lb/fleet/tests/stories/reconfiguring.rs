//! Other limits, while replicas live.

use ringmaster_fleet::{AddError, Cause, Limits, PhaseName::*};

use crate::told::*;

#[test]
fn a_lower_limit_of_silences_is_no_failure_by_itself() {
    let mut story = Story::serving(Limits { heartbeat_missed_max: 5, ..limits() }, &["S1"]);
    for at in 1..=4 {
        assert_eq!(story.step(at, missed("S1", 1)), []);
    }
    story.fleet.reconfigure(Limits { heartbeat_missed_max: 2, ..limits() });
    assert_eq!(story.names_serving(), ["S1"]);
    let down = announce("S1", 1, Some(Serving), Some(Down), Cause::MissedHeartbeats(2));
    assert_eq!(story.step(5, missed("S1", 1)), [down, kill("S1", 1)]);
}

#[test]
fn more_replicas_than_there_may_be_stay_but_get_no_company() {
    let mut story = Story::serving(limits(), &["S1", "S2", "S3"]);
    story.fleet.reconfigure(Limits { replicas_max: 2, ..limits() });
    assert_eq!(story.names_serving(), ["S1", "S2", "S3"]);
    assert_eq!(story.fleet.admit(1, &[]), Err(AddError::AboveMax { n: 1, have: 3, max: 3 }));
    story.fleet.reconfigure(Limits { replicas_max: 4, ..limits() });
    assert!(story.fleet.admit(1, &[]).is_ok());
}
