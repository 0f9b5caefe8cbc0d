//! Expands `~/` at the head of a path: shells leave it as it is behind `key=`.

use crate::error::{Error, Result};

/// Returns a path with the user's home folder in place of a leading `~`; `name` is what holds the
/// path, in messages.
///
/// # Errors
/// Fails for another user's `~name`, and when `HOME` is not set (usage).
pub fn expanded(name: &str, path: &str) -> Result<String> {
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(path.to_owned());
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        let user = rest.split('/').next().unwrap_or_default();
        return Err(Error::usage(format!(
            "`{name}` is `{path}`: the home folder of `{user}` is not looked up"
        ))
        .hint(format!(
            "write the whole path; where a name begins with ~ type {name}=./{path}"
        )));
    }
    match std::env::var("HOME") {
        Ok(home) if !home.is_empty() => Ok(home.trim_end_matches('/').to_owned() + rest),
        _ => Err(Error::usage(format!(
            "`{name}` is `{path}`, but the environment variable `HOME` is not set"
        ))
        .hint("write the whole path")),
    }
}
