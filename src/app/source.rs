//! The source of the configuration: a file, or a text that the program supplies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::StartError;
use crate::config;
use crate::plan::Plan;
use crate::primitives::clock::Clock;

/// Looks up the value of an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file, which is read again on reload.
    File(PathBuf),
    /// A text, which never changes.
    Text {
        /// Its name in error messages.
        name: String,
        /// The text, in TOML.
        text: String,
    },
}

/// What one look at the source has found. Exactly this text is compiled, so that what is loaded is
/// what was compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// The whole text.
    Text(Arc<str>),
    /// Why it cannot be read.
    Unreadable(Arc<str>),
}

/// How often the gateway looks at a file that keeps changing before it gives up.
pub(super) const MAX_LOOKS: u32 = 10;

impl ConfigSource {
    /// Reads the source. Blocks for as long as the file system does.
    pub(super) fn look(&self) -> Look {
        match self {
            Self::File(path) => match config::read(path) {
                Ok(text) => Look::Text(text.into()),
                Err(error) => Look::Unreadable(error.to_string().into()),
            },
            Self::Text { text, .. } => Look::Text(text.as_str().into()),
        }
    }

    /// Whether later looks can find something else. A pipe, such as a shell's `<(…)`, can be read
    /// once only.
    pub(super) fn can_change(&self) -> bool {
        match self {
            Self::File(path) => !path.exists() || path.is_file(),
            Self::Text { .. } => false,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
        }
    }

    /// Whether the file was written so recently that it may not be complete.
    fn is_fresh(&self, clock: &Clock, settle_time: Duration) -> bool {
        let Self::File(path) = self else { return false };
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let Some(modified) = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) else { return false };
        Duration::from_micros(clock.now().micros()).abs_diff(modified) < settle_time
    }
}

/// The text to start with. A file that has just been written is read until it has stayed the same
/// for `settle_time`; `sleep` waits in between.
///
/// # Errors
///
/// [`StartError::Unsettled`].
pub(super) fn first_look(
    source: &ConfigSource,
    clock: &Clock,
    settle_time: Duration,
    mut sleep: impl FnMut(Duration),
) -> Result<Look, StartError> {
    let mut look = source.look();
    if !source.can_change() || !source.is_fresh(clock, settle_time) {
        return Ok(look);
    }
    for _ in 0..MAX_LOOKS {
        sleep(settle_time);
        let next = source.look();
        if next == look {
            return Ok(look);
        }
        look = next;
    }
    Err(StartError::Unsettled)
}

/// Compiles what a look at the source has found.
///
/// # Errors
///
/// [`StartError::Problems`].
pub(super) fn compile(source: &ConfigSource, look: &Look, environment: &Environment) -> Result<Plan, StartError> {
    let loaded = match look {
        Look::Text(text) => config::load_text(&source.name(), text, &**environment),
        Look::Unreadable(why) => config::unreadable(&source.name(), &why),
    };
    Plan::compile(loaded).map_err(StartError::Problems)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::primitives::test_directory::TestDirectory;

    const SETTLE_TIME: Duration = Duration::from_secs(1);

    /// A configuration file.
    struct TestFile {
        path: PathBuf,
        _directory: TestDirectory,
    }

    impl TestFile {
        fn new(name: &str, text: &str) -> Self {
            let directory = TestDirectory::new();
            Self { path: directory.write(name, text), _directory: directory }
        }

        fn write(&self, text: &str) {
            std::fs::write(&self.path, text).unwrap();
        }

        /// A clock that shows a whole second, `seconds` after the file was written.
        fn clock_after(&self, seconds: i64) -> Clock {
            let modified = std::fs::metadata(&self.path).unwrap().modified().unwrap();
            let written = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
            ManualClock::at(written.checked_add_signed(seconds).unwrap()).clock()
        }
    }

    #[test]
    fn only_a_file_that_was_just_written_is_looked_at_again() {
        let file = TestFile::new("age", "text");
        let source = ConfigSource::File(file.path.clone());
        let text = ConfigSource::Text { name: "text".to_owned(), text: "text".to_owned() };
        for (name, source, seconds, sleeps) in [
            ("just written", &source, 0, 1),
            ("a while ago", &source, 10, 0),
            ("in the future, as other clocks say", &source, -10, 0),
            ("no file", &text, 0, 0),
        ] {
            let count = Cell::new(0);
            let look =
                first_look(source, &file.clock_after(seconds), SETTLE_TIME, |_| count.set(count.get() + 1)).unwrap();
            assert_eq!((look, count.get()), (Look::Text("text".into()), sleeps), "{name}");
        }
    }

    #[test]
    fn the_start_waits_until_the_file_is_complete() {
        let file = TestFile::new("growing", "[server]");
        let (source, clock) = (ConfigSource::File(file.path.clone()), file.clock_after(0));
        let mut rest = vec!["whole", "whole", "half"];
        let look = first_look(&source, &clock, SETTLE_TIME, |_| file.write(rest.pop().unwrap())).unwrap();
        assert_eq!(look, Look::Text("whole".into()));
        assert!(rest.is_empty(), "it looked until two looks found the same: {rest:?}");
        let mut number = 0;
        let outcome = first_look(&source, &clock, SETTLE_TIME, |_| {
            number += 1;
            file.write(&number.to_string());
        });
        assert!(matches!(outcome, Err(StartError::Unsettled)), "{outcome:?}");
    }
}
