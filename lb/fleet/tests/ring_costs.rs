//! What each algorithm costs: how uneven it is, and what a change moves beyond the necessary.
//!
//! The table below is measured, and compared so that it stays true. Members are Server1 … ServerN; a
//! change is each removal of one of them, and the addition of the next. `max/mean` compares parts of the
//! key space, `moved` and `ideal` are means over the changes, `survivors` (mean and worst) is the part that
//! moves between members that are there before and after. All parts are percentages of the key space.

use std::fmt::Write;

use ringmaster_fleet::{Algorithm, Hashes, Member, Plan, Probing, ReplicaName, Table};

const MEASURED: &str = "
algorithm                N  max/mean  moved  ideal  survivors  worst
rendezvous               3     1.001  31.28  31.25       0.00   0.00
rendezvous               6     1.020  16.33  16.33       0.00   0.00
rendezvous              10     1.030   9.93   9.92       0.00   0.00
maglev                   3     1.000  31.28  31.25       0.03   0.07
maglev                   6     1.000  16.47  16.33       0.14   0.19
maglev                  10     1.000  10.17   9.92       0.25   0.36
ring classic linear      3     2.531  25.78  31.25       0.00   0.00
ring classic linear      6     4.734  16.41  16.33       0.67   1.56
ring classic linear     10     6.562  13.64   9.92       3.76   8.59
ring classic quadratic   3     2.531  26.17  31.25       0.00   0.00
ring classic quadratic   6     4.734  16.18  16.33       0.45   1.56
ring classic quadratic  10     6.562  11.51   9.92       1.63   7.81
ring modular linear      3     2.812  26.07  31.25       0.34   1.37
ring modular linear      6     5.309  15.85  16.33       1.06   2.93
ring modular linear     10     7.598  10.60   9.92       1.08   3.71
ring modular quadratic   3     2.812  26.07  31.25       0.34   1.37
ring modular quadratic   6     5.309  15.51  16.33       0.70   1.95
ring modular quadratic  10     7.598  10.40   9.92       0.89   2.73
ring xxh3 linear         3     1.406  30.52  31.25       0.00   0.00
ring xxh3 linear         6     1.254  15.96  16.33       0.11   0.20
ring xxh3 linear        10     1.348  10.85   9.92       0.14   0.39
ring xxh3 quadratic      3     1.406  30.52  31.25       0.00   0.00
ring xxh3 quadratic      6     1.254  15.96  16.33       0.11   0.20
ring xxh3 quadratic     10     1.348  10.85   9.92       0.14   0.39
";

fn algorithms() -> Vec<(&'static str, Algorithm)> {
    let ring = |hashes, probing| Algorithm::Ring {
        slots: Algorithm::RING_SLOTS,
        virtual_nodes: Algorithm::RING_VIRTUAL_NODES,
        hashes,
        probing,
    };
    vec![
        ("rendezvous", Algorithm::default()),
        ("maglev", Algorithm::Maglev { slots: Algorithm::MAGLEV_SLOTS }),
        ("ring classic linear", ring(Hashes::Classic, Probing::Linear)),
        ("ring classic quadratic", ring(Hashes::Classic, Probing::Quadratic)),
        ("ring modular linear", ring(Hashes::Modular, Probing::Linear)),
        ("ring modular quadratic", ring(Hashes::Modular, Probing::Quadratic)),
        ("ring xxh3 linear", ring(Hashes::Xxh3, Probing::Linear)),
        ("ring xxh3 quadratic", ring(Hashes::Xxh3, Probing::Quadratic)),
    ]
}

#[test]
fn costs_are_as_measured() {
    let mut measured =
        String::from("algorithm                N  max/mean  moved  ideal  survivors  worst\n");
    for (name, algorithm) in algorithms() {
        for members in [3, 6, 10] {
            writeln!(measured, "{}", row(name, &algorithm, members)).unwrap();
        }
    }
    assert_eq!(measured.trim(), MEASURED.trim(), "measured:\n{measured}");
}

fn row(name: &str, algorithm: &Algorithm, members: u32) -> String {
    let member = |number| Member { name: ReplicaName::generated(number), number };
    let table = Table::build(algorithm, (1..=members).map(member)).expect("10 members fit");
    let removals = (1..=members).map(|number| table.without(&ReplicaName::generated(number)));
    let addition = table.with(member(members + 1)).expect("11 members fit");
    let plans: Vec<Plan> =
        removals.chain([addition]).map(|after| Plan::between(&table, &after)).collect();
    let percent = |part: fn(&Plan) -> f64| {
        let parts = plans.iter().map(move |plan| 100.0 * part(plan));
        (parts.clone().sum::<f64>() / plans.len() as f64, parts.fold(0.0, f64::max))
    };
    let max_over_mean = table.shares().into_iter().fold(0.0, f64::max) * f64::from(members);
    let (moved, _) = percent(|plan| plan.moved);
    let (ideal, _) = percent(|plan| plan.ideal);
    let (survivors, worst) = percent(|plan| plan.between_survivors);
    format!(
        "{name:<22} {members:>3} {max_over_mean:>9.3} {moved:>6.2} {ideal:>6.2} {survivors:>10.2} {worst:>6.2}"
    )
}
