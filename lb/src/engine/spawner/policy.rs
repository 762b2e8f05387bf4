//! What a balancer may ask for. Pure: a request and the rules, nothing else.

use std::{collections::BTreeSet, time::Duration};

use ringmaster_fleet::ReplicaName;

use crate::{
    config::names,
    engine::{Claim, ContainerLimits, Holder, Order, wire::Request},
};

/// The longest that a container may take to end when it is asked to: the longest that a configuration can say.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The most lines of a log in one answer.
const LOG_LINES_MAX: usize = 100;

/// The longest text in a claim.
const NOTE_BYTES_MAX: usize = 128;

/// Of a refused text, so that an error does not repeat all of it.
const QUOTED_CHARS_MAX: usize = 80;

/// Everything that is allowed; the rest is refused.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) cluster: String,
    /// Each with its tag or digest, exactly as in an order.
    pub(crate) images: BTreeSet<String>,
    pub(crate) networks: BTreeSet<String>,
    /// The most that a container may take.
    pub(crate) limits: ContainerLimits,
    /// Containers of the cluster at a time, running or not.
    pub(crate) replicas_max: usize,
    /// The names of variables that an order may set.
    pub(crate) environment: BTreeSet<String>,
    /// Whether an order may have a command in place of the image's own.
    pub(crate) commands: bool,
    /// Whether a container may write to its root file system.
    pub(crate) writable: bool,
}

impl Policy {
    /// The one rule that `request` breaks first, if it breaks any, in one line.
    pub(in crate::engine) fn check(&self, request: &Request) -> Result<(), String> {
        match request {
            Request::Ensure(order) => {
                self.check_cluster(&order.cluster)?;
                self.check_order(order)
            }
            Request::Stop { cluster, name, incarnation: _, grace_ms } => {
                self.check_cluster(cluster)?;
                check_name(name)?;
                let max = GRACE_MAX.as_millis();
                let grace = grace_ms.unwrap_or(0);
                require(u128::from(grace) <= max, || {
                    format!("grace_ms is {grace}; allowed is at most {max}")
                })
            }
            Request::Logs { cluster, name, lines } => {
                self.check_cluster(cluster)?;
                check_name(name)?;
                require(*lines <= LOG_LINES_MAX, || {
                    format!("lines is {lines}; allowed is at most {LOG_LINES_MAX}")
                })
            }
            Request::Inspect { cluster } | Request::Events { cluster } => {
                self.check_cluster(cluster)
            }
            Request::Claim { cluster, claim } => {
                self.check_cluster(cluster)?;
                claim.as_ref().map_or(Ok(()), check_claim)
            }
            Request::Release { cluster, session } => {
                self.check_cluster(cluster)?;
                check_note("session", session)
            }
        }
    }

    fn check_cluster(&self, cluster: &str) -> Result<(), String> {
        require(cluster == self.cluster, || {
            format!(
                "cluster {} is not kept here; this spawner keeps {}",
                quoted(cluster),
                self.cluster
            )
        })
    }

    fn check_order(&self, order: &Order) -> Result<(), String> {
        names::container(&check_name(&order.name)?)?;
        check_name(&order.pool)?;
        check_listed("image", &order.image, &self.images)?;
        check_listed("network", &order.network, &self.networks)?;
        require(order.port > 0, || "port is 0; allowed are 1 to 65535".to_owned())?;
        let (asked, max) = (&order.limits, &self.limits);
        check_number("memory_bytes", asked.memory_bytes, max.memory_bytes)?;
        check_number("cpu_millis", asked.cpu_millis, max.cpu_millis)?;
        check_number("pids", asked.pids, max.pids)?;
        require(order.read_only || self.writable, || {
            "a root file system that can be written to is not allowed: set docker.read_only to true, \
             or start the spawner with --allow-writable"
                .to_owned()
        })?;
        require(order.command.is_empty() || self.commands, || {
            "a command is not allowed: leave docker.command empty, or start the spawner with --allow-command"
                .to_owned()
        })?;
        order.environment.iter().try_for_each(|(key, value)| {
            check_listed("environment variable", key, &self.environment)?;
            require(!value.contains(['\0', '\n', '\r']), || {
                format!("the value of {key} has a line break or a NUL; allowed is one line of text")
            })
        })
    }
}

/// What a claim says is for people and other balancers to read.
fn check_claim(claim: &Claim) -> Result<(), String> {
    let Holder { session, boot, pid_namespace, container, host, admin, since, .. } = &claim.holder;
    check_note("session", session)?;
    check_note("boot", boot)?;
    check_note("pid_namespace", pid_namespace)?;
    check_note("container", container.as_deref().unwrap_or_default())?;
    check_note("host", host)?;
    check_note("admin", admin)?;
    check_note("since", since)
}

fn check_note(what: &str, text: &str) -> Result<(), String> {
    require(text.len() <= NOTE_BYTES_MAX && text.chars().all(|it| it.is_ascii_graphic()), || {
        format!(
            "{what} is {}; allowed are at most {NOTE_BYTES_MAX} printable ASCII characters without blanks",
            quoted(text)
        )
    })
}

/// Also keeps out of the engine's URLs what means something there.
fn check_name(name: &str) -> Result<ReplicaName, String> {
    ReplicaName::parse(name).map_err(|error| error.to_string())
}

fn check_listed(what: &str, asked: &str, allowed: &BTreeSet<String>) -> Result<(), String> {
    require(allowed.contains(asked), || {
        let allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
        format!("{what} {} is not allowed; allowed are: {}", quoted(asked), allowed.join(", "))
    })
}

fn check_number(what: &str, asked: u64, max: u64) -> Result<(), String> {
    require((1..=max).contains(&asked), || format!("{what} is {asked}; allowed are 1 to {max}"))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spawner::tests::{claim, order, policy};

    fn refusal(policy: &Policy, spoil: impl FnOnce(&mut Order)) -> Option<String> {
        let mut order = order("S1");
        spoil(&mut order);
        policy.check(&Request::Ensure(order)).err()
    }

    #[test]
    fn each_rule_refuses_what_breaks_it_and_says_what_would_be_right() {
        type Spoil = fn(&mut Order);
        let table: &[(Spoil, &str)] = &[
            (|it| it.cluster = "b".into(), "cluster \"b\" is not kept here; this spawner keeps a"),
            (
                |it| it.image = "alpine".into(),
                "image \"alpine\" is not allowed; allowed are: i:1, j",
            ),
            (|it| it.image = "i".into(), "image \"i\" is not allowed; allowed are: i:1, j"),
            (|it| it.image = "i:1 ".into(), "image \"i:1 \" is not allowed; allowed are: i:1, j"),
            (|it| it.network = "host".into(), "network \"host\" is not allowed; allowed are: net1"),
            (|it| it.name = "../x".into(), "bad name \"../x\": 1 to 63 characters"),
            (|it| it.name = "A".into(), "bad name \"A\": the name of a container has at least 2"),
            (|it| it.pool = String::new(), "bad name \"\": 1 to 63 characters"),
            (|it| it.port = 0, "port is 0; allowed are 1 to 65535"),
            (|it| it.limits.memory_bytes = 0, "memory_bytes is 0; allowed are 1 to 1000"),
            (|it| it.limits.memory_bytes = 1_001, "memory_bytes is 1001; allowed are 1 to 1000"),
            (|it| it.limits.cpu_millis = 0, "cpu_millis is 0; allowed are 1 to 100"),
            (|it| it.limits.cpu_millis = u64::MAX, "cpu_millis is 18446744073709551615; allowed"),
            (|it| it.limits.pids = 0, "pids is 0; allowed are 1 to 10"),
            (|it| it.limits.pids = 11, "pids is 11; allowed are 1 to 10"),
            (|it| it.read_only = false, "a root file system that can be written to is not allowed"),
            (|it| it.command = vec!["sh".into()], "a command is not allowed"),
            (
                |it| drop(it.environment.insert("LD_PRELOAD".into(), "x".into())),
                "environment variable \"LD_PRELOAD\" is not allowed; allowed are: MODE, SERVER_ID",
            ),
            (
                |it| drop(it.environment.insert("MODE".into(), "a\nb".into())),
                "the value of MODE has a line break or a NUL",
            ),
            (
                |it| drop(it.environment.insert("MODE".into(), "a\0".into())),
                "the value of MODE has a line break or a NUL",
            ),
        ];
        assert_eq!(refusal(&policy(), |_| {}), None);
        for (spoil, expected) in table {
            let refusal = refusal(&policy(), spoil).unwrap_or_else(|| panic!("not: {expected}"));
            assert!(refusal.starts_with(expected), "{refusal}\nis not: {expected}");
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
        }
    }

    #[test]
    fn what_a_flag_allows_is_allowed() {
        let policy = Policy { commands: true, writable: true, ..policy() };
        assert_eq!(refusal(&policy, |it| it.command = vec!["sh".into()]), None);
        assert_eq!(refusal(&policy, |it| it.read_only = false), None);
    }

    #[test]
    fn every_verb_is_for_one_cluster_and_for_names_that_are_names() {
        let requests = |cluster: &str, name: &str| {
            let (cluster, name) = (cluster.to_owned(), name.to_owned());
            let stop = |grace_ms| {
                let (cluster, name) = (cluster.clone(), name.clone());
                Request::Stop { cluster, name, incarnation: 1, grace_ms }
            };
            let logs = |lines| {
                let (cluster, name) = (cluster.clone(), name.clone());
                Request::Logs { cluster, name, lines }
            };
            [stop(None), stop(Some(5_000)), logs(20)]
        };
        let allowed = |request: &Request| policy().check(request).is_ok();
        assert!(requests("a", "S1").iter().all(allowed));
        assert!(!requests("b", "S1").iter().any(allowed));
        assert!(!requests("a", "S1/../../images/prune?x=").iter().any(allowed));
        let (here, there) = (|| "a".to_owned(), || "b".to_owned());
        assert!(allowed(&Request::Inspect { cluster: here() }));
        assert!(!allowed(&Request::Inspect { cluster: there() }));
        assert!(allowed(&Request::Events { cluster: here() }));
        assert!(!allowed(&Request::Events { cluster: there() }));
        let claim = |cluster, spoil: fn(&mut Holder)| {
            let mut claim = claim();
            spoil(&mut claim.holder);
            Request::Claim { cluster, claim: Some(claim) }
        };
        assert!(allowed(&claim(here(), |_| {})));
        assert!(!allowed(&claim(there(), |_| {})));
        assert!(!allowed(&claim(here(), |it| it.host = "a b".into())));
        assert!(!allowed(&claim(here(), |it| it.session = "x".repeat(NOTE_BYTES_MAX + 1))));
        assert!(!allowed(&claim(here(), |it| it.container = Some("\n".into()))));
        assert!(allowed(&Request::Release { cluster: here(), session: "s".into() }));
        assert!(!allowed(&Request::Release { cluster: there(), session: "s".into() }));
        let grace_ms = Some(u64::MAX);
        let stop = Request::Stop { cluster: here(), name: "S1".into(), incarnation: 1, grace_ms };
        assert!(!allowed(&stop));
        assert!(!allowed(&Request::Logs { cluster: here(), name: "S1".into(), lines: 101 }));
    }

    #[test]
    fn a_refusal_does_not_repeat_a_megabyte() {
        let refusal = refusal(&policy(), |it| it.image = "é".repeat(1 << 20)).unwrap();
        assert!(refusal.len() < 400);
    }
}
