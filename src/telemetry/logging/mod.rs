//! The event log: writes `tracing` events to stderr.
//!
//! Each event is one line, in JSON or text. The thread that has the event formats the line and
//! queues it, and a thread of its own writes it: a stderr that is not read delays no request.
//! Values are escaped, including error messages, which may quote what a peer sent. Events of
//! libraries appear at `warn` and above only, whatever the configured level: their debug output may
//! contain data from connections, such as tokens.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{LazyLock, OnceLock};

use prometheus_client::metrics::counter::Counter;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::line::{Line, LineFormat, write_displayed, write_message};
use super::line_queue::{self, FailureReport, LineQueue, LineWriter};
use super::timestamp::Rfc3339;
use crate::primitives::clock::Clock;

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// An operator must act.
    Error,
    /// The gateway is degraded but serves.
    Warn,
    /// Lifecycle events of the process.
    #[default]
    Info,
    /// Reasons of decisions.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// The event log of the process. It lives as long as the process, as its subscriber does.
struct ProcessLog {
    settings: LogSettings,
    queue: LineQueue,
}

static PROCESS_LOG: OnceLock<ProcessLog> = OnceLock::new();

/// Counts events that were dropped. The event log belongs to the process, and so does this.
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Queues events for stderr from now on. A later call changes the format and the level.
///
/// The first call returns the writer, which the caller runs on a thread of its own; until then
/// events wait in the queue. Text is coloured if stderr is a terminal and `NO_COLOR` is not set. A
/// subscriber that the process installed before stays in place.
#[must_use]
pub(crate) fn init(format: LineFormat, level: Level) -> Option<LineWriter> {
    let mut first_writer = None;
    let log = PROCESS_LOG.get_or_init(|| {
        let sink = Box::new(std::io::stderr());
        let (queue, writer) = line_queue::channel(sink, DROPPED.clone(), FailureReport::Counted);
        first_writer = Some(writer);
        ProcessLog { settings: LogSettings::default(), queue }
    });
    log.settings.set(format, level);
    if first_writer.is_some() {
        let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let write = |line: &[u8]| log.queue.push(line);
        let layer = EventLog { settings: &log.settings, coloured, clock: Clock::system(), write };
        // An error means that the process has another subscriber.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    }
    tracing::callsite::rebuild_interest_cache();
    first_writer
}

/// Waits until the queued events are written, for at most five seconds. Called at the end of the
/// process, where there is no remedy for lost lines.
pub(crate) fn flush() {
    if let Some(log) = PROCESS_LOG.get() {
        log.queue.flush();
    }
}

/// The counter of dropped events.
pub(super) fn dropped() -> Counter {
    DROPPED.clone()
}

/// The settings that a reload may change.
#[derive(Debug, Default)]
struct LogSettings {
    text: AtomicBool,
    level: AtomicU8,
}

impl LogSettings {
    fn set(&self, format: LineFormat, level: Level) {
        self.text.store(format == LineFormat::Text, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
    }

    fn format(&self) -> LineFormat {
        if self.text.load(Ordering::Relaxed) { LineFormat::Text } else { LineFormat::Json }
    }

    fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed))]
    }
}

/// The layer that writes events as lines.
struct EventLog<W> {
    settings: &'static LogSettings,
    coloured: bool,
    clock: Clock,
    write: W,
}

impl<S: Subscriber, W: Fn(&[u8]) + Send + Sync + 'static> Layer<S> for EventLog<W> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = self.settings.level();
        let level = if is_ours(metadata.target()) { level } else { level.min(Level::Warn) };
        // Spans are not written; events carry all the facts.
        metadata.is_event() && *metadata.level() <= level.filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.settings.level().filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = MessageVisitor::default();
        event.record(&mut message);
        let mut buffer = Vec::with_capacity(LINE_CAPACITY);
        let mut fields = FieldVisitor(self.begin(&mut buffer, event.metadata(), &message.0));
        event.record(&mut fields);
        fields.0.end();
        (self.write)(&buffer);
    }
}

/// Initial capacity of a line's buffer; typical lines fit.
const LINE_CAPACITY: usize = 256;

impl<W> EventLog<W> {
    /// Writes time, level, target and message, after which the caller writes the fields.
    fn begin<'b>(&self, buffer: &'b mut Vec<u8>, metadata: &Metadata<'_>, message: &str) -> Line<'b> {
        let (time, level) = (Rfc3339(self.clock.now()), level_name(*metadata.level()));
        match self.settings.format() {
            LineFormat::Json => {
                let mut line = Line::begin(buffer, LineFormat::Json);
                line.unescaped("time", time);
                line.text("level", level);
                line.text("target", metadata.target());
                line.text("message", message);
                line
            }
            LineFormat::Text => {
                if self.coloured {
                    let colour = colour(*metadata.level());
                    write_displayed(buffer, &format_args!("{time} \x1b[{colour}m{level:>5}\x1b[0m "));
                } else {
                    write_displayed(buffer, &format_args!("{time} {level:>5} "));
                }
                write_displayed(buffer, &format_args!("{}: ", metadata.target()));
                write_message(buffer, message);
                Line::continue_from(buffer, LineFormat::Text)
            }
        }
    }
}

/// Whether `target` is a module of this crate.
fn is_ours(target: &str) -> bool {
    const NAME: &str = env!("CARGO_PKG_NAME");
    target.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn level_name(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

/// The parameter of the terminal's colour sequence (SGR, ECMA-48 §8.3.117).
fn colour(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 31,
        tracing::Level::WARN => 33,
        tracing::Level::INFO => 32,
        tracing::Level::DEBUG => 34,
        tracing::Level::TRACE => 35,
    }
}

/// Formats a value whose `Display` or `Debug` may return an error, on which `to_string` and
/// `format!` panic.
fn format_lossy(value: fmt::Arguments<'_>) -> String {
    let mut text = String::new();
    // The text written before the error is still useful.
    let _ = text.write_fmt(value);
    text
}

/// The field in which `tracing` stores an event's message.
const MESSAGE: &str = "message";

/// Reads the message of an event.
#[derive(Default)]
struct MessageVisitor(String);

impl Visit for MessageVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            self.0 = format_lossy(format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            value.clone_into(&mut self.0);
        }
    }
}

/// Writes all fields except the message.
struct FieldVisitor<'b>(Line<'b>);

impl Visit for FieldVisitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.0.literal(field.name(), value);
        } else {
            // JSON has no number for infinities and NaN (RFC 8259 §6).
            self.0.text(field.name(), &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.literal(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.literal(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.literal(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE {
            self.0.text(field.name(), value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = format_lossy(format_args!("{value}"));
        let mut cause = value.source();
        while let Some(error) = cause {
            chain.push_str(&format_lossy(format_args!(": {error}")));
            cause = error.source();
        }
        self.0.text(field.name(), &chain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != MESSAGE {
            self.0.text(field.name(), &format_lossy(format_args!("{value:?}")));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
