//! A flag that work in progress can wait for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A flag with those who wait for it. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    raised: bool,
    waiting: Vec<Waker>,
}

impl Signal {
    /// Raises the flag and wakes all who wait.
    pub fn raise(&self) {
        let mut state = self.lock();
        state.raised = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lowers the flag.
    pub fn lower(&self) {
        self.lock().raised = false;
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.lock().raised
    }

    /// Waits until the flag is up.
    pub async fn raised(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.raised {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// What the work comes to; nothing where the flag is up first, and then the work is dropped where it stands.
    pub async fn unless_raised<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut raised = pin!(self.raised());
        poll_fn(|context| {
            if raised.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
