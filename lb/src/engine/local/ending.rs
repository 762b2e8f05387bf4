//! How a container ended and what it said last.

use std::{collections::HashMap, time::Duration};

use bollard::{Docker, container::LogOutput, query_parameters::LogsOptions};
use futures_util::{Stream, TryStreamExt};

use super::{Local, fault::Fault};
use crate::engine::End;

/// How many lines people get to read of a container that ended.
const LINES_MAX: usize = 20;
/// Longer lines are cut.
const LINE_CHARS_MAX: usize = 1_024;

/// The engine may be busy, and news of other containers waits behind this.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(3);

/// Above it, exit codes tell the signal that ended the process, as a shell counts it.
const SIGNALS: i64 = 128;
const SIGNAL_MAX: i64 = 64;

const MIB: i64 = 1 << 20;

impl Local {
    /// The end of a container, in as many details as the engine still knows. `attributes` are those of the event.
    pub(super) async fn end_of(
        &self,
        docker: &Docker,
        id: &str,
        attributes: &HashMap<String, String>,
    ) -> End {
        let inspected = docker.inspect_container(id, None);
        let inspected = self.call_within(DETAILS_TIMEOUT, inspected);
        let (inspected, log) = tokio::join!(inspected, self.tail(docker, id, LINES_MAX));
        // It may have been removed already, or the engine ends with it: the event's own code is what is left.
        let inspected = inspected.ok();
        let state = inspected.as_ref().and_then(|it| it.state.as_ref());
        let told = attributes.get("exitCode").and_then(|it| it.parse().ok());
        let code = told.or(state.and_then(|it| it.exit_code));
        let limit = state.filter(|it| it.oom_killed == Some(true)).map(|_| {
            let host = inspected.as_ref().and_then(|it| it.host_config.as_ref());
            host.and_then(|it| it.memory).unwrap_or(0) / MIB
        });
        let (code, reason) = (code.and_then(|it| i32::try_from(it).ok()), reason(code, limit));
        End { code, reason, log: log.unwrap_or_default(), by_itself: false }
    }

    /// The last lines of a container's output.
    pub(super) async fn tail(
        &self,
        docker: &Docker,
        id: &str,
        lines: usize,
    ) -> Result<Vec<String>, Fault> {
        self.read(docker.logs(id, Some(last(lines)))).await
    }

    /// The last lines of a task's output.
    pub(super) async fn tail_of_task(
        &self,
        docker: &Docker,
        id: &str,
    ) -> Result<Vec<String>, Fault> {
        self.read(docker.task_logs(id, Some(last(LINES_MAX)))).await
    }

    async fn read(
        &self,
        output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
    ) -> Result<Vec<String>, Fault> {
        let output = self.call_within(DETAILS_TIMEOUT, output.try_collect::<Vec<_>>()).await?;
        Ok(output.iter().map(line).collect())
    }
}

fn last(lines: usize) -> LogsOptions {
    LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..Default::default() }
}

fn line(output: &LogOutput) -> String {
    let text = String::from_utf8_lossy(output.as_ref());
    text.trim_end().chars().take(LINE_CHARS_MAX).collect()
}

/// `limit` in MiB, if the container ended because it exceeded that.
pub(super) fn reason(code: Option<i64>, limit: Option<i64>) -> String {
    match (code, limit) {
        (_, Some(limit)) => format!("out of memory (limit {limit} MiB)"),
        (Some(code), None) if (1..=SIGNAL_MAX).contains(&(code - SIGNALS)) => {
            format!("killed by signal {}", code - SIGNALS)
        }
        (Some(code), None) => format!("exit {code}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        for (code, limit, expected) in [
            (Some(0), None, "exit 0"),
            (Some(1), None, "exit 1"),
            (Some(128), None, "exit 128"),
            (Some(137), None, "killed by signal 9"),
            (Some(143), None, "killed by signal 15"),
            (Some(255), None, "exit 255"),
            (Some(137), Some(64), "out of memory (limit 64 MiB)"),
            (None, None, "ended"),
        ] {
            assert_eq!(reason(code, limit), expected);
        }
    }
}
