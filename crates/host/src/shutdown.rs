//! How a process ends: asked once it finishes what is under way, asked twice it ends at once.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the end of a task means to its process, and the end of the process to the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process is worth nothing without it: if it ends early, the process stops. It ends its work when it is
    /// wished, and is waited for.
    Essential,
    /// The process goes on without it. It ends its work when it is wished, and is waited for.
    Helpful,
    /// The process goes on without it, and it may be cut off anywhere: it is dropped as soon as the end is wished.
    Disposable,
}

/// The tasks of a process, and the wish that they end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    wished: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<OnceLock<&'static str>>,
}

impl Shutdown {
    /// Of this process: SIGTERM and SIGINT are the wish, and a second one ends it at once with status 130.
    ///
    /// # Errors
    /// The operating system does not let signals be heard.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let wished = shutdown.wished.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                if wished.is_cancelled() {
                    tracing::warn!(signal = name, "asked twice to stop: ending at once");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "stopping");
                wished.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Wishes that everything ends.
    pub fn begin(&self) {
        self.wished.cancel();
    }

    /// True once it was wished.
    pub fn is_wished(&self) -> bool {
        self.wished.is_cancelled()
    }

    /// Comes back once it is wished.
    pub async fn wished(&self) {
        self.wished.cancelled().await;
    }

    /// Runs a task under a name.
    pub fn spawn(&self, kind: Kind, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let own = self.clone();
        self.tasks.spawn(async move {
            let mut task = tokio::spawn(task);
            let ended = tokio::select! {
                biased;
                () = own.wished(), if kind == Kind::Disposable => return task.abort(),
                ended = &mut task => ended,
            };
            if let Err(error) = &ended {
                tracing::error!(task = name, %error, "a task came to an unforeseen end");
            }
            if kind == Kind::Essential && (ended.is_err() || !own.is_wished()) {
                tracing::error!(task = name, "a task ended without which the process cannot go on");
                let _later = own.failed.set(name);
                own.begin();
            }
        });
    }

    /// The essential task whose early end was the first to stop the process: it shall end with an error then.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    /// Waits until all tasks have ended, at most so long. False: some have not.
    pub async fn finished(&self, at_most: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(at_most, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_end_when_they_are_asked_to() {
        let shutdown = Shutdown::default();
        let own = shutdown.clone();
        shutdown.spawn(Kind::Essential, "essential", async move { own.wished().await });
        shutdown.spawn(Kind::Helpful, "helpful", async {});
        assert!(!shutdown.is_wished());
        shutdown.begin();
        assert!(shutdown.finished(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_process_stops_with_what_it_cannot_do_without() {
        for (kind, panics, stops) in [
            (Kind::Essential, false, true),
            (Kind::Essential, true, true),
            (Kind::Helpful, false, false),
            (Kind::Helpful, true, false),
            (Kind::Disposable, false, false),
            (Kind::Disposable, true, false),
        ] {
            let shutdown = Shutdown::default();
            shutdown.spawn(kind, "task", async move { assert!(!panics, "on purpose") });
            assert!(shutdown.finished(Duration::from_secs(1)).await);
            assert_eq!(shutdown.is_wished(), stops, "{kind:?} {panics}");
            assert_eq!(shutdown.failed(), stops.then_some("task"), "{kind:?} {panics}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_disposable_is_cut_off() {
        for (kind, ends) in [(Kind::Essential, false), (Kind::Helpful, false), (Kind::Disposable, true)] {
            let shutdown = Shutdown::default();
            shutdown.spawn(kind, "endless", std::future::pending());
            shutdown.begin();
            assert_eq!(shutdown.finished(Duration::from_secs(1)).await, ends, "{kind:?}");
            assert_eq!(shutdown.failed(), None);
        }
    }
}
