//! Turns exceptions of libtorch into errors. Most of its operations are called in the form that
//! panics: they fail where there is no memory, and checking each of millions of operations would
//! not make a run clearer. The panics are caught here.

use crate::error::Error;
use anyhow::Result;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

/// Start of the text of a panic of tch, before the exception's text as `Debug` prints it.
const PANIC_PREFIX: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";

/// Does `work` as [`caught`] does; where memory ran out, here or on another rank, the error says
/// what to lower.
///
/// # Errors
/// Fails as [`caught`] does.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T, Error> {
    caught(work).map_err(|error| match is_out_of_memory(&error.what()) {
        true => add_hint(error),
        false => error,
    })
}

/// Does `work` and turns what libtorch throws in this thread into an error. Any other panic
/// continues.
///
/// # Errors
/// Fails as `work` does, and when libtorch throws.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T, Error> {
    silence_exceptions();
    // What the work has changed is dropped with it.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Error::from),
        Err(payload) => match exception(payload.as_ref()) {
            None => resume_unwind(payload),
            Some(text) => Err(Error::failed(format!("libtorch: {text}"))),
        },
    }
}

/// Suppresses the default message of a panic that will be turned into an error.
fn silence_exceptions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = take_hook();
        set_hook(Box::new(move |info| {
            if exception(info.payload()).is_none() {
                default(info);
            }
        }));
    });
}

/// Returns the first line of libtorch's message, if that is what a panic is about.
fn exception(payload: &(dyn Any + Send)) -> Option<String> {
    let text = payload
        .downcast_ref::<String>()?
        .strip_prefix(PANIC_PREFIX)?;
    let end = [text.find("\\n"), text.find("\")")].into_iter().flatten();
    let line = &text[..end.min().unwrap_or(text.len())];
    Some(line.replace("\\\"", "\""))
}

/// Returns true for what libtorch's allocators report, on CUDA and on the CPU, and for what is
/// reported of weights that are drawn on the host.
fn is_out_of_memory(text: &str) -> bool {
    let known = [
        "out of memory",
        "can't allocate memory",
        "there is no memory",
    ];
    known.iter().any(|known| text.contains(known))
}

fn add_hint(error: Error) -> Error {
    error.hint(
        "lower what is in memory at a time: `deep_inv.batch_size`, `deep_inv.candidates` \
         (`generator.batch_size` and `generator.width` where there is one), or the `batch_size` \
         and the `eval_batch_size` of the stage, such as `teacher.batch_size`; `model.width`, \
         `deep_inv.teachers.n`, `teacher.in_memory`, `student.distill.cache_mib`, or the number \
         of ranks",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn libtorch_s_panics_become_errors() {
        let ones = |count: i64| Tensor::ones([count], (Kind::Float, Device::Cpu));
        let error = guarded(|| Ok(ones(2) + ones(3))).unwrap_err().to_string();
        assert!(
            error.starts_with("libtorch: The size of tensor a (2) must match"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn memory_that_runs_out_is_named_with_what_to_lower() {
        let work = || Ok(Tensor::ones([1 << 45], (Kind::Float, Device::Cpu)));
        let error = guarded(work).unwrap_err().to_string();
        assert!(
            error.contains("hint: lower") && error.contains("batch_size"),
            "{error}"
        );
    }

    #[test]
    fn other_panics_continue() {
        let caught = catch_unwind(|| guarded::<()>(|| panic!("a mistake of ours")));
        let payload = caught.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"a mistake of ours"));
    }
}
