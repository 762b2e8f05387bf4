//! What holds between a balancer and its spawner, whatever one of them says.

use std::collections::BTreeSet;

use futures_util::FutureExt;

use super::{
    Claim, Container, ContainerLimits, End,
    spawner::Policy,
    wire::{self, ANSWER_MAX, Answer, REQUEST_MAX, Request},
};

/// A line is a request or an answer, and the same once it was said again; or it is an error.
pub(crate) fn fuzz_spawner(bytes: &[u8]) {
    if let Some(request) = heard::<Request>(bytes, REQUEST_MAX) {
        let again = heard::<Request>(&said(&request), usize::MAX);
        assert_eq!(format!("{again:?}"), format!("{:?}", Some(&request)));
        if let Err(rule) = policy().check(&request) {
            assert!(!rule.is_empty() && !rule.contains('\n'), "{rule:?}");
        }
        assert!(request.timeout() >= wire::WORK_TIMEOUT);
    }
    heard::<Answer<u32>>(bytes, ANSWER_MAX);
    heard::<Answer<Option<End>>>(bytes, ANSWER_MAX);
    heard::<Answer<Vec<Container>>>(bytes, ANSWER_MAX);
    heard::<Answer<Option<Claim>>>(bytes, ANSWER_MAX);
}

fn heard<T: serde::de::DeserializeOwned>(mut bytes: &[u8], max: usize) -> Option<T> {
    wire::hear(&mut bytes, max).now_or_never().expect("bytes in memory are there").ok().flatten()
}

fn said(request: &Request) -> Vec<u8> {
    let mut line = Vec::new();
    let said = wire::say(&mut line, request).now_or_never();
    said.expect("memory takes bytes at once").expect("a request can be said");
    line
}

fn policy() -> Policy {
    let only = |text: &str| BTreeSet::from([text.to_owned()]);
    Policy {
        cluster: "default".to_owned(),
        images: only("web:1"),
        networks: only("net1"),
        limits: ContainerLimits { memory_bytes: 1 << 28, cpu_millis: 1_000, pids: 128 },
        replicas_max: 10,
        environment: only("MODE"),
        commands: false,
        writable: false,
    }
}
