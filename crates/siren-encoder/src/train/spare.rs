//! Working memory that threads pass on to each other.

use std::sync::{Mutex, PoisonError};

/// Working memory of threads that are not at work.
#[derive(Debug)]
pub(super) struct Spare<T>(Mutex<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spare<T> {
    /// Does a piece of work in memory that another one left, or in new memory.
    pub fn with_or<R>(&self, new: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = idle().pop();
        let mut memory = last.unwrap_or_else(new);
        let result = work(&mut memory);
        idle().push(memory);
        result
    }

    /// The same, where new memory is empty.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default,
    {
        self.with_or(T::default, work)
    }
}
