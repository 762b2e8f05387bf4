//! The rounds: every peer does the same work in turn, so that whatever disturbs the machine disturbs all of them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Plan,
    client::{Connection, closed_loop, open_loop},
    figure::Figure,
    instructions::{Counter, system_calls},
    peer::{Peer, Playing, Setting},
    scenario::{CONNECTIONS, Scenario},
    stage::Stage,
};
use crate::progress;

const WARM_UP: u64 = 2_000;
/// Requests whose instructions are counted, and whose system calls.
const COUNTED: u64 = 5_000;

/// Keep-alive connections of which each did one request, and whose memory is then looked at.
const IDLE: [usize; 2] = [64, 5_000];

/// Takes every figure of `plan`.
pub(super) struct Measure<'a> {
    pub(super) stage: Stage,
    pub(super) plan: &'a Plan,
    pub(super) figures: Vec<Figure>,
}

impl Measure<'_> {
    pub(super) fn all(mut self, counter: Option<Counter>) -> anyhow::Result<Vec<Figure>> {
        for peer in self.plan.peers.clone() {
            self.counts(peer, counter)?;
            self.memory(peer)?;
        }
        for round in 0..self.plan.rounds {
            for scenario in self.plan.scenarios() {
                for peer in self.turn(round) {
                    self.load(round, scenario, peer)?;
                }
            }
        }
        let peaks = self.peaks();
        for round in 0..self.plan.rounds {
            for peer in self.turn(round) {
                self.latency(round, peer, peaks.get(&peer).copied().unwrap_or(0))?;
            }
        }
        Ok(self.figures)
    }

    /// The peers, another one first in each round.
    fn turn(&self, round: u32) -> Vec<Peer> {
        let mut peers = self.plan.peers.clone();
        let first = round as usize % peers.len();
        peers.rotate_left(first);
        peers
    }

    fn start(&self, what: &str, peer: Peer, setting: Setting) -> anyhow::Result<Playing> {
        progress::show(&format!("{what}: {peer}"));
        peer.start(&self.stage, setting, &[])
    }

    fn add(
        &mut self,
        round: u32,
        load: &str,
        peer: Peer,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
    ) {
        self.figures.extend(figures.into_iter().map(|(measure, value)| Figure {
            round,
            load: load.into(),
            measure: measure.into(),
            peer,
            value,
        }));
    }

    fn counts(&mut self, peer: Peer, counter: Option<Counter>) -> anyhow::Result<()> {
        progress::show(&format!("instructions: {peer}"));
        let each = |total: u64| total as f64 / COUNTED as f64;
        if let Some(counter) = counter
            && let Some(counts) = counter.count(&self.stage, peer, COUNTED)?
        {
            self.add(0, "json", peer, [("user_instructions", each(counts.user))]);
            if let Some(kernel) = counts.kernel {
                let total = each(counts.user + kernel);
                self.add(
                    0,
                    "json",
                    peer,
                    [("kernel_instructions", each(kernel)), ("instructions", total)],
                );
            }
        }
        if let Some(calls) = system_calls(&self.stage, peer, COUNTED)? {
            self.add(0, "json", peer, [("system_calls", each(calls))]);
        }
        Ok(())
    }

    fn memory(&mut self, peer: Peer) -> anyhow::Result<()> {
        let playing = self.start("memory", peer, Setting::ONE_THREAD)?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let idle = playing.process.rss_kib()?;
        let mut connections = Vec::new();
        let mut figures = vec![("rss_mib", mib(idle))];
        for (count, measure) in IDLE.into_iter().zip(["rss_mib_64", "rss_mib_5000"]) {
            while connections.len() < count {
                let mut connection = Connection::open(playing.address)?;
                connection.home(100_000 + connections.len() as u32)?;
                connections.push(connection);
            }
            figures.push((measure, mib(playing.process.rss_kib()?)));
        }
        self.add(0, "idle", peer, figures);
        Ok(())
    }

    fn load(&mut self, round: u32, scenario: Scenario, peer: Peer) -> anyhow::Result<()> {
        let setting = Setting {
            threads: scenario.threads(),
            access_log: scenario == Scenario::JsonLogged,
            tls: scenario.is_secure(),
        };
        // The bare proxy has no access log.
        if setting.access_log && peer == Peer::Bare {
            return Ok(());
        }
        let playing = self.start(&format!("round {}, {scenario}", round + 1), peer, setting)?;
        closed_loop(playing.address, CONNECTIONS, WARM_UP)?;
        let before = playing.process.cpu()?;
        let address = if setting.tls { playing.secure } else { playing.address };
        let load = scenario.drive(address, self.stage.dir(), CONNECTIONS, self.plan.seconds)?;
        let after = playing.process.cpu()?;
        let each = |micros: u64| micros as f64 / load.requests.max(1) as f64;
        let (user, system) =
            (each(after.user_us - before.user_us), each(after.system_us - before.system_us));
        self.add(
            round,
            scenario.key(),
            peer,
            [
                ("cpu_us", user + system),
                ("cpu_user_us", user),
                ("cpu_system_us", system),
                ("requests_per_s", load.requests as f64 * 1e6 / load.elapsed_us.max(1) as f64),
                ("errors", load.errors as f64),
            ],
        );
        Ok(())
    }

    /// What each could do at most, from the rounds before.
    fn peaks(&self) -> BTreeMap<Peer, u64> {
        let mut peaks = BTreeMap::new();
        for figure in &self.figures {
            if figure.load == "json" && figure.measure == "requests_per_s" {
                let peak: &mut u64 = peaks.entry(figure.peer).or_default();
                *peak = (*peak).max(figure.value as u64);
            }
        }
        peaks
    }

    /// Latency at a rate that is the same for all, and at half of its own peak.
    fn latency(&mut self, round: u32, peer: Peer, peak: u64) -> anyhow::Result<()> {
        for (load, rate) in [("fixed-rate", self.plan.rate), ("half-peak", peak / 2)] {
            if rate == 0 {
                continue;
            }
            let playing =
                self.start(&format!("round {}, {load}", round + 1), peer, Setting::ONE_THREAD)?;
            closed_loop(playing.address, CONNECTIONS, WARM_UP)?;
            let mut latencies = open_loop(
                playing.address,
                CONNECTIONS,
                rate,
                Duration::from_secs(self.plan.seconds),
            );
            latencies.took_us.sort_unstable();
            let at = |per_mille: usize| {
                let rank = (latencies.took_us.len() * per_mille).div_ceil(1_000);
                latencies.took_us.get(rank.saturating_sub(1)).map_or(f64::NAN, |it| *it as f64)
            };
            let figures = [
                ("rate", rate as f64),
                ("p50_us", at(500)),
                ("p99_us", at(990)),
                ("p999_us", at(999)),
                ("errors", latencies.failed as f64),
            ];
            self.add(round, load, peer, figures);
        }
        Ok(())
    }
}
