//! Work on parts of a slice on all cores, or one part after the other in a build without the feature
//! `threads`, as for a browser. The one place of the decoder that knows of threads. No result depends
//! on how many there are.

#[cfg(feature = "threads")]
use rayon::prelude::*;

/// How many parts are worked on at once.
pub fn threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
}

/// Has `work` fill each chunk of `length` items, the last one perhaps shorter; it is told the chunk's
/// number. `state` makes what a thread takes along from chunk to chunk.
pub fn each_chunk<T: Send, S>(
    items: &mut [T],
    length: usize,
    state: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) + Send + Sync,
) {
    #[cfg(feature = "threads")]
    items
        .par_chunks_mut(length)
        .enumerate()
        .for_each_init(state, |state, (number, chunk)| work(state, number, chunk));
    #[cfg(not(feature = "threads"))]
    {
        let mut state = state();
        let chunks = items.chunks_mut(length).enumerate();
        chunks.for_each(|(number, chunk)| work(&mut state, number, chunk));
    }
}

/// The same for the chunks of two slices, side by side.
pub fn each_pair<A: Send, B: Send>(
    (a, a_length): (&mut [A], usize),
    (b, b_length): (&mut [B], usize),
    work: impl Fn(&mut [A], &mut [B]) + Send + Sync,
) {
    #[cfg(feature = "threads")]
    a.par_chunks_mut(a_length).zip(b.par_chunks_mut(b_length)).for_each(|(a, b)| work(a, b));
    #[cfg(not(feature = "threads"))]
    a.chunks_mut(a_length).zip(b.chunks_mut(b_length)).for_each(|(a, b)| work(a, b));
}

/// What `work` makes of each chunk of `length` items, in their order.
pub fn map_chunks<T: Sync, R: Send>(
    items: &[T],
    length: usize,
    work: impl Fn(&[T]) -> R + Send + Sync,
) -> Vec<R> {
    #[cfg(feature = "threads")]
    return items.par_chunks(length).map(work).collect();
    #[cfg(not(feature = "threads"))]
    items.chunks(length).map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_worked_on_once_and_in_its_place() {
        let mut items = [0usize; 1003];
        each_chunk(&mut items, 10, || (), |(), number, chunk| chunk.fill(number + 1));
        assert!(items.iter().enumerate().all(|(at, &item)| item == at / 10 + 1));
        let mut halves = [0usize; 502];
        each_pair((&mut halves, 5), (&mut items, 10), |halves, items| {
            halves.fill(items[0]);
            items.fill(0);
        });
        assert!(halves.iter().enumerate().all(|(at, &half)| half == at / 5 + 1));
        assert!(items.iter().all(|&item| item == 0));
        assert_eq!(map_chunks(&halves, 500, <[usize]>::len), [500, 2]);
        assert!(threads() >= 1);
    }
}
