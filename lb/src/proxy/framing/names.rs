//! Names of header fields that may not be taken on trust, however a replica spells them.
//!
//! A *claim* says where a request came from, or what it asked for before a proxy changed it. Claims of clients that are
//! not trusted are removed (`forward::remove_claims`).
//!
//! CGI, WSGI, PHP and their like read every character that is not a letter or a digit as `_`. So a name with such a
//! character, other than `-`, may stand for a field that the balancer sets, removes or acts on: it is dropped, whether its
//! client is trusted or not, because a trusted proxy passes on what it does not know.

use crate::config::Underscores;

/// Every name that begins like this is a claim, so that new ones need no list.
const FORWARDED: &str = "x-forwarded";

/// The other claims: what proxies, content delivery networks and frameworks set or read.
const CLAIMS: [&str; 38] = [
    "forwarded",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "cluster-client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "front-end-https",
    "proxy-client-ip",
    "remote-addr",
    "remote-host",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-host",
    "x-http-host-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-real-port",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
];

/// Fields that are no claims, and that the balancer sets, removes or acts on.
const OWN: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

/// By the low bits of a name's first letter: the lengths that claims have, as bits. Nearly every other name is told apart
/// by one look at it.
const LENGTHS: [u32; 32] = {
    let mut lengths = [0; 32];
    let mut at = 0;
    while at < CLAIMS.len() {
        let name = CLAIMS[at].as_bytes();
        lengths[(name[0] & 0x1f) as usize] |= 1 << name.len();
        at += 1;
    }
    lengths[(b'x' & 0x1f) as usize] |= u32::MAX << FORWARDED.len();
    lengths
};

/// What becomes of a field whose name has characters other than letters, digits and `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    Dropped,
    Refused,
}

/// Whether a field with this name, in any case, is a claim.
pub(in super::super) fn is_claim(name: &[u8]) -> bool {
    let Some(first) = name.first() else { return false };
    let lengths = LENGTHS[usize::from(first & 0x1f)];
    lengths >> name.len().min(31) & 1 == 1
        && (name
            .get(..FORWARDED.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(FORWARDED.as_bytes()))
            || CLAIMS.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(name)))
}

/// What becomes of a field whose name is [`super::ODD`].
pub(super) fn fate(name: &[u8], underscores: Underscores) -> Fate {
    let has_underscore = name.contains(&b'_');
    match underscores {
        Underscores::Refuse if has_underscore => Fate::Refused,
        Underscores::Drop if has_underscore => Fate::Dropped,
        _ if stands_for_another(name) => Fate::Dropped,
        _ => Fate::Passed,
    }
}

/// Whether it is read as a claim or as a field of ours where only letters and digits count.
fn stands_for_another(name: &[u8]) -> bool {
    let read = |it: u8| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { b'-' };
    let begins_as = |known: &str| {
        name.len() >= known.len()
            && name.iter().zip(known.bytes()).all(|(&it, known)| read(it) == known)
    };
    begins_as(FORWARDED)
        || CLAIMS.iter().chain(&OWN).any(|it| it.len() == name.len() && begins_as(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_known_in_any_case_and_nothing_else_is() {
        let forwarded =
            ["x-forwarded", "x-forwarded-for", "x-forwarded-client-cert-of-a-long-name"];
        for name in CLAIMS.iter().chain(&forwarded) {
            assert!(is_claim(name.as_bytes()), "{name}");
            assert!(is_claim(name.to_ascii_uppercase().as_bytes()), "{name}");
        }
        for name in OWN.iter().chain(&[
            "",
            "x",
            "accept",
            "accept-encoding",
            "authorization",
            "cookie",
            "content-type",
            "forwarded-for",
            "user-agent",
            "x-forward",
            "x-forwarde",
            "x-api-key",
            "x-real-ipx",
            "x_real_ip",
            "x-a-name-that-is-longer-than-any-claim",
        ]) {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_stand_for_others_are_dropped_under_every_policy_but_refuse() {
        use Fate::{Dropped, Passed, Refused};
        for (name, on_drop, on_pass, on_refuse) in [
            ("x_forwarded_for", Dropped, Dropped, Refused),
            ("X-Forwarded_Port", Dropped, Dropped, Refused),
            ("x_real_ip", Dropped, Dropped, Refused),
            ("Content_Length", Dropped, Dropped, Refused),
            ("TRANSFER_ENCODING", Dropped, Dropped, Refused),
            ("x_request_id", Dropped, Dropped, Refused),
            ("x.forwarded.for", Dropped, Dropped, Dropped),
            ("x~real+ip", Dropped, Dropped, Dropped),
            ("x_user", Dropped, Passed, Refused),
            ("_", Dropped, Passed, Refused),
            ("x.user", Passed, Passed, Passed),
            ("content_lengths", Dropped, Passed, Refused),
        ] {
            for (policy, expected) in [
                (Underscores::Drop, on_drop),
                (Underscores::Pass, on_pass),
                (Underscores::Refuse, on_refuse),
            ] {
                assert_eq!(fate(name.as_bytes(), policy), expected, "{name} {policy:?}");
            }
        }
    }
}
