//! What the two processes say to each other: lines of JSON over a pair of sockets, and descriptors once.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Of this protocol, and of what is handed over. Processes that speak another one do not take over from each other.
pub(super) const FORMAT: u32 = 1;

/// In the environment of the new process: the id of the one that it is to take over from.
pub(super) const PREDECESSOR: &str = "RINGMASTER_PREDECESSOR";

/// The most descriptors that are sent.
const DESCRIPTORS_MAX: usize = 16;

/// From the new process.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Word {
    Hello {
        format: u32,
        version: String,
    },
    /// Nothing is left that can fail but the replicas themselves.
    Prepared,
    /// The replicas are kept, and routed to.
    Serving,
}

/// From the old process, with descriptors: of the sockets in this order, of its standard output and standard error, and
/// of the lock if there is one.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    pub(super) cluster: String,
    /// By the key and the value that the configuration has for them.
    pub(super) sockets: Vec<(String, SocketAddr)>,
    pub(super) has_lock: bool,
}

/// `message` as a line.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Sends descriptors, in front of the next message.
pub(super) fn send_descriptors(socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other(format!(
            "{} descriptors: at most {DESCRIPTORS_MAX} can be sent",
            fds.len()
        )));
    }
    // Descriptors travel with at least one byte.
    sendmsg(socket, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptors`] has sent; none at the end of the stream.
pub(super) fn receive_descriptors(socket: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let buffer = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(socket, buffer, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(fds)
}
