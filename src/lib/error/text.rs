//! Holds the texts of an error. An engine names a parameter by its own name, `size`; the stage that
//! called the engine shows it as the config key, `dataset.size`.
//!
//! ```
//! use fed_distill::error::{Error, assignment, parameter};
//!
//! let error = || Error::usage(parameter("size") + " is 7").hint(assignment("size", 8));
//! assert_eq!(error().to_string(), "`size` is 7\nhint: `size=8`");
//! let shown = error().within("dataset").to_string();
//! assert_eq!(shown, "`dataset.size` is 7\nhint: `dataset.size=8`");
//! ```

use std::fmt::{self, Display};
use std::ops::Add;

/// Holds a line of an error's text, in which the names of parameters are told apart from the words.
#[derive(Clone, Debug, PartialEq)]
pub struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Words(String),
    Parameter(String),
}

/// Names a parameter of the function that failed, or a field of its settings, in code quotes:
/// `` `size` ``.
pub fn parameter(name: &str) -> Text {
    Text::from("`") + Text(vec![Piece::Parameter(name.to_owned())]) + "`"
}

/// Shows how to set a parameter, in code quotes: `` `size=16` ``.
pub fn assignment(name: &str, value: impl Display) -> Text {
    let name = Text(vec![Piece::Parameter(name.to_owned())]);
    Text::from("`") + name + format!("={value}`")
}

impl Text {
    /// Puts `group` before the name of each parameter: `size` becomes `dataset.size`.
    pub(super) fn within(&mut self, group: &str) {
        for piece in &mut self.0 {
            if let Piece::Parameter(name) = piece {
                *name = format!("{group}.{name}");
            }
        }
    }
}

impl Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Words(text) | Piece::Parameter(text) => out.write_str(text),
        })
    }
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self(vec![Piece::Words(words)])
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl From<&String> for Text {
    fn from(words: &String) -> Self {
        words.clone().into()
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Self;

    fn add(mut self, next: T) -> Self {
        self.0.extend(next.into().0);
        self
    }
}
