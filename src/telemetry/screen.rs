//! Where log lines are written, shared with progress bars so that neither tears the other.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

/// Cheap to clone. One line is written with one call, under a lock.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    writer: Box<dyn Write + Send>,
    bars: Option<MultiProgress>,
}

impl Screen {
    pub fn stderr() -> Self {
        Self::writing_to(std::io::stderr())
    }

    pub fn writing_to(writer: impl Write + Send + 'static) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { writer: Box::new(writer), bars: None })) }
    }

    /// A screen whose bytes can be read back.
    pub fn memory() -> (Self, Arc<Mutex<Vec<u8>>>) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        (Self::writing_to(Memory(bytes.clone())), bytes)
    }

    /// From here on these bars are lifted for each line.
    pub fn show_bars(&self, bars: MultiProgress) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bars = Some(bars);
    }

    pub fn hide_bars(&self) {
        let bars = self.inner.lock().unwrap_or_else(PoisonError::into_inner).bars.take();
        if let Some(bars) = bars {
            // The terminal is gone: then so are the bars.
            let _ = bars.clear();
        }
    }

    /// Writes one line, its end included. A log that cannot be written stops nothing.
    pub fn write(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { writer, bars } = &mut *inner;
        let mut write = || {
            let _ = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
        };
        match bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Screen")
    }
}

struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
