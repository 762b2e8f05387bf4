//! What holds for bodies of `/add` and `/rm`, whatever their bytes.

use super::payload::{Payload, Verb};

/// A body asks for at least one replica, of names that are names, or is refused in a line.
pub(crate) fn fuzz_payload(bytes: &[u8]) {
    for verb in [Verb::Add, Verb::Remove] {
        match Payload::parse(verb, bytes) {
            Ok(Payload { n, hosts }) => {
                assert!(n >= 1);
                for host in hosts {
                    assert_eq!(host.to_string().parse().as_ref(), Ok(&host));
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            }
        }
    }
}
