//! What `fed_md` refuses, and what it only remarks on.

use super::fed_md::{FILES, SMALL};
use super::support::*;
use crate::common::{Place, TINY};
use fed_distill::artifact::hash;

#[test]
fn what_finds_no_client_is_said() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let more = [
        "fed_md.rounds=1",
        "fed_md.ranks=5",
        "fed_md.models=[linear, linear, linear, {kind: resnet18, width: 4, blocks: [1]}]",
    ];
    let options = with(&SMALL, &more);
    let (code, _, log) = place.run_with("fed_md", TINY, &options);
    assert_eq!(code, 0, "{log}");
    says(
        &log,
        &["`fed_md.models` names 4 architectures for 3 clients: nobody trains resnet18"],
    );
    says(
        &log,
        &["5 ranks share 3 nodes, so 2 have nothing to do: `fed_md.ranks=3`"],
    );
    let enough = with(
        &SMALL,
        &[
            "fed_md.rounds=1",
            "fed_md.save_folder=again",
            "fed_md.ranks=3",
        ],
    );
    let (code, _, log) = place.run_with("fed_md", TINY, &enough);
    assert!(
        code == 0 && !log.contains("nobody") && !log.contains("nothing to do"),
        "{log}"
    );
}

#[test]
fn mistakes_are_refused() {
    let place = Place::new();
    let refused = |more: &[&str], code: i32, words: &[&str]| {
        says(&place.fails("fed_md", &with(&SMALL, more), code), words)
    };
    says(&place.fails("fed_md", &[], 2), &["fed_md.save_folder"]);
    refused(&["split.save_path=null"], 2, &["split.save_path"]);
    refused(&[], 1, &["split_data"]);
    place.ok("split_data", &SMALL);
    refused(
        &["fed_md.rounds=0"],
        2,
        &["fed_md.rounds", "between 1 and 1,000,000"],
    );
    refused(&["fed_md.public_sample=5"], 2, &["fed_md.public_samples"]);
    refused(
        &["fed_md.public_node=4"],
        2,
        &["fed_md.public_node", "4 nodes", "0 to 3"],
    );
    refused(
        &["fed_md.weights=[1,2]"],
        2,
        &["fed_md.weights", "3 weights"],
    );
    refused(
        &["fed_md.weights=[0,0,0]"],
        2,
        &["fed_md.weights", "all be 0"],
    );
    refused(
        &["fed_md.models=[lenet5_unpadded]"],
        2,
        &["lenet5_unpadded", "node 0"],
    );
    let public = "fed_md.public.kind=digits";
    refused(
        &[public],
        2,
        &["another shape", "1×8×8", "fed_md.public.size=8"],
    );
    refused(
        &[public, "fed_md.public.max_train=5"],
        2,
        &["`fed_md.public.max_train` must be at least"],
    );
    refused(
        &[public, "fed_md.public_node=1"],
        2,
        &["fed_md.public_node", "no node is public"],
    );
    refused(
        &["fed_md.ranks=0"],
        2,
        &["fed_md.ranks", "between 1 and 1024"],
    );
    assert!(!place.path("fed").exists());
    refused(
        &["fed_md.ranks=2", "fed_md.optimizer.lr=1e30"],
        1,
        &["node 0", "round 1"],
    );
    refused(&["dataset.max_train=150"], 1, &["split.json"]);
    assert!(!place.path(FILES[0]).exists());
    place.ok("fed_md", &with(&SMALL, &["overwrite=true"]));
    refused(&[], 2, &["overwrite=true"]);
    refused(
        &["resume=true", "fed_md.digest_loss=squared"],
        2,
        &["digest_loss"],
    );
    let before = hash::file(&place.path(FILES[0])).unwrap();
    place.ok("fed_md", &with(&SMALL, &["resume=true"]));
    assert_eq!(before, hash::file(&place.path(FILES[0])).unwrap());
    place.ok(
        "split_data",
        &["split.num_nodes=1", "split.save_path=one.json"],
    );
    refused(
        &[
            "split.num_nodes=1",
            "split.save_path=one.json",
            "fed_md.save_folder=one",
        ],
        2,
        &["one node", "fed_md.public.kind"],
    );
}
