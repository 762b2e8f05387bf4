//! The frames of an HTTP/2 client (RFC 9113 §4), on their way to the library that reads them.
//!
//! Those that are cheap to send and expensive to answer are counted. Trailers that begin with a pseudo-header field make a
//! request malformed (§8.1), which the library does not notice: they lose the flag that ends the stream, and trailers without
//! it are an error of their stream to the library. So trailers are held until their first field is known.

use std::time::Duration;

use tokio::time::Instant;

use super::{Fault, hpack::Blocks};
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
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;

/// Where the flags are in the header of a frame.
const FLAGS: usize = 4;
/// What stands before the fields of a prioritized head.
const PRIORITY_BYTES: usize = 5;
/// More is never needed before a first field.
const UNDECIDED_BYTES_MAX: usize = 512;

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
    /// The whole header of the frame has come.
    is_begun: bool,
    /// A head goes on until a frame that ends it.
    within_head: bool,
    heads: u64,
    blocks: Blocks,
    /// What stands before and behind the fields of the payload in hand, if it has fields.
    before: usize,
    behind: usize,
    /// The next byte is the length of the padding.
    awaits_padding: bool,
    /// The newest stream: whatever head comes for it or an older one, is trailers.
    newest: u32,
    /// Bytes since the frame began in which trailers with an unknown first field began.
    undecided: Option<usize>,
    resets: Rate,
    control: Rate,
}

impl Frames {
    pub(in super::super) fn new(limits: &Http2Config) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            filled: 0,
            is_begun: false,
            within_head: false,
            heads: 0,
            blocks: Blocks::new(),
            before: 0,
            behind: 0,
            awaits_padding: false,
            newest: 0,
            undecided: None,
            resets: Rate::new(limits.resets_per_minute_max),
            control: Rate::new(limits.control_frames_per_minute_max),
        }
    }

    /// Takes what has come next: all of `bytes` but the first `known`, which it has seen before and held. Returns how many
    /// bytes at the end are to be held, and passed again in front of what comes next.
    pub(in super::super) fn pass(
        &mut self,
        bytes: &mut [u8],
        known: usize,
        now: Instant,
    ) -> Result<usize, Fault> {
        let mut at = known;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let passed = if self.skip > 0 {
                let payload = &rest[..rest.len().min(self.skip)];
                let passed = if self.has_fields() { self.fields(payload) } else { payload.len() };
                self.skip -= passed;
                passed
            } else {
                let room = (HEADER_BYTES - self.filled).min(rest.len());
                self.header[self.filled..self.filled + room].copy_from_slice(&rest[..room]);
                self.filled += room;
                room
            };
            at += passed;
            self.undecided = self.undecided.map(|it| it + passed);
            if self.skip == 0 && self.filled == HEADER_BYTES && !self.is_begun {
                self.begin(now)?;
            }
            self.decide(&mut bytes[..at]);
            if self.skip == 0 && self.is_begun {
                self.end();
            }
        }
        let partial = if self.is_begun { 0 } else { self.filled };
        Ok(self.undecided.unwrap_or(partial))
    }

    /// The number of the head, or other frame that is no body, that has begun and not ended.
    pub(in super::super) fn head_in_hand(&self) -> Option<u64> {
        let is_body = self.filled == HEADER_BYTES && self.header[3] == DATA;
        let is_begun = self.filled > 0 && !is_body;
        (is_begun || self.within_head).then_some(self.heads)
    }

    fn begin(&mut self, now: Instant) -> Result<(), Fault> {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        self.is_begun = true;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_empty = self.skip == 0 && flags & END_STREAM == 0;
        self.awaits_padding = kind == HEADERS && flags & PADDED != 0;
        self.before = if kind == HEADERS && flags & PRIORITIZED != 0 { PRIORITY_BYTES } else { 0 };
        self.behind = 0;
        if kind != CONTINUATION {
            self.undecided = None;
        }
        if kind == HEADERS {
            self.blocks.begin();
            let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
            let ends_stream = flags & END_STREAM != 0;
            self.undecided = (stream <= self.newest && ends_stream).then_some(HEADER_BYTES);
            self.newest = self.newest.max(stream);
        }
        match kind {
            RST_STREAM => self.resets.count(now).then_some(()).ok_or(RESETS),
            HEADERS | WINDOW_UPDATE => Ok(()),
            DATA if !is_empty => Ok(()),
            _ => self.control.count(now).then_some(()).ok_or(CONTROL),
        }
    }

    fn has_fields(&self) -> bool {
        matches!(self.header[3], HEADERS | CONTINUATION) && self.is_begun
    }

    /// Takes the first of a payload with fields: how many bytes, at least one.
    fn fields(&mut self, payload: &[u8]) -> usize {
        if self.awaits_padding {
            self.awaits_padding = false;
            self.behind = payload[0].into();
            return 1;
        }
        if self.before > 0 {
            let passed = self.before.min(payload.len());
            self.before -= passed;
            return passed;
        }
        match self.skip.saturating_sub(self.behind).min(payload.len()) {
            0 => payload.len(),
            fields => self.blocks.pass(&payload[..fields]),
        }
    }

    /// Passes trailers on as soon as their first field is known; `passed` ends where they have come so far.
    fn decide(&mut self, passed: &mut [u8]) {
        let Some(bytes) = self.undecided else { return };
        let is_refused = match self.blocks.first_is_pseudo() {
            Some(is_pseudo) => is_pseudo,
            None if bytes > UNDECIDED_BYTES_MAX => true,
            None => return,
        };
        if is_refused {
            passed[passed.len() - bytes + FLAGS] &= !END_STREAM;
        }
        self.undecided = None;
    }

    fn end(&mut self) {
        self.filled = 0;
        self.is_begun = false;
        let [.., kind, flags, _, _, _, _] = self.header;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.within_head = flags & END_HEADERS == 0;
        }
        if !self.within_head {
            self.heads += 1;
            // Without any field.
            self.undecided = None;
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

    /// Passes whole frames.
    fn pass(frames: &mut Frames, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        frames.pass(&mut bytes.to_vec(), 0, now).map(|held| assert_eq!(held, 0))
    }

    fn frames() -> Frames {
        let mut frames = Frames::new(&Http2Config {
            streams_max: 1,
            resets_per_minute_max: 2,
            control_frames_per_minute_max: 3,
        });
        pass(&mut frames, PREFACE, Instant::now()).unwrap();
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
                pass(&mut frames, &frame(HEADERS, END_HEADERS, 40), now).unwrap();
                pass(&mut frames, &frame(DATA, 0, 16_384), now).unwrap();
                pass(&mut frames, &frame(DATA, END_STREAM, 0), now).unwrap();
                pass(&mut frames, &frame(WINDOW_UPDATE, 0, 4), now).unwrap();
                pass(&mut frames, &flood, now).unwrap();
            }
            assert!(pass(&mut frames, &flood, now).is_err(), "{flood:?}");
        }
    }

    #[test]
    fn each_minute_begins_anew() {
        let (mut frames, reset) = (frames(), frame(RST_STREAM, 0, 4));
        let began = Instant::now();
        for minute in 0..3 {
            let now = began + Rate::WINDOW * minute;
            assert!(pass(&mut frames, &reset, now).is_ok());
            assert!(pass(&mut frames, &reset, now).is_ok());
        }
        assert!(pass(&mut frames, &reset, began + Rate::WINDOW * 2).is_err());
    }

    #[test]
    fn a_head_is_in_hand_from_its_first_byte_to_the_frame_that_ends_it() {
        let (mut frames, now) = (frames(), Instant::now());
        let mut held = Vec::new();
        let mut pass = |bytes: &[u8]| {
            let known = held.len();
            held.extend_from_slice(bytes);
            let left = frames.pass(&mut held, known, now).unwrap();
            held.drain(..held.len() - left);
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

    /// A head, or trailers, with these fields.
    fn fields(kind: u8, flags: u8, stream: u8, fields: &[u8]) -> Vec<u8> {
        let mut bytes = frame(kind, flags, fields.len());
        bytes[HEADER_BYTES - 1] = stream;
        bytes[HEADER_BYTES..].copy_from_slice(fields);
        bytes
    }

    #[test]
    fn trailers_with_a_pseudo_header_field_do_not_end_their_stream() {
        let ended = END_STREAM | END_HEADERS;
        // The first one puts `:authority: a` into the table, the second one `x: y`.
        let open = [
            fields(HEADERS, END_HEADERS, 1, b"\x82\x84\x87\x41\x01a"),
            fields(HEADERS, END_HEADERS, 3, b"\x82\x84\x87\x40\x01x\x01y"),
        ]
        .concat();
        let many_resizes = [0x20; UNDECIDED_BYTES_MAX + 1];
        for (trailers, ends) in [
            (fields(HEADERS, ended, 1, b"\x00\x01x\x01y"), true),
            (fields(HEADERS, ended, 1, b"\xbe"), true),
            (fields(HEADERS, ended, 3, b"\x0f\x2f\x01z"), true),
            (fields(HEADERS, ended, 1, b""), true),
            (fields(HEADERS, ended, 1, b"\x82"), false),
            (fields(HEADERS, ended, 3, b"\xbf"), false),
            (fields(HEADERS, ended, 1, b"\x00\x07:status\x03200"), false),
            (fields(HEADERS, ended | PADDED, 1, b"\x02\x82\0\0"), false),
            (fields(HEADERS, ended | PADDED, 1, b"\x01\x82"), true),
            (fields(HEADERS, ended | PRIORITIZED, 1, b"\0\0\0\0\0\x82"), false),
            (
                [
                    fields(HEADERS, END_STREAM, 1, b""),
                    fields(CONTINUATION, END_HEADERS, 1, b"\x82"),
                ]
                .concat(),
                false,
            ),
            (fields(HEADERS, ended, 1, &many_resizes), false),
            // A head of its own.
            (fields(HEADERS, ended, 5, b"\x82\x84\x87"), true),
        ] {
            for step in [1, 2, 10, 4_096] {
                let (mut frames, mut held, mut passed) = (frames(), Vec::new(), Vec::new());
                for part in [&open[..], &trailers].concat().chunks(step) {
                    let known = held.len();
                    held.extend_from_slice(part);
                    let left = frames.pass(&mut held, known, Instant::now()).unwrap();
                    assert!(left <= UNDECIDED_BYTES_MAX + step + HEADER_BYTES, "{left} are held");
                    passed.extend(held.drain(..held.len() - left));
                }
                assert!(held.is_empty(), "{trailers:?}");
                let mut due = [&open[..], &trailers].concat();
                if !ends {
                    due[open.len() + FLAGS] &= !END_STREAM;
                }
                assert_eq!(passed, due, "{trailers:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn nothing_is_held_for_frames_that_do_not_belong_to_trailers() {
        let mut frames = frames();
        let begun = fields(HEADERS, END_HEADERS, 1, b"\x82");
        pass(&mut frames, &begun, Instant::now()).unwrap();
        let unfinished = fields(HEADERS, END_STREAM, 1, b"");
        let mut held = [unfinished, frame(DATA, 0, 1_000)].concat();
        assert_eq!(frames.pass(&mut held, 0, Instant::now()), Ok(0));
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
            let (mut whole, mut at_once) = (frames(), sent.clone());
            let left = whole.pass(&mut at_once, 0, now);
            let mut cut = frames();
            let (mut rest, mut cuts) = (&sent[..], cuts.into_iter().cycle());
            let (mut held, mut in_parts, mut passed) = (Vec::new(), Ok(0), Vec::new());
            while !rest.is_empty() && in_parts.is_ok() {
                let (part, more) = rest.split_at(rest.len().min(cuts.next().unwrap()));
                let known = held.len();
                held.extend_from_slice(part);
                in_parts = cut.pass(&mut held, known, now);
                if let Ok(left) = in_parts {
                    passed.extend(held.drain(..held.len() - left));
                }
                rest = more;
            }
            prop_assert_eq!(left, in_parts);
            if let Ok(left) = left {
                prop_assert!(left <= UNDECIDED_BYTES_MAX + HEADER_BYTES);
                let (whole_passed, whole_held) = at_once.split_at(at_once.len() - left);
                prop_assert_eq!(whole_passed, &passed);
                prop_assert_eq!(whole_held, &held);
                prop_assert_eq!(whole.head_in_hand(), cut.head_in_hand());
            }
        }
    }
}
