//! What became of one request, and the table of all of them.

use anyhow::Context;

use crate::{csv, failure::Failure};

/// One request. Times are in microseconds; `start_us` counts from the start of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) index: u64,
    /// Its `x-request-id`.
    pub(crate) id: u32,
    /// When it was due.
    pub(crate) start_us: u64,
    /// From when it was due until its answer was read or it had failed.
    pub(crate) latency_us: u64,
    /// The replica that answered.
    pub(crate) outcome: Result<String, Failure>,
}

const HEADER: [&str; 7] = ["index", "id", "replica", "status", "start_us", "latency_us", "error"];

impl Request {
    /// When its answer was read or it had failed.
    pub(crate) fn end_us(&self) -> u64 {
        self.start_us + self.latency_us
    }

    pub(crate) fn to_csv(requests: &[Self]) -> anyhow::Result<String> {
        csv::write(HEADER, requests.iter().map(Self::to_row))
    }

    pub(crate) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, Self::from_row)
    }

    fn to_row(&self) -> [String; 7] {
        let (replica, status, error) = match &self.outcome {
            Ok(replica) => (replica.clone(), Some(200), String::new()),
            Err(failure) => (String::new(), failure.status(), failure.to_string()),
        };
        [
            self.index.to_string(),
            self.id.to_string(),
            replica,
            status.map(|status: u16| status.to_string()).unwrap_or_default(),
            self.start_us.to_string(),
            self.latency_us.to_string(),
            error,
        ]
    }

    /// The column `status` is for people: `error` holds it too.
    fn from_row(
        [index, id, replica, _, start_us, latency_us, error]: [&str; 7],
    ) -> anyhow::Result<Self> {
        Ok(Self {
            index: index.parse().context("index")?,
            id: id.parse().context("id")?,
            start_us: start_us.parse().context("start_us")?,
            latency_us: latency_us.parse().context("latency_us")?,
            outcome: if error.is_empty() { Ok(replica.into()) } else { Err(error.parse()?) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(index: u64, outcome: Result<String, Failure>) -> Request {
        Request { index, id: 132_574, start_us: 10, latency_us: 20, outcome }
    }

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let requests = [
            request(0, Ok("Server1".into())),
            request(1, Err(Failure::Connect)),
            request(2, Err(Failure::Closed)),
            request(3, Err(Failure::Timeout)),
            request(4, Err(Failure::Status(503))),
            request(5, Err(Failure::Body)),
        ];
        let text = Request::to_csv(&requests).unwrap();
        assert_eq!(
            text,
            "index,id,replica,status,start_us,latency_us,error\n\
             0,132574,Server1,200,10,20,\n\
             1,132574,,,10,20,connect\n\
             2,132574,,,10,20,closed\n\
             3,132574,,,10,20,timeout\n\
             4,132574,,503,10,20,status 503\n\
             5,132574,,200,10,20,body\n"
        );
        assert_eq!(Request::from_csv(&text).unwrap(), requests);
    }

    #[test]
    fn an_unknown_error_is_refused() {
        let text = HEADER.join(",") + "\n0,132574,,,10,20,bored\n";
        let error = Request::from_csv(&text).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "line 2: \"bored\" is not a reason for which a request fails"
        );
    }
}
