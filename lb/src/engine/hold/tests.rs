//! Balancers that want the same cluster, in front of an engine that keeps claims in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{holder::tests::holder, *};

/// Generation → who created it.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<u64, Holder>>);

impl Memory {
    fn latest(&self) -> Option<Claim> {
        let claims = lock(&self.0);
        let latest = claims.last_key_value();
        latest.map(|(&generation, holder)| Claim { generation, holder: holder.clone() })
    }

    fn put(&self, generation: u64, holder: Holder) {
        lock(&self.0).insert(generation, holder);
    }
}

#[async_trait]
impl Claims for Memory {
    async fn claim(&self, _: &str, claim: Option<&Claim>) -> Result<Option<Claim>, EngineError> {
        // Others get a turn between what was read and what follows from it.
        tokio::task::yield_now().await;
        if let Some(Claim { generation, holder }) = claim {
            lock(&self.0).entry(*generation).or_insert_with(|| holder.clone());
        }
        Ok(self.latest())
    }

    async fn release(&self, _: &str, session: &str) -> Result<(), EngineError> {
        lock(&self.0).retain(|_, holder| holder.session != session);
        Ok(())
    }
}

fn hold(take_over: bool, predecessor: Option<u32>) -> Arc<Hold> {
    let admin = "127.0.0.1:5001".parse().unwrap();
    let origin = Origin { admin, since: "then".to_owned(), predecessor, take_over };
    Arc::new(Hold::new("web", origin))
}

/// Somewhere that this process cannot look.
fn elsewhere() -> Holder {
    Holder { boot: "another".to_owned(), ..holder(2) }
}

fn refusal(acquired: Result<(), HoldError>) -> String {
    match acquired {
        Err(HoldError::Held(text)) => text,
        other => panic!("not held: {other:?}"),
    }
}

#[tokio::test]
async fn the_second_balancer_is_told_who_holds_the_cluster_until_it_is_released() {
    let engine = Memory::default();
    let (first, second) = (hold(false, None), hold(false, None));
    assert!(second.check().is_err(), "it is not held yet");
    first.acquire(&engine).await.unwrap();
    first.acquire(&engine).await.unwrap();
    let text = refusal(second.acquire(&engine).await);
    let holder = first.holder().clone();
    let expected = format!(
        "cluster web is held by another balancer on this engine: process {} on {}, admin 127.0.0.1:5001, since then; \
         end that one, give this one another `cluster`, or start it with --take-over",
        holder.pid, holder.host
    );
    assert_eq!(text, expected);
    assert_eq!(second.trouble(), Some(text));
    assert!(first.check().is_ok() && second.check().is_err());
    first.release(&engine).await;
    assert_eq!(engine.latest(), None);
    second.acquire(&engine).await.unwrap();
    assert!(first.check().is_err() && second.check().is_ok());
}

#[tokio::test]
async fn a_holder_that_has_ended_is_replaced_at_once() {
    let engine = Memory::default();
    let next = hold(false, None);
    let ended = Holder { pid: i32::MAX as u32, ..next.holder().clone() };
    engine.put(7, Holder { session: "ended".to_owned(), ..ended });
    next.acquire(&engine).await.unwrap();
    assert_eq!(engine.latest().unwrap().generation, 8);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_renewed_becomes_stale() {
    let engine = Memory::default();
    engine.put(1, elsewhere());
    let began = Instant::now();
    hold(false, None).acquire(&engine).await.unwrap();
    assert!(began.elapsed() >= STALE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_renewed_holds() {
    let engine = Arc::<Memory>::default();
    engine.put(1, elsewhere());
    let renewed = engine.clone();
    tokio::spawn(async move {
        sleep(BEAT).await;
        renewed.put(2, elsewhere());
    });
    let text = refusal(hold(false, None).acquire(&*engine).await);
    assert!(text.contains("process 2 on host"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_is_taken_over_keeps_its_hands_off() {
    let engine = Arc::<Memory>::default();
    let (first, second) = (hold(false, None), hold(true, None));
    first.acquire(&*engine).await.unwrap();
    first.keep(engine.clone());
    sleep(BEAT * 3).await;
    let renewed = engine.latest().unwrap().generation;
    assert!(renewed > 1, "{renewed}");
    second.acquire(&*engine).await.unwrap();
    second.keep(engine.clone());
    sleep(BEAT * 2).await;
    let lost = first.trouble().unwrap();
    assert!(lost.starts_with("cluster web was taken over by another balancer: process "), "{lost}");
    assert_eq!(first.check(), Err(EngineError::Refused(lost.clone())));
    assert_eq!(refusal(first.acquire(&*engine).await), lost, "for good");
    first.release(&*engine).await;
    sleep(BEAT * 2).await;
    assert!(second.check().is_ok());
    assert_eq!(engine.latest().unwrap().holder.session, second.holder().session);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_goes_on_as_the_same_balancer() {
    let engine = Arc::<Memory>::default();
    let old = hold(false, None);
    old.acquire(&*engine).await.unwrap();
    old.keep(engine.clone());
    let new = hold(false, Some(std::process::id()));
    new.acquire(&*engine).await.unwrap();
    new.keep(engine.clone());
    sleep(BEAT * 3).await;
    assert!(old.check().is_ok() && new.check().is_ok(), "until it is certain who goes on");
    assert_eq!(old.holder().session, new.holder().session);
    old.leave();
    old.release(&*engine).await;
    assert!(engine.latest().is_some(), "it is the other's now");
    new.release(&*engine).await;
    assert_eq!(engine.latest(), None);
}

#[tokio::test(start_paused = true)]
async fn of_many_that_find_a_stale_claim_one_wins() {
    let engine = Arc::<Memory>::default();
    engine.put(1, elsewhere());
    let contenders: Vec<_> = (0..8).map(|_| hold(false, None)).collect();
    let acquiring = contenders.iter().map(|it| {
        let (it, engine) = (it.clone(), engine.clone());
        tokio::spawn(async move { it.acquire(&*engine).await.is_ok() })
    });
    let mut won = 0;
    for acquired in acquiring.collect::<Vec<_>>() {
        won += usize::from(acquired.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(contenders.iter().filter(|it| it.check().is_ok()).count(), 1);
}

#[tokio::test]
async fn the_last_generation_is_not_followed_by_the_first() {
    let engine = Memory::default();
    engine.put(u64::MAX, elsewhere());
    let acquired = hold(true, None).acquire(&engine).await;
    let Err(HoldError::Engine(error)) = acquired else { panic!("{acquired:?}") };
    assert_eq!(error.to_string(), "there is no generation after the latest claim");
}
