//! Clients over TLS and HTTP/2 do not notice an upgrade either.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::successor::Service;
use crate::harness::{tls::Authority, until};

#[tokio::test]
async fn upgrades_are_not_noticed_over_http2() {
    let authority = Arc::new(Authority::new());
    let mut service = Service::start(&authority.config("")).await;
    let secure = service.secure.unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (stop, answered) = (stop.clone(), answered.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let mut http2 = authority.try_http2(secure).await.unwrap();
                // As a client does that means well: where no more are taken, it turns to another connection.
                while http2.sender.clone().ready().await.is_ok() && !stop.load(Ordering::Acquire) {
                    assert_eq!(http2.get("/home").await.unwrap().status, 200);
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            }
        })
    };
    for _ in 0..3 {
        let goal = answered.load(Ordering::Acquire) + 50;
        let more = async || (answered.load(Ordering::Acquire) >= goal).then_some(());
        assert!(until("more is answered", more).await.is_some());
        service.upgrade("").await;
    }
    stop.store(true, Ordering::Release);
    load.await.unwrap();
    service.stop().await;
}
