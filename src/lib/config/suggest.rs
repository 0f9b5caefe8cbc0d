//! Suggests what the user may have meant.

use crate::error::Error;
use std::fmt::Display;

/// Jaro-Winkler similarity from which a word is worth suggesting.
const SIMILAR: f64 = 0.65;

/// Returns the candidate most similar to `word`, if any is similar.
pub fn nearest<'a, S: AsRef<str>>(word: &str, candidates: &'a [S]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let score = |candidate: &str| strsim::jaro_winkler(&word, &candidate.to_lowercase());
    candidates
        .iter()
        .map(|candidate| (score(candidate.as_ref()), candidate.as_ref()))
        .filter(|(score, _)| *score >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Adds the hint that `meant` may have been meant, if there is such a thing.
pub fn did_you_mean(error: Error, meant: Option<impl Display>) -> Error {
    match meant {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error,
    }
}

/// Writes `a, b, c`, or `none`.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => "none".into(),
        names => names
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Writes `a`, `a` or `b`, `a`, `b` or `c`, each in backticks.
pub fn either<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
