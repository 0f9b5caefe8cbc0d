//! Holds the ranges that numbers of a config must lie in, as the attributes of their fields give
//! them.

use serde_json::{Map, Value};

/// Holds a range of numbers; every bound that is there applies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// Smallest number in it.
    least: Option<f64>,
    /// Largest number below it.
    above: Option<f64>,
    /// Largest number in it.
    most: Option<f64>,
    /// Smallest number above it.
    below: Option<f64>,
    /// The only numbers that are allowed, if not empty.
    among: Vec<f64>,
}

impl Range {
    /// Reads the range of a JSON schema; returns `None` where there is none beyond the type's own.
    pub fn read(schema: &Map<String, Value>) -> Option<Self> {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let unsigned = is_unsigned(schema);
        let range = Self {
            least: number("minimum").filter(|least| *least != 0.0 || !unsigned),
            above: number("exclusiveMinimum"),
            most: number("maximum"),
            below: number("exclusiveMaximum"),
            among: schema
                .get("enum")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_f64)
                .collect(),
        };
        (range != Self::default()).then_some(range)
    }

    /// Returns true if a number lies in it.
    pub fn holds(&self, number: f64) -> bool {
        self.least.is_none_or(|least| number >= least)
            && self.above.is_none_or(|above| number > above)
            && self.most.is_none_or(|most| number <= most)
            && self.below.is_none_or(|below| number < below)
            && (self.among.is_empty() || self.among.contains(&number))
    }

    /// Returns how messages call it: `between 0 and 1`, `0 or more`, `greater than 0`, `1 or 3`.
    pub fn words(&self) -> String {
        if !self.among.is_empty() {
            let among: Vec<String> = self.among.iter().map(|number| grouped(*number)).collect();
            return among.join(" or ");
        }
        if let (Some(least), Some(most)) = (self.least, self.most) {
            return format!("between {} and {}", grouped(least), grouped(most));
        }
        let words = [
            self.least
                .map(|least| format!("{} or more", grouped(least))),
            self.above
                .map(|above| format!("greater than {}", grouped(above))),
            self.most.map(|most| format!("at most {}", grouped(most))),
            self.below
                .map(|below| format!("less than {}", grouped(below))),
        ];
        words
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" and ")
    }
}

/// Returns true if a schema is that of an unsigned type, which is 0 or more by itself.
pub fn is_unsigned(schema: &Map<String, Value>) -> bool {
    let format = schema.get("format").and_then(Value::as_str);
    format.is_some_and(|format| format.starts_with("uint"))
}

/// Writes a number with commas between groups of three digits, from five digits on.
fn grouped(number: f64) -> String {
    let digits = number.to_string();
    if number < 10_000.0 || number.fract() != 0.0 {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
