//! Leases against the drain, in every order in which their steps can interleave (loom).
//!
//! The file under test is the balancer's own, with loom's atomics in place of the standard library's. The picture of
//! the routes, an `ArcSwap` there, is a pointer that is swapped here: either a reader has the old one or the new one.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../src/routes/in_flight.rs"]
mod in_flight;

/// What `in_flight` takes from the crate that it is part of.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
}

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use self::in_flight::{InFlight, take};

/// A replica as requests and the keeper see it.
#[derive(Default)]
struct Replica {
    in_flight: InFlight,
    /// Set once its end was asked for.
    is_stopped: AtomicBool,
}

/// The picture: whether the replica is in it.
#[derive(Default)]
struct Routes {
    is_without: AtomicBool,
}

/// A request: looks at the picture, takes a lease, is in the replica's hands, gives it back.
fn request(routes: &Routes, replica: &Replica) {
    if !routes.is_without.load(Ordering::Acquire) && replica.in_flight.take(8) {
        assert!(!replica.is_stopped.load(Ordering::Acquire), "stopped with a request in hand");
        replica.in_flight.give_back();
    }
}

/// The keeper: takes the replica out of the picture, and stops it if nobody has it in hand. Whether it was stopped.
fn drain(routes: &Routes, replica: &Replica) -> bool {
    routes.is_without.store(true, Ordering::Release);
    let is_drained = replica.in_flight.seal();
    if is_drained {
        replica.is_stopped.store(true, Ordering::Release);
    }
    is_drained
}

/// All orders with one request; with two, those in which threads are interrupted at most three times.
#[test]
fn a_drain_does_not_end_while_a_lease_is_held_and_none_is_given_after_it() {
    for (requests, interruptions) in [(1, None), (2, Some(3))] {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = interruptions;
        model.check(move || {
            let (routes, replica) = (Arc::new(Routes::default()), Arc::new(Replica::default()));
            let requests: Vec<_> = (0..requests)
                .map(|_| {
                    let (routes, replica) = (routes.clone(), replica.clone());
                    thread::spawn(move || request(&routes, &replica))
                })
                .collect();
            let is_drained = drain(&routes, &replica);
            for request in requests {
                request.join().unwrap();
            }
            assert_eq!(replica.in_flight.count(), 0, "every lease is given back");
            // Whoever still had it in hand is gone: the next look ends the drain.
            assert!(is_drained || drain(&routes, &replica));
            assert!(!replica.in_flight.take(u32::MAX), "nothing is given after the end");
            assert!(replica.in_flight.seal(), "what has ended stays so");
        });
    }
}

#[test]
fn the_last_place_is_given_once() {
    loom::model(|| {
        let replica = Arc::new(Replica::default());
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let replica = replica.clone();
                thread::spawn(move || replica.in_flight.take(1))
            })
            .collect();
        let taken = takers.into_iter().map(|it| it.join().unwrap());
        assert_eq!(taken.filter(|&it| it).count(), 1);
        assert_eq!(replica.in_flight.count(), 1);
    });
}

#[test]
fn sums_end_at_zero() {
    loom::model(|| {
        let sum = Arc::new(sync::AtomicU32::new(0));
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let sum = sum.clone();
                thread::spawn(move || {
                    if take(&sum, 1) {
                        sum.fetch_sub(1, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        takers.into_iter().for_each(|it| it.join().unwrap());
        assert_eq!(sum.load(Ordering::Relaxed), 0);
    });
}
