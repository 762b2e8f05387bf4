//! Where a request ends: the strict reading of heads and bodies (RFC 9112), as pure functions of their bytes; and the
//! same strictness about the frames and heads of HTTP/2 (RFC 9113).
//!
//! Whoever stands before or behind the balancer must see the same requests in the same bytes. So what could be read
//! in two ways is refused, not repaired; what is taken is passed on in exactly one form.

mod chunks;
mod frames;
mod head;
mod http2;

use crate::metrics::Rejection;

pub(super) use self::{
    chunks::Chunks,
    frames::Frames,
    head::{BODY_TOO_LARGE, Head, Limits, URI_TOO_LONG, find as find_head, read as read_head},
    http2::read as read_http2_head,
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

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    /// Looked up for every byte of every name.
    const IS_TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(
                byte as u8,
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
                    | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
            byte += 1;
        }
        table
    };
    IS_TOKEN[usize::from(byte)]
}

/// What may stand in a field's value: visible, space, tab, and the bytes above ASCII.
fn is_field_value(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}
