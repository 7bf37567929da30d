//! Lines between two processes, with descriptors attached to them (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors of one line. The kernel's limit is 253 (`SCM_MAX_FD`).
pub(super) const MAX_DESCRIPTORS: usize = 128;

/// The longest line, in bytes, with its line break. An address is shorter than this.
const MAX_LINE_BYTES: usize = 512;

/// A line and the descriptors that came with it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Sends a line with at most [`MAX_DESCRIPTORS`] descriptors.
pub(super) async fn send(stream: &UnixStream, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = format!("{text}\n");
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL;
        Ok(sendmsg(stream.as_fd(), &[IoSlice::new(line.as_bytes())], &mut ancillary, flags)?)
    });
    // A line is far shorter than the socket's buffer, so the kernel accepts all of it or nothing.
    if sent.await? == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives a line. The kernel does not join what was sent with descriptors to what follows; lines
/// without any are read byte by byte.
///
/// # Errors
///
/// An error of the socket, [`io::ErrorKind::UnexpectedEof`] at its end, and
/// [`io::ErrorKind::InvalidData`] if a line is too long, is not UTF-8, or if descriptors were lost
/// because this process may not open any more.
pub(super) async fn receive(stream: &UnixStream) -> io::Result<Line> {
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    while !bytes.ends_with(b"\n") {
        if bytes.len() == MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let received = stream.async_io(Interest::READABLE, || receive_byte(stream, &mut descriptors));
        bytes.push(received.await?.ok_or(io::ErrorKind::UnexpectedEof)?);
    }
    bytes.pop();
    let text = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Line { text, descriptors })
}

/// Receives a byte, and adds the descriptors that are attached to it; `None` at the end.
fn receive_byte(stream: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(attached) = message {
            descriptors.extend(attached);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "file descriptors were lost: this process has too many open",
        ));
    }
    Ok((received.bytes == 1).then_some(byte[0]))
}
