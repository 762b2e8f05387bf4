//! Requests with a known answer.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::plan::Call;
use crate::{client::Connection, csv};

/// What came of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) wanted: u16,
    /// 0 without an answer.
    pub(super) status: u16,
    /// Whether the body says what it must.
    pub(super) says: bool,
}

const HEADER: [&str; 5] = ["method", "path", "wanted", "status", "says"];

/// Makes one call; whatever comes of it is a result.
pub(super) async fn make(call: &Call, connection: &mut Connection) -> Answer {
    let method = call.method.parse().expect("the description was checked");
    let found = connection.ask(method, &call.path, &[], call.body.clone()).await;
    let (status, says) = match found {
        Ok((status, body)) => {
            (status.as_u16(), String::from_utf8_lossy(&body).contains(&call.says))
        }
        Err(failure) => (failure.status().unwrap_or(0), false),
    };
    Answer {
        method: call.method.clone(),
        path: call.path.clone(),
        wanted: call.status,
        status,
        says,
    }
}

impl Answer {
    pub(super) fn right(&self) -> bool {
        self.status == self.wanted && self.says
    }

    pub(super) fn to_csv(answers: &[Self]) -> anyhow::Result<String> {
        let row = |it: &Self| {
            [
                it.method.clone(),
                it.path.clone(),
                it.wanted.to_string(),
                it.status.to_string(),
                it.says.to_string(),
            ]
        };
        csv::write(HEADER, answers.iter().map(row))
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, |[method, path, wanted, status, says]| {
            Ok(Self {
                method: method.into(),
                path: path.into(),
                wanted: wanted.parse().context("wanted")?,
                status: status.parse().context("status")?,
                says: says.parse().context("says")?,
            })
        })
    }
}
