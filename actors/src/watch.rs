//! Death watch: whoever starts an actor learns that it is gone, and why.
//!
//! An actor on actix dies silently when it panics: its task is dropped and its address closes. So each supervised
//! actor carries an [`ExitGuard`], and the guard's `Drop` tells. It runs on every way out: a normal stop, a panic, a
//! stopped arbiter. What a panic said and where is remembered by a panic hook, since `Drop` cannot see it.
//!
//! `Drop` runs while unwinding, where a second panic would abort the process: it only moves values and sends.

use std::cell::{Cell, RefCell};
use std::sync::Once;

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub panicked: bool,
    /// `panic: … at file:line`, what the actor itself gave as its reason, or `stopped`.
    pub reason: String,
}

/// Tells its watcher when it is dropped, once.
pub struct ExitGuard {
    tell: Option<Box<dyn FnOnce(Exit) + Send>>,
    reason: Option<String>,
}

impl ExitGuard {
    /// `tell` runs in `Drop`, perhaps while unwinding: it may send a message and nothing else.
    pub fn new(tell: impl FnOnce(Exit) + Send + 'static) -> Self {
        remember_panics();
        Self { tell: Some(Box::new(tell)), reason: None }
    }

    /// Says beforehand why the actor is going to stop.
    pub fn because(&mut self, reason: impl Into<String>) {
        self.reason = Some(reason.into());
    }
}

impl std::fmt::Debug for ExitGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExitGuard").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let reason = match (panicked, self.reason.take()) {
            (true, _) => last_panic(),
            (false, Some(reason)) => reason,
            (false, None) => "stopped".to_owned(),
        };
        if let Some(tell) = self.tell.take() {
            tell(Exit { panicked, reason });
        }
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static SUPERVISED: Cell<bool> = const { Cell::new(false) };
}

/// What the panic that unwinds this thread said, and where.
pub(crate) fn last_panic() -> String {
    LAST_PANIC.try_with(|last| last.borrow().clone()).ok().flatten().unwrap_or_else(|| "panic".to_owned())
}

/// Runs supervised work: its panics are reported by its supervisor, in one line, instead of printed by the default
/// hook. Everything else on the same thread panics as loudly as ever.
pub(crate) async fn supervised<F: Future>(work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let _supervised = Supervised(SUPERVISED.replace(true));
        work.as_mut().poll(context)
    })
    .await
}

/// Sets the mark back to what it was, also while unwinding.
struct Supervised(bool);

impl Drop for Supervised {
    fn drop(&mut self) {
        // During thread shutdown it may be gone, and nobody asks any more.
        let _ = SUPERVISED.try_with(|mark| mark.set(self.0));
    }
}

/// Installs the hook that [`last_panic`] reads, once per process, in front of the one that was there.
pub(crate) fn remember_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // One line, also of an assertion that says its two sides below each other.
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let said = text.unwrap_or("(no message)");
            let said = said.lines().map(str::trim).collect::<Vec<_>>().join("; ");
            let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
            let text = format!("panic: {said}{place}");
            // During thread shutdown the value may be gone; then nobody is left to ask for it.
            let _ = LAST_PANIC.try_with(|last| *last.borrow_mut() = Some(text));
            if !SUPERVISED.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn exit_of(body: impl FnOnce(ExitGuard) + Send + 'static) -> Exit {
        let (sender, receiver) = mpsc::channel();
        let guard = ExitGuard::new(move |exit| {
            let _ = sender.send(exit);
        });
        let _ = std::thread::spawn(move || {
            let work = supervised(async move { body(guard) });
            futures::FutureExt::now_or_never(work).expect("it awaits nothing");
        })
        .join();
        receiver.recv().expect("the guard tells on every way out")
    }

    #[test]
    fn a_stop_and_a_panic_are_told_apart() {
        assert_eq!(exit_of(drop), Exit { panicked: false, reason: "stopped".into() });
        let reasoned = exit_of(|mut guard| guard.because("intensity used up"));
        assert_eq!(reasoned, Exit { panicked: false, reason: "intensity used up".into() });

        let panicked = exit_of(|_guard| panic!("page {} is odd", 7));
        assert!(panicked.panicked);
        assert!(panicked.reason.starts_with("panic: page 7 is odd at "), "{}", panicked.reason);
        assert!(panicked.reason.contains("watch.rs:"), "{}", panicked.reason);
    }
}
