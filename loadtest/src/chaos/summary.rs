//! What the tables say. Pure: the same tables give the same summary.

use serde::{Deserialize, Serialize};

use super::{
    account::{Account, Seen},
    row::Row,
};
use crate::{
    drive::Posts, percentiles::Percentiles, request::Request, served::Served, tally::Tally,
};

/// What came of all faults.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) rows: Vec<Outcome>,
    /// Of all of them together.
    pub(super) total: Outcome,
    pub(super) left_out: Vec<LeftOut>,
}

/// A stage whose faults cannot be let loose on this machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) stage: String,
    pub(super) reason: String,
}

/// What came of one fault.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) fault: String,
    pub(crate) times: u32,
    pub(crate) by_force: bool,
    pub(crate) gets: Tally,
    pub(crate) posts: Tally,
    /// Of all answered requests.
    pub(crate) latency: Option<Percentiles>,
    pub(crate) longest_gap_us: u64,
    /// What clients saw, and what the balancer counted.
    pub(crate) seen: Seen,
    pub(crate) account: Account,
    /// Requests that replicas served more than once.
    pub(crate) gets_twice: u64,
    pub(crate) posts_twice: u64,
    /// Answered requests of which no replica knows; there is an error in the experiment if there are any.
    pub(crate) unrecorded: u64,
}

impl Summary {
    /// Summarises `rows`; `requests` are those of each.
    pub(crate) fn of(
        rows: Vec<Row>,
        requests: &[Vec<Request>],
        posts: Posts,
        served: &Served,
        left_out: Vec<LeftOut>,
    ) -> Self {
        let mut account = Account::default();
        rows.iter().for_each(|it| account.add(&it.account));
        let times = rows.iter().map(|it| it.times).sum();
        let all = Row { fault: "all".into(), times, by_force: true, first: 1, account };
        let rows: Vec<_> = rows
            .into_iter()
            .zip(requests)
            .map(|(row, requests)| Outcome::of(row, requests, posts, served))
            .collect();
        let mut total = Outcome::of(all, &requests.concat(), posts, served);
        // Between two loads nobody asks.
        total.longest_gap_us = rows.iter().map(|it| it.longest_gap_us).max().unwrap_or(0);
        Self { rows, total, left_out }
    }

    pub(crate) fn kept(&self) -> bool {
        self.rows.iter().all(Outcome::kept)
    }
}

impl Outcome {
    pub(crate) fn of(row: Row, requests: &[Request], posts: Posts, served: &Served) -> Self {
        let Row { fault, times, by_force, account, .. } = row;
        let all = Tally::of(requests);
        let twice = |is_post: bool| {
            let of_kind = requests.iter().filter(|it| posts.has(it.id) == is_post);
            of_kind.filter(|it| served.times(it.id) > 1).count() as u64
        };
        let unrecorded = |it: &&Request| it.outcome.is_ok() && served.times(it.id) == 0;
        Self {
            fault,
            times,
            by_force,
            gets: Tally::of(requests.iter().filter(|it| !posts.has(it.id))),
            posts: Tally::of(requests.iter().filter(|it| posts.has(it.id))),
            latency: all.latency,
            longest_gap_us: all.longest_gap_us,
            seen: Seen::of(requests),
            account,
            gets_twice: twice(false),
            posts_twice: twice(true),
            unrecorded: requests.iter().filter(unrecorded).count() as u64,
        }
    }

    /// How the balancer's account of it contradicts what clients saw.
    pub(crate) fn disagreement(&self) -> Option<String> {
        self.account.disagreement(self.seen)
    }

    /// Whether all was kept that is promised: every GET is answered, no POST is served twice, a POST fails only with the
    /// replica that had it in hand, and the balancer counts what clients see.
    pub(crate) fn kept(&self) -> bool {
        self.gets.failures() == 0
            && self.posts_twice == 0
            && self.unrecorded == 0
            && self.disagreement().is_none()
            && (self.by_force || self.posts.failures() == 0)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.gets.sent + self.posts.sent
    }

    pub(crate) fn ok(&self) -> u64 {
        self.gets.ok() + self.posts.ok()
    }

    pub(crate) fn gap_ms(&self) -> f64 {
        self.longest_gap_us as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chaos::account::Counts, failure::Failure};

    /// A row whose account is that of `requests`.
    fn row(by_force: bool, requests: &[Request]) -> Row {
        let Seen { ok, errors, .. } = Seen::of(requests);
        let mut counts = Counts { ok, held: 3, ..Counts::default() };
        counts.failed.add("connect", errors);
        counts.retried.add("reset", 2);
        let account = Account { counts, ..Account::default() };
        Row { fault: "f".into(), times: 1, by_force, first: 1, account }
    }

    fn request(id: u32, outcome: Result<&str, Failure>) -> Request {
        Request {
            index: 0,
            id,
            start_us: u64::from(id) * 1_000,
            latency_us: 500,
            outcome: outcome.map(str::to_owned),
        }
    }

    fn posts() -> Posts {
        serde_json::from_str("2").unwrap()
    }

    fn served(ids: &[u32]) -> Served {
        let text: String = ids.iter().map(|id| format!("S1 X {id}\n")).collect();
        Served::parse(&text).unwrap()
    }

    #[test]
    fn any_broken_promise_shows() {
        let lost = Err(Failure::Status(502));
        for (by_force, first, second, ids, kept) in [
            (false, Ok("S1"), Ok("S1"), &[1, 2][..], true),
            (false, Ok("S1"), Ok("S1"), &[1, 1, 2], true),
            (false, Ok("S1"), Ok("S1"), &[1, 2, 2], false),
            (false, Ok("S1"), Ok("S1"), &[1], false),
            (false, lost, Ok("S1"), &[1, 2], false),
            (true, lost, Ok("S1"), &[1, 2], false),
            (false, Ok("S1"), lost, &[1, 2], false),
            (true, Ok("S1"), lost, &[1, 2], true),
            (true, Ok("S1"), lost, &[1, 2, 2], false),
        ] {
            let requests = [request(1, first), request(2, second)];
            let mut row = row(by_force, &requests);
            let outcome = Outcome::of(row.clone(), &requests, posts(), &served(ids));
            assert_eq!(outcome.kept(), kept, "{by_force} {first:?} {second:?} {ids:?}");
            row.account.counts.ok += 1;
            let outcome = Outcome::of(row, &requests, posts(), &served(ids));
            assert!(!outcome.kept(), "the balancer counts one too many");
        }
    }

    #[test]
    fn the_total_adds_up_and_knows_no_gap_between_loads() {
        let requests =
            [vec![request(1, Ok("S1")), request(2, Ok("S1"))], vec![request(9, Ok("S1"))]];
        let rows = vec![row(false, &requests[0]), row(true, &requests[1])];
        let Summary { rows, total, .. } =
            Summary::of(rows, &requests, posts(), &served(&[1, 2, 9]), Vec::new());
        assert_eq!(rows.iter().map(Outcome::sent).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((total.sent(), total.ok(), total.times), (3, 3, 2));
        assert_eq!(total.longest_gap_us, 1_000);
        let Counts { ok, retried, held, .. } = &total.account.counts;
        assert_eq!((*ok, retried.to_string().as_str(), *held), (3, "4 (reset)", 6));
        assert_eq!(total.disagreement(), None);
    }
}
