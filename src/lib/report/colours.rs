//! Chooses colours that colour-blind readers can tell apart, for classes, lines and heat maps.
//!
//! Up to 8: Okabe and Ito 2008, "Color Universal Design". Up to 10 areas: the "muted" scheme of
//! Paul Tol's technical note SRON/EPS/TN/09-002; up to 10 lines: Petroff 2021, "Accessible Color
//! Sequences for Data Visualization", arXiv:2107.02270. Beyond: a ramp that is uniform in OKLCH
//! (Ottosson 2020), dark violet to light yellow.

use image::Rgb;

pub type Colour = Rgb<u8>;

pub const WHITE: Colour = Rgb([255, 255, 255]);
/// Titles and names.
pub const INK: Colour = Rgb([0x22, 0x22, 0x22]);
/// Tick labels, axis titles, remarks.
pub const SOFT: Colour = Rgb([0x55, 0x55, 0x55]);
/// Axis lines and brackets.
pub const RULE: Colour = Rgb([0x99, 0x99, 0x99]);
/// Grid lines and empty cells.
pub const FAINT: Colour = Rgb([0xE8, 0xE8, 0xE8]);

const OKABE_ITO: [Colour; 8] = [
    Rgb([0x00, 0x72, 0xB2]),
    Rgb([0xE6, 0x9F, 0x00]),
    Rgb([0x00, 0x9E, 0x73]),
    Rgb([0xD5, 0x5E, 0x00]),
    Rgb([0xCC, 0x79, 0xA7]),
    Rgb([0x56, 0xB4, 0xE9]),
    Rgb([0x00, 0x00, 0x00]),
    Rgb([0xF0, 0xE4, 0x42]),
];

const TOL_MUTED: [Colour; 10] = [
    Rgb([0x33, 0x22, 0x88]),
    Rgb([0x88, 0xCC, 0xEE]),
    Rgb([0x44, 0xAA, 0x99]),
    Rgb([0x11, 0x77, 0x33]),
    Rgb([0x99, 0x99, 0x33]),
    Rgb([0xDD, 0xCC, 0x77]),
    Rgb([0xCC, 0x66, 0x77]),
    Rgb([0x88, 0x22, 0x55]),
    Rgb([0xAA, 0x44, 0x99]),
    Rgb([0xBB, 0xBB, 0xBB]),
];

const PETROFF: [Colour; 10] = [
    Rgb([0x3F, 0x90, 0xDA]),
    Rgb([0xFF, 0xA9, 0x0E]),
    Rgb([0xBD, 0x1F, 0x01]),
    Rgb([0x94, 0xA4, 0xA2]),
    Rgb([0x83, 0x2D, 0xB6]),
    Rgb([0xA9, 0x6B, 0x59]),
    Rgb([0xE7, 0x63, 0x00]),
    Rgb([0xB9, 0xAC, 0x70]),
    Rgb([0x71, 0x75, 0x81]),
    Rgb([0x92, 0xDA, 0xDD]),
];

/// Returns the fill colours of `count` classes that lie side by side.
pub fn fills(count: usize) -> Vec<Colour> {
    match count {
        0..=8 => OKABE_ITO[..count].to_vec(),
        9..=10 => TOL_MUTED[..count].to_vec(),
        // Neighbours also alternate in lightness: the hue alone moves too little from one to the
        // next.
        _ => (0..count)
            .map(|i| ramp(share(i, count), 0.86, if i % 2 == 0 { -0.05 } else { 0.05 }))
            .collect(),
    }
}

/// Returns the colours of `count` lines on white: no light ones.
pub fn lines(count: usize) -> Vec<Colour> {
    match count {
        0..=7 => OKABE_ITO[..count].to_vec(),
        8..=10 => PETROFF[..count].to_vec(),
        _ => (0..count)
            .map(|i| ramp(share(i, count), 0.76, 0.0))
            .collect(),
    }
}

/// Returns how far an index is between the first and the last: 0..1.
fn share(index: usize, count: usize) -> f64 {
    index as f64 / (count.max(2) - 1) as f64
}

/// Returns a colour from dark violet at 0 to yellow at 1, with lightness from 0.34 up to `light`,
/// moved by `shift`.
fn ramp(at: f64, light: f64, shift: f64) -> Colour {
    oklch(0.34 + (light - 0.34) * at + shift, 0.13, 300.0 - 200.0 * at)
}

/// Returns a colour from white at 0 to dark blue at 1.
pub fn heat(share: f64) -> Colour {
    let at = share.clamp(0.0, 1.0);
    oklch(
        1.0 - 0.66 * at,
        0.13 * (at * std::f64::consts::PI * 0.72).sin(),
        235.0 + 30.0 * at,
    )
}

/// Returns dark or white, whichever has the higher contrast to the `background` by its relative
/// luminance (WCAG 2).
pub fn ink_on(background: Colour) -> Colour {
    let [r, g, b] = background.0.map(|byte| (f64::from(byte) / 255.0).powf(2.2));
    if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.21 {
        INK
    } else {
        WHITE
    }
}

/// Returns the sRGB of a lightness 0..1, chroma, and hue in degrees (Ottosson 2020,
/// <https://bottosson.github.io/posts/oklab/>), clipped to what exists.
fn oklch(lightness: f64, chroma: f64, hue: f64) -> Colour {
    let (sin, cos) = hue.to_radians().sin_cos();
    let (a, b) = (chroma * cos, chroma * sin);
    let l = (lightness + 0.3963377774 * a + 0.2158037573 * b).powi(3);
    let m = (lightness - 0.1055613458 * a - 0.0638541728 * b).powi(3);
    let s = (lightness - 0.0894841775 * a - 1.2914855480 * b).powi(3);
    Rgb([
        gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
        gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
        gamma(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s),
    ])
}

/// Returns the sRGB byte of a linear intensity.
fn gamma(linear: f64) -> u8 {
    let curved = if linear <= 0.0031308 {
        12.92 * linear
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    };
    (curved.clamp(0.0, 1.0) * 255.0).round() as u8
}
