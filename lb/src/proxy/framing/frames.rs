//! The frames of an HTTP/2 client (RFC 9113 §4), counted but not read: those that are cheap to send and cost whoever
//! answers them.

use std::time::Duration;

use tokio::time::Instant;

use super::Fault;
use crate::{config::Http2Config, metrics::Rejection};

/// What a connection begins with (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const RESETS: Fault =
    Fault::new(0, Rejection::Http2Flood, "More resets in a minute than client.http2 allows");
const CONTROL: Fault = Fault::new(
    0,
    Rejection::Http2Flood,
    "More control frames in a minute than client.http2 allows",
);

/// Where a connection is among its frames, and how many came lately.
#[derive(Debug)]
pub(in super::super) struct Frames {
    /// Still to come of the preface, or of the payload in hand.
    skip: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that have come; all of them while its payload comes.
    filled: usize,
    /// A head goes on until a frame that ends it.
    within_head: bool,
    heads: u64,
    resets: Rate,
    control: Rate,
}

impl Frames {
    pub(in super::super) fn new(limits: &Http2Config) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            filled: 0,
            within_head: false,
            heads: 0,
            resets: Rate::new(limits.resets_per_minute_max),
            control: Rate::new(limits.control_frames_per_minute_max),
        }
    }

    /// Takes what has come next.
    pub(in super::super) fn pass(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let room = (HEADER_BYTES - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + room].copy_from_slice(&bytes[..room]);
                self.filled += room;
                bytes = &bytes[room..];
                if self.filled == HEADER_BYTES {
                    self.begin(now)?;
                }
            }
            if self.skip == 0 && self.filled == HEADER_BYTES {
                self.end();
            }
        }
        Ok(())
    }

    /// The number of the head, or other frame that is no body, that has begun and not ended.
    pub(in super::super) fn head_in_hand(&self) -> Option<u64> {
        let is_body = self.filled == HEADER_BYTES && self.header[3] == DATA;
        let is_begun = self.filled > 0 && !is_body;
        (is_begun || self.within_head).then_some(self.heads)
    }

    fn begin(&mut self, now: Instant) -> Result<(), Fault> {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_empty = self.skip == 0 && flags & END_STREAM == 0;
        match kind {
            RST_STREAM => self.resets.count(now).then_some(()).ok_or(RESETS),
            HEADERS | WINDOW_UPDATE => Ok(()),
            DATA if !is_empty => Ok(()),
            _ => self.control.count(now).then_some(()).ok_or(CONTROL),
        }
    }

    fn end(&mut self) {
        self.filled = 0;
        let [.., kind, flags, _, _, _, _] = self.header;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.within_head = flags & END_HEADERS == 0;
        }
        if !self.within_head {
            self.heads += 1;
        }
    }
}

/// A count that begins anew each minute.
#[derive(Debug)]
struct Rate {
    max: u32,
    count: u32,
    since: Option<Instant>,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(60);

    fn new(max: u32) -> Self {
        Self { max, count: 0, since: None }
    }

    /// Whether one more is allowed.
    fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|it| now.duration_since(it) >= Self::WINDOW) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += 1;
        self.count <= self.max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 0x6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload).unwrap().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], &vec![kind; payload][..]].concat()
    }

    fn frames() -> Frames {
        let mut frames = Frames::new(&Http2Config {
            streams_max: 1,
            resets_per_minute_max: 2,
            control_frames_per_minute_max: 3,
        });
        frames.pass(PREFACE, Instant::now()).unwrap();
        frames
    }

    #[test]
    fn floods_are_found_whatever_stands_between() {
        for (flood, allowed) in [
            (frame(RST_STREAM, 0, 4), 2),
            (frame(PING, 0, 8), 3),
            (frame(0x4, 0, 6), 3),
            (frame(0x4, 1, 0), 3),
            (frame(CONTINUATION, 0, 3), 3),
            (frame(DATA, 0, 0), 3),
            (frame(0xfa, 0, 1), 3),
        ] {
            let mut frames = frames();
            let now = Instant::now();
            for _ in 0..allowed {
                frames.pass(&frame(HEADERS, END_HEADERS, 40), now).unwrap();
                frames.pass(&frame(DATA, 0, 16_384), now).unwrap();
                frames.pass(&frame(DATA, END_STREAM, 0), now).unwrap();
                frames.pass(&frame(WINDOW_UPDATE, 0, 4), now).unwrap();
                frames.pass(&flood, now).unwrap();
            }
            assert!(frames.pass(&flood, now).is_err(), "{flood:?}");
        }
    }

    #[test]
    fn each_minute_begins_anew() {
        let (mut frames, reset) = (frames(), frame(RST_STREAM, 0, 4));
        let began = Instant::now();
        for minute in 0..3 {
            let now = began + Rate::WINDOW * minute;
            assert!(frames.pass(&reset, now).is_ok());
            assert!(frames.pass(&reset, now).is_ok());
        }
        assert!(frames.pass(&reset, began + Rate::WINDOW * 2).is_err());
    }

    #[test]
    fn a_head_is_in_hand_from_its_first_byte_to_the_frame_that_ends_it() {
        let (mut frames, now) = (frames(), Instant::now());
        let mut pass = |bytes: &[u8]| {
            frames.pass(bytes, now).unwrap();
            frames.head_in_hand()
        };
        let (headers, end) = (frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 2));
        assert_eq!(pass(&headers[..1]), Some(0));
        assert_eq!(pass(&headers[1..]), Some(0));
        assert_eq!(pass(&end[..10]), Some(0));
        assert_eq!(pass(&end[10..]), None);
        assert_eq!(pass(&headers[..3]), Some(1), "another one");
        assert_eq!(pass(&[&headers[3..], &end].concat()), None);
        assert_eq!(pass(&frame(DATA, 0, 10)[..12]), None, "a body may take its time");
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(
            sent in prop::collection::vec((0..12u8, any::<u8>(), 0..300usize), 0..9),
            cuts in prop::collection::vec(1..60usize, 1..50),
        ) {
            let sent: Vec<u8> =
                sent.into_iter().flat_map(|(kind, flags, payload)| frame(kind, flags, payload)).collect();
            let now = Instant::now();
            let mut whole = frames();
            let at_once = whole.pass(&sent, now);
            let mut cut = frames();
            let (mut rest, mut cuts) = (&sent[..], cuts.into_iter().cycle());
            let mut in_parts = Ok(());
            while !rest.is_empty() && in_parts.is_ok() {
                let (part, more) = rest.split_at(rest.len().min(cuts.next().unwrap()));
                in_parts = cut.pass(part, now);
                rest = more;
            }
            prop_assert_eq!(at_once, in_parts);
            if at_once.is_ok() {
                prop_assert_eq!(whole.head_in_hand(), cut.head_in_hand());
            }
        }
    }
}
