//! What a person reads of the API's answers.

use std::{fmt::Write, iter};

use super::{
    answers::{
        Event, Explain, Gap, LastExit, Plan, Pool, Reload, Reloaded, Replica, Replicas, Upgraded,
    },
    text::{columns, or_dash, percent, printable},
};

const SERVING: &str = "serving";
const DOWN: &str = "down";

/// Who is there.
pub(super) fn replicas(Replicas { replicas }: Replicas) -> String {
    let serving = replicas.iter().filter(|replica| replica.phase == SERVING).count();
    let rows = replicas.iter().map(|replica| {
        let Replica { name, phase, incarnation, address, .. } = replica;
        vec![name.clone(), phase.clone(), incarnation.to_string(), or_dash(address.as_deref())]
    });
    let header = ["REPLICA", "PHASE", "INCARNATION", "ADDRESS"];
    format!("{serving} of {} replicas serve\n\n{}", replicas.len(), columns(&header, rows))
}

/// How a pool and its replicas are, with the last words of those that are down.
pub(super) fn status(pool: &Pool, Replicas { replicas }: &Replicas) -> String {
    let Pool { name, provider, algorithm, version, wanted, actual } = pool;
    let mut text = format!(
        "pool {}: {} of {wanted} wanted replicas serve (provider {provider}, algorithm {algorithm}, version {version})\n\n",
        printable(name),
        actual.serving,
    );
    let header = [
        "REPLICA",
        "PHASE",
        "INCARNATION",
        "ADDRESS",
        "IN FLIGHT",
        "ATTEMPTS",
        "NEXT TRY",
        "LAST EXIT",
    ];
    text.push_str(&columns(&header, replicas.iter().map(status_row)));
    for replica in replicas.iter().filter(|replica| replica.phase == DOWN) {
        let Some(LastExit { reason, at, log }) = &replica.last_exit else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}: {} at {at}", printable(&replica.name), printable(reason));
        for line in log {
            let _ = writeln!(text, "  | {}", printable(line));
        }
    }
    text
}

fn status_row(replica: &Replica) -> Vec<String> {
    vec![
        replica.name.clone(),
        replica.phase.clone(),
        replica.incarnation.to_string(),
        or_dash(replica.address.as_deref()),
        replica.in_flight.to_string(),
        replica.attempts.to_string(),
        or_dash(replica.retry_in_s.map(|wait| format!("in {wait:.1} s"))),
        or_dash(replica.last_exit.as_ref().map(|exit| &exit.reason)),
    ]
}

/// What a reload has changed, or would.
pub(super) fn reloaded(reloaded: Reloaded) -> String {
    differences(&reloaded).map(|it| format!("{it}\n")).collect()
}

fn differences(Reloaded { changed, needs_restart }: &Reloaded) -> impl Iterator<Item = String> {
    let changed = match changed.is_empty() {
        true => "nothing differs".to_owned(),
        false => format!("changed: {}", printable(&changed.join(", "))),
    };
    let late = (!needs_restart.is_empty())
        .then(|| format!("needs a new start: {}", printable(&needs_restart.join(", "))));
    iter::once(changed).chain(late)
}

/// Who has taken over.
pub(super) fn upgraded(Upgraded { pid, version, predecessor }: Upgraded) -> String {
    format!(
        "process {pid} serves: {}; process {predecessor} ends with its last requests\n",
        printable(&version)
    )
}

/// What a change would move.
pub(super) fn plan(plan: Plan) -> String {
    let Plan { before, after, moved, ideal, between_survivors, moves } = plan;
    let joined = after.keys().filter(|name| !before.contains_key(*name));
    let rows = before.keys().chain(joined).map(|name| {
        let [before, after] = [&before, &after].map(|it| it.get(name).copied().map(percent));
        vec![name.clone(), or_dash(before), or_dash(after)]
    });
    let mut text = format!(
        "{} of the keys move; {} at best; {} between replicas that stay\n\n{}",
        percent(moved),
        percent(ideal),
        percent(between_survivors),
        columns(&["REPLICA", "BEFORE", "AFTER"], rows)
    );
    if !moves.is_empty() {
        let rows = moves.into_iter().map(|step| vec![step.from, step.to, percent(step.share)]);
        text.push('\n');
        text.push_str(&columns(&["FROM", "TO", "SHARE"], rows));
    }
    text
}

/// Where a key goes, and why.
pub(super) fn explain(explain: Explain) -> String {
    let Explain { key, hash, slot, replica, reason, candidates, left_out } = explain;
    let goes = match replica {
        Some(replica) => format!("goes to {} ({reason})", printable(&replica)),
        None => "goes nowhere: no replica can take it".to_owned(),
    };
    let rows = candidates.into_iter().map(|it| vec![it.replica, it.verdict, it.why]);
    let mut text = format!(
        "{} {goes}\nhash {hash}, slot {slot}\n\n{}",
        printable(&key),
        columns(&["CANDIDATE", "VERDICT", "WHY"], rows)
    );
    if left_out > 0 {
        let _ = writeln!(text, "and {left_out} more");
    }
    text
}

/// One line for one event.
pub(super) fn event(event: Event) -> String {
    let Event { at, pool, replica, from, to, cause, incarnation } = event;
    let (from, to) = (from.as_deref().unwrap_or("new"), to.as_deref().unwrap_or("gone"));
    let line =
        format!("{at}  {pool}  {replica}  {from} → {to}  {cause} (incarnation {incarnation})");
    format!("{}\n", printable(&line))
}

/// One line for one reload.
pub(super) fn reload(Reload { at, reloaded }: Reload) -> String {
    let differences: Vec<_> = differences(&reloaded).collect();
    format!("{}  reload  {}\n", printable(&at), differences.join("; "))
}

/// One line for what was missed.
pub(super) fn gap(Gap { after, next }: Gap) -> String {
    if next > after {
        format!("events {} to {} were missed\n", after + 1, next - 1)
    } else {
        "the balancer was started anew; these are its events\n".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_what_was_missed() {
        assert_eq!(gap(Gap { after: 3, next: 12 }), "events 4 to 11 were missed\n");
        let anew = "the balancer was started anew; these are its events\n";
        assert_eq!(gap(Gap { after: 57, next: 1 }), anew);
        assert_eq!(gap(Gap { after: 1, next: 1 }), anew);
    }

    #[test]
    fn a_status_ends_with_the_last_words_of_those_that_are_down() {
        let pool = r#"{"name":"web","version":"4","provider":"process","wanted":2,
            "actual":{"serving":1},"algorithm":"rendezvous"}"#;
        let replicas = r#"{"replicas":[
            {"name":"S1","phase":"serving","incarnation":1,"address":"127.0.0.1:9001",
             "in_flight":12,"attempts":0,"retry_in_s":null,
             "last_exit":{"reason":"exit 7","at":"T1","log":["of an earlier run"]}},
            {"name":"S2","phase":"down","incarnation":3,"address":null,
             "in_flight":0,"attempts":3,"retry_in_s":1.25,
             "last_exit":{"reason":"exit 1","at":"T2","log":["no such file","\u001b[31mbye"]}}
        ]}"#;
        let pool = serde_json::from_str(pool).unwrap();
        assert_eq!(
            status(&pool, &serde_json::from_str(replicas).unwrap()),
            "\
pool web: 1 of 2 wanted replicas serve (provider process, algorithm rendezvous, version 4)

REPLICA  PHASE    INCARNATION  ADDRESS         IN FLIGHT  ATTEMPTS  NEXT TRY  LAST EXIT
S1       serving  1            127.0.0.1:9001  12         0         -         exit 7
S2       down     3            -               0          3         in 1.2 s  exit 1

S2: exit 1 at T2
  | no such file
  |  [31mbye
"
        );
    }
}
