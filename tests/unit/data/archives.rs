//! Archives of images that must be refused.

use super::images::{colour, files, folder_settings, pack};
use crate::common::datasets::*;

/// Nothing is written.
#[test]
fn unsafe_archives_are_refused() {
    let good = png(10, 10, 3, &colour(1));
    let with = |name: &str| {
        let mut files = files();
        files.push((name.into(), good.clone()));
        pack(&files)
    };
    let mut oversized = pack(&files());
    oversized[124..136].copy_from_slice(b"77777777777\0");
    fix_checksum(&mut oversized);
    // A long name (type L) of two megabytes.
    let mut long_name = pack(&vec![("././@LongLink".into(), vec![b'a'; 2 << 20])]);
    long_name[156] = b'L';
    long_name[257..265].copy_from_slice(b"ustar  \0");
    fix_checksum(&mut long_name);
    let whole = pack(&files());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (with("../escaped.png"), "unsafe name"),
        (with("/tmp/escaped.png"), "unsafe name"),
        (with("train/../../escaped.png"), "unsafe name"),
        (with("train/ant/a.png"), "there twice"),
        (with("other/train/ant/a.png"), "several sets"),
        // It claims eight gigabytes, of which it holds nothing.
        (oversized, "cut off"),
        (long_name, "more than its headers allow"),
        (Vec::new(), "cut off"),
        (whole[..1024].to_vec(), "cut off"),
        (whole[..1000].to_vec(), "cannot read"),
        (b"no archive at all".repeat(100), "cannot read"),
    ];
    for (archive, expected) in cases {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("in");
        std::fs::create_dir(&root).unwrap();
        for bytes in [
            archive.clone(),
            gzip(&archive),
            zstd::encode_all(archive.as_slice(), 1).unwrap(),
        ] {
            std::fs::write(root.join("a.tar"), &bytes).unwrap();
            let text = failure(&folder_settings(&root)).to_string();
            assert!(
                text.contains(expected) && text.contains("a.tar"),
                "{expected}: {text}"
            );
            assert_eq!(snapshot(outer.path()).len(), 1);
        }
    }
}

/// Makes the first header of a tar valid again.
fn fix_checksum(archive: &mut [u8]) {
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|&byte| u32::from(byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
