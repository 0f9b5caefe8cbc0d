//! Suggests what the user may have meant.

use crate::error::Error;
use std::fmt::Display;

/// Jaro-Winkler similarity from which a word that has letters in common is worth suggesting.
const SIMILAR: f64 = 0.65;

/// Letters that a word or a part of one must have for others that hold it to count as near.
const PART: usize = 3;

/// Returns the candidate nearest to `word`, if any is near, of equal ones the first. A slip of the
/// fingers comes first, then one that ends with the same part between underscores, then others that
/// are alike.
pub fn nearest<'a, S: AsRef<str>>(word: &str, candidates: &'a [S]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let backwards = candidates.iter().rev();
    backwards
        .map(|candidate| candidate.as_ref())
        .filter_map(|name| Some((nearness(&word, &name.to_lowercase())?, name)))
        .max_by(|((a, x), _), ((b, y), _)| a.cmp(b).then(x.total_cmp(y)))
        .map(|(_, name)| name)
}

/// Returns how near a candidate is: the rank of the reason, and the similarity.
fn nearness(word: &str, candidate: &str) -> Option<(u8, f64)> {
    let similarity = strsim::jaro_winkler(word, candidate);
    let edits = strsim::osa_distance(word, candidate);
    let is_similar = similarity >= SIMILAR;
    if is_similar && edits <= 1 + word.len() / 6 {
        Some((2, similarity))
    } else if ends_alike(word, candidate) {
        Some((1, similarity))
    } else if is_similar && is_alike(word, candidate, edits) || abbreviates(word, candidate) {
        Some((0, similarity))
    } else {
        None
    }
}

/// Returns the parts between underscores of the last of the names that points join.
fn parts(name: &str) -> Vec<&str> {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.split(['_', '-']).collect()
}

/// Returns true where both end with the same part, or the candidate is the last part of the word.
fn ends_alike(word: &str, candidate: &str) -> bool {
    let (own, others) = (parts(word), parts(candidate));
    let is_long = |part: &&str| part.len() >= PART || others.len() == 1;
    own.last() == others.last() && own.last().is_some_and(is_long)
}

/// Returns true where one differs from the other in no more than two letters of five (`edits` in
/// all), holds it, or shares a part with it.
fn is_alike(word: &str, candidate: &str, edits: usize) -> bool {
    let (short, long) = by_length(word, candidate);
    let others = parts(candidate);
    let is_shared = |part: &&str| part.len() >= PART && others.contains(part);
    let length = word.chars().count().max(candidate.chars().count());
    5 * edits <= 2 * length
        || short.len() >= PART && long.contains(short)
        || parts(word).iter().any(is_shared)
}

/// Returns true where one is made of the first letters of the other's parts.
fn abbreviates(word: &str, candidate: &str) -> bool {
    let (short, long) = by_length(word, candidate);
    let initials = parts(long)
        .into_iter()
        .filter_map(|part| part.chars().next());
    short.len() > 1 && initials.eq(short.chars())
}

/// Returns the shorter one first.
fn by_length<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    match one.len() <= other.len() {
        true => (one, other),
        false => (other, one),
    }
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
