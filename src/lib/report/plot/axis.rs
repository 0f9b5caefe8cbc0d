//! Computes value axes: ranges that are never empty, round ticks, their labels. `layout` draws
//! them.

/// Values beyond this are skipped like non-finite ones: their differences would overflow.
const LIMIT: f64 = 1e100;

/// Holds a range of values, linear or logarithmic.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Ends of the range; powers of ten when `log`.
    low: f64,
    high: f64,
    log: bool,
    /// All values are whole numbers, so ticks are too.
    whole: bool,
}

/// Holds a labelled point on an axis, 0 at its low end and 1 at its high end.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub label: String,
}

/// Reports whether a value can be drawn on an axis.
pub fn is_drawable(value: f64, log: bool) -> bool {
    value.abs() <= LIMIT && (!log || value >= 1.0 / LIMIT)
}

impl Scale {
    /// Returns the range of drawable values, widened by `margin` of itself on both sides; `None`
    /// when there are none.
    pub fn fit(values: impl Iterator<Item = f64>, log: bool, margin: f64) -> Option<Self> {
        let values: Vec<f64> = values.filter(|&value| is_drawable(value, log)).collect();
        let lowest = values.iter().copied().reduce(f64::min)?;
        let highest = values.iter().copied().reduce(f64::max)?;
        let whole = !log && values.iter().all(|value| value.fract() == 0.0);
        let (low, high) = if log {
            (lowest.log10(), highest.log10())
        } else {
            (lowest, highest)
        };

        let reach = low.abs().max(high.abs());
        let (low, high) = if high - low > 1e-9 * reach && high - low > 1.0 / LIMIT {
            let pad = (high - low) * margin;
            (low - pad, high + pad)
        } else if log {
            (low - 0.5, high + 0.5)
        } else {
            // A constant: a range around it in proportion.
            let pad = if whole {
                // Space for the one tick at the value itself.
                (reach * 1e-8).max(0.5)
            } else {
                (reach * 0.1).max(1e-90)
            };
            (low - pad, high + pad)
        };
        Some(Self {
            low,
            high,
            log,
            whole,
        })
    }

    /// Returns the range of drawable values, wide enough for a tick at both of its ends if it is
    /// linear, so that no value lies beyond the last label. A range that comes near zero starts
    /// there.
    pub fn between_ticks(
        values: impl Iterator<Item = f64> + Clone,
        log: bool,
        most: usize,
    ) -> Option<Self> {
        let mut scale = Self::fit(values.clone(), log, if log { 0.05 } else { 0.0 })?;
        if log {
            return Some(scale);
        }
        if scale.high - scale.low <= 1.0 {
            // Too narrow for several whole numbers.
            scale.whole = false;
        }
        let positive = values
            .filter(|&value| is_drawable(value, false))
            .all(|value| value >= 0.0);
        if positive && scale.low < 0.35 * scale.high {
            scale.low = 0.0;
        }
        // A wider range may need a longer step, and ends that fit that one.
        for _ in 0..4 {
            let step = step(scale.low, scale.high, most, scale.whole);
            scale.low = (scale.low / step + 1e-9).floor() * step;
            scale.high = (scale.high / step - 1e-9).ceil() * step;
        }
        Some(scale)
    }

    /// Returns the range from 0 to a little above the largest count.
    pub fn counts(largest: f64) -> Self {
        Self {
            low: 0.0,
            high: largest.max(1.0) * 1.05,
            log: false,
            whole: true,
        }
    }

    /// Returns where a drawable value lies: 0 at the low end, 1 at the high end.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// Returns at most about `most` round values inside the range, in rising order.
    pub fn ticks(&self, most: usize) -> Vec<Tick> {
        if self.log {
            return self.log_ticks(most);
        }
        round_values(self.low, self.high, most, self.whole)
    }

    /// Returns powers of ten, or of a short range round values.
    fn log_ticks(&self, most: usize) -> Vec<Tick> {
        let decades = (self.low.ceil() as i32, self.high.floor() as i32);
        let plain = decades.0 >= -4 && decades.1 <= 6;
        // Of two decades, three powers are few.
        if decades.1 - decades.0 >= if plain { 3 } else { 2 } {
            let step = ((decades.1 - decades.0) as usize / most.max(1) + 1) as i32;
            let exponents =
                (decades.0..=decades.1).filter(|exponent| exponent.rem_euclid(step) == 0);
            return exponents
                .map(|exponent| Tick {
                    at: (f64::from(exponent) - self.low) / (self.high - self.low),
                    label: if plain {
                        fixed(10f64.powi(exponent), -exponent)
                    } else {
                        format!("10{}", raised(exponent))
                    },
                })
                .collect();
        }
        if self.high - self.low > 0.7 {
            let tick = |exponent: i32, factor: f64| Tick {
                at: (f64::from(exponent) + factor.log10() - self.low) / (self.high - self.low),
                label: fixed(factor * 10f64.powi(exponent), -exponent),
            };
            let ticks = |factors: &[f64]| -> Vec<Tick> {
                let ticks = (decades.0 - 1..=decades.1)
                    .flat_map(|exponent| factors.iter().map(move |&factor| tick(exponent, factor)));
                ticks
                    .filter(|tick| (0.0..=1.0).contains(&tick.at))
                    .collect()
            };
            let few = ticks(&[1.0, 2.0, 5.0]);
            return if few.len() > 3 {
                few
            } else {
                ticks(&[1.0, 2.0, 3.0, 5.0, 7.0])
            };
        }
        // Within a factor of five: round values, placed by their logarithm.
        let (low, high) = (10f64.powf(self.low), 10f64.powf(self.high));
        let values = round_values(low, high, most, false).into_iter();
        values
            .map(|tick| Tick {
                at: self.at(low + tick.at * (high - low)),
                ..tick
            })
            .filter(|tick| (0.0..=1.0).contains(&tick.at))
            .collect()
    }
}

/// Returns 1, 2 or 5 times a power of ten, of which about `most` fit between two values.
fn step(low: f64, high: f64, most: usize, whole: bool) -> f64 {
    let rough = (high - low) / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough * 0.999);
    let step = factor.unwrap_or(10.0) * power;
    if whole { step.max(1.0) } else { step }
}

/// Returns the multiples of the step between two values.
fn round_values(low: f64, high: f64, most: usize, whole: bool) -> Vec<Tick> {
    let step = step(low, high, most, whole);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 50.0) as usize;
    let write = writer(low.abs().max(high.abs()), step);
    (0..=count)
        .map(|i| (first + i as f64) * step)
        .map(|value| Tick {
            at: (value - low) / (high - low),
            label: write(value),
        })
        .filter(|tick| (-1e-9..=1.0 + 1e-9).contains(&tick.at))
        .collect()
}

/// Returns how the labels of an axis that reaches `reach` are written, with the decimals that
/// `step` needs.
fn writer(reach: f64, step: f64) -> impl Fn(f64) -> String {
    let unit = match reach {
        1e7..1e9 => Some((1e6, " M")),
        1e9..1e12 => Some((1e9, " G")),
        1e12..1e15 => Some((1e12, " T")),
        _ => None,
    };
    let power = reach.log10().floor() as i32;
    move |value| {
        let (scale, end) = match unit {
            _ if value == 0.0 => return "0".into(),
            Some((scale, end)) => (scale, end.to_owned()),
            None if (-3..7).contains(&power) => (1.0, String::new()),
            None => (10f64.powi(power), format!("×10{}", raised(power))),
        };
        fixed(
            value / scale,
            -((step / scale).log10() + 1e-9).floor() as i32,
        ) + &end
    }
}

/// Formats a number with thousands separators and at least zero decimals.
fn fixed(value: f64, decimals: i32) -> String {
    let text = format!("{:.*}", decimals.clamp(0, 12) as usize, value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}{rest}", grouped(whole))
}

/// Formats a count with thousands separators: `12,345`.
pub fn thousands(count: u128) -> String {
    grouped(&count.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats an exponent in superscript digits.
fn raised(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let letters = exponent.to_string();
    letters
        .chars()
        .map(|letter| {
            letter
                .to_digit(10)
                .map_or('⁻', |digit| DIGITS[digit as usize])
        })
        .collect()
}
