//! Whether a socket that had nothing to read may have something by now. A session is woken for one of two sockets, and
//! isn't told for which; asking the runtime about the other, too, costs as much as a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// One socket's own way to wake a task. While the socket is quiet and has no news, the runtime holds this waker and
/// uses it when something comes.
#[derive(Debug)]
pub(super) struct Watch {
    news: Arc<News>,
    waker: Waker,
    /// The last read found nothing.
    quiet: bool,
}

#[derive(Debug)]
struct News {
    task: Waker,
    came: AtomicBool,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.came.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Watch {
    pub(super) fn new(task: &Waker) -> Self {
        let news = Arc::new(News { task: task.clone(), came: AtomicBool::new(false) });
        Self { waker: news.clone().into(), news, quiet: false }
    }

    /// Whether it wakes this task.
    #[inline]
    pub(super) fn wakes(&self, task: &Waker) -> bool {
        self.news.task.will_wake(task)
    }

    /// Whether the task is woken when there is something to read.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether it is certain that there is nothing to read.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.quiet && !self.news.came.load(Ordering::Acquire)
    }

    /// Reads, unless it is certain that there is nothing. Nobody else may wait for the same socket to be readable,
    /// or [`Self::forget`] is to be called then.
    #[inline]
    pub(super) fn poll<T>(&mut self, read: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if self.is_silent() {
            return Poll::Pending;
        }
        // Before the read: what comes later is to be found the next time.
        self.news.came.store(false, Ordering::Relaxed);
        let read = read(&mut Context::from_waker(&self.waker));
        self.quiet = read.is_pending();
        read
    }

    /// The next read is tried in any case.
    pub(super) fn forget(&mut self) {
        self.quiet = false;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_quiet_socket_is_not_read_before_it_has_woken_its_task() {
        let mut watch = Watch::new(Waker::noop());
        let (reads, kept) = (Cell::new(0), Cell::new(None));
        let read = |watch: &mut Watch, found: Poll<u8>| {
            watch.poll(|cx| {
                reads.set(reads.get() + 1);
                kept.set(Some(cx.waker().clone()));
                found
            })
        };
        assert_eq!(read(&mut watch, Poll::Ready(1)), Poll::Ready(1));
        assert_eq!(read(&mut watch, Poll::Pending), Poll::Pending);
        assert_eq!(read(&mut watch, Poll::Ready(2)), Poll::Pending, "it is not read");
        kept.take().expect("it was read").wake();
        assert_eq!(read(&mut watch, Poll::Ready(3)), Poll::Ready(3));
        assert_eq!(read(&mut watch, Poll::Pending), Poll::Pending);
        watch.forget();
        assert_eq!(read(&mut watch, Poll::Ready(4)), Poll::Ready(4));
        assert_eq!(reads.get(), 5);
    }
}
