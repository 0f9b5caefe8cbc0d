//! The error that a user is shown: how it comes back out of `anyhow`.

use anyhow::Context;
use fed_distill::{Class, Error};
use std::error::Error as _;
use std::io::{self, ErrorKind};

/// Returns an error with every part, made from another one.
fn refused() -> Error {
    Error::usage("`size` is 7")
        .note("expected", "a multiple of 8")
        .note("while", "building the model")
        .hint("`size=8`")
        .caused_by("seven".parse::<u8>().unwrap_err())
}

#[test]
fn contexts_become_while_lines_innermost_first() {
    let result: anyhow::Result<()> = Err(refused())
        .context("training teacher 1")
        .context("job 2 of 3: seed=2");
    let error = Error::from(result.unwrap_err());
    assert_eq!(
        error.to_string(),
        "`size` is 7\n  expected: a multiple of 8\n  while: building the model\n  \
         while: training teacher 1\n  while: job 2 of 3: seed=2\nhint: `size=8`"
    );
    assert_eq!(error.class(), Class::Usage);
    let source = error.source().expect("the error it was made from");
    assert!(source.is::<std::num::ParseIntError>());
}

#[test]
fn an_error_passes_between_both_types_unchanged() {
    let above = || -> anyhow::Result<()> { Err(refused())? };
    let below = || -> fed_distill::Result<()> { Ok(above()?) };
    assert_eq!(below().unwrap_err().to_string(), refused().to_string());
}

#[test]
fn contexts_of_both_types_keep_their_order() {
    let inner = || -> anyhow::Result<()> { Err(Error::interrupted("stopped")).context("one") };
    let callback = || -> fed_distill::Result<()> { Ok(inner()?) };
    let outer = Error::from(callback().context("two").context("one").unwrap_err());
    // What is being done is named once.
    assert_eq!(outer.to_string(), "stopped\n  while: one\n  while: two");
    assert_eq!(outer.class(), Class::Interrupted);
}

#[test]
fn an_io_error_brings_its_advice() {
    let full = || io::Error::from(ErrorKind::StorageFull);
    let result: anyhow::Result<()> = Err(full()).context("saving the model of node 3");
    let error = Error::from(result.unwrap_err());
    let plain = Error::from(full()).to_string();
    let (what, hint) = plain.split_once("\nhint: ").expect("a hint");
    assert_eq!(
        error.to_string(),
        format!("{what}\n  while: saving the model of node 3\nhint: {hint}")
    );
    assert_eq!(error.class(), Class::Failed);
    let source = error.source().and_then(|source| source.downcast_ref());
    assert_eq!(source.map(io::Error::kind), Some(ErrorKind::StorageFull));
}

#[test]
fn libtorch_s_backtrace_is_left_out() {
    let result: Result<(), _> = Err(tch::TchError::Torch("no such shape\nframe #0".into()));
    let error = Error::from(result.context("one").unwrap_err());
    assert_eq!(
        error.to_string(),
        "libtorch: Internal torch error: no such shape\n  while: one"
    );
}

#[test]
fn any_other_error_is_shown_with_its_contexts() {
    let result: anyhow::Result<u8> = "seven".parse::<u8>().context("reading the size");
    let error = Error::from(result.unwrap_err());
    assert_eq!(
        error.to_string(),
        "reading the size: invalid digit found in string"
    );
    assert_eq!(error.class(), Class::Failed);
    let cause = error.source().and_then(|source| source.source());
    assert!(cause.is_some_and(|cause| cause.is::<std::num::ParseIntError>()));
}
