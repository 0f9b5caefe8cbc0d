//! Cuts text with `${…}` in it into plain pieces and references. `\${` is a plain `${`; backslashes
//! elsewhere are left alone.

/// Returns text that resolves to `text`.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let slashes = before.len() - before.trim_end_matches('\\').len();
        escaped.push_str(before);
        escaped.push_str(&"\\".repeat(slashes + 1));
        escaped.push_str("${");
        rest = after.strip_prefix("${").unwrap_or("");
    }
    escaped + rest
}

/// Is a piece of text.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Holds text as it is.
    Plain(String),
    /// Holds what stands between `${` and `}`.
    Reference(String),
}

/// Cuts text into pieces; backslashes before `${` are halved, and an odd one makes it plain.
pub fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let kept = before.trim_end_matches('\\');
        let slashes = before.len() - kept.len();
        plain.push_str(kept);
        plain.push_str(&"\\".repeat(slashes / 2));
        let inside = after.strip_prefix("${").unwrap_or("");
        if slashes % 2 == 1 {
            plain.push_str("${");
            rest = inside;
            continue;
        }
        let end =
            closing(inside).ok_or_else(|| format!("the closing `}}` is missing in `{text}`"))?;
        let (reference, after) = inside.split_at(end);
        if !plain.is_empty() {
            pieces.push(Piece::Plain(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Reference(reference.trim().to_owned()));
        rest = after.strip_prefix('}').unwrap_or("");
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Plain(plain));
    }
    Ok(pieces)
}

/// Returns the offset of the brace that closes a reference, in the text behind its `${`.
pub fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes_before_a_reference_are_halved() {
        let plain = |text: &str| vec![Piece::Plain(text.into())];
        assert_eq!(pieces(r"a\${b}").unwrap(), plain("a${b}"));
        assert_eq!(
            pieces(r"a\\${b}").unwrap(),
            vec![Piece::Plain(r"a\".into()), Piece::Reference("b".into())]
        );
        assert_eq!(pieces(r"\d${b${c}}").unwrap().len(), 2);
        for text in [
            "",
            "${",
            r"\${x}",
            r"a\\\${b}${c}",
            r"no \ reference",
            "$ {",
        ] {
            assert_eq!(
                pieces(&escape(text)).unwrap_or_default(),
                if text.is_empty() { vec![] } else { plain(text) }
            );
        }
    }
}
