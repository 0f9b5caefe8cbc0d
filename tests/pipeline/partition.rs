//! Every option of the split group through `split_data`.

use crate::common::{Place, kinds_of_split};
use fed_distill::artifact::json;
use fed_distill::partition::{Part, Split};
use std::collections::BTreeMap;

const BASE: &[&str] = &["dataset.size=8", "device=cpu", "threads=1"];

#[test]
fn every_option_deals_the_digits() {
    let place = Place::new();
    let kinds = kinds_of_split();
    let sweep = format!("split={}", kinds.join(","));
    let (code, out, errors) = place.run_with(
        "split_data",
        BASE,
        &["-m", &sweep, "split.save_path=split.json"],
    );
    assert_eq!(code, 0, "{errors}");
    for kind in &kinds {
        let folder = place.path(&format!("split={kind}"));
        let parts: BTreeMap<String, Part> = json::read(&folder.join("split.json")).unwrap();
        Split::from_json(parts).unwrap().check(1442, 355).unwrap();
        for picture in ["split.png", "split.svg"] {
            assert!(
                folder.join(picture).metadata().unwrap().len() > 1000,
                "{kind}"
            );
        }
    }
    // Of the digits' 1,442 images only the skewed split leaves some out.
    let left: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("left out: "))
        .collect();
    assert_eq!(left.len(), 1, "{out}");
    assert!(left[0].ends_with(" of 1442 training images"), "{out}");
}

/// One for which chance gave a node too little.
#[test]
fn failed_split_leaves_nothing() {
    let place = Place::new();
    let asked = [
        "split=dirichlet",
        "split.alpha=0.001",
        "split.num_nodes=100",
        "split.save_path=split.json",
    ];
    let (code, out, errors) = place.run_with("split_data", BASE, &asked);
    assert_eq!((code, out.as_str()), (2, ""), "{errors}");
    for words in [
        "error: Dirichlet(0.001) over 100 nodes",
        "came short",
        "hint: try a larger `split.alpha`",
    ] {
        assert!(errors.contains(words), "{errors}");
    }
    assert!(!place.path("split.json").exists() && !place.path("split.png").exists());
}
