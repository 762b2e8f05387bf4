//! The last lines that a process wrote, bounded in number and length whatever it writes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// How many lines people get to read of a replica that failed.
const LINES_MAX: usize = 20;
/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 1024;

/// The last lines of a process's output; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub(crate) fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.trim_end().to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads a line into `line`, without more of it than [`LINE_BYTES_MAX`]. False at the end of the input.
pub(crate) async fn read_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> bool {
    line.clear();
    loop {
        let Ok(chunk) = input.fill_buf().await else { return false };
        if chunk.is_empty() {
            return !line.is_empty();
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let text = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&text[..text.len().min(LINE_BYTES_MAX - line.len())]);
        let consumed = end.map_or(chunk.len(), |end| end + 1);
        input.consume(consumed);
        if end.is_some() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines() {
        let tail = Tail::default();
        for number in 0..50 {
            tail.push(&format!("line {number}\r"));
        }
        assert_eq!(tail.lines().len(), LINES_MAX);
        assert_eq!(tail.lines()[0], "line 30");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut() {
        let text = [b"x".repeat(1 << 20), b"\nshort\nlast".to_vec()].concat();
        let mut input = &text[..];
        let mut lengths = Vec::new();
        let mut line = Vec::new();
        while read_line(&mut input, &mut line).await {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [LINE_BYTES_MAX, 5, 4]);
    }
}
