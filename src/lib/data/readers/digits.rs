//! Reads the embedded digits: 1,797 images of 8×8 pixels with values 0..16. `assets/README.md`
//! names their source and licence.

use super::super::raw::{RawSet, RawSplit};
use crate::error::{Error, Result};
use flate2::read::GzDecoder;

const FILE: &[u8] = include_bytes!("../../../../assets/digits.csv.gz");
const SIDE: usize = 8;
const BRIGHTEST: u16 = 16;
const CLASSES: usize = 10;

/// Reads the embedded file and scales its values to 0..255. Every fifth image of a class, in file
/// order, is a test image.
pub(super) fn read() -> Result<RawSet> {
    parse(GzDecoder::new(FILE))
}

fn parse(text: impl std::io::Read) -> Result<RawSet> {
    let empty = RawSplit::empty(1, SIDE, SIDE);
    let (mut train, mut test) = (empty.clone(), empty);
    let mut seen = [0_usize; CLASSES];
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text);
    for row in rows.deserialize() {
        let row: Vec<u16> = row.map_err(|error| damaged(error.to_string()).caused_by(error))?;
        let (pixels, label) =
            split_row(&row).ok_or_else(|| damaged(format!("unexpected row {row:?}")))?;
        seen[label] += 1;
        let split = if seen[label] % 5 == 0 {
            &mut test
        } else {
            &mut train
        };
        split.pixels.extend(pixels);
        split.labels.push(label as i64);
    }
    Ok(RawSet {
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        train,
        test,
        broken: Vec::new(),
    })
}

/// Returns the 64 scaled pixels and the label of a row, or `None` when it has another form.
fn split_row(row: &[u16]) -> Option<(impl Iterator<Item = u8>, usize)> {
    let (&label, values) = row.split_last()?;
    let fits = values.len() == SIDE * SIDE
        && values.iter().all(|&value| value <= BRIGHTEST)
        && usize::from(label) < CLASSES;
    let scaled = values
        .iter()
        .map(|&value| ((value * 255 + BRIGHTEST / 2) / BRIGHTEST) as u8);
    fits.then_some((scaled, usize::from(label)))
}

fn damaged(problem: String) -> Error {
    Error::failed(format!("cannot read the embedded digits: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_malformed_rows() {
        let good = vec!["0"; 65].join(",");
        assert_eq!(
            parse(good.as_bytes()).map(|set| set.train.len()).ok(),
            Some(1)
        );
        let brighter_than_16 = good.replacen('0', "17", 1);
        let label_10 = format!("{},10", vec!["0"; 64].join(","));
        for bad in ["0,1,2", "a,b", &brighter_than_16, &label_10] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
