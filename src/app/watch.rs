//! Notices changes of the configuration file, and waits until a change is complete.
//!
//! A file that is rewritten in place is incomplete for a moment, and the beginning of a
//! configuration is often a valid one: with fewer routes, so that a path falls to a weaker route. A
//! text therefore counts only once two looks in a row have found the same one. Regular looks are a
//! poll interval apart; after a request to reload, looks are a settle time apart.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::source::{ConfigSource, Look, MAX_LOOKS};

/// How long one look may take. A network file system may never answer.
const MAX_LOOK_TIME: Duration = Duration::from_secs(10);

/// When the gateway looks at the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookTimes {
    /// Between regular looks.
    pub(super) poll_interval: Duration,
    /// Between looks after a request to reload.
    pub(super) settle_time: Duration,
}

/// What to do after a look.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Finding {
    /// Load this text, or report why it cannot be read.
    Load(Look),
    /// The file keeps changing, and a reload was requested.
    Unsettled,
}

/// Looks at the configuration file.
#[derive(Debug)]
pub(super) struct Watch<R = ConfigSource> {
    source: R,
    /// Whether later looks can find another text. Asked once: the file system may not answer later.
    can_change: bool,
    times: LookTimes,
    /// What was loaded last, successfully or not, so that a rejected file is reported once.
    loaded: Look,
    /// What the last look has found, and when a look first found it.
    seen: Option<(Look, Instant)>,
    /// How many looks there may still be for a request to reload; `None` without a request.
    looks_left: Option<u32>,
    /// When the next look is due; `None` if there is nothing to look for.
    due: Option<Instant>,
    reading: Option<JoinHandle<Look>>,
}

/// Where a [`Watch`] looks.
pub(super) trait Readable: Clone + Send + 'static {
    /// Reads the text; may block.
    fn read(&self) -> Look;
    /// Whether later looks can find another text.
    fn can_change(&self) -> bool;
}

impl Readable for ConfigSource {
    fn read(&self) -> Look {
        self.look()
    }

    fn can_change(&self) -> bool {
        Self::can_change(self)
    }
}

impl<R: Readable> Watch<R> {
    /// A watch of `source`, from which `loaded` has been loaded.
    pub(super) fn new(source: R, times: LookTimes, loaded: Look) -> Self {
        let can_change = source.can_change();
        let due = can_change.then(|| Instant::now() + times.poll_interval);
        Self { source, can_change, times, loaded, seen: None, looks_left: None, due, reading: None }
    }

    /// The source.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    /// Asks for the next complete text, whether it has changed or not. [`next`](Self::next) returns
    /// it.
    pub(super) fn request(&mut self) {
        self.looks_left = Some(MAX_LOOKS);
        self.due = Some(Instant::now());
    }

    /// Waits until there is something to do. May be cancelled at any time; the next call continues.
    pub(super) async fn next(&mut self) -> Finding {
        loop {
            let look = self.look().await;
            if let Some(finding) = self.judge(look, Instant::now()) {
                return finding;
            }
        }
    }

    /// Waits until a look is due, and looks. The file is read on another thread: a file system that
    /// does not answer must not delay a signal. There is never more than one such thread.
    async fn look(&mut self) -> Look {
        if self.reading.is_none() {
            match self.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
            if !self.can_change {
                return self.loaded.clone();
            }
            let source = self.source.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || source.read()));
        }
        let reading = self.reading.as_mut().expect("set above if it was not");
        let Ok(result) = timeout(MAX_LOOK_TIME, reading).await else {
            return Look::Unreadable("the file system does not answer".into());
        };
        self.reading = None;
        result.unwrap_or_else(|error| Look::Unreadable(error.to_string().into()))
    }

    /// Decides what to do with what a look has found at `now`, and when to look again.
    fn judge(&mut self, look: Look, now: Instant) -> Option<Finding> {
        let since = match self.seen.take() {
            Some((seen, since)) if seen == look => Some(since),
            Some(_) | None => None,
        };
        self.seen = Some((look.clone(), since.unwrap_or(now)));
        let is_settled = since.is_some_and(|since| now.duration_since(since) >= self.times.settle_time);
        let finding = if is_settled && (self.looks_left.is_some() || look != self.loaded) {
            self.looks_left = None;
            self.loaded = look.clone();
            Some(Finding::Load(look))
        } else {
            self.looks_left = self.looks_left.map(|left| left.saturating_sub(1));
            self.looks_left.take_if(|left| *left == 0).map(|_| Finding::Unsettled)
        };
        self.due = match self.looks_left {
            Some(_) => Some(now + self.times.settle_time),
            None => self.can_change.then(|| now + self.times.poll_interval),
        };
        finding
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    /// What each look finds, the last one for ever; and how many looks there were.
    #[derive(Clone)]
    struct Script(Arc<Mutex<(VecDeque<&'static str>, u32)>>);

    impl Script {
        fn new(looks: &[&'static str]) -> Self {
            Self(Arc::new(Mutex::new((looks.iter().copied().collect(), 0))))
        }

        fn looks(&self) -> u32 {
            self.0.lock().unwrap().1
        }
    }

    impl Readable for Script {
        fn read(&self) -> Look {
            let mut script = self.0.lock().unwrap();
            script.1 += 1;
            let text = if script.0.len() > 1 { script.0.pop_front() } else { script.0.front().copied() };
            look(text.unwrap())
        }

        fn can_change(&self) -> bool {
            true
        }
    }

    fn look(text: &str) -> Look {
        match text.strip_prefix('!') {
            Some(why) => Look::Unreadable(why.into()),
            None => Look::Text(text.into()),
        }
    }

    const TIMES: LookTimes = LookTimes { poll_interval: Duration::from_secs(5), settle_time: Duration::from_secs(1) };

    fn watch(looks: &[&'static str]) -> (Watch<Script>, Script) {
        let script = Script::new(looks);
        (Watch::new(script.clone(), TIMES, look("old")), script)
    }

    /// The next finding, and how many seconds it took.
    async fn next(watch: &mut Watch<Script>) -> (Finding, u64) {
        let started = Instant::now();
        let finding = watch.next().await;
        (finding, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_is_loaded_once_two_looks_in_a_row_have_found_it() {
        for (name, looks, loaded, seconds) in [
            ("complete at once", &["new"][..], "new", 10),
            ("half of it first", &["half", "new"], "new", 15),
            ("growing", &["h", "ha", "half", "new"], "new", 25),
            ("away for a moment", &["!missing", "new"], "new", 15),
            ("away for longer", &["!missing"], "!missing", 10),
            ("changed back for a moment", &["new", "old", "new"], "new", 20),
            ("empty for a moment", &["", "new"], "new", 15),
        ] {
            let (mut watch, _) = watch(looks);
            assert_eq!(next(&mut watch).await, (Finding::Load(look(loaded)), seconds), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_is_loaded_once() {
        let (mut watch, script) = watch(&["new"]);
        watch.next().await;
        let again = timeout(Duration::from_secs(3600), watch.next()).await;
        assert!(again.is_err(), "{again:?}");
        assert!(script.looks() > 700, "it keeps looking: {}", script.looks());
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_reload_takes_two_looks_as_well() {
        for (name, looks, finding, seconds) in [
            ("unchanged", &["old"][..], Finding::Load(look("old")), 1),
            ("changed", &["new"], Finding::Load(look("new")), 1),
            ("half of it first", &["half", "new"], Finding::Load(look("new")), 2),
            ("unreadable", &["!missing"], Finding::Load(look("!missing")), 1),
            ("always another one", &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"], Finding::Unsettled, 9),
        ] {
            let (mut watch, _) = watch(looks);
            watch.request();
            assert_eq!(next(&mut watch).await, (finding, seconds), "{name}");
        }
    }

    /// A text, or a pipe, which can be read only once.
    #[tokio::test(start_paused = true)]
    async fn a_source_that_cannot_change_is_read_at_the_start_only() {
        #[derive(Clone)]
        struct Fixed;
        impl Readable for Fixed {
            fn read(&self) -> Look {
                unreachable!("it was read at the start")
            }

            fn can_change(&self) -> bool {
                false
            }
        }
        let mut watch = Watch::new(Fixed, TIMES, look("text"));
        assert!(timeout(Duration::from_secs(3600), watch.next()).await.is_err());
        for _ in 0..2 {
            watch.request();
            assert_eq!(watch.next().await, Finding::Load(look("text")), "a requested reload compiles it again");
        }
    }

    /// A regular look a moment before the request is not the first of two.
    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_count_a_look_a_moment_ago() {
        let (mut watch, script) = watch(&["half", "half", "new"]);
        let waited = timeout(Duration::from_millis(5_001), watch.next()).await;
        assert!(waited.is_err() && script.looks() == 1, "one look: {waited:?}");
        watch.request();
        assert_eq!(next(&mut watch).await, (Finding::Load(look("new")), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_does_not_answer_is_reported_and_occupies_one_thread() {
        /// Counts the looks; each waits until the sender is dropped.
        #[derive(Clone)]
        struct Hung(Arc<Mutex<u32>>, Arc<Mutex<mpsc::Receiver<()>>>);
        impl Readable for Hung {
            fn read(&self) -> Look {
                *self.0.lock().unwrap() += 1;
                let _ = self.1.lock().unwrap().recv();
                look("new")
            }

            fn can_change(&self) -> bool {
                true
            }
        }
        let (looks, (answer, answers)) = (Arc::<Mutex<u32>>::default(), mpsc::channel());
        let mut watch = Watch::new(Hung(Arc::clone(&looks), Arc::new(Mutex::new(answers))), TIMES, look("old"));
        // A look in progress keeps the clock from moving by itself.
        let seconds = async {
            for _ in 0..60 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        };
        let (finding, ()) = tokio::join!(watch.next(), seconds);
        assert_eq!(finding, Finding::Load(look("!the file system does not answer")));
        drop(answer);
        assert_eq!(watch.next().await, Finding::Load(look("new")));
        assert_eq!(*looks.lock().unwrap(), 2, "one that took a minute, one that has found the same");
    }
}
