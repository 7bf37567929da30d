//! The access log: one line per request, written when its answer has ended.
//!
//! A worker builds the line and puts it into a bounded queue; a thread of its own writes. A slow disk or reader thus costs
//! lines, which are counted, and never a request.

mod writer;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::writer::Queue;
use super::line::{Line, LineFormat};
use super::metrics::Metrics;
use super::timestamp::Rfc3339;
use crate::primitives::clock::WallTime;

/// Where lines go. Cheap to clone; clones share the queue and the writer, which ends with the last of them.
#[derive(Clone)]
pub struct AccessLog {
    format: LineFormat,
    queue: Option<Arc<Queue>>,
}

/// What is told of one request. An optional field that is absent is left out of the line.
///
/// Texts may come from the client: they are escaped, and cut at 2 KiB.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the request arrived.
    pub time: WallTime,
    /// The request's id.
    pub request_id: &'a str,
    /// The route's name; `""` if none was found.
    pub route: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path, without the query, which may hold secrets.
    pub path: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// The code of a refusal.
    pub code: Option<&'static str>,
    /// Why it was refused, from a fixed list.
    pub reason: Option<&'static str>,
    /// The code of the refusal that a `report_only` route did not make.
    pub would_reject: Option<&'static str>,
    /// The name of the issuer whose token was accepted.
    pub issuer: Option<&'a str>,
    /// The subject, or [its hash](super::fields::hashed_subject).
    pub subject: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// How long the upstream took.
    pub upstream_duration: Option<Duration>,
}

/// Room for an ordinary line, so that a thread's buffer grows but once.
const USUAL_LINE_BYTES: usize = 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(USUAL_LINE_BYTES));
}

impl AccessLog {
    /// A log that is written to `sink` by a thread of its own. Lines that get lost are counted in `metrics`.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(format: LineFormat, sink: Box<dyn Write + Send>, metrics: &Metrics) -> io::Result<Self> {
        let queue = Queue::start(sink, metrics.access_log_dropped())?;
        Ok(Self { format, queue: Some(Arc::new(queue)) })
    }

    /// A log that is written nowhere.
    #[must_use]
    pub const fn off() -> Self {
        Self { format: LineFormat::Json, queue: None }
    }

    /// The same log, written in `format` from now on: for a reload.
    #[must_use]
    pub fn with_format(&self, format: LineFormat) -> Self {
        Self { format, queue: self.queue.clone() }
    }

    /// Whether lines are written at all, so that none need be put together.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a line. Never waits: if the queue is full, the line is dropped and counted.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Some(queue) = &self.queue else { return };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            line.render(buffer, self.format);
            queue.push(buffer);
        });
    }

    /// Waits until everything queued so far is written, at most five seconds; blocks the thread.
    ///
    /// Returns whether it is. Lines that were dropped are not waited for.
    #[expect(
        clippy::must_use_candidate,
        reason = "called for its effect; at the end of a process nobody can act on the rest"
    )]
    pub fn flush(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.flush())
    }
}

impl AccessLine<'_> {
    fn render(&self, buffer: &mut Vec<u8>, format: LineFormat) {
        let mut line = Line::begin(buffer, format);
        line.harmless("time", Rfc3339(self.time));
        line.text("request_id", self.request_id);
        line.text("route", self.route);
        line.text("method", self.method);
        line.text("path", self.path);
        line.plain("status", self.status);
        let optional = |line: &mut Line<'_>, key, value: Option<&str>| {
            if let Some(value) = value {
                line.text(key, value);
            }
        };
        optional(&mut line, "code", self.code);
        optional(&mut line, "reason", self.reason);
        optional(&mut line, "would_reject", self.would_reject);
        optional(&mut line, "issuer", self.issuer);
        optional(&mut line, "subject", self.subject);
        line.harmless("client", self.client);
        line.plain("bytes_in", self.bytes_in);
        line.plain("bytes_out", self.bytes_out);
        line.millis("duration_ms", self.duration);
        optional(&mut line, "upstream", self.upstream);
        if let Some(took) = self.upstream_duration {
            line.millis("upstream_ms", took);
        }
        line.end();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).field("on", &self.queue.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
