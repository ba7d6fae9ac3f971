//! The answer that a device gives by a callback, for who waits for it in a future. Knows no device.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What the callback holds.
pub(super) struct Sender<T>(Arc<Mutex<State<T>>>);

/// What gives the answer, or nothing where the callback was dropped without a call.
pub(super) struct Reply<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    answer: Option<Option<T>>,
    waker: Option<Waker>,
}

/// An answer that is to come.
pub(super) fn reply<T>() -> (Sender<T>, Reply<T>) {
    let state = Arc::new(Mutex::new(State { answer: None, waker: None }));
    (Sender(state.clone()), Reply(state))
}

impl<T> Sender<T> {
    pub fn send(self, answer: T) {
        self.give(Some(answer));
    }

    /// Gives the answer, if none was given before.
    fn give(&self, answer: Option<T>) {
        let mut state = locked(&self.0);
        state.answer.get_or_insert(answer);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.give(None);
    }
}

impl<T> Future for Reply<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<T>> {
        let mut state = locked(&self.0);
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn locked<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_from_another_thread_or_is_told_to_be_none() {
        let (sender, reply) = reply();
        let thread = std::thread::spawn(move || sender.send(7));
        assert_eq!(pollster::block_on(reply), Some(7));
        thread.join().unwrap();
        let (sender, reply) = super::reply::<u8>();
        std::thread::spawn(move || drop(sender));
        assert_eq!(pollster::block_on(reply), None);
    }
}
