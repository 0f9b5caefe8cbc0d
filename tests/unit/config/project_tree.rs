//! The files of `config/`: all compose, and those of the EPFL report say what the report says.

use crate::common::{config_dir, kinds_of_split};
use crate::config::request;
use fed_distill::config::{Composed, Config, Tree, compose};
use fed_distill::data::DatasetKind;
use fed_distill::inversion::TeacherMode;
use fed_distill::model::ModelKind;
use fed_distill::partition::{PartitionSettings, UniformShare};
use fed_distill::train::{Milestones, OptimizerSettings, ScheduleSettings};

fn composed(overrides: &[&str]) -> Composed {
    compose(&request(Some(config_dir()), overrides))
        .unwrap_or_else(|error| panic!("{overrides:?}: {error}"))
}

fn config(overrides: &[&str]) -> Config {
    composed(overrides).config
}

#[test]
fn every_option_of_every_group_composes() {
    let tree = Tree::Folder(config_dir());
    let groups = tree.groups();
    for expected in [
        "dataset",
        "deep_inv",
        "distributed_sgd",
        "experiment",
        "fed_avg",
        "fed_md",
        "method",
        "model",
        "protocol",
        "scale",
        "split",
        "student",
        "teacher",
    ] {
        assert!(
            groups.iter().any(|group| group == expected),
            "{expected} is missing"
        );
    }
    for group in &groups {
        for option in tree.options(group) {
            let composed = composed(&[&format!("{group}={option}")]);
            assert!(
                composed
                    .choices
                    .iter()
                    .any(|choice| choice.group == *group && choice.option == option)
            );
            assert_eq!(composed.without_effect(), [], "{group}={option}");
        }
    }
}

#[test]
fn without_overrides_the_dataset_is_digits() {
    let config = config(&[]);
    assert_eq!(
        (config.dataset.kind, config.seed),
        (DatasetKind::Digits, 42)
    );
}

/// Name, teachers, new batches an epoch, adaptive, total variation of the inversion.
const STUDENTS: [(&str, usize, usize, bool, f64); 10] = [
    ("1_teacher_custom", 1, 2, false, 1e-3),
    ("1_teacher_custom_adap", 1, 2, true, 1e-3),
    ("1_teacher_paper", 1, 2, false, 2.5e-5),
    ("1_teacher_paper_adap", 1, 2, true, 2.5e-5),
    ("half_1_teacher_custom_adap", 1, 1, true, 1e-3),
    ("half_1_teacher_custom_weighted", 1, 1, true, 1e-3),
    ("iid_10_teacher_custom", 10, 2, true, 1e-3),
    ("heter_10_teacher_custom", 10, 2, true, 1e-3),
    ("2_teachers_custom_adap", 2, 2, true, 1e-3),
    ("5_teachers_custom_adap", 5, 2, true, 1e-3),
];

#[test]
fn students_of_the_report() {
    for (name, teachers, new, adaptive, var_scale) in STUDENTS {
        let config = config(&[&format!("+student={name}")]);
        let student = &config.student;
        assert_eq!(config.dataset.kind, DatasetKind::Cifar10, "{name}");
        assert_eq!(config.dataset.mean, Some(vec![0.4914, 0.4822, 0.4465]));
        assert_eq!(config.model.kind, ModelKind::Resnet18);
        assert_eq!(
            (config.teacher.num_teachers, student.new_batches_per_epoch),
            (Some(teachers), new),
            "{name}"
        );
        assert_eq!(config.initial.num_batches, 25 * new, "{name}");
        assert_eq!(
            (student.adaptive, student.seed, student.epochs),
            (adaptive, 43, 300),
            "{name}"
        );
        assert_eq!(
            (
                student.batch_size,
                config.teacher.batch_size,
                config.deep_inv.batch_size
            ),
            (256, 256, 256)
        );
        for (optimizer, schedule) in [
            (&student.optimizer, &student.schedule),
            (&config.teacher.optimizer, &config.teacher.schedule),
        ] {
            let sgd = OptimizerSettings {
                weight_decay: 5e-4,
                ..OptimizerSettings::sgd(0.1, 0.9)
            };
            assert_eq!(*optimizer, sgd);
            let milestones = Milestones {
                milestones: vec![150, 250],
                gamma: 0.1,
            };
            assert_eq!(*schedule, ScheduleSettings::Milestones(milestones));
        }
        assert_eq!(config.deep_inv.di.loss, config.deep_inv.adi.loss);
        assert_eq!(config.deep_inv.di.loss.var_scale, var_scale, "{name}");
        for path in [&student.save_folder, &config.initial.save_path] {
            assert!(
                path.as_ref()
                    .is_some_and(|path| path.starts_with(format!("outputs/{name}"))),
                "{name}: {path:?}"
            );
        }
        assert!(config.teacher.save_folder.is_some());
        assert_eq!(
            config.split.save_path.is_some(),
            !name.starts_with("1_"),
            "{name}"
        );
    }
}

#[test]
fn inversion_settings_of_the_report() {
    let custom = config(&["deep_inv=custom_params"]).deep_inv;
    assert_eq!(
        (
            custom.di.loss.l2_scale,
            custom.di.grad_updates_batch,
            custom.optimizer.lr
        ),
        (0.0, 1000, 0.1)
    );
    let paper = config(&["deep_inv=paper_params"]).deep_inv;
    assert_eq!(
        (
            paper.adi.loss.l2_scale,
            paper.adi.grad_updates_batch,
            paper.optimizer.lr
        ),
        (3e-8, 2000, 0.05)
    );
    let more = config(&["deep_inv=custom_params_more_iterations"]).deep_inv;
    assert_eq!(
        (more.di.grad_updates_batch, more.adi.grad_updates_batch),
        (3000, 3000)
    );
    let sampling = config(&["deep_inv=sampling_experimental"]).deep_inv;
    assert_eq!(
        (sampling.teachers.mode, sampling.teachers.n),
        (TeacherMode::Sample, 3)
    );
    assert_eq!(sampling.di, custom.di);
}

#[test]
fn splits_of_the_report() {
    for (name, nodes, uniform) in [
        ("full_2_teachers", 2, 0.0),
        ("full_5_teachers", 5, 0.0),
        ("heter_2_teachers", 2, 0.1),
        ("heter_10_teachers", 10, 0.5),
        ("iid_10_teachers", 10, 1.0),
    ] {
        // The split alone, and through the teachers that are trained on it.
        for group in ["split", "teacher"] {
            let config = config(&[&format!("+{group}={name}")]);
            assert_eq!(
                config.split.partition,
                PartitionSettings::UniformShare(UniformShare {
                    nodes,
                    share: uniform
                })
            );
            assert_eq!(
                config.split.save_path,
                Some(format!("outputs/{name}/split.json").into())
            );
            assert_eq!(config.dataset.kind, DatasetKind::Cifar10);
        }
    }
}

#[test]
fn every_kind_of_split_has_an_option_of_its_name() {
    let kinds = kinds_of_split();
    assert!(kinds.len() >= 11, "{kinds:?}");
    for kind in &kinds {
        let split = config(&[&format!("split={kind}")]).split;
        assert_eq!(serde_json::json!(split)["kind"], **kind);
        // Splits of other datasets, alphas and numbers of nodes do not share a place.
        let path = split.save_path.unwrap();
        let path = path.to_str().unwrap();
        assert!(
            path.starts_with(&format!("outputs/digits_{kind}_")),
            "{path}"
        );
        assert!(
            path.ends_with(&format!("{}_nodes/split.json", split.partition.nodes())),
            "{path}"
        );
    }
}

#[test]
fn half_of_the_classes_stays_with_the_student() {
    let config = config(&["+student=half_1_teacher_custom_weighted"]);
    let weights = config.student.class_weights.unwrap();
    assert_eq!(
        weights,
        [10.0, 10.0, 10.0, 10.0, 10.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    );
    assert_eq!(
        (config.split.partition.nodes(), config.teacher.num_teachers),
        (2, Some(1))
    );
}

#[test]
fn the_command_line_wins_over_a_students_choices() {
    let config = config(&[
        "+student=iid_10_teacher_custom",
        "dataset=mnist",
        "deep_inv=sampling_experimental",
        "model=lenet5",
    ]);
    assert_eq!(
        (config.dataset.kind, config.model.kind),
        (DatasetKind::Mnist, ModelKind::Lenet5)
    );
    assert_eq!(config.deep_inv.teachers.n, 3);
    assert_eq!(config.student.epochs, 300);
}

/// The command line wins over both.
#[test]
fn experiment_replaces_choices() {
    let demo = config(&["+experiment=demo"]);
    assert_eq!(
        (demo.dataset.kind, demo.model.width),
        (DatasetKind::Digits, Some(16))
    );
    let other = config(&[
        "+experiment=demo",
        "dataset=mnist",
        "model=resnet18",
        "student.epochs=1",
    ]);
    assert_eq!(
        (other.dataset.kind, other.model.width, other.student.epochs),
        (DatasetKind::Mnist, None, 1)
    );
    assert_eq!(other.split.partition, demo.split.partition);
}
