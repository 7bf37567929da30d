//! The access log: one line per request, written when its response has ended.
//!
//! A worker formats the line and puts it into a bounded queue, which a dedicated thread writes to
//! the sink. A slow disk or reader thus loses lines, which are counted, but never delays a request.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Line, LineFormat};
use super::line_queue::{self, FailureReport, LineQueue, LineWriter};
use super::metrics::Metrics;
use super::timestamp::Rfc3339;
use crate::primitives::clock::WallTime;

/// The sending end of the access log. Cheap to clone; clones share the queue. The writer ends when
/// the last clone is dropped.
#[derive(Clone)]
pub struct AccessLog {
    format: LineFormat,
    queue: Option<Arc<LineQueue>>,
}

/// The fields of one request. A field that is `None` is omitted from the line.
///
/// Texts may come from the client. They are escaped and truncated to 2 KiB.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the request arrived.
    pub time: WallTime,
    /// The request's id.
    pub request_id: &'a str,
    /// The route's name; `""` if no route matched.
    pub route: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path, without the query, which may contain secrets.
    pub path: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The status of a gRPC call.
    pub grpc_status: Option<u8>,
    /// The code of the refusal.
    pub code: Option<&'static str>,
    /// The reason of the refusal, or why the response broke off; from a fixed list.
    pub reason: Option<&'static str>,
    /// Whose fault it is that the request got no complete response: `client`, `gateway`, `issuer`
    /// or `upstream`.
    pub blame: Option<&'static str>,
    /// The code with which a `report_only` route would have refused the request.
    pub would_reject: Option<&'static str>,
    /// The name of the issuer whose token was accepted.
    pub issuer: Option<&'a str>,
    /// The subject, or [its pseudonym](super::pseudonym::hash_subject).
    pub subject: Option<&'a str>,
    /// The names of the identity headers that the upstream does not receive because their value is
    /// too long.
    pub identity_omitted: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Time from the request's head to the end of the response.
    pub duration: Duration,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// The server that the request went to last, as in its configuration.
    pub server: Option<&'a str>,
    /// Time until the upstream's response head arrived.
    pub upstream_duration: Option<Duration>,
}

/// Initial capacity of a thread's buffer; typical lines fit without growing it.
const LINE_CAPACITY: usize = 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LINE_CAPACITY));
}

impl AccessLog {
    /// A log that is written to `sink`, and the writer that does so. Dropped lines are counted in
    /// `metrics`.
    ///
    /// The caller runs [`LineWriter::run`] on a thread of its own.
    #[must_use]
    pub fn new(format: LineFormat, sink: Box<dyn Write + Send>, metrics: &Metrics) -> (Self, LineWriter) {
        let (queue, writer) =
            line_queue::channel(sink, metrics.access_log_dropped(), FailureReport::Logged("access log"));
        (Self { format, queue: Some(Arc::new(queue)) }, writer)
    }

    /// A log that discards all lines.
    #[must_use]
    pub const fn off() -> Self {
        Self { format: LineFormat::Json, queue: None }
    }

    /// The same log in another format, for a reload.
    #[must_use]
    pub fn with_format(&self, format: LineFormat) -> Self {
        Self { format, queue: self.queue.clone() }
    }

    /// Whether lines are written at all. If not, callers need not collect the fields.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a line. Never blocks: if the queue is full, the line is dropped and counted.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Some(queue) = &self.queue else { return };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            line.render(buffer, self.format);
            queue.push(buffer);
        });
    }

    /// Blocks the thread until all queued lines are written, for at most five seconds.
    ///
    /// Returns whether they were written in time. Dropped lines do not count.
    #[expect(
        clippy::must_use_candidate,
        reason = "called for its effect; at the end of the process there is no remedy for lost lines"
    )]
    pub fn flush(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.flush())
    }
}

impl AccessLine<'_> {
    fn render(&self, buffer: &mut Vec<u8>, format: LineFormat) {
        let mut line = Line::begin(buffer, format);
        line.unescaped("time", Rfc3339(self.time));
        line.text("request_id", self.request_id);
        line.text("route", self.route);
        line.text("method", self.method);
        line.text("path", self.path);
        line.literal("status", self.status);
        if let Some(grpc_status) = self.grpc_status {
            line.literal("grpc_status", grpc_status);
        }
        let optional = |line: &mut Line<'_>, key, value: Option<&str>| {
            if let Some(value) = value {
                line.text(key, value);
            }
        };
        optional(&mut line, "code", self.code);
        optional(&mut line, "reason", self.reason);
        optional(&mut line, "blame", self.blame);
        optional(&mut line, "would_reject", self.would_reject);
        optional(&mut line, "issuer", self.issuer);
        optional(&mut line, "subject", self.subject);
        optional(&mut line, "identity_omitted", self.identity_omitted);
        line.unescaped("client", self.client);
        line.literal("bytes_in", self.bytes_in);
        line.literal("bytes_out", self.bytes_out);
        line.millis("duration_ms", self.duration);
        optional(&mut line, "upstream", self.upstream);
        optional(&mut line, "server", self.server);
        if let Some(duration) = self.upstream_duration {
            line.millis("upstream_ms", duration);
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
