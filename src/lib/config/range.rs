//! Ranges that numbers of a config must lie in.

use super::node::{Node, Value};

/// A range of numbers, and how messages call it.
pub struct Range {
    pub words: &'static str,
    pub holds: fn(f64) -> bool,
}

pub const POSITIVE: Range = Range {
    words: "greater than 0",
    holds: |x| x > 0.0,
};
pub const NOT_NEGATIVE: Range = Range {
    words: "0 or more",
    holds: |x| x >= 0.0,
};
pub const AT_LEAST_ONE: Range = Range {
    words: "1 or more",
    holds: |x| x >= 1.0,
};
pub const AT_LEAST_TWO: Range = Range {
    words: "2 or more",
    holds: |x| x >= 2.0,
};
pub const SHARE: Range = Range {
    words: "between 0 and 1",
    holds: |x| (0.0..=1.0).contains(&x),
};
pub const ROUNDS: Range = Range {
    words: "between 1 and 1,000,000",
    holds: |x| (1.0..=1e6).contains(&x),
};
pub const BATCH: Range = Range {
    words: "between 1 and 1,000,000,000",
    holds: |x| (1.0..=1e9).contains(&x),
};
pub const RANKS: Range = Range {
    words: "between 1 and 1024",
    holds: |x| (1.0..=1024.0).contains(&x),
};
pub const FRACTION: Range = Range {
    words: "greater than 0 and at most 1",
    holds: |x| x > 0.0 && x <= 1.0,
};
pub const PART: Range = Range {
    words: "greater than 0 and less than 1",
    holds: |x| x > 0.0 && x < 1.0,
};
pub const DECAY: Range = Range {
    words: "0 or more and less than 1",
    holds: |x| (0.0..1.0).contains(&x),
};
pub const SMALLEST_IMAGE: Range = Range {
    words: "8 or more",
    holds: |x| x >= 8.0,
};
pub const COLOURS: Range = Range {
    words: "1 or 3",
    holds: |x| x == 1.0 || x == 3.0,
};

/// The message, if the value is out of range. `null` always fits.
pub fn broken(range: &Range, key: &str, value: &Value) -> Option<String> {
    let number = match value {
        Value::Int(whole) => *whole as f64,
        Value::Float(number) => *number,
        Value::List(items) if items.is_empty() => {
            return Some(format!("`{key}` must not be an empty list"));
        }
        Value::List(items) => {
            let item =
                |(i, item): (usize, &Node)| broken(range, &format!("{key}[{i}]"), &item.value);
            return items.iter().enumerate().find_map(item);
        }
        _ => return None,
    };
    (!(range.holds)(number)).then(|| {
        format!(
            "`{key}` must be {}, found {}",
            range.words,
            value.described()
        )
    })
}
