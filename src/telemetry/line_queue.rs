//! The queue of a log, and the writer that empties it on a dedicated thread: what the access log
//! and the event log share.
//!
//! A thread that logs never waits for the reader of the log: what does not fit is dropped and
//! counted. The writer collects queued lines and writes them in large batches. It wakes for the
//! first line, waits a few milliseconds for more, and flushes when the queue is empty. Waking the
//! thread for every line would cost the workers more than formatting the lines.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Maximum number of queued lines: a fraction of a second at full load.
const MAX_QUEUED_LINES: usize = 8_192;
/// Maximum number of queued bytes. Lines are a few hundred bytes long, so the other limit comes
/// first unless a client sends long paths on purpose.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Size at which a batch is written.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the writer waits for more lines after the first one. At full load a few hundred lines
/// arrive in that time, far fewer than the queue holds.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// How long [`LineQueue::flush`] waits. A blocked sink must not keep the process from ending.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The sending end of the queue.
#[derive(Debug)]
pub(super) struct LineQueue {
    sender: SyncSender<Entry>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Counter,
}

enum Entry {
    Line(Box<[u8]>),
    /// Asks for a reply once all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Whether the writer logs that its sink fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum FailureReport {
    /// There is an event when the sink of this log begins to fail, and when it works again.
    Logged(&'static str),
    /// Failures are only counted: the sink is that of the events.
    Counted,
}

/// An empty queue and its writer. `dropped` counts lines that are lost.
pub(super) fn channel(
    sink: Box<dyn Write + Send>,
    dropped: Counter,
    failure_report: FailureReport,
) -> (LineQueue, LineWriter) {
    let (sender, receiver) = sync_channel(MAX_QUEUED_LINES);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let writer = LineWriter {
        sink,
        failure_report,
        receiver,
        queued_bytes: Arc::clone(&queued_bytes),
        dropped: dropped.clone(),
        batch: Vec::with_capacity(BATCH_BYTES),
        batch_lines: 0,
        is_failing: false,
    };
    (LineQueue { sender, queued_bytes, dropped }, writer)
}

impl LineQueue {
    /// Queues a copy of `line`, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        let queued = self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if queued.saturating_add(line.len()) > MAX_QUEUED_BYTES
            || self.sender.try_send(Entry::Line(line.into())).is_err()
        {
            self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Waits until all queued lines are written; returns `false` if that takes too long.
    pub(super) fn flush(&self) -> bool {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let (reply, replied) = sync_channel(1);
        let mut entry = Entry::Flush(reply);
        // The channel has no send with a timeout, so this polls until the queue has room.
        loop {
            match self.sender.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => return false,
                Err(TrySendError::Full(returned)) => {
                    entry = returned;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match replied.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => false,
        }
    }
}

/// The receiving end of a log. Owns the sink.
pub struct LineWriter {
    sink: Box<dyn Write + Send>,
    failure_report: FailureReport,
    receiver: Receiver<Entry>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Counter,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Whether the last write failed, so that a failure is logged once and not for every batch.
    is_failing: bool,
}

impl LineWriter {
    /// Writes lines until the queue is dropped. Blocks the thread.
    pub fn run(mut self) {
        // Ends when the last sender is dropped, after all queued lines were received.
        while let Ok(entry) = self.receiver.recv() {
            let is_line = matches!(entry, Entry::Line(_));
            self.handle(entry);
            if is_line {
                thread::sleep(BATCH_DELAY);
            }
            let reason = loop {
                match self.receiver.try_recv() {
                    Ok(entry) => self.handle(entry),
                    Err(reason) => break reason,
                }
            };
            self.write_batch();
            self.access_sink(|sink| sink.flush(), 0);
            match reason {
                TryRecvError::Empty => {}
                TryRecvError::Disconnected => return,
            }
        }
    }

    fn handle(&mut self, entry: Entry) {
        match entry {
            Entry::Line(line) => {
                self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.batch.extend_from_slice(&line);
                self.batch_lines += 1;
                if self.batch.len() >= BATCH_BYTES {
                    self.write_batch();
                }
            }
            Entry::Flush(reply) => {
                self.write_batch();
                self.access_sink(|sink| sink.flush(), 0);
                // An error means that the caller has stopped waiting.
                let _ = reply.send(());
            }
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let lines = std::mem::take(&mut self.batch_lines);
        self.access_sink(|sink| sink.write_all(&batch), lines);
        self.batch = batch;
        self.batch.clear();
    }

    /// Writes to or flushes the sink. If that fails, counts `lines` lines as dropped.
    fn access_sink(&mut self, operation: impl FnOnce(&mut dyn Write) -> io::Result<()>, lines: u64) {
        let result = operation(&mut *self.sink);
        if result.is_err() {
            self.dropped.inc_by(lines);
        }
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        let FailureReport::Logged(log) = self.failure_report else { return };
        match result {
            Ok(()) if was_failing => tracing::info!("the {log} is writable again"),
            Err(error) if !was_failing => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot write the {log}; lines are dropped");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWriter").finish_non_exhaustive()
    }
}
