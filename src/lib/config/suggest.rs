//! Suggests what the user may have meant.

use crate::error::Error;
use std::fmt::Display;

/// Jaro-Winkler similarity from which a word is worth suggesting.
const SIMILAR: f64 = 0.65;

/// Letters that a word or a part of one must have for others that hold it to count as near.
const PART: usize = 3;

/// Returns the candidate most similar to `word`, if any is near: one that differs in no more than
/// two letters of five, that holds the word or lies in it, that shares a part between underscores,
/// or that is made of the first letters of its parts.
pub fn nearest<'a, S: AsRef<str>>(word: &str, candidates: &'a [S]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let score = |candidate: &str| strsim::jaro_winkler(&word, &candidate.to_lowercase());
    candidates
        .iter()
        .map(|candidate| (score(candidate.as_ref()), candidate.as_ref()))
        .filter(|(score, candidate)| *score >= SIMILAR && is_near(&word, &candidate.to_lowercase()))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Returns true where one may have been typed for the other.
fn is_near(word: &str, candidate: &str) -> bool {
    let (short, long) = match word.len() <= candidate.len() {
        true => (word, candidate),
        false => (candidate, word),
    };
    let parts = |name: &str| -> Vec<String> {
        let last = name.rsplit('.').next().unwrap_or_default();
        last.split(['_', '-']).map(str::to_owned).collect()
    };
    let (own, others) = (parts(word), parts(candidate));
    let shares = own
        .iter()
        .any(|part| part.len() >= PART && others.contains(part));
    let initials: String = parts(long)
        .iter()
        .filter_map(|part| part.chars().next())
        .collect();
    let length = word.chars().count().max(candidate.chars().count());
    5 * strsim::osa_distance(word, candidate) <= 2 * length
        || short.len() >= PART && long.contains(short)
        || shares
        || short.len() > 1 && initials == short
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
