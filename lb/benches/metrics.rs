//! What counting a request costs.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};

fn counting(c: &mut Criterion) {
    let count = ringmaster::benching::counter_of_requests().expect("nothing is registered yet");
    c.bench_function("count a request", |b| {
        b.iter(|| count(black_box(200), black_box(Duration::from_micros(731))));
    });
}

criterion_group!(benches, counting);
criterion_main!(benches);
