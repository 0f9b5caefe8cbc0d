//! What the report says of each experiment, held against the composed configs at full scale.

use super::{docs, experiment};
use fed_distill::config::schema::Padding;
use fed_distill::inversion::{SamplePer, TeacherMode};

/// Name, teachers, gradient updates, initial batches, fresh batches an epoch.
const FACTS: [(&str, usize, usize, usize, usize); 30] = [
    ("1_teacher_custom", 1, 1000, 50, 2),
    ("1_teacher_custom_adap", 1, 1000, 50, 2),
    ("1_teacher_custom_adap_no_comp", 1, 1000, 50, 2),
    ("1_teacher_paper", 1, 2000, 50, 2),
    ("1_teacher_paper_adap", 1, 2000, 50, 2),
    ("half_1_teacher_custom_adap", 1, 1000, 25, 1),
    ("half_1_teacher_custom_adap_50", 1, 1000, 50, 2),
    ("half_1_teacher_custom_weighted", 1, 1000, 25, 1),
    ("half_1_teacher_custom_weighted_2", 1, 1000, 25, 1),
    ("half_1_teacher_custom_weighted_1000", 1, 1000, 25, 1),
    ("iid_10_teacher_custom", 10, 1000, 50, 2),
    ("iid_10_teacher_custom_3000", 10, 3000, 50, 2),
    ("iid_10_sampling_n3", 10, 1000, 50, 2),
    ("iid_10_sampling_n5", 10, 1000, 50, 2),
    ("iid_10_sampling_n3_no_comp", 10, 1000, 50, 2),
    ("iid_10_sampling_n5_no_comp", 10, 1000, 50, 2),
    ("iid_10_sampling_per_batch", 10, 1000, 50, 2),
    ("heter_10_teacher_custom", 10, 1000, 50, 2),
    ("heter_10_sampling_no_masks", 10, 1000, 50, 2),
    ("heter_10_cycle", 10, 1000, 50, 2),
    ("2_teachers_custom_adap", 2, 1000, 50, 2),
    ("2_teachers_custom_adap_3000", 2, 3000, 50, 2),
    ("2_teachers_custom_adap_no_masks", 2, 1000, 50, 2),
    ("2_teachers_custom_adap_no_masks_3000", 2, 3000, 50, 2),
    ("2_teachers_entropy", 2, 1000, 50, 2),
    ("2_teachers_rivals", 2, 1000, 50, 2),
    ("5_teachers_custom_adap", 5, 1000, 50, 2),
    ("5_teachers_custom_adap_3000", 5, 3000, 50, 2),
    ("5_teachers_custom_adap_no_masks", 5, 1000, 50, 2),
    ("5_teachers_custom_adap_no_masks_3000", 5, 3000, 50, 2),
];

#[test]
fn numbers_of_the_report() {
    assert_eq!(docs::experiments(), FACTS.map(|fact| fact.0));
    for (name, teachers, updates, initial, fresh) in FACTS {
        let config = experiment(name);
        let (inversion, student) = (&config.deep_inv, &config.student);
        assert_eq!(config.teacher.num_teachers, Some(teachers), "{name}");
        // The public project's weighted runs start from the others' initial batches and make longer
        // ones, but not at its last commit.
        let longer = name.contains("weighted") && !name.ends_with("1000");
        let fresh_updates = if longer { 3000 } else { updates };
        assert_eq!(
            (
                inversion.di.grad_updates_batch,
                inversion.adi.grad_updates_batch
            ),
            (updates, fresh_updates),
            "{name}"
        );
        assert_eq!(
            (config.initial.num_batches, student.new_batches_per_epoch),
            (initial, fresh),
            "{name}"
        );
        assert_eq!(
            (config.seed, student.seed, student.epochs),
            (42, 43, 300),
            "{name}"
        );
        let adaptive = !["1_teacher_custom", "1_teacher_paper"].contains(&name);
        assert_eq!(student.adaptive, adaptive, "{name}");
        assert_eq!(
            inversion.teachers.mask,
            !name.contains("no_masks"),
            "{name}"
        );
        let competition = if name.ends_with("no_comp") { 0.0 } else { 10.0 };
        assert_eq!(inversion.adi.loss.comp_scale, competition, "{name}");
        let scale = |key: &str| f64::from(u8::from(name.ends_with(key)));
        for loss in [&inversion.di.loss, &inversion.adi.loss] {
            assert_eq!(
                (loss.entropy_scale, loss.rival_scale),
                (scale("entropy"), scale("rivals")),
                "{name}"
            );
        }
        assert_eq!(student.padding, Padding::Mean, "{name}");
        let folder = format!("outputs/{name}/student");
        assert_eq!(
            student.save_folder,
            Some(folder.into()),
            "students are never shared"
        );
    }
}

#[test]
fn teachers_of_a_batch() {
    let teachers = |name: &str| {
        let chosen = experiment(name).deep_inv.teachers;
        (chosen.mode, chosen.n, chosen.per)
    };
    assert_eq!(teachers("iid_10_teacher_custom").0, TeacherMode::Cycle);
    assert_eq!(teachers("2_teachers_custom_adap").0, TeacherMode::Cycle);
    assert_eq!(
        teachers("iid_10_sampling_n3"),
        (TeacherMode::Sample, 3, SamplePer::Step)
    );
    assert_eq!(
        teachers("iid_10_sampling_n5_no_comp"),
        (TeacherMode::Sample, 5, SamplePer::Step)
    );
    assert_eq!(
        teachers("iid_10_sampling_n5"),
        (TeacherMode::Sample, 5, SamplePer::Step)
    );
    assert_eq!(
        teachers("heter_10_teacher_custom"),
        (TeacherMode::Sample, 3, SamplePer::Step)
    );
    assert_eq!(
        teachers("iid_10_sampling_per_batch"),
        (TeacherMode::Sample, 3, SamplePer::Batch)
    );
}

#[test]
fn weights_of_half_of_the_classes() {
    for (name, weight) in [
        ("half_1_teacher_custom_weighted", 10.0),
        ("half_1_teacher_custom_weighted_1000", 10.0),
        ("half_1_teacher_custom_weighted_2", 2.0),
    ] {
        let weights = experiment(name).student.class_weights.unwrap();
        assert_eq!(weights, [[weight; 5], [1.0; 5]].concat(), "{name}");
    }
}
