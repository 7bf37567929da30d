//! The access log's queue and the thread behind it.
//!
//! The thread collects what is queued and writes it in large pieces. It wakes for the first line, waits a moment for the others that
//! come with it, and flushes when nothing is left: woken for each line it would cost the workers more than all they write.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Lines that may wait: a fraction of a second at full load.
const MAX_QUEUED_LINES: usize = 8_192;
/// Bytes that may wait. Lines are a few hundred bytes; only somebody who sends long paths on purpose meets this first.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Bytes collected before they are written.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the first line waits for company. At full load that is some hundred lines, far from what may be queued.
const GATHERING: Duration = Duration::from_millis(5);
/// How long [`Queue::flush`] waits: a sink that stands still must not keep the process from ending.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The sending end.
#[derive(Debug)]
pub(super) struct Queue {
    sender: SyncSender<Entry>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Counter,
}

enum Entry {
    Line(Box<[u8]>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Queue {
    pub(super) fn start(sink: Box<dyn Write + Send>, dropped: Counter) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(MAX_QUEUED_LINES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            sink,
            receiver,
            queued_bytes: Arc::clone(&queued_bytes),
            dropped: dropped.clone(),
            batch: Vec::with_capacity(BATCH_BYTES),
            batch_lines: 0,
            failing: false,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { sender, queued_bytes, dropped })
    }

    /// Queues a copy of `line`, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        let waiting = self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if waiting.saturating_add(line.len()) > MAX_QUEUED_BYTES
            || self.sender.try_send(Entry::Line(line.into())).is_err()
        {
            self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Waits until what is queued now is written; `false` if that takes too long.
    pub(super) fn flush(&self) -> bool {
        let deadline = Instant::now() + FLUSH_LIMIT;
        let (answer, answered) = sync_channel(1);
        let mut entry = Entry::Flush(answer);
        // The channel cannot wait for room for a limited time, so this asks again until there is some.
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
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => false,
        }
    }
}

/// The receiving end, on its thread.
struct Writer {
    sink: Box<dyn Write + Send>,
    receiver: Receiver<Entry>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Counter,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Whether the last write failed: said once, not with every line.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        // Ends when the last sender is gone; what was queued before is still received.
        while let Ok(entry) = self.receiver.recv() {
            let is_line = matches!(entry, Entry::Line(_));
            self.take(entry);
            if is_line {
                thread::sleep(GATHERING);
            }
            let last = loop {
                match self.receiver.try_recv() {
                    Ok(entry) => self.take(entry),
                    Err(last) => break last,
                }
            };
            self.write_batch();
            self.settle(|sink| sink.flush(), 0);
            match last {
                TryRecvError::Empty => {}
                TryRecvError::Disconnected => return,
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Line(line) => {
                self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.batch.extend_from_slice(&line);
                self.batch_lines += 1;
                if self.batch.len() >= BATCH_BYTES {
                    self.write_batch();
                }
            }
            Entry::Flush(answer) => {
                self.write_batch();
                self.settle(|sink| sink.flush(), 0);
                // Nobody waits any more if this fails.
                let _ = answer.send(());
            }
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let lines = std::mem::take(&mut self.batch_lines);
        self.settle(|sink| sink.write_all(&batch), lines);
        self.batch = batch;
        self.batch.clear();
    }

    /// Does something with the sink on behalf of `lines` lines, which are lost if it fails.
    fn settle(&mut self, attempt: impl FnOnce(&mut dyn Write) -> io::Result<()>, lines: u64) {
        match attempt(&mut *self.sink) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the access log is written again");
                }
            }
            Err(error) => {
                self.dropped.inc_by(lines);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = &error as &dyn std::error::Error, "the access log cannot be written");
                }
            }
        }
    }
}
