use super::*;
use std::time::Duration;

fn publish(publisher: &Publisher, count: usize) {
    (0..count).for_each(|_| publisher.publish(Fact::Reloaded(Reloaded::default())));
}

/// What a follower of a history that has ended learns: ids, and gaps as (after, next).
async fn rest(mut follower: Follower) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    while let Some(notice) = follower.next().await {
        match notice {
            Notice::Event(event) => ids.push(event.id),
            Notice::Gap { after, next } => gaps.push((after, next)),
        }
    }
    (ids, gaps)
}

#[tokio::test]
async fn whoever_asks_for_nothing_older_gets_what_comes() {
    let (publisher, events) = channel();
    publish(&publisher, 3);
    let follower = events.follow(None);
    publish(&publisher, 2);
    drop(publisher);
    assert_eq!(rest(follower).await, (vec![4, 5], vec![]));
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was() {
    let (publisher, events) = channel();
    publish(&publisher, 5);
    drop(publisher);
    for seen in 0..=5 {
        assert_eq!(rest(events.follow(Some(seen))).await, ((seen + 1..=5).collect(), vec![]));
    }
}

#[tokio::test]
async fn what_fell_out_of_the_history_is_a_gap() {
    let (publisher, events) = channel();
    let idle = events.follow(None);
    publish(&publisher, EVENTS_MAX + 10);
    drop(publisher);
    let last = EVENTS_MAX as u64 + 10;
    let kept: Vec<_> = (11..=last).collect();
    assert_eq!(rest(idle).await, (kept.clone(), vec![(0, 11)]), "a slow reader");
    assert_eq!(rest(events.follow(Some(9))).await, (kept.clone(), vec![(9, 11)]));
    assert_eq!(rest(events.follow(Some(10))).await, (kept, vec![]), "just not too late");
}

#[tokio::test]
async fn an_id_of_another_run_is_a_gap() {
    let (publisher, events) = channel();
    let early = events.follow(Some(42));
    assert_eq!(events.follow(Some(42)).next().await, Some(Notice::Gap { after: 42, next: 1 }));
    publish(&publisher, 2);
    drop(publisher);
    assert_eq!(rest(early).await, (vec![1, 2], vec![(42, 1)]));
    let largest = events.follow(Some(u64::MAX));
    assert_eq!(rest(largest).await, (vec![1, 2], vec![(u64::MAX, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_what_has_not_happened_yet() {
    let (publisher, events) = channel();
    let mut follower = events.follow(None);
    let early = tokio::time::timeout(Duration::from_secs(60), follower.next()).await;
    assert!(early.is_err(), "{early:?}");
    publish(&publisher, 1);
    assert!(matches!(follower.next().await, Some(Notice::Event(event)) if event.id == 1));
}
