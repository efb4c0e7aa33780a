//! How the parts of one thread hand each other messages without waiting on a lock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Messages in the order in which they came, for one reader.
#[derive(Debug)]
pub struct Mailbox<T> {
    inner: RefCell<(VecDeque<T>, Option<Waker>)>,
}

impl<T> Mailbox<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { inner: RefCell::new((VecDeque::new(), None)) }
    }

    /// Puts a message in and wakes the reader.
    pub fn put(&self, message: T) {
        let waker = {
            let mut inner = self.inner.borrow_mut();
            inner.0.push_back(message);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next message, once there is one.
    pub async fn next(&self) -> T {
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match inner.0.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

/// Where the answer to one question goes.
#[derive(Debug)]
pub struct Reply<T>(Rc<RefCell<Slot<T>>>);

/// Where the answer to one question comes from.
#[derive(Debug)]
pub struct Answer<T>(Rc<RefCell<Slot<T>>>);

/// A question's two ends.
pub fn question<T>() -> (Reply<T>, Answer<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, closed: false, waker: None }));
    (Reply(slot.clone()), Answer(slot))
}

impl<T> Reply<T> {
    /// Answers.
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
        // `drop` wakes the one who asked.
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.closed = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Answer<T> {
    /// The answer; `None` if nobody is left to give one.
    pub async fn get(self) -> Option<T> {
        poll_fn(|context| {
            let mut slot = self.0.borrow_mut();
            if slot.closed {
                Poll::Ready(slot.value.take())
            } else {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn messages_keep_their_order() {
        let mailbox = Mailbox::new();
        assert!(poll(mailbox.next()).is_pending());
        mailbox.put(1);
        mailbox.put(2);
        assert_eq!(poll(mailbox.next()), Poll::Ready(1));
        assert_eq!(poll(mailbox.next()), Poll::Ready(2));
    }

    #[test]
    fn a_question_is_answered_or_closed() {
        let (reply, answer) = question();
        reply.send(5);
        assert_eq!(poll(answer.get()), Poll::Ready(Some(5)));
        let (reply, answer) = question::<i32>();
        drop(reply);
        assert_eq!(poll(answer.get()), Poll::Ready(None));
    }
}
