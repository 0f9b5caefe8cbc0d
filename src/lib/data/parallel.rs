//! Runs work on the images of a set, such as decoding and resizing, on all cores of the host. Used
//! inside `data` only, without libtorch.

use std::thread;

/// Returns `work` of each item, in the order of the items; the number of threads changes nothing.
pub(super) fn map<T: Sync, U: Send>(items: &[T], work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get());
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    thread::scope(|scope| {
        let all = move |chunk: &[T]| chunk.iter().map(work).collect::<Vec<U>>();
        let handles: Vec<_> = items
            .chunks(share)
            .map(|chunk| {
                let started = thread::Builder::new().spawn_scoped(scope, move || all(chunk));
                started.map_err(|_| chunk)
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| match handle {
                Ok(handle) => handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // Where the system lets no thread start, the work is done here.
                Err(chunk) => all(chunk),
            })
            .collect()
    })
}
