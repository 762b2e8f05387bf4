//! The audit log: who asked for which change, and what came of it; log target `ringmaster::audit`.
//!
//! Invariant: a change that the guard lets through is written down exactly once, also when its caller goes away before
//! the answer: the change goes on without it. No token is ever written, only its fingerprint.

use super::{access::Operator, guard::Caller, refusal::one_line};
use crate::supervisor::handle::Change;
use axum::{
    extract::FromRequestParts,
    http::{Method, StatusCode, Uri, request::Parts},
};
use ringmaster_fleet::Host;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Instant,
};
use tracing::info;

/// Is written down when it is dropped.
pub(super) struct Entry {
    caller: Caller,
    operator: Operator,
    request: String,
    note: Note,
    began: Instant,
    status: Option<StatusCode>,
}

impl Entry {
    pub(super) fn open(caller: Caller, operator: Operator, method: &Method, uri: &Uri) -> Self {
        Self {
            caller,
            operator,
            request: one_line(&format!("{method} {uri}")),
            note: Note::default(),
            began: Instant::now(),
            status: None,
        }
    }

    /// For the handler, which knows what is asked for.
    pub(super) fn note(&self) -> Note {
        self.note.clone()
    }

    pub(super) fn close(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Caller { addr, door } = self.caller;
        let Operator { role, proof } = self.operator;
        let status = self
            .status
            .map_or("none: the caller went away".to_owned(), |it| it.as_str().to_owned());
        let change = self.note.0.get().map_or("none", String::as_str);
        let took_ms = self.began.elapsed().as_millis() as u64;
        info!(
            target: "ringmaster::audit",
            caller = %addr, ?door, ?role, %proof, request = self.request, change, status, took_ms,
            "An operator asked for a change"
        );
    }
}

/// What is asked for, in words.
#[derive(Clone, Default)]
pub(super) struct Note(Arc<OnceLock<String>>);

impl Note {
    /// That of the request's entry.
    pub(super) fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_default()
    }

    pub(super) fn write(&self, pool: &str, change: &Change) {
        let change = match change {
            Change::Add { n, hosts } => format!("add {n}{}", named(hosts)),
            Change::Remove { n, hosts } => format!("remove {n}{}", named(hosts)),
            Change::Restart { name } => format!("restart {name}"),
        };
        self.say(format!("{pool}: {change}"));
    }

    /// What is asked for, of the whole balancer.
    pub(super) fn say(&self, change: String) {
        // A request makes one change.
        let _ = self.0.set(change);
    }
}

fn named(hosts: &[Host]) -> String {
    let hosts: Vec<_> = hosts.iter().map(Host::to_string).collect();
    if hosts.is_empty() { String::new() } else { format!(" ({})", hosts.join(", ")) }
}

impl<S: Sync> FromRequestParts<S> for Note {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
