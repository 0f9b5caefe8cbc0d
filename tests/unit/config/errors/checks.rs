//! Values of the right type that cannot be.

use super::mistake;
use crate::common::config_dir;
use crate::config::{Tree, request};
use fed_distill::config::{compose, shape};
use fed_distill::model::ModelKind;
use fed_distill::train::OptimizerSettings;
use insta::assert_snapshot;

#[test]
fn ranges() {
    let tree = Tree::new(&[("config.yaml", "split:\n  unif_percentage: 80\n")]);
    assert_snapshot!(tree.error(&[]), @r#"
    `split.unif_percentage` must be between 0 and 1, found number 80
      set by: TREE/config.yaml:2
    "#);
    for (argument, first) in [
        (
            "teacher.batch_size=0",
            "`teacher.batch_size` must be between 1 and 1,000,000,000, found number 0",
        ),
        (
            "student.optimizer.lr=-1",
            "`student.optimizer.lr` must be 0 or more, found number -1",
        ),
        (
            "student.optimizer={kind: adam, betas: [0.9, 1]}",
            "`student.optimizer.betas[1]` must be 0 or more and less than 1, found number 1",
        ),
        (
            "deep_inv.teachers.n=0",
            "`deep_inv.teachers.n` must be 1 or more, found number 0",
        ),
        (
            "teacher.schedule={kind: one_cycle, warmup: 2}",
            "`teacher.schedule.warmup` must be between 0 and 1, found number 2",
        ),
        (
            "dataset={mean: [0.5], std: [0]}",
            "`dataset.std[0]` must be greater than 0, found number 0",
        ),
        (
            "dataset={mean: [], std: []}",
            "`dataset.std` must not be an empty list",
        ),
        (
            "dataset.channels=2",
            "`dataset.channels` must be 1 or 3, found number 2",
        ),
        (
            "dataset.size=4",
            "`dataset.size` must be 8 or more, found number 4",
        ),
        (
            "teacher.validation_share=1",
            "`teacher.validation_share` must be greater than 0 and less than 1, found number 1",
        ),
    ] {
        assert_eq!(
            mistake(argument),
            format!("{first}\n  set by: command line `{argument}`")
        );
    }
}

#[test]
fn keys_of_another_kind_of_split() {
    assert_snapshot!(mistake("split={kind: iid, alpha: 0.1}"), @r#"
    `split.alpha` means nothing when `split.kind` is `iid`
      set by: command line `split={kind: iid, alpha: 0.1}`
      found: split.kind=iid, set by command line `split={kind: iid, alpha: 0.1}`
      available: kind, num_nodes, save_path
    hint: `split.kind=dirichlet`, `split.kind=dirichlet_equal` or `split.kind=quantity_skew` reads it
    "#);
    let tree = Tree::new(&[("config.yaml", "split:\n  unif_percentage: 0.2\n")]);
    assert_snapshot!(tree.error(&["split.kind=dirichlet"]), @r#"
    `split.unif_percentage` means nothing when `split.kind` is `dirichlet`
      set by: TREE/config.yaml:2
      found: split.kind=dirichlet, set by command line `split.kind=dirichlet`
      available: kind, num_nodes, save_path, …
    hint: `split.kind=uniform_share` reads it; `~split.unif_percentage` takes it back
    "#);
    tree.compose(&[
        "split.kind=dirichlet",
        "~split.unif_percentage",
        "split.alpha=0.3",
    ]);
    assert_snapshot!(mistake("split={kind: quantity_skew, sizes: log_normal, alpha: 1}"), @r#"
    `split.alpha` is not read when `split.sizes` is `log_normal`: its spread is `split.sigma`
      found: split.alpha=1.0, set by command line `split={kind: quantity_skew, sizes: log_normal, alpha: 1}`
      found: split.sizes=log_normal, set by command line `split={kind: quantity_skew, sizes: log_normal, alpha: 1}`
    "#);
    assert_snapshot!(mistake("split={kind: quantity_skew, sigma: 1}"), @r#"
    `split.sigma` is read only when `split.sizes` is `log_normal`
      found: split.sigma=1.0, set by command line `split={kind: quantity_skew, sigma: 1}`
      found: split.sizes=null, set by built-in default
    "#);
    assert_snapshot!(mistake("split={kind: skewed, minor_images: [3, 2]}"), @r#"
    `split.minor_images` must be a smallest and a largest number
      found: split.minor_images=[3, 2], set by command line `split={kind: skewed, minor_images: [3, 2]}`
    "#);
    assert_snapshot!(mistake("split={kind: dirichlet, alpha: 0}"), @r#"
    `split.alpha` must be greater than 0, found number 0
      set by: command line `split={kind: dirichlet, alpha: 0}`
    "#);
    assert_snapshot!(mistake("split.num_clients=5"), @r#"
    unknown key `split.num_clients`
      set by: command line `split.num_clients=5`
      available: kind, num_nodes, unif_percentage, …
    hint: did you mean `split.num_nodes`?
    "#);
}

#[test]
fn keys_of_another_kind_below_a_group() {
    assert_snapshot!(mistake("teacher.optimizer.betas=[0.5,0.9]"), @r#"
    `teacher.optimizer.betas` means nothing when `teacher.optimizer.kind` is `sgd`
      set by: command line `teacher.optimizer.betas=[0.5,0.9]`
      found: teacher.optimizer.kind=sgd, set by built-in default
      available: kind, lr, weight_decay, …
    hint: `teacher.optimizer.kind=adam` reads it
    "#);
    let tree = Tree::new(&[(
        "config.yaml",
        "fed_avg:\n  server: {kind: sgd, lr: 1.0, momentum: 0.5}\n",
    )]);
    assert_snapshot!(tree.error(&["fed_avg.server.kind=adam"]), @r#"
    `fed_avg.server.momentum` means nothing when `fed_avg.server.kind` is `adam`
      set by: TREE/config.yaml:2
      found: fed_avg.server.kind=adam, set by command line `fed_avg.server.kind=adam`
      available: kind, lr, weight_decay, …
    hint: `fed_avg.server.kind=sgd` reads it; `~fed_avg.server.momentum` takes it back
    "#);
    tree.compose(&["fed_avg.server.kind=adam", "~fed_avg.server.momentum"]);
    assert_snapshot!(mistake("student.schedule={kind: cosine, gamma: 0.5}"), @r#"
    `student.schedule.gamma` means nothing when `student.schedule.kind` is `cosine`
      set by: command line `student.schedule={kind: cosine, gamma: 0.5}`
      found: student.schedule.kind=cosine, set by command line `student.schedule={kind: cosine, gamma: 0.5}`
      available: kind
    hint: `student.schedule.kind=milestones` reads it
    "#);
    assert_snapshot!(mistake("dataset.root=data/mnist"), @r#"
    `dataset.root` means nothing when `dataset.kind` is `digits`
      set by: command line `dataset.root=data/mnist`
      found: dataset.kind=digits, set by config/dataset/digits.yaml:2
      available: kind, size, channels, …
    hint: `dataset.kind=mnist`, `dataset.kind=fashion_mnist`, `dataset.kind=kmnist`, `dataset.kind=cifar10`, `dataset.kind=cifar100` or `dataset.kind=image_folder` reads it
    "#);
    // What a file repeats of the built-in default says nothing against another kind; who types it
    // means it.
    assert_snapshot!(mistake("teacher.optimizer={kind: adam, momentum: 0.9}"), @r#"
    `teacher.optimizer.momentum` means nothing when `teacher.optimizer.kind` is `adam`
      set by: command line `teacher.optimizer={kind: adam, momentum: 0.9}`
      found: teacher.optimizer.kind=adam, set by command line `teacher.optimizer={kind: adam, momentum: 0.9}`
      available: kind, lr, weight_decay, …
    hint: `teacher.optimizer.kind=sgd` reads it
    "#);
    let tree = Tree::new(&[(
        "config.yaml",
        "teacher:\n  schedule: {kind: milestones, milestones: [150, 250], gamma: 0.1}\n",
    )]);
    tree.compose(&["teacher.schedule.kind=one_cycle"]);
    // A kind that is not the group's default has its own defaults, and shares the others.
    let optimizer = |overrides: &[&str]| {
        let config = Tree::new(&[]).compose(overrides).config;
        config.fed_md.settings.optimizer
    };
    assert_eq!(optimizer(&[]), OptimizerSettings::adam(1e-3));
    assert_eq!(
        optimizer(&["fed_md.optimizer.kind=sgd"]),
        OptimizerSettings::sgd(1e-3, 0.9)
    );
}

/// A sweep over models would find them in the middle.
#[test]
fn keys_of_another_kind_of_model() {
    assert_snapshot!(mistake("model={kind: lenet5, width: 4}"), @r#"
    `model.width` means nothing when `model.kind` is `lenet5`
      set by: command line `model={kind: lenet5, width: 4}`
      found: model.kind=lenet5, set by command line `model={kind: lenet5, width: 4}`
      available: kind
    hint: `model.kind=resnet18`, `model.kind=resnet34` or `model.kind=resnet50` reads it
    "#);
    let kinds = shape::config().get(&["model", "kind"]).unwrap();
    let shape::Takes::Names(kinds) = &kinds.takes else {
        panic!("{kinds:?}");
    };
    for name in kinds {
        let kind: ModelKind = serde_json::from_value(name.as_str().into()).unwrap();
        for set in ["width: 4", "blocks: [1]"] {
            let typed = format!("model={{kind: {name}, {set}}}");
            let composed = compose(&request(Some(config_dir()), &[&typed]));
            assert_eq!(composed.is_ok(), kind.is_residual(), "{typed}");
        }
    }
}

#[test]
fn relations() {
    assert_snapshot!(mistake("device=gpu"), @r#"
    `device` must be `auto`, `cpu`, `cuda` or `cuda:N`
      found: device=gpu, set by command line `device=gpu`
    hint: did you mean `cuda`?
    "#);
    assert_snapshot!(mistake("device=cuda:x"), @r#"
    `device` must be `auto`, `cpu`, `cuda` or `cuda:N`
      found: device="cuda:x", set by command line `device=cuda:x`
    "#);
    assert_snapshot!(mistake("device=cuda:99999999999999999999"), @r#"
    `device` must be `auto`, `cpu`, `cuda` or `cuda:N`
      found: device="cuda:99999999999999999999", set by command line `device=cuda:99999999999999999999`
    "#);
    assert_snapshot!(mistake("dataset.std=[1,1]"), @r#"
    `dataset.std` must have as many values as `dataset.mean`, or both be null
      found: dataset.std=[1.0, 1.0], set by command line `dataset.std=[1,1]`
      found: dataset.mean=null, set by built-in default
    "#);
    assert_snapshot!(mistake("dataset={mean: [1], std: [1], channels: 3}"), @r#"
    `dataset.mean` must have one value for each of `dataset.channels`
      found: dataset.mean=[1.0], set by command line `dataset={mean: [1], std: [1], channels: 3}`
      found: dataset.channels=3, set by command line `dataset={mean: [1], std: [1], channels: 3}`
    "#);
    assert_snapshot!(mistake("deep_inv.labels=weighted"), @r#"
    `deep_inv.label_weights` must be given when `deep_inv.labels` is `weighted`
      found: deep_inv.label_weights=null, set by built-in default
      found: deep_inv.labels=weighted, set by command line `deep_inv.labels=weighted`
    "#);
    assert_snapshot!(mistake("student.class_weights=[0,0]"), @r#"
    `student.class_weights` must not all be 0
      found: student.class_weights=[0.0, 0.0], set by command line `student.class_weights=[0,0]`
    "#);
    assert_snapshot!(mistake("student.optimizer={nesterov: true, momentum: 0}"), @r#"
    `student.optimizer.nesterov` needs a `student.optimizer.momentum` greater than 0
      found: student.optimizer.nesterov=true, set by command line `student.optimizer={nesterov: true, momentum: 0}`
      found: student.optimizer.momentum=0.0, set by command line `student.optimizer={nesterov: true, momentum: 0}`
    "#);
    assert_snapshot!(mistake("teacher={num_teachers: 2, only: [2]}"), @r#"
    `teacher.only` must name teachers from 0 to `teacher.num_teachers` − 1
      found: teacher.only=[2], set by command line `teacher={num_teachers: 2, only: [2]}`
      found: teacher.num_teachers=2, set by command line `teacher={num_teachers: 2, only: [2]}`
    "#);
    let error = compose(&request(
        Some(config_dir()),
        &[
            "+student=2_teachers_custom_adap",
            "deep_inv=sampling_experimental",
        ],
    ));
    let text = error.unwrap_err().to_string();
    let folder = config_dir();
    assert_snapshot!(text.replace(folder.to_str().unwrap(), "config"), @r#"
    `deep_inv.teachers.n` must not be more than `teacher.num_teachers`
      found: deep_inv.teachers.n=3, set by config/deep_inv/sampling_experimental.yaml:8
      found: teacher.num_teachers=2, set by config/teacher/full_2_teachers.yaml:7
    "#);
}

#[test]
fn several() {
    let tree = Tree::new(&[]);
    assert_snapshot!(tree.error(&["split.unif_percentage=-1", "threads=0"]), @r#"
    2 mistakes in the configuration
      mistake: `threads` must be 1 or more, found number 0
        set by: command line `threads=0`
      mistake: `split.unif_percentage` must be between 0 and 1, found number -1
        set by: command line `split.unif_percentage=-1`
    "#);
}

#[test]
fn devices_that_are_fine() {
    for name in ["auto", "cpu", "cuda", "cuda:1"] {
        assert_eq!(
            Tree::new(&[])
                .compose(&[&format!("device={name}")])
                .config
                .device
                .0,
            name
        );
    }
}
