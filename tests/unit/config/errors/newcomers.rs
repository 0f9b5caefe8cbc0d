//! What people type in their first hour.

use super::mistake;
use crate::common::config_dir;
use crate::config::request;
use fed_distill::config::compose;
use insta::assert_snapshot;

#[test]
fn misspelled_option() {
    assert_snapshot!(mistake("+student=1_teacher_custm_adap"), @r#"
    `student` has no option `1_teacher_custm_adap`
      from: command line `+student=1_teacher_custm_adap`
      available: 1_teacher_custom, 1_teacher_custom_adap, 1_teacher_paper, …
    hint: did you mean `1_teacher_custom_adap`?
    "#);
    assert_snapshot!(mistake("+teacher=full_2_teacher"), @r#"
    `teacher` has no option `full_2_teacher`
      from: command line `+teacher=full_2_teacher`
      available: full_1_teacher, full_2_teachers, full_5_teachers, …
    hint: did you mean `full_2_teachers`?
    "#);
}

#[test]
fn misspelled_key() {
    assert_snapshot!(mistake("split.save_file=x"), @r#"
    unknown key `split.save_file`
      set by: command line `split.save_file=x`
      available: kind, num_nodes, unif_percentage, …
    hint: did you mean `split.save_path`?
    "#);
    assert_snapshot!(mistake("initial.save_folder=x"), @r#"
    unknown key `initial.save_folder`
      set by: command line `initial.save_folder=x`
      available: num_batches, save_path
    hint: did you mean `initial.save_path`?
    "#);
    assert_snapshot!(mistake("student.optimiser.lr=0.1"), @r#"
    unknown key `student.optimiser`
      set by: command line `student.optimiser.lr=0.1`
      available: save_folder, seed, model, …
    hint: did you mean `student.optimizer.lr`?
    "#);
}

#[test]
fn key_without_its_beginning() {
    assert_snapshot!(mistake("optimizer.lr=0.1"), @r#"
    unknown key `optimizer`
      set by: command line `optimizer.lr=0.1`
      available: seed, device, precision, …
    hint: did you mean `teacher.optimizer.lr`, `deep_inv.optimizer.lr`, `generator.optimizer.lr`, `student.optimizer.lr`, `fed_avg.optimizer.lr`, `fed_md.optimizer.lr` or `distributed_sgd.optimizer.lr`?
    "#);
}

#[test]
fn word_without_value_or_group() {
    assert_snapshot!(mistake("seed"), @r#"
    `seed` is not an override
      expected: key=value, +group=option, ++key=value or ~key
    hint: to set `seed` type `seed=VALUE`
    "#);
    assert_snapshot!(mistake("help"), @r#"
    `help` is not an override
      expected: key=value, +group=option, ++key=value or ~key
    hint: `--help` prints it
    "#);
    assert_snapshot!(mistake("1_teacher_paper"), @r#"
    `1_teacher_paper` is an option of `experiment` and `student`, typed without its group
      from: command line `1_teacher_paper`
    hint: type `+experiment=1_teacher_paper` or `+student=1_teacher_paper`
    "#);
}

/// The public Python project's own names for what is called otherwise here.
#[test]
fn names_of_the_python_project() {
    for (typed, meant) in [
        ("deep_inv.di.num_teachers=5", "deep_inv.teachers.n"),
        ("deep_inv.adi.num_teachers=5", "deep_inv.teachers.n"),
        ("teacher.train_epochs=3", "teacher.epochs"),
        ("student.train_epochs=3", "student.epochs"),
        ("student.criterion.weight=[1]", "student.class_weights"),
        ("student.scheduler.gamma=0.1", "student.schedule.gamma"),
        ("student.batch_size_train=1", "student.batch_size"),
        ("deep_inv.di.optimizer.lr=1", "deep_inv.optimizer.lr"),
        ("teacher.lr=1", "teacher.optimizer.lr"),
    ] {
        let text = mistake(typed);
        assert!(
            text.ends_with(&format!("hint: did you mean `{meant}`?")),
            "{text}"
        );
    }
}

#[test]
fn a_name_where_a_mapping_belongs() {
    assert_snapshot!(mistake("student.model=lenet5"), @r#"
    `student.model` must be a mapping of keys, found string "lenet5"
      set by: command line `student.model=lenet5`
      available: kind, width, blocks
    hint: did you mean `student.model.kind=lenet5`?
    "#);
    // An option of the group `model`, and no kind.
    assert_snapshot!(mistake("student.model=resnet_small"), @r#"
    `student.model` must be a mapping of keys, found string "resnet_small"
      set by: command line `student.model=resnet_small`
      available: kind, width, blocks
    hint: type its keys: student.model="{KEY: VALUE, …}"
    "#);
}

#[test]
fn part_of_a_generator_that_is_not_there() {
    assert_snapshot!(mistake("generator.steps=10"), @"
    `generator.steps` sets nothing: there is no `generator`
      from: command line `generator.steps=10`
    hint: choose a method that has one (`+method=dense`), or make one with `generator={steps: 10}`
    ");
    assert_snapshot!(mistake("generator.optimizer.lr=1"), @r#"
    `generator.optimizer.lr` sets nothing: there is no `generator`
      from: command line `generator.optimizer.lr=1`
    hint: choose a method that has one (`+method=dense`), or make one with `generator={optimizer: {lr: 1}}`
    "#);
    let text = mistake("generator.stpes=10");
    assert!(
        text.starts_with("unknown key `generator.stpes`")
            && text.ends_with("did you mean `generator.steps`?"),
        "{text}"
    );
    let taken = |arguments: &[&str]| {
        let composed = compose(&request(Some(config_dir()), arguments)).unwrap();
        composed.config.generator.map(|generator| generator.steps)
    };
    assert_eq!(taken(&["generator={steps: 10}"]), Some(10));
    assert_eq!(taken(&["generator.steps=10", "+method=dense"]), Some(10));
}

/// What is merged last wins, so that an experiment would undo most of a method.
#[test]
fn options_in_an_order_that_undoes_the_first() {
    let text = |arguments: &[&str]| {
        let error = compose(&request(Some(config_dir()), arguments)).unwrap_err();
        error.to_string()
    };
    assert_snapshot!(text(&["+method=shapes", "+experiment=mnist_5_dirichlet"]), @"
    `+method` stands before `+experiment`, whose keys would replace its own
      from: command line `+method=shapes`
      from: command line `+experiment=mnist_5_dirichlet`
    hint: type `+experiment=…` first and `+method=…` behind it
    ");
    let scaled = ["+experiment=demo", "+scale=tiny", "+method=dense"];
    let first = text(&scaled).lines().next().unwrap().to_owned();
    assert_eq!(
        first,
        "`+scale` stands before `+method`, whose keys would replace its own"
    );
    // `group=option` adds a group that the main file does not choose.
    let plain = text(&["method=dense", "+experiment=demo"]);
    assert!(plain.starts_with("`+method` stands before"), "{plain}");
    let ordered = ["+experiment=demo", "+method=dense", "+scale=tiny"];
    compose(&request(Some(config_dir()), &ordered)).unwrap();
    for plain in ["+split=iid", "split=iid"] {
        let error = text(&[plain, "+experiment=demo"]);
        let first = error.lines().next().unwrap();
        assert_eq!(
            first,
            "`+split` stands before `+experiment`, whose keys would replace its own"
        );
        assert!(error.contains("differs: split."), "{error}");
    }
    // Their keys have nothing in common.
    let apart = ["+fed_avg=average", "+experiment=demo"];
    compose(&request(Some(config_dir()), &apart)).unwrap();
}

#[test]
fn outputs_of_an_unset_variable() {
    assert_snapshot!(mistake("outputs="), @"
    `outputs` must not be empty
      set by: command line `outputs=`
    ");
    assert_snapshot!(mistake("split.save_path="), @"
    `split.save_path` must not be empty
      set by: command line `split.save_path=`
    hint: `split.save_path=null` leaves it out
    ");
    assert_snapshot!(mistake("dataset={kind: mnist, root: '${oc.env:NO_SUCH_NAME,}'}"), @"
    `dataset.root` must not be empty
      set by: command line `dataset={kind: mnist, root: '${oc.env:NO_SUCH_NAME,}'}`
    hint: `dataset.root=null` leaves it out
    ");
    let arguments = ["+experiment=iid_10_sampling_n3", "outputs=runs/7"];
    let config = compose(&request(Some(config_dir()), &arguments))
        .unwrap()
        .config;
    let paths = [
        config.split.save_path,
        config.teacher.save_folder,
        config.initial.save_path,
        config.student.save_folder,
    ];
    let below = paths.map(|path| path.unwrap().starts_with("runs/7"));
    assert_eq!(below, [true; 4]);
}

/// Settings of Hydra itself, the words of other projects, what a shell makes of a blank.
#[test]
fn habits_from_elsewhere_are_answered() {
    let says = |typed: &str, words: &[&str]| {
        let text = mistake(typed);
        for word in words {
            assert!(text.contains(word), "no `{word}` in\n{text}");
        }
    };
    for typed in [
        "hydra.run.dir=out",
        "+hydra.job.chdir=true",
        "hydra/launcher=joblib",
    ] {
        says(
            typed,
            &[
                "hydra",
                "Hydra's own settings are not read",
                "student.save_folder",
            ],
        );
    }
    for typed in [
        "split.n_clients=3",
        "split.n_parties=3",
        "split.num_users=3",
    ] {
        says(typed, &["did you mean `split.num_nodes`?"]);
    }
    for typed in ["deep_inv.iterations=3", "deep_inv.di.steps=3"] {
        says(typed, &["did you mean `deep_inv.di.grad_updates_batch`?"]);
    }
    // Of equally near ones the first.
    says("model=resnet", &["did you mean `resnet18`?"]);
    for (typed, next) in [("seed=1,", "2"), ("teacher.schedule.milestones=[1,", "2]")] {
        let text = crate::config::Tree::new(&[]).error(&[typed, next]);
        let whole = format!("`{typed} {next}` in quotes");
        for word in [
            "blank behind the comma",
            &format!("`{next}`: leave it out"),
            &whole,
        ] {
            assert!(text.contains(word), "no `{word}` in\n{text}");
        }
    }
    for typed in [
        &["split.num_nodes", "=", "5"][..],
        &["split.num_nodes", "=5"],
        &["split.num_nodes=", "5"],
    ] {
        let text = crate::config::Tree::new(&[]).error(typed);
        let hint = "hint: no blanks around `=`: type `split.num_nodes=5`";
        assert!(text.ends_with(hint), "{text}");
    }
    // The stack overflowed.
    let deep = format!("{}=1", ["a"; 57_000].join("."));
    says(&deep, &["has more than 32 parts"]);
    assert!(mistake(&deep).len() < 1000);
}

/// A name is suggested where it is near, not where it is the least far.
#[test]
fn only_near_names_are_suggested() {
    for (typed, listed) in [
        (
            "student.schedule.kind=none",
            "constant, milestones, cosine, one_cycle",
        ),
        ("deep_inv.teachers.mode=all", "cycle, sample, ensemble"),
        ("student.objective=kd", "cross_entropy, distill"),
        ("teacher.optimizer.kind=lion", "sgd, adam"),
    ] {
        let text = mistake(typed);
        assert!(text.contains(&format!("available: {listed}")), "{text}");
        assert!(!text.contains("did you mean"), "{text}");
    }
    for (typed, meant) in [
        ("student.schedule.kind=cos", "cosine"),
        ("student.schedule.kind=onecycle", "one_cycle"),
        ("deep_inv.teachers.mode=ensembles", "ensemble"),
        ("student.objective=distillation", "distill"),
        ("model.kind=resnet5", "resnet50"),
        // Of which they are the end, or which ends as they do.
        ("split.path=x", "split.save_path"),
        ("teacher.folder=x", "teacher.save_folder"),
        ("dataset.image_size=8", "dataset.size"),
        ("teacher.num_epochs=3", "teacher.epochs"),
    ] {
        let text = mistake(typed);
        assert!(text.contains(&format!("did you mean `{meant}`?")), "{text}");
    }
}
