//! Chunked bodies (RFC 9112 §7.1), byte by byte.
//!
//! ```text
//!   Size ──;──▶ Extension ──CR──▶ SizeEnd ──LF──▶ Data ──▶ DataEnd ──CR LF──▶ Size
//!                                    └─ size 0 ─▶ Trailer ── field CR LF ──▶ Trailer ──CR LF──▶ Done
//! ```
//!
//! Extensions and trailers are checked here and dropped behind: the proxy writes chunks of its own.

use super::{BODY_TOO_LARGE, Fault, is_field_value, is_token};
use crate::metrics::Rejection;

/// More digits than any size has.
const SIZE_DIGITS_MAX: u32 = 16;
/// In all chunks of one body, so that a body is not mostly extensions.
const EXTENSION_BYTES_MAX: u32 = 4096;
const TRAILER_BYTES_MAX: u32 = 8192;

/// A reader of one body.
#[derive(Debug)]
pub(in super::super) struct Chunks {
    state: State,
    /// Of the current chunk: first what it declares, then what is still to come.
    size: u64,
    /// What further chunks may declare.
    room: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u32 },
    ExtensionName { length: u32 },
    ExtensionValue { length: u32 },
    Quoted { escaped: bool },
    AfterQuoted,
    SizeEnd,
    Data,
    DataEnd { with_cr: bool },
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    End,
    Done,
}

impl Chunks {
    /// A body of at most `bytes_max` bytes, chunk by chunk.
    pub(in super::super) fn new(bytes_max: u64) -> Self {
        Self {
            state: State::Size { digits: 0 },
            size: 0,
            room: bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on: how many of `bytes` belong to the body. Fewer than all only if it ended among them.
    pub(in super::super) fn pass(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let data = self.size.min((bytes.len() - at) as u64);
                self.size -= data;
                at += data as usize;
                if self.size == 0 {
                    self.state = State::DataEnd { with_cr: false };
                }
            } else {
                self.state = self.next(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn next(&mut self, byte: u8) -> Result<State, Fault> {
        use State::{
            AfterQuoted, Data, DataEnd, Done, End, ExtensionName, ExtensionValue, Quoted, Size,
            SizeEnd, TrailerEnd, TrailerName, TrailerStart, TrailerValue,
        };
        self.count()?;
        Ok(match (self.state, byte) {
            (Size { digits }, _) if byte.is_ascii_hexdigit() => self.digit(digits, byte)?,
            (Size { digits: 1.. }, b';') => ExtensionName { length: 0 },
            (Size { digits: 1.. }, b'\r') => SizeEnd,
            (Size { .. }, _) => return Err(bad("Bad chunk size")),

            (ExtensionName { length }, _) if is_token(byte) => ExtensionName { length: length + 1 },
            (ExtensionName { length: 1.. }, b'=') => ExtensionValue { length: 0 },
            (ExtensionValue { length }, _) if is_token(byte) => {
                ExtensionValue { length: length + 1 }
            }
            (ExtensionValue { length: 0 }, b'"') => Quoted { escaped: false },
            (Quoted { escaped: false }, b'"') => AfterQuoted,
            (Quoted { escaped: false }, b'\\') => Quoted { escaped: true },
            (Quoted { .. }, _) if is_field_value(byte) => Quoted { escaped: false },
            (
                ExtensionName { length: 1.. } | ExtensionValue { length: 1.. } | AfterQuoted,
                b';',
            ) => ExtensionName { length: 0 },
            (
                ExtensionName { length: 1.. } | ExtensionValue { length: 1.. } | AfterQuoted,
                b'\r',
            ) => SizeEnd,
            (ExtensionName { .. } | ExtensionValue { .. } | Quoted { .. } | AfterQuoted, _) => {
                return Err(bad("Bad chunk extension"));
            }

            (SizeEnd, b'\n') if self.size == 0 => TrailerStart,
            (SizeEnd, b'\n') => self.begin_data()?,
            (DataEnd { with_cr: false }, b'\r') => DataEnd { with_cr: true },
            (DataEnd { with_cr: true }, b'\n') => Size { digits: 0 },
            (SizeEnd | DataEnd { .. }, _) => return Err(bad("A chunk does not end in CR LF")),

            (TrailerStart, b'\r') => End,
            (TrailerStart | TrailerName, _) if is_token(byte) => TrailerName,
            (TrailerName, b':') => TrailerValue,
            (TrailerValue, b'\r') => TrailerEnd,
            (TrailerValue, _) if is_field_value(byte) => TrailerValue,
            (TrailerEnd, b'\n') => TrailerStart,
            (End, b'\n') => Done,
            (TrailerStart | TrailerName | TrailerValue | TrailerEnd | End, _) => {
                return Err(bad("Bad trailer"));
            }
            // Not asked for: data is passed in blocks, and nothing is read past the end.
            (Data | Done, _) => self.state,
        })
    }

    fn digit(&mut self, digits: u32, byte: u8) -> Result<State, Fault> {
        if digits == SIZE_DIGITS_MAX {
            return Err(bad("Bad chunk size"));
        }
        let value = (byte as char).to_digit(16).unwrap_or(0);
        self.size = if digits == 0 { 0 } else { self.size << 4 } | u64::from(value);
        Ok(State::Size { digits: digits + 1 })
    }

    fn begin_data(&mut self) -> Result<State, Fault> {
        match self.room.checked_sub(self.size) {
            Some(room) => self.room = room,
            None => return Err(BODY_TOO_LARGE),
        }
        Ok(State::Data)
    }

    /// Counts the byte that is read next.
    fn count(&mut self) -> Result<(), Fault> {
        match self.state {
            State::ExtensionName { .. }
            | State::ExtensionValue { .. }
            | State::Quoted { .. }
            | State::AfterQuoted => self.extension_bytes += 1,
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerEnd => {
                self.trailer_bytes += 1;
            }
            State::Size { .. }
            | State::SizeEnd
            | State::Data
            | State::DataEnd { .. }
            | State::End
            | State::Done => {}
        }
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(bad("Too many chunk extensions"));
        }
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(bad("Too large a trailer"));
        }
        Ok(())
    }
}

const fn bad(message: &'static str) -> Fault {
    Fault::new(400, Rejection::BadBody, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How much of `text` is the body, if it ends there.
    fn read(text: &[u8]) -> Result<Option<usize>, Fault> {
        let mut chunks = Chunks::new(1 << 20);
        let taken = chunks.pass(text)?;
        Ok(chunks.is_done().then_some(taken))
    }

    #[test]
    fn well_formed_bodies_end_where_they_end() {
        for (text, length) in [
            ("0\r\n\r\n", 5),
            ("0\r\n\r\nGET / HTTP/1.1\r\n", 5),
            ("5\r\nhello\r\n0\r\n\r\n", 15),
            ("000005\r\nhello\r\n00\r\n\r\n", 21),
            ("a\r\n0\r\n\r\n12345\r\n0\r\n\r\n", 20),
            ("A\r\n0123456789\r\n0\r\n\r\n", 20),
            ("1;a\r\nx\r\n0\r\n\r\n", 13),
            ("1;a=b;c=\"d \\\" e\"\r\nx\r\n0\r\n\r\n", 26),
            ("0;last\r\n\r\n", 10),
            ("0\r\nA: b\r\nC:\r\n\r\n", 15),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(Some(length)), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "\r\n",
            "\n",
            ";a\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "5\r5",
            "5\0\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x5\r\n",
            "5_\r\n",
            "g\r\n",
            "00000000000000005\r\n",
            "5;\r\n",
            "5;=a\r\n",
            "5; a\r\n",
            "5;a=\r\n",
            "5;a=\"\n\"\r\n",
            "5;a=\"b\"c\r\n",
            "5;a\n",
            "5;a\0\r\n",
            "5;a=\"\0\"\r\n",
            "1\r\nxy",
            "1\r\nx\n",
            "1\r\nx\r\r",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\nA b\r\n",
            "0\r\n: b\r\n",
            "0\r\nA : b\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\r\r",
            "0\r\nA: \0\r\n",
            "0\r\n A: b\r\n",
            "0\r\nA: b\r\n c\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}: {:?}", read(text.as_bytes()));
        }
    }

    #[test]
    fn sizes_and_lengths_have_limits() {
        assert_eq!(read(b"100001\r\n").unwrap_err().status, 413);
        assert_eq!(read(b"ffffffffffffffff\r\n").unwrap_err().status, 413);
        assert_eq!(read(b"100000\r\n"), Ok(None));
        let extension = format!("1;{}\r\n", "a".repeat(EXTENSION_BYTES_MAX as usize));
        assert!(read(extension.as_bytes()).is_err());
        let many = "1;aaaaaaa\r\nx\r\n".repeat(1_000);
        assert!(read(many.as_bytes()).is_err());
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(2_000));
        assert!(read(trailers.as_bytes()).is_err());
    }

    /// A body in chunks, and what follows it.
    fn chunked(parts: &[Vec<u8>], rest: &[u8]) -> (Vec<u8>, usize) {
        let mut body = Vec::new();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let length = body.len();
        body.extend_from_slice(rest);
        (body, length)
    }

    proptest! {
        #[test]
        fn a_body_ends_at_the_same_byte_however_it_is_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            rest in prop::collection::vec(any::<u8>(), 0..40),
            step in 1_usize..50,
        ) {
            let (text, length) = chunked(&parts, &rest);
            let mut chunks = Chunks::new(1 << 20);
            let mut taken = 0;
            for piece in text.chunks(step) {
                taken += chunks.pass(piece).unwrap();
            }
            prop_assert!(chunks.is_done());
            prop_assert_eq!(taken, length);
        }

        #[test]
        fn nothing_makes_it_panic_or_read_past_the_end(
            text in "[0-9a-f;=\"a\r\n :\\\\]{0,60}",
            step in 1_usize..10,
        ) {
            let whole = read(text.as_bytes());
            let mut chunks = Chunks::new(1 << 20);
            let mut taken = 0;
            let pieces: Result<(), Fault> = text.as_bytes().chunks(step).try_for_each(|piece| {
                taken += chunks.pass(piece)?;
                Ok(())
            });
            prop_assert_eq!(whole, pieces.map(|()| chunks.is_done().then_some(taken)));
        }
    }
}
