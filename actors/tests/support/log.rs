//! The log of one test, read back.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// Everything this thread logs from WARN up, in the text form of an operator's terminal.
pub struct Log {
    text: Text,
    _guard: DefaultGuard,
    _second: Dispatch,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn start() -> Self {
        // With a single subscriber in the program, tracing asks the thread that comes to a line of code first whether
        // anybody wants it, and tests on other threads would answer no for good. A second one makes it ask all.
        let second = Dispatch::new(NoSubscriber::new());
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber), _second: second }
    }

    pub fn lines(&self) -> Vec<String> {
        String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}
