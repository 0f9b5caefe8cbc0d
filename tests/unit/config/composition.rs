//! Which file's value wins, and who is named for it.

use crate::config::Tree;
use fed_distill::train::{Milestones, ScheduleSettings};

#[test]
fn later_layers_win_and_are_named() {
    let tree = Tree::new(&[
        (
            "config.yaml",
            "defaults:\n  - teacher: a\n  - _self_\nseed: 1\nteacher:\n  epochs: 5\n",
        ),
        ("teacher/a.yaml", "epochs: 3\nbatch_size: 4\n"),
    ]);
    let composed = tree.compose(&["seed=2"]);
    let config = &composed.config;
    assert_eq!(
        (
            config.seed,
            config.teacher.epochs,
            config.teacher.batch_size
        ),
        (2, 5, 4)
    );
    assert_eq!(tree.set_by(&composed, "seed"), "command line `seed=2`");
    assert_eq!(
        tree.set_by(&composed, "teacher.epochs"),
        "TREE/config.yaml:6"
    );
    assert_eq!(
        tree.set_by(&composed, "teacher.batch_size"),
        "TREE/teacher/a.yaml:2"
    );
    assert_eq!(
        tree.set_by(&composed, "teacher.eval_batch_size"),
        "built-in default"
    );
    assert_eq!(
        tree.set_by(&composed, "teacher"),
        "TREE/teacher/a.yaml:2, TREE/config.yaml:6"
    );
}

#[test]
fn own_keys_come_where_self_stands() {
    let group = ("teacher/a.yaml", "epochs: 3\n");
    for (primary, epochs) in [
        ("defaults: [_self_, teacher: a]\nteacher: {epochs: 5}\n", 3),
        ("defaults: [teacher: a, _self_]\nteacher: {epochs: 5}\n", 5),
        ("defaults: [teacher: a]\nteacher: {epochs: 5}\n", 5),
    ] {
        let tree = Tree::new(&[("config.yaml", primary), group]);
        assert_eq!(tree.compose(&[]).config.teacher.epochs, epochs, "{primary}");
    }
}

#[test]
fn mappings_merge_and_lists_replace() {
    let tree = Tree::new(&[
        (
            "config.yaml",
            "defaults: [student: a]\nstudent:\n  schedule: {milestones: [7]}\n",
        ),
        (
            "student/a.yaml",
            "schedule:\n  milestones: [1, 2, 3]\n  gamma: 0.5\n",
        ),
    ]);
    let schedule = |overrides: &[&str]| tree.compose(overrides).config.student.schedule;
    let milestones =
        |milestones, gamma| ScheduleSettings::Milestones(Milestones { milestones, gamma });
    assert_eq!(schedule(&[]), milestones(vec![7], 0.5));
    assert_eq!(
        schedule(&["student.schedule={gamma: 0.3}"]),
        milestones(vec![7], 0.3)
    );
}

#[test]
fn content_goes_to_the_package() {
    let tree = Tree::new(&[
        ("teacher/plain.yaml", "epochs: 1\n"),
        (
            "teacher/global.yaml",
            "# First a word about it.\n# @package _global_\nseed: 5\nteacher: {epochs: 2}\n",
        ),
        (
            "teacher/named.yaml",
            "# @package student.optimizer\nlr: 3\n",
        ),
    ]);
    assert_eq!(tree.compose(&["+teacher=plain"]).config.teacher.epochs, 1);
    let config = tree.compose(&["+teacher=global"]).config;
    assert_eq!((config.seed, config.teacher.epochs), (5, 2));
    assert_eq!(
        tree.compose(&["+teacher=named"])
            .config
            .student
            .optimizer
            .lr,
        3.0
    );
}

/// Also in a group that is no key.
#[test]
fn an_empty_file_is_an_empty_mapping() {
    let tree = Tree::new(&[
        ("experiment/empty.yaml", ""),
        ("experiment/words.yaml", "# Nothing yet.\n"),
    ]);
    let plain = tree.compose(&[]).config;
    for typed in ["+experiment=empty", "+experiment=words"] {
        assert_eq!(tree.compose(&[typed]).config, plain, "{typed}");
    }
}

#[test]
fn a_bare_name_is_a_file_of_the_same_folder() {
    let tree = Tree::new(&[
        ("config.yaml", "defaults: [base]\n"),
        ("base.yaml", "seed: 9\n"),
        (
            "deep_inv/_common.yaml",
            "batch_size: 8\nkeep_moments: true\n",
        ),
        ("deep_inv/a.yaml", "defaults: [_common]\nbatch_size: 9\n"),
    ]);
    let config = tree.compose(&["+deep_inv=a"]).config;
    assert_eq!(
        (
            config.seed,
            config.deep_inv.batch_size,
            config.deep_inv.keep_moments
        ),
        (9, 9, true)
    );
}

/// An experiment-like file that chooses other groups and then sets keys of them.
fn nested() -> Tree {
    Tree::new(&[
        (
            "student/s.yaml",
            "# @package _global_\ndefaults:\n  - /deep_inv: a\n  - /teacher: t\n  - \
             _self_\ndeep_inv: {batch_size: 7}\n",
        ),
        ("deep_inv/a.yaml", "batch_size: 1\nkeep_moments: false\n"),
        ("deep_inv/b.yaml", "batch_size: 2\nkeep_moments: true\n"),
        ("teacher/t.yaml", "epochs: 1\n"),
        ("teacher/u.yaml", "epochs: 2\n"),
    ])
}

#[test]
fn a_choice_is_replaced_where_it_stands() {
    // b instead of a, yet the student's own key still lies above it.
    for overrides in [["+student=s", "deep_inv=b"], ["deep_inv=b", "student=s"]] {
        let composed = nested().compose(&overrides);
        assert!(composed.config.deep_inv.keep_moments);
        assert_eq!(composed.config.deep_inv.batch_size, 7);
        let chosen: Vec<_> = composed
            .choices
            .iter()
            .map(|choice| choice.option.as_str())
            .collect();
        assert_eq!(
            chosen.iter().filter(|option| **option == "b").count(),
            1,
            "{chosen:?}"
        );
    }
}

#[test]
fn a_choice_nobody_made_is_added() {
    assert_eq!(nested().compose(&["teacher=u"]).config.teacher.epochs, 2);
    assert_eq!(nested().compose(&["+teacher=u"]).config.teacher.epochs, 2);
    assert_eq!(nested().compose(&["++teacher=u"]).config.teacher.epochs, 2);
}

#[test]
fn the_same_choice_twice_is_one() {
    for overrides in [["+student=s", "+teacher=t"], ["+teacher=t", "+student=s"]] {
        let composed = nested().compose(&overrides);
        let teachers = composed
            .choices
            .iter()
            .filter(|choice| choice.group == "teacher");
        assert_eq!(teachers.count(), 1);
    }
}

#[test]
fn a_choice_is_deleted() {
    for tilde in ["~teacher", "~teacher=t"] {
        let composed = nested().compose(&["+student=s", tilde]);
        assert_eq!(composed.config.teacher.epochs, 300);
        assert!(
            composed
                .choices
                .iter()
                .all(|choice| choice.group != "teacher")
        );
    }
    let composed = nested().compose(&["+student=s", "teacher=null"]);
    assert_eq!(composed.config.teacher.epochs, 300);
}

/// The line nearest to the primary file wins.
#[test]
fn override_lines_replace_choices() {
    let tree = Tree::new(&[
        (
            "config.yaml",
            "defaults:\n  - dataset: digits\n  - model: null\n  - _self_\n",
        ),
        ("dataset/digits.yaml", "kind: digits\n"),
        ("dataset/mnist.yaml", "kind: mnist\n"),
        ("dataset/kmnist.yaml", "kind: kmnist\n"),
        ("model/small.yaml", "width: 4\n"),
        (
            "teacher/inner.yaml",
            "defaults: [override /dataset: mnist]\n",
        ),
        (
            "experiment/outer.yaml",
            "# @package _global_\ndefaults:\n  - /teacher: inner\n  - override /dataset: kmnist\n  \
             - override /model: small\n",
        ),
    ]);
    let kind = |overrides: &[&str]| {
        serde_json::to_value(tree.compose(overrides).config.dataset.kind).unwrap()
    };
    assert_eq!(kind(&["+teacher=inner"]), "mnist");
    assert_eq!(kind(&["+experiment=outer"]), "kmnist");
    assert_eq!(kind(&["+experiment=outer", "dataset=digits"]), "digits");
    let composed = tree.compose(&["+experiment=outer"]);
    assert_eq!(composed.config.model.width, Some(4));
    assert_eq!(
        tree.set_by(&composed, "model.width"),
        "TREE/model/small.yaml:1"
    );
}

/// It is the choice then.
#[test]
fn override_line_without_a_choice() {
    let tree = Tree::new(&[
        ("model/small.yaml", "width: 4\n"),
        ("model/large.yaml", "width: 400\n"),
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults: [override /model: small, _self_]\nmodel: {blocks: \
             [1]}\n",
        ),
    ]);
    let model = tree.compose(&["+experiment=e"]).config.model;
    assert_eq!((model.width, model.blocks), (Some(4), Some(vec![1])));
    assert_eq!(
        tree.compose(&["+experiment=e", "model=large"])
            .config
            .model
            .width,
        Some(400)
    );
    assert_eq!(
        tree.compose(&["+experiment=e", "~model"])
            .config
            .model
            .width,
        None
    );
}

#[test]
fn a_missing_optional_file_is_passed_over() {
    let tree = Tree::new(&[
        (
            "config.yaml",
            "defaults:\n  - optional teacher: nobody\n  - optional deep_inv: a\n",
        ),
        ("teacher/t.yaml", ""),
        ("deep_inv/a.yaml", "batch_size: 3\n"),
    ]);
    assert_eq!(tree.compose(&[]).config.deep_inv.batch_size, 3);
}

#[test]
fn nested_groups_have_slashes() {
    let tree = Tree::new(&[
        ("student/model/tiny.yaml", "width: 2\n"),
        ("student/s.yaml", "defaults: [model: tiny]\n"),
    ]);
    for overrides in ["+student/model=tiny", "+student=s"] {
        assert_eq!(
            tree.compose(&[overrides])
                .config
                .student
                .model
                .unwrap()
                .width,
            Some(2)
        );
    }
}

#[test]
fn keys_are_set_added_forced_and_deleted() {
    let tree = Tree::new(&[(
        "config.yaml",
        "seed: 5\ndataset: {kind: mnist, root: here}\n",
    )]);
    let seed = |overrides: &[&str]| tree.compose(overrides).config.seed;
    assert_eq!(seed(&["seed=6"]), 6);
    assert_eq!(seed(&["seed=6", "seed=7"]), 7);
    assert_eq!(seed(&["++seed=6"]), 6);
    assert_eq!(seed(&["~seed"]), 42);
    assert_eq!(seed(&["~seed=5"]), 42);
    assert_eq!(seed(&["~seed", "+seed=8"]), 8);
    assert_eq!(tree.compose(&["~dataset"]).config.dataset.root, None);
    // Nobody but the built-in default has set it.
    assert_eq!(
        tree.compose(&["+teacher.epochs=3"]).config.teacher.epochs,
        3
    );
    assert_eq!(
        tree.compose(&["student.model.kind=lenet5"])
            .config
            .student
            .model
            .unwrap()
            .width,
        None
    );
}

#[test]
fn sweeps_multiply_with_the_last_fastest() {
    let tree = nested();
    assert_eq!(
        tree.sweep(&["seed=1,2", "device=cpu", "+teacher=t,u"]),
        [
            "seed=1 device=cpu +teacher=t",
            "seed=1 device=cpu +teacher=u",
            "seed=2 device=cpu +teacher=t",
            "seed=2 device=cpu +teacher=u",
        ]
    );
    assert_eq!(
        tree.sweep(&["seed=range(1,4)"]),
        ["seed=1", "seed=2", "seed=3"]
    );
    assert_eq!(tree.sweep(&["seed=range(2)"]), ["seed=0", "seed=1"]);
    assert_eq!(
        tree.sweep(&["seed=range(9,2,-3)"]),
        ["seed=9", "seed=6", "seed=3"]
    );
    let lr = "student.optimizer.lr";
    assert_eq!(
        tree.sweep(&["student.optimizer.lr=range(0.1,0.4,0.1)"]),
        [
            format!("{lr}=0.1"),
            format!("{lr}=0.2"),
            format!("{lr}=0.3")
        ]
    );
    assert_eq!(
        tree.sweep(&["teacher.save_folder=choice('a,b', c d ,${oc.env:NO_SUCH_NAME,x})"]),
        [
            "teacher.save_folder='a,b'",
            "teacher.save_folder=c d",
            "teacher.save_folder=${oc.env:NO_SUCH_NAME,x}"
        ]
    );
    assert_eq!(tree.sweep(&["seed=3"]), ["seed=3"]);
    assert_eq!(
        tree.sweep(&["teacher.schedule.milestones=[1,2],[3]"]),
        [
            "teacher.schedule.milestones=[1,2]",
            "teacher.schedule.milestones=[3]"
        ]
    );
}

/// One option of one's own, and one in place of a built-in one, without a copy of the tree.
#[test]
fn a_folder_adds_to_the_built_in_tree() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("split/mine.yaml", "kind: iid\nnum_nodes: 3\n"),
        ("model/lenet5.yaml", "kind: cnn5\n"),
        (
            "study.yaml",
            "defaults:\n  - config\n  - model: lenet5\nseed: 5\n",
        ),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let asked = |name: Option<&str>, overrides: &[&str]| {
        let mut request = super::request(Some(folder.path().to_owned()), overrides);
        request.config_name = name.map(str::to_owned);
        fed_distill::config::compose(&request)
    };
    let composed = asked(None, &["+split=mine", "dataset=mnist", "model=lenet5"]).unwrap();
    let built_in = fed_distill::config::compose(&super::request(None, &["dataset=mnist"]));
    assert_eq!(composed.config.dataset, built_in.unwrap().config.dataset);
    assert_eq!(
        serde_json::to_value(&composed.config.split).unwrap()["num_nodes"],
        3
    );
    assert_eq!(format!("{:?}", composed.config.model.kind), "Cnn5");
    assert!(
        composed
            .set_by("split.num_nodes")
            .ends_with("split/mine.yaml:2")
    );
    let composed = asked(Some("study"), &[]).unwrap();
    assert_eq!(composed.config.seed, 5);
    let text = asked(None, &["+split=nine"]).unwrap_err().to_string();
    assert!(
        text.contains("dirichlet") && text.contains("mine"),
        "{text}"
    );
}
