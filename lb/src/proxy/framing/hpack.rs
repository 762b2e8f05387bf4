//! The field blocks of an HTTP/2 client (RFC 7541), followed only as far as it takes to know with which kind of field each
//! begins: the h2 library drops pseudo-header fields of trailers, where they make a request malformed (RFC 9113 §8.1).
//!
//! ```text
//!   Field ──index──▶ Field                       (a field of a table)
//!     └─index, or 0 and a name──▶ value ──▶ Field (a literal, which may enter the dynamic table)
//! ```
//!
//! The dynamic table is kept as the sizes and kinds of its entries. What breaks the rules is left to the library, which then
//! closes the connection.

use std::collections::VecDeque;

/// What a client may use unless it is told otherwise (RFC 9113 §6.5.2).
const TABLE_BYTES: u32 = 4096;
/// The size of an entry beside its name and value (RFC 7541 §4.1).
const ENTRY_BYTES: u32 = 32;

/// How long the names of the static table are (RFC 7541, Appendix A). Those of the first [`STATIC_PSEUDO`] begin with `:`.
const STATIC: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];
const STATIC_PSEUDO: usize = 14;

/// How many codes of Huffman's there are of each length from 5 bits on (RFC 7541, Appendix B). The code is canonical.
const CODES: [u32; 26] =
    [10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// A reader of the blocks of a connection.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The newest first: the bytes of each name, those of name and value, and whether it is a pseudo-header field.
    table: VecDeque<Entry>,
    table_bytes: u32,
    table_bytes_max: u32,
    state: State,
    /// The literal in hand.
    entry: Entry,
    enters_table: bool,
    /// Whether the first field of the block in hand is a pseudo-header field, once that is known.
    first_is_pseudo: Option<bool>,
    /// A rule was broken, so that nothing is known any more.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    name_bytes: u32,
    bytes: u32,
    is_pseudo: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Field,
    /// An integer goes on.
    Integer(Number, u32, u32),
    /// The length of a text comes.
    Length(Part),
    /// So many bytes of a text are still to come.
    Text {
        part: Part,
        left: u32,
        code: Option<Code>,
        is_begun: bool,
    },
}

/// What an integer is.
#[derive(Clone, Copy, Debug)]
enum Number {
    Index,
    NameIndex,
    TableBytes,
    Length(Part, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name,
    Value,
}

/// Bits of a code that is not complete.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u32,
    length: usize,
    /// The least code of this length.
    least: u32,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES,
            state: State::Field,
            entry: Entry::default(),
            enters_table: false,
            first_is_pseudo: None,
            is_lost: false,
        }
    }

    /// A block begins.
    pub(super) fn begin(&mut self) {
        self.first_is_pseudo = None;
        self.state = State::Field;
    }

    /// Whether the first field of the block in hand is a pseudo-header field; `None` as long as that is not known.
    pub(super) fn first_is_pseudo(&self) -> Option<bool> {
        if self.is_lost { Some(false) } else { self.first_is_pseudo }
    }

    /// Takes the first of what has come next of the block in hand: how many bytes, at least one.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let passed = match self.state {
            _ if self.is_lost => return bytes.len(),
            // What does not enter the table, and text without a code, need not be looked at.
            State::Text { part, left, code, is_begun: true }
                if code.is_none() || !self.enters_table =>
            {
                let skipped = bytes.len().min(left as usize);
                self.text(part, left - skipped as u32, code, skipped as u32);
                return skipped;
            }
            State::Text { part, left, code, is_begun } => {
                if part == Part::Name && !is_begun {
                    let colon =
                        if code.is_some() { bytes[0] & 0xfe == 0xb8 } else { bytes[0] == b':' };
                    self.entry.is_pseudo = colon;
                    self.first_is_pseudo.get_or_insert(colon);
                }
                let mut code = code;
                let decoded = code.as_mut().map_or(1, |it| it.count(bytes[0]));
                self.text(part, left - 1, code, decoded);
                Some(())
            }
            State::Field => self.field(bytes[0]),
            State::Length(part) => {
                self.integer(Number::Length(part, bytes[0] & 0x80 != 0), bytes[0], 7)
            }
            State::Integer(number, value, shift) => {
                let more = u32::from(bytes[0] & 0x7f).checked_shl(shift).filter(|_| shift <= 21);
                match more.and_then(|it| value.checked_add(it)) {
                    Some(value) if bytes[0] & 0x80 == 0 => self.number(number, value),
                    Some(value) => {
                        self.state = State::Integer(number, value, shift + 7);
                        Some(())
                    }
                    None => None,
                }
            }
        };
        self.is_lost |= passed.is_none();
        1
    }

    /// The first byte of a field (RFC 7541 §6).
    fn field(&mut self, byte: u8) -> Option<()> {
        self.entry = Entry::default();
        self.enters_table = byte & 0xc0 == 0x40;
        match byte {
            0x80.. => self.integer(Number::Index, byte, 7),
            0x40.. => self.integer(Number::NameIndex, byte, 6),
            0x20.. => self.integer(Number::TableBytes, byte, 5),
            _ => self.integer(Number::NameIndex, byte, 4),
        }
    }

    /// The first byte of an integer, which has so many of its bits (RFC 7541 §5.1).
    fn integer(&mut self, number: Number, byte: u8, bits: u32) -> Option<()> {
        let mask = (1u32 << bits) - 1;
        match u32::from(byte) & mask {
            value if value == mask => self.state = State::Integer(number, value, 0),
            value => return self.number(number, value),
        }
        Some(())
    }

    fn number(&mut self, number: Number, value: u32) -> Option<()> {
        match number {
            Number::Index => {
                let is_pseudo = self.entry(value)?.is_pseudo;
                self.first_is_pseudo.get_or_insert(is_pseudo);
                self.state = State::Field;
            }
            Number::NameIndex if value == 0 => self.state = State::Length(Part::Name),
            Number::NameIndex => {
                let Entry { name_bytes, is_pseudo, .. } = self.entry(value)?;
                self.entry = Entry { name_bytes, bytes: name_bytes, is_pseudo };
                self.first_is_pseudo.get_or_insert(is_pseudo);
                self.state = State::Length(Part::Value);
            }
            Number::TableBytes => {
                self.table_bytes_max = value;
                self.evict(0);
                self.state = State::Field;
            }
            Number::Length(part, is_coded) => {
                let code = is_coded.then(Code::default);
                self.state = State::Text { part, left: value, code, is_begun: false };
                if value == 0 {
                    self.text(part, 0, code, 0);
                }
            }
        }
        Some(())
    }

    /// So many bytes of a text have been decoded, and as many are left to come.
    fn text(&mut self, part: Part, left: u32, code: Option<Code>, decoded: u32) {
        self.entry.bytes += decoded;
        self.state = match part {
            _ if left > 0 => State::Text { part, left, code, is_begun: true },
            Part::Name => {
                self.entry.name_bytes = self.entry.bytes;
                self.first_is_pseudo.get_or_insert(false);
                State::Length(Part::Value)
            }
            Part::Value => {
                if self.enters_table {
                    self.enter();
                }
                State::Field
            }
        };
    }

    /// RFC 7541 §4.4.
    fn enter(&mut self) {
        let bytes = self.entry.bytes + ENTRY_BYTES;
        self.evict(bytes);
        if bytes <= self.table_bytes_max {
            self.table_bytes += bytes;
            self.table.push_front(self.entry);
        }
    }

    /// Makes room for so many bytes.
    fn evict(&mut self, bytes: u32) {
        while self.table_bytes + bytes > self.table_bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.table_bytes -= oldest.bytes + ENTRY_BYTES;
        }
    }

    /// The entry at an index into the static table and the dynamic one behind it.
    fn entry(&self, index: u32) -> Option<Entry> {
        let index = (index as usize).checked_sub(1)?;
        let fixed = STATIC.get(index).map(|&name| Entry {
            name_bytes: name.into(),
            bytes: 0,
            is_pseudo: index < STATIC_PSEUDO,
        });
        fixed.or_else(|| self.table.get(index - STATIC.len()).copied())
    }
}

impl Code {
    /// How many characters end in this byte.
    fn count(&mut self, byte: u8) -> u32 {
        let mut ended = 0;
        for bit in (0..8).rev() {
            self.bits = self.bits << 1 | u32::from(byte >> bit & 1);
            self.length += 1;
            self.least <<= 1;
            let codes = self.length.checked_sub(5).and_then(|it| CODES.get(it)).copied();
            let codes = codes.unwrap_or(0);
            if self.bits.wrapping_sub(self.least) < codes {
                ended += 1;
                *self = Self::default();
            } else {
                self.least = self.least.wrapping_add(codes);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the first field of a block is a pseudo-header field, however the block is cut.
    fn first(blocks: &mut Blocks, block: &[u8]) -> Option<bool> {
        blocks.begin();
        let mut rest = block;
        while !rest.is_empty() {
            let passed = blocks.pass(&rest[..rest.len().min(3)]);
            rest = &rest[passed..];
        }
        blocks.first_is_pseudo()
    }

    #[test]
    fn the_first_field_is_known_in_every_form() {
        for (block, expected) in [
            (&b""[..], None),
            (b"\x82", Some(true)),
            (b"\x8e", Some(true)),
            (b"\x8f", Some(false)),
            (b"\x90\x82", Some(false)),
            (b"\x41\x01a", Some(true)),
            (b"\x01\x01a", Some(true)),
            (b"\x1e\x00", Some(true)),
            (b"\x0f\x00\x01a", Some(false)),
            (b"\x00\x05:path\x01/", Some(true)),
            (b"\x10\x01x\x01:", Some(false)),
            (b"\x40\x00\x01:", Some(false)),
            // `:path` and `x-a` in Huffman's code.
            (b"\x40\x84\xb9\x58\xd3\x3f\x01/", Some(true)),
            (b"\x40\x83\xf2\xb0\xff\x01/", Some(false)),
            (b"\x3f\xe1\x1f\x20\x82", Some(true)),
        ] {
            assert_eq!(first(&mut Blocks::new(), block), expected, "{}", block.escape_ascii());
        }
    }

    #[test]
    fn the_dynamic_table_is_that_of_the_rfc() {
        // RFC 7541, Appendix C.4: three requests in Huffman's code.
        let mut blocks = Blocks::new();
        let requests: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        for (request, bytes) in requests.into_iter().zip([57, 110, 164]) {
            assert_eq!(first(&mut blocks, request), Some(true));
            assert_eq!(blocks.table_bytes, bytes, "as the RFC counts");
        }
        // `custom-key`, `cache-control` and `:authority`, the newest first.
        for (block, expected) in [(b"\xbe", false), (b"\xbf", false), (b"\xc0", true)] {
            assert_eq!(first(&mut blocks, block), Some(expected), "{block:?}");
        }
        // Too small for two of them.
        assert_eq!(first(&mut blocks, b"\x3f\x46\xbe"), Some(false));
        assert_eq!((blocks.table.len(), blocks.table_bytes), (1, 54));
        assert_eq!(first(&mut blocks, b"\xc0"), Some(false), "lost, and no longer followed");
        assert!(blocks.is_lost);
    }

    #[test]
    fn every_length_of_a_code_is_counted() {
        assert_eq!(CODES.iter().sum::<u32>(), 257);
        for (coded, characters) in [
            (&b"\x07"[..], 1),
            (b"\x53", 1),
            (b"\xfe\x3f", 1),
            (b"\xff\xcf", 1),
            (b"\xff\xff\xff\xf3", 1),
            (b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 15),
            (b"\xa8\xeb\x10\x64\x9c\xbf", 8),
        ] {
            let mut code = Code::default();
            let counted: u32 = coded.iter().map(|&byte| code.count(byte)).sum();
            assert_eq!(counted, characters, "{}", coded.escape_ascii());
        }
    }
}
