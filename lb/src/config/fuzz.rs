//! What holds for a configuration, whatever is in the file.

use super::{Config, Effective};

/// A file is a configuration, or every fault of it is a line; what it leaves out is filled in once and for all.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse(text) {
        Ok(config) => {
            let effective = Effective::of(text);
            let again = serde_json::to_string(&effective.masked()).expect("JSON can be written");
            let (next, needs_restart) = config.successor(config.clone());
            assert_eq!((next, needs_restart), (config, Vec::new()), "it differs from itself");
            assert!(effective.differences(&effective).is_empty());
            assert!(!again.is_empty());
        }
        Err(error) => {
            let faults = error.faults();
            assert!(!faults.is_empty(), "refused without a reason");
            for fault in faults {
                assert!(!fault.trim().is_empty() && !fault.contains('\n'), "{fault:?}");
            }
        }
    }
}
