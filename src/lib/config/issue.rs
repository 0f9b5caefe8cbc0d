//! Mistakes in a configuration are collected and reported together: correcting them one run at a
//! time is tedious.

use crate::error::Error;

/// One mistake.
#[derive(Debug)]
pub struct Issue {
    pub what: String,
    pub notes: Vec<(&'static str, String)>,
    pub hint: Option<String>,
}

impl Issue {
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            notes: Vec::new(),
            hint: None,
        }
    }

    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((label, text.into()));
        self
    }

    pub fn hint(mut self, text: Option<String>) -> Self {
        self.hint = text;
        self
    }

    fn indented(&self) -> String {
        let notes = self
            .notes
            .iter()
            .map(|(label, text)| format!("\n    {label}: {text}"));
        let hint = self.hint.iter().map(|text| format!("\n    hint: {text}"));
        notes
            .chain(hint)
            .fold(self.what.clone(), |text, line| text + &line)
    }
}

/// One usage error of all mistakes; `Ok` when there is none.
pub fn report(mut issues: Vec<Issue>) -> Result<(), Error> {
    let Some(last) = issues.pop() else {
        return Ok(());
    };
    if issues.is_empty() {
        let error = last
            .notes
            .into_iter()
            .fold(Error::usage(last.what), |error, (label, text)| {
                error.note(label, text)
            });
        return Err(match last.hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    issues.push(last);
    let title = format!("{} mistakes in the configuration", issues.len());
    Err(issues.iter().fold(Error::usage(title), |error, issue| {
        error.note("mistake", issue.indented())
    }))
}
