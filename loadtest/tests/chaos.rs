//! Faults under load, in short: the real balancer, real replicas, and what is promised of them.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

#[allow(dead_code, reason = "the other experiments' tests use the rest of it")]
mod harness;

use serde_json::json;

use crate::harness::{Outcome, results};

/// Nothing is asserted of times: what is lost or served twice is, whatever else the machine has to do.
#[tokio::test]
async fn under_faults_nothing_is_lost_that_was_promised_and_nothing_is_done_twice() {
    let run = Outcome::of("chaos", results("chaos"), &["--short".to_owned()]).await;
    let told = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(run.code, Some(0), "{told}");
    let rows = run.summary["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "{told}");
    for row in rows {
        assert_eq!(row["gets"]["failed"], json!({}), "{told}");
        assert_eq!(row["posts_twice"], 0, "{told}");
        assert!(row["posts"]["sent"].as_u64().unwrap() > 0, "{told}");
        assert_eq!(row["account"]["is_partial"], false, "{told}");
        if row["by_force"] == false {
            assert_eq!(row["posts"]["failed"], json!({}), "{told}");
        }
    }
    let total = &run.summary["total"];
    assert_eq!(total["unrecorded"], 0, "{told}");
    let retried = total["account"]["counts"]["retried"].as_object().unwrap();
    assert!(!retried.is_empty(), "no request met a fault: {told}");
}
