//! Which names an addition gets, and which replicas a removal takes.

use crate::told::*;
use ringmaster_fleet::{AddError, Host, Limits, Naming, RemoveError, ReplicaName};

fn texts(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(Host::to_string).collect()
}

#[test]
fn missing_names_are_the_lowest_free_ones() {
    let story = Story::serving(limits(), &["Server1", "Server3"]);
    let admitted = story.fleet.admit(3, &hosts(&["S9:5000"])).unwrap();
    assert_eq!(texts(&admitted), ["S9:5000", "Server2", "Server4"]);
}

#[test]
fn a_name_in_use_is_replaced_even_while_its_replica_drains() {
    let mut story = Story::serving(limits(), &["Server1", "Server2"]);
    story.step(0, remove(&["Server1"]));
    let admitted = story.fleet.admit(3, &hosts(&["Server1:80", "Server3"])).unwrap();
    assert_eq!(
        texts(&admitted),
        ["Server4", "Server3", "Server5"],
        "a name given is not generated"
    );
}

#[test]
fn random_names_have_six_digits_follow_from_the_seed_and_differ_from_time_to_time() {
    let mut story = Story::new(Limits { naming: Naming::Random, ..limits() });
    let first = story.fleet.admit(500, &[]).unwrap();
    assert_eq!(first, story.fleet.admit(500, &[]).unwrap(), "asking changes nothing");
    for host in &first {
        let digits = host.name.as_str().strip_prefix("Server").expect("a generated name");
        assert!((100_000..1_000_000).contains(&digits.parse::<u32>().unwrap()), "{host}");
    }
    story.step(0, ringmaster_fleet::Event::Add { hosts: first.clone() });
    assert_eq!(story.fleet.wanted().count(), 500, "they are unique");
    let second = story.fleet.admit(500, &[]).unwrap();
    assert!(second.iter().all(|host| !first.contains(host)));
}

#[test]
fn uuids_follow_from_the_seed_and_differ_from_time_to_time() {
    let mut story = Story::new(Limits { naming: Naming::Uuid, ..limits() });
    let first = story.fleet.admit(500, &hosts(&["S1"])).unwrap();
    assert_eq!(first, story.fleet.admit(500, &hosts(&["S1"])).unwrap(), "asking changes nothing");
    assert_eq!(first[0].to_string(), "S1");
    assert!(first[1..].iter().all(|host| host.name.as_str().len() == 36), "{first:?}");
    story.step(0, ringmaster_fleet::Event::Add { hosts: first.clone() });
    assert_eq!(story.fleet.wanted().count(), 500, "they are unique");
    let second = story.fleet.admit(500, &[]).unwrap();
    assert!(second.iter().all(|host| !first.contains(host)));
}

#[test]
fn an_addition_that_cannot_be_says_why() {
    let story = Story::serving(Limits { replicas_max: 3, ..limits() }, &["S1", "S2"]);
    let refused = |n, names| story.fleet.admit(n, &hosts(names)).unwrap_err();
    assert_eq!(refused(1, &["a", "a"]), AddError::TooManyNames { names: 2, n: 1 });
    assert_eq!(refused(2, &["a", "a:80"]), AddError::Duplicate(name_of("a")));
    assert_eq!(refused(2, &["a", "b"]), AddError::AboveMax { n: 2, have: 2, max: 3 });
    assert_eq!(
        refused(usize::MAX, &[]).to_string(),
        format!(
            "{} more than the 2 that exist is above replicas_max (3): at most 1 can be added",
            usize::MAX
        )
    );
    assert_eq!(story.fleet.admit(1, &[]).map(|hosts| hosts.len()), Ok(1));
}

fn names(names: &[ReplicaName]) -> Vec<&str> {
    names.iter().map(ReplicaName::as_str).collect()
}

#[test]
fn victims_are_those_named_then_those_that_cost_least() {
    let mut story = Story::serving(limits(), &["busy", "old", "down", "new", "leaves", "busier"]);
    story.step(0, exited("down", 1));
    story.step(0, remove(&["leaves"]));
    let in_flight = |name: &ReplicaName| match name.as_str() {
        "busy" => 1,
        "busier" => 2,
        "down" => 9,
        _ => 0,
    };
    let victims = story.fleet.victims(5, &[], in_flight).unwrap();
    assert_eq!(names(&victims), ["down", "new", "old", "busy", "busier"]);
    let victims = story.fleet.victims(3, &hosts(&["busier:5000", "new"]), in_flight).unwrap();
    assert_eq!(names(&victims), ["busier", "new", "down"]);
    assert_eq!(story.fleet.victims(0, &[], in_flight), Ok(vec![]));
}

#[test]
fn a_removal_that_cannot_be_says_why() {
    let mut story = Story::serving(limits(), &["S1", "S2", "S3"]);
    story.step(0, remove(&["S3"]));
    let refused = |n, names| story.fleet.victims(n, &hosts(names), |_| 0).unwrap_err();
    assert_eq!(refused(1, &["S9", "S9"]), RemoveError::TooManyNames { names: 2, n: 1 });
    assert_eq!(refused(3, &["S9", "S9:80"]), RemoveError::Duplicate(name_of("S9")));
    assert_eq!(refused(3, &["S9"]), RemoveError::MoreThanExist { n: 3, have: 2 });
    assert_eq!(refused(2, &["S1", "S9"]), RemoveError::Unknown(name_of("S9")));
    assert_eq!(refused(1, &["S3"]), RemoveError::Unknown(name_of("S3")));
}
