//! Mistakes in a configuration are collected and reported together: correcting them one run at a
//! time is tedious.

use crate::error::{Error, Result};

/// Reports all mistakes as one usage error; there may be none.
pub fn report(mut mistakes: Vec<Error>) -> Result<()> {
    let count = mistakes.len();
    match mistakes.pop() {
        None => Ok(()),
        Some(only) if count == 1 => Err(only),
        Some(last) => {
            let title = Error::usage(format!("{count} mistakes in the configuration"));
            let all = mistakes.iter().chain([&last]);
            Err(all.fold(title, |error, mistake| {
                error.note("mistake", indented(mistake))
            }))
        }
    }
}

/// Returns the text of a mistake, its notes and hints below the first line.
fn indented(mistake: &Error) -> String {
    let text = mistake.to_string();
    text.lines()
        .map(str::trim_start)
        .collect::<Vec<_>>()
        .join("\n    ")
}
