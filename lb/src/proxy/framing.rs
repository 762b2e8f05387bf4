//! Where a request ends: the strict reading of heads and bodies (RFC 9112), as pure functions of their bytes; and the
//! same strictness about the frames and heads of HTTP/2 (RFC 9113).
//!
//! Whoever stands before or behind the balancer must see the same requests in the same bytes. So what could be read
//! in two ways is refused, not repaired; what is taken is passed on in exactly one form.

mod chunks;
mod frames;
mod head;
mod hpack;
mod http2;
mod names;
mod rewrite;
mod via;

use crate::metrics::Rejection;

pub(super) use self::{
    chunks::Chunks,
    frames::Frames,
    head::{BODY_TOO_LARGE, Head, Limits, URI_TOO_LONG, find as find_head, read as read_head},
    http2::read as read_http2_head,
    names::is_claim,
};

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes, perhaps none.
    Known(u64),
    /// It says so itself, chunk by chunk.
    Chunked,
}

/// Why a request is refused, and what its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) rejection: Rejection,
    pub(super) message: &'static str,
}

impl Fault {
    pub(super) const fn new(status: u16, rejection: Rejection, message: &'static str) -> Self {
        Self { status, rejection, message }
    }
}

/// The byte may not stand in a token (RFC 9110 §5.6.2).
const NO_TOKEN: u8 = 1;
/// The byte may, but is no letter, no digit and no `-`.
const ODD: u8 = 2;

/// What each byte is in a name; looked up for every byte of every name.
const CLASS: [u8; 256] = {
    let mut table = [NO_TOKEN; 256];
    let mut byte = 0;
    while byte < 256 {
        match byte as u8 {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' => table[byte] = 0,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~' => table[byte] = ODD,
            _ => {}
        }
        byte += 1;
    }
    table
};

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & NO_TOKEN == 0
}

/// Everything that the bytes of a name are, together.
fn class(name: &[u8]) -> u8 {
    name.iter().fold(0, |seen, &byte| seen | CLASS[usize::from(byte)])
}

/// What may stand in a field's value: visible, space, tab, and the bytes above ASCII.
fn is_field_value(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}
