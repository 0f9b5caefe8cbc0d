//! Text that is no value; several values.

use super::mistake;
use crate::common::config_dir;
use crate::config::{request, shortened};
use fed_distill::config::compose_all;
use insta::assert_snapshot;

#[test]
fn grammar() {
    for (value, complaint) in [
        ("[1,2", "the closing `]` is missing"),
        ("{a: 1", "the closing `}` is missing"),
        ("{a}", "a mapping is written {key: value, key: value}"),
        ("{a: 1, a: 2}", "key `a` stands twice"),
        (&"[".repeat(50_000), "it is nested more than 32 deep"),
        ("'a", "the closing ' is missing"),
        ("\"a", "the closing \" is missing"),
        ("'a' b", "there is text behind the closing '"),
        ("${a", "the closing `}` of `${` is missing"),
        ("a]", "`]` is unexpected; put text that holds it in quotes"),
        (
            "[1]2",
            "`2` is unexpected; put text that holds it in quotes",
        ),
        ("[1,,2]", "a value is missing"),
        ("1,", "a value is missing"),
        (
            "sqrt(2)",
            "there is no function `sqrt`; available are choice(a, b, …) and range(start, stop, \
             step)",
        ),
        (
            "range(a)",
            "`range` takes numbers: range(start, stop) or range(start, stop, step)",
        ),
        ("range(0,3,0)", "the step of `range` must not be 0"),
        ("range(3,0)", "this `range` holds no value"),
        (
            "range(0,1e9)",
            "this `range` holds 1000000000 values, more than 10000",
        ),
    ] {
        assert_eq!(
            mistake(&format!("seed={value}")),
            format!(
                "cannot read the value of `seed`: {complaint}\n  from: command line \
                 `seed={value}`\nhint: for text as it stands type \"seed='…'\""
            )
        );
    }
}

#[test]
fn several_values_without_multirun() {
    assert_snapshot!(mistake("seed=1,2"), @r#"
    `seed` is given 2 values for one run
      from: command line `seed=1,2`
    hint: to run a job for each value add --multirun (-m)
    hint: for a list type seed=[1,2], for text with commas seed="'1,2'"
    "#);
    assert_snapshot!(mistake("deep_inv=choice(custom_params,paper_params)"), @r#"
    `deep_inv` is given 2 values for one run
      from: command line `deep_inv=choice(custom_params,paper_params)`
    hint: to run a job for each value add --multirun (-m)
    "#);
}

#[test]
fn sweep_too_large() {
    let request = request(
        Some(config_dir()),
        &["seed=range(9999)", "student.seed=range(9999)"],
    );
    assert_snapshot!(compose_all(&request, true).unwrap_err(), @r#"this sweep has more than 10000 jobs"#);
}

#[test]
fn job_that_cannot_be_composed() {
    let request = request(Some(config_dir()), &["seed=1,2", "dataset=mnist,mnits"]);
    let error = compose_all(&request, true).unwrap_err();
    assert_snapshot!(shortened(&error.to_string()), @r#"
    `dataset` has no option `mnits`
      from: command line `dataset=mnits`
      available: cifar10, cifar100, cifar10_jpeg, …
      while: composing job 2 of 4: seed=1 dataset=mnits
    hint: did you mean `mnist`?
    "#);
}
