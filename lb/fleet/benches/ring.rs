//! What choosing a replica costs, and what a change of the members does, and to foresee it.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use ringmaster_fleet::{Algorithm, Hashes, Member, Plan, Probing, ReplicaName, Table};

const MEMBERS: u32 = 100;

fn algorithms() -> [Algorithm; 5] {
    let (hashes, probing) = (Hashes::Xxh3, Probing::Linear);
    [
        Algorithm::default(),
        Algorithm::Ring { slots: 4_096, virtual_nodes: 9, hashes, probing },
        Algorithm::Maglev { slots: Algorithm::MAGLEV_SLOTS },
        Algorithm::RoundRobin,
        Algorithm::LeastRequests,
    ]
}

fn member(number: u32) -> Member {
    Member { name: ReplicaName::generated(number), number }
}

fn table(algorithm: &Algorithm) -> Table {
    Table::build(algorithm, (1..=MEMBERS).map(member)).expect("100 members fit")
}

fn choosing(c: &mut Criterion) {
    for algorithm in algorithms() {
        let table = table(&algorithm);
        let mut group = c.benchmark_group(format!("{} of {MEMBERS}", algorithm.name()));
        let mut ticket = 0_u64;
        let mut place = || {
            ticket = ticket.wrapping_add(0x9e37_79b9_7f4a_7c15);
            table.locate_ticket(ticket)
        };
        group.bench_function("locate a key of 36 bytes", |b| {
            b.iter(|| table.locate(black_box(b"018f4e2a-7c3d-7b1e-9a55-0123456789ab")));
        });
        group.bench_function("first, accepted", |b| {
            b.iter(|| table.first(black_box(place()), |_| 0, |_| true));
        });
        group.bench_function("first, three refused", |b| {
            b.iter(|| {
                let mut asked = 0;
                let accept = |_| {
                    asked += 1;
                    asked > 3
                };
                table.first(black_box(place()), |_| 0, accept)
            });
        });
        group.bench_function("first, all refused", |b| {
            b.iter(|| table.first(black_box(place()), |_| 0, |_| false));
        });
    }
}

fn changing(c: &mut Criterion) {
    for algorithm in algorithms() {
        if !algorithm.is_keyed() {
            continue;
        }
        let table = table(&algorithm);
        let leaver = ReplicaName::generated(50);
        let mut group = c.benchmark_group(format!("{} of {MEMBERS}", algorithm.name()));
        group.sample_size(20).measurement_time(Duration::from_secs(2));
        group.bench_function("build", |b| b.iter(|| self::table(&algorithm)));
        group.bench_function("with", |b| b.iter(|| table.with(member(MEMBERS + 1))));
        group.bench_function("without", |b| b.iter(|| table.without(&leaver)));
        let after = table.without(&leaver);
        group.bench_function("plan", |b| b.iter(|| Plan::between(&table, &after)));
    }
}

criterion_group!(benches, choosing, changing);
criterion_main!(benches);
