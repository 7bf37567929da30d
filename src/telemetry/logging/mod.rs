//! The event log: what `tracing` events become, on stderr.
//!
//! One event is one line, written with one call, in JSON or in text; values are escaped, also the messages of errors, which
//! may quote what a peer sent. Events of libraries are shown from `warn` on only, whatever the level: their debug output may
//! hold what went over a connection, tokens included.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::line::{Line, LineFormat, write_displayed, write_sentence};
use super::timestamp::Rfc3339;
use crate::primitives::clock::Clock;

/// Which events are written: those of this level and of the graver ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// A person must act.
    Error,
    /// Degraded, but serving.
    Warn,
    /// The life of the process.
    #[default]
    Info,
    /// Why something was decided.
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

/// Writes events to stderr from now on; called again, changes the format and the level.
///
/// Text is coloured if stderr is a terminal and `NO_COLOR` is not set. If the process has a subscriber that was not installed
/// here, that one stays.
pub fn init(format: LineFormat, level: Level) {
    static SETTINGS: OnceLock<&'static Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        // Lives as long as the process, as the subscriber does.
        let settings: &'static Settings = Box::leak(Box::default());
        settings.set(format, level);
        let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let layer = EventLog { settings, coloured, clock: Clock::system(), write: to_stderr };
        // An error says that another subscriber is there.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        settings
    });
    settings.set(format, level);
    tracing::callsite::rebuild_interest_cache();
}

fn to_stderr(line: &[u8]) {
    // Nobody is left to tell if stderr is gone; serving goes on.
    let _ = std::io::stderr().lock().write_all(line);
}

/// What a reload may change.
#[derive(Debug, Default)]
struct Settings {
    text: AtomicBool,
    level: AtomicU8,
}

impl Settings {
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

/// Turns events into lines.
struct EventLog<W> {
    settings: &'static Settings,
    coloured: bool,
    clock: Clock,
    write: W,
}

impl<S: Subscriber, W: Fn(&[u8]) + Send + Sync + 'static> Layer<S> for EventLog<W> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = self.settings.level();
        let level = if is_ours(metadata.target()) { level } else { level.min(Level::Warn) };
        // A span shows nothing by itself here: the facts are in the events.
        metadata.is_event() && *metadata.level() <= level.filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.settings.level().filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let mut buffer = Vec::with_capacity(USUAL_LINE_BYTES);
        let mut fields = Fields(self.begin(&mut buffer, event.metadata(), &message.0));
        event.record(&mut fields);
        fields.0.end();
        (self.write)(&buffer);
    }
}

/// Room for an ordinary line.
const USUAL_LINE_BYTES: usize = 256;

impl<W> EventLog<W> {
    /// Writes what every event has; the fields follow.
    fn begin<'b>(&self, buffer: &'b mut Vec<u8>, metadata: &Metadata<'_>, message: &str) -> Line<'b> {
        let (time, level) = (Rfc3339(self.clock.now()), level_name(*metadata.level()));
        match self.settings.format() {
            LineFormat::Json => {
                let mut line = Line::begin(buffer, LineFormat::Json);
                line.harmless("time", time);
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
                write_sentence(buffer, message);
                Line::go_on(buffer, LineFormat::Text)
            }
        }
    }
}

/// Whether events of this target are written by this program.
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

/// The parameter of the terminal's colour command (ECMA-48 §8.3.117).
fn colour(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 31,
        tracing::Level::WARN => 33,
        tracing::Level::INFO => 32,
        tracing::Level::DEBUG => 34,
        tracing::Level::TRACE => 35,
    }
}

/// The text of a value that may fail to show itself, which `to_string` and `format!` answer with a panic.
fn shown(value: fmt::Arguments<'_>) -> String {
    let mut text = String::new();
    // What was written up to the failure is worth having.
    let _ = text.write_fmt(value);
    text
}

/// The field that `tracing` keeps an event's sentence in.
const MESSAGE: &str = "message";

/// Takes the sentence out of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            self.0 = shown(format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            value.clone_into(&mut self.0);
        }
    }
}

/// Writes all that is not the sentence.
struct Fields<'b>(Line<'b>);

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.0.plain(field.name(), value);
        } else {
            // JSON has no number for these (RFC 8259 §6).
            self.0.text(field.name(), &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.plain(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.plain(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE {
            self.0.text(field.name(), value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = shown(format_args!("{value}"));
        let mut cause = value.source();
        while let Some(error) = cause {
            chain.push_str(&shown(format_args!(": {error}")));
            cause = error.source();
        }
        self.0.text(field.name(), &chain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != MESSAGE {
            self.0.text(field.name(), &shown(format_args!("{value:?}")));
        }
    }
}

#[cfg(test)]
mod tests;
