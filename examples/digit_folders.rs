//! Writes the embedded digits as image folders of three parties and a server, as if they had never
//! been together: each party has classes that the others lack, and the server has the test images.
//!
//! `cargo run --release --example digit_folders -- FOLDER` makes `FOLDER/party0/CLASS/….png` to
//! `party2` and `FOLDER/server/CLASS/….png`; `make demo-parties` continues from there.

use fed_distill::data::{DatasetSettings, ImageSet, load};
use fed_distill::{Error, Result};
use std::path::{Path, PathBuf};
use tch::Device;

/// Height and width of the digits in pixels, as they are embedded.
const SIZE: i64 = 8;

/// Classes of each party; the images of a class are shared by the parties that have it.
const PARTIES: [&[i64]; 3] = [&[0, 1, 2, 3], &[3, 4, 5, 6], &[6, 7, 8, 9]];

fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.ok_or_else(|| {
        Error::usage("no folder is given").hint("digit_folders outputs/parties/images")
    })?;
    let settings = DatasetSettings {
        size: Some(SIZE),
        ..DatasetSettings::default()
    };
    let digits = load(&settings, Device::Cpu)?;
    let everyone = |set: &ImageSet| -> Vec<usize> { (0..set.len()).collect() };
    for party in 0..PARTIES.len() {
        let indices: Vec<usize> = everyone(&digits.train)
            .into_iter()
            .filter(|&index| owner(digits.train.label_list[index], index) == Some(party))
            .collect();
        write(&root.join(format!("party{party}")), &digits.train, &indices)?;
    }
    let all = everyone(&digits.test);
    write(&root.join("server"), &digits.test, &all)
}

/// Returns the party that has an image of this label, in turn where several have the class.
fn owner(label: i64, index: usize) -> Option<usize> {
    let have = |party: &usize| PARTIES[*party].contains(&label);
    let parties: Vec<usize> = (0..PARTIES.len()).filter(have).collect();
    parties.get(index % parties.len().max(1)).copied()
}

/// Writes the images at `indices` as PNG files, a folder a class.
fn write(folder: &Path, set: &ImageSet, indices: &[usize]) -> Result<()> {
    let side = SIZE as usize;
    let pixels = Vec::<u8>::try_from(set.images.flatten(0, -1))?;
    for &index in indices {
        let class = folder.join(set.label_list[index].to_string());
        fs_err::create_dir_all(&class)?;
        let path = class.join(format!("{index:04}.png"));
        let image = &pixels[index * side * side..(index + 1) * side * side];
        let (side, colour) = (side as u32, image::ExtendedColorType::L8);
        image::save_buffer(&path, image, side, side, colour).map_err(|error| {
            let file = path.display().to_string();
            Error::failed("cannot write the image")
                .note("file", file)
                .caused_by(error)
        })?;
    }
    println!("{} images: {}", indices.len(), folder.display());
    Ok(())
}
