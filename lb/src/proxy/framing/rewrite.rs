//! Writes a head again where replicas must not see it as it came: with a target in origin form, one spelling of its length,
//! no fields that may be taken for others, and no offer of a protocol but WebSocket.
//!
//! Only heads that were read strictly get here, and a head that was written here is read as it is.

use bytes::BytesMut;

use super::{
    Fault, Length, ODD,
    head::{Lines, bad, field_of},
    names::{Fate, fate},
};
use crate::config::Underscores;

/// The only protocol that a connection may change to.
const WEB_SOCKET: &[u8] = b"websocket";

/// How a request's offer to change the protocol (RFC 9110 §7.8) is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Unchanged: the request offers nothing, or WebSocket alone.
    AsItIs,
    /// Without the other protocols that it offers beside WebSocket.
    WebSocket,
    /// Not at all: nothing that it offers can be taken up.
    Dropped,
}

impl Offer {
    /// Decides on the offers in a head with `Upgrade`. A server may ignore an offer, whatever the request is. Only WebSocket is
    /// taken up, where `Connection` announces it. Its bytes begin right behind the head, so a request that has a body as
    /// well would have two meanings.
    pub(super) fn of(head: &[u8], length: Length, is_1_1: bool) -> Result<Self, Fault> {
        let (mut fields, mut is_alone, mut is_web_socket, mut is_announced) =
            (0, false, false, false);
        let mut lines = Lines(head);
        lines.next()?;
        loop {
            let line = lines.next()?;
            if line.is_empty() {
                break;
            }
            let (name, value, _) = field_of(line)?;
            if name.eq_ignore_ascii_case(b"upgrade") {
                fields += 1;
                is_alone = value.eq_ignore_ascii_case(WEB_SOCKET);
                is_web_socket |= members(value).any(|it| it.eq_ignore_ascii_case(WEB_SOCKET));
            } else if name.eq_ignore_ascii_case(b"connection") {
                is_announced |= members(value).any(|it| it.eq_ignore_ascii_case(b"upgrade"));
            }
        }
        if !is_1_1 || !is_web_socket || !is_announced {
            return Ok(Self::Dropped);
        }
        if length != Length::Known(0) {
            return Err(bad("A change of protocol together with a body"));
        }
        Ok(if is_alone && fields == 1 { Self::AsItIs } else { Self::WebSocket })
    }
}

/// The members of a list (RFC 9110 §5.6.1). No list that is read here has quotes, so every comma separates.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&it| it == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Writes the request line, with `/path?query` as its target, and `host` as a field if it is given.
pub(super) fn request_line(
    to: &mut BytesMut,
    (method, target, authority): (&[u8], &[u8], Option<&[u8]>),
    is_1_1: bool,
    host: Option<&[u8]>,
) {
    let path = authority.map_or(target, |it| &target[b"http://".len() + it.len()..]);
    let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
    let version: &[u8] = if is_1_1 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" };
    write(to, &[method, b" ", slash, path, version]);
    if let Some(host) = host {
        write(to, &[b"Host: ", host, b"\r\n"]);
    }
}

/// Writes the fields of `head` as they are passed on, and the empty line.
pub(super) fn fields(
    to: &mut BytesMut,
    head: &[u8],
    length: Length,
    offer: Offer,
    underscores: Underscores,
) -> Result<(), Fault> {
    let mut lines = Lines(head);
    lines.next()?;
    let mut connection = Vec::new();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        let (name, value, class) = field_of(line)?;
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if class & ODD != 0 && fate(name, underscores) == Fate::Dropped {
            continue;
        }
        match (length, offer) {
            (Length::Known(bytes), _) if is(b"content-length") => {
                write(to, &[name, b": ", bytes.to_string().as_bytes(), b"\r\n"]);
            }
            (_, Offer::WebSocket | Offer::Dropped) if is(b"upgrade") || is(b"http2-settings") => {}
            (_, Offer::WebSocket | Offer::Dropped) if is(b"connection") => {
                let is_offer = |it: &&[u8]| {
                    it.eq_ignore_ascii_case(b"upgrade")
                        || it.eq_ignore_ascii_case(b"http2-settings")
                };
                connection.extend(members(value).filter(|it| !is_offer(it)));
            }
            _ => write(to, &[line, b"\r\n"]),
        }
    }
    if offer == Offer::WebSocket {
        connection.push(b"upgrade");
        write(to, &[b"Upgrade: ", WEB_SOCKET, b"\r\n"]);
    }
    if !connection.is_empty() {
        write(to, &[b"Connection: ", &connection.join(&b", "[..]), b"\r\n"]);
    }
    to.extend_from_slice(b"\r\n");
    Ok(())
}

fn write(to: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|it| to.extend_from_slice(it));
}
