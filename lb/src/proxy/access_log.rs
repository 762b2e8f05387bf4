//! The access log: one line of JSON for each request, on standard output.
//!
//! Requests never wait for it: lines queue for a thread that writes them, and when the queue is full, because nobody
//! reads as fast as there are requests, lines are dropped and counted.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;

/// At some 300 bytes each, about 5 MB.
const LINES_MAX: usize = 16_384;
/// How long the end waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it waits for room in the queue.
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// The way to the log. Clones write to the same one.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    messages: SyncSender<Message>,
    dropped: Arc<IntCounter>,
}

impl AccessLog {
    /// Starts the thread that writes; what is dropped is counted in `dropped`.
    pub(crate) fn start(dropped: IntCounter) -> io::Result<Self> {
        Self::to(io::stdout(), dropped, LINES_MAX)
    }

    fn to(
        output: impl Write + Send + 'static,
        dropped: IntCounter,
        lines: usize,
    ) -> io::Result<Self> {
        let (messages, received) = sync_channel(lines);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&received, BufWriter::new(output)))?;
        Ok(Self { messages, dropped: Arc::new(dropped) })
    }

    pub(super) fn write(&self, line: Vec<u8>) {
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits a moment until what was logged so far is written.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let (done, written) = sync_channel(1);
        // Who does not read the log does not keep the process from ending.
        while Instant::now() < deadline {
            if self.messages.try_send(Message::Flush(done.clone())).is_ok() {
                let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                return;
            }
            thread::sleep(FLUSH_PAUSE);
        }
    }
}

fn write(messages: &Receiver<Message>, mut output: impl Write) {
    while let Ok(first) = messages.recv() {
        // Lines that wait together are written together.
        for message in std::iter::once(first).chain(messages.try_iter()) {
            // A log that nobody can write is no reason to fail requests.
            match message {
                Message::Line(line) => drop(output.write_all(&line)),
                Message::Flush(done) => {
                    let _ = output.flush();
                    let _ = done.send(());
                }
            }
        }
        let _ = output.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Writes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_drops_lines_and_counts_them() {
        let dropped = IntCounter::new("dropped", "lines").unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (go_on, told) = mpsc::channel();
        let log = AccessLog::to(Stuck(told, written.clone()), dropped.clone(), 4).unwrap();
        let line = vec![b'x'; 100_000];
        for _ in 0..100 {
            log.write(line.clone());
        }
        let lost = dropped.get();
        assert!((90..100).contains(&lost), "{lost}");
        drop(go_on);
        log.flush();
        // What the thread held and what the queue had room for.
        let kept = || written.lock().unwrap().len() as u64 / line.len() as u64;
        let deadline = Instant::now() + Duration::from_secs(30);
        while kept() + lost < 100 && Instant::now() < deadline {
            thread::sleep(FLUSH_PAUSE);
        }
        assert_eq!(kept() + lost, 100);
    }
}
