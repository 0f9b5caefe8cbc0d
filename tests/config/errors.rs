//! Every message of the configuration, word for word: what is wrong, where it was said, what is allowed, what to type.

use crate::{Tree, project, request};
use fed_distill::config::{compose, compose_all};
use insta::assert_snapshot;

/// The message for the project's own tree.
fn mistake(argument: &str) -> String {
    let error = compose(&request(Some(project()), &[argument])).unwrap_err();
    error.to_string().replace(project().to_str().unwrap(), "config")
}

/// The message for a primary file alone.
fn primary(text: &str) -> String {
    Tree::new(&[("config.yaml", text)]).error(&[])
}

/// Two groups with similar options.
fn groups() -> Tree {
    Tree::new(&[
        ("config.yaml", "defaults:\n  - dataset: digits\n"),
        ("dataset/digits.yaml", "kind: digits\n"),
        ("dataset/mnist.yaml", "kind: mnist\n"),
        ("teacher/one.yaml", "epochs: 1\n"),
        ("teacher/two.yaml", "epochs: 2\n"),
        ("student/s.yaml", "# @package _global_\ndefaults:\n  - /teacher: one\n"),
        ("student/r.yaml", "# @package _global_\ndefaults:\n  - /teacher: two\n"),
    ])
}

mod newcomers {
    use super::*;

    #[test]
    fn misspelled_option() {
        assert_snapshot!(mistake("+student=1_teacher_custm_adap"), @r#"
        `student` has no option `1_teacher_custm_adap`
          from: command line `+student=1_teacher_custm_adap`
          available: 1_teacher_custom, 1_teacher_custom_adap, 1_teacher_paper, 1_teacher_paper_adap, 2_teachers_custom_adap, 5_teachers_custom_adap, half_1_teacher_custom_adap, half_1_teacher_custom_weighted, heter_10_teacher_custom, iid_10_teacher_custom
        hint: did you mean `1_teacher_custom_adap`?
        "#);
        assert_snapshot!(mistake("+teacher=full_2_teacher"), @r#"
        `teacher` has no option `full_2_teacher`
          from: command line `+teacher=full_2_teacher`
          available: full_1_teacher, full_2_teachers, full_5_teachers, heter_10_teachers, heter_2_teachers, iid_10_teachers
        hint: did you mean `full_2_teachers`?
        "#);
    }

    #[test]
    fn misspelled_key() {
        assert_snapshot!(mistake("split.save_file=x"), @r#"
        unknown key `split.save_file`
          set by: command line `split.save_file=x`
          available: num_nodes, unif_percentage, save_path
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
          available: save_folder, seed, model, adaptive, new_batches_per_epoch, augment_fresh, objective, distill, class_weights, epochs, batch_size, eval_batch_size, optimizer, schedule, augment, selection
        hint: did you mean `student.optimizer.lr`?
        "#);
    }

    #[test]
    fn key_without_its_beginning() {
        assert_snapshot!(mistake("optimizer.lr=0.1"), @r#"
        unknown key `optimizer`
          set by: command line `optimizer.lr=0.1`
          available: seed, device, threads, resume, overwrite, dataset, model, split, teacher, deep_inv, initial, student
        hint: did you mean `teacher.optimizer.lr`, `deep_inv.optimizer.lr` or `student.optimizer.lr`?
        "#);
    }

    #[test]
    fn word_without_value_or_group() {
        assert_snapshot!(mistake("seed"), @r#"
        `seed` is not an override
          expected: key=value, +group=option, ++key=value or ~key
        hint: to set `seed` type `seed=VALUE`
        "#);
        assert_snapshot!(mistake("1_teacher_paper"), @r#"
        `1_teacher_paper` is an option of `student`, typed without its group
          from: command line `1_teacher_paper`
        hint: type `+student=1_teacher_paper`
        "#);
    }
}

mod choices {
    use super::*;

    #[test]
    fn unknown_option_in_a_file() {
        let tree = Tree::new(&[
            ("config.yaml", "defaults:\n  - teacher: tow\n"),
            ("teacher/two.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&[]), @r#"
        `teacher` has no option `tow`
          from: TREE/config.yaml:2
          available: two
        "#);
    }

    #[test]
    fn unknown_group() {
        assert_snapshot!(groups().error(&["techer=one"]), @r#"
        unknown key `techer`
          set by: command line `techer=one`
          available: seed, device, threads, resume, overwrite, dataset, model, split, teacher, deep_inv, initial, student
        hint: did you mean `teacher`?
        "#);
        assert_snapshot!(groups().error(&["+student/teacher=one"]), @r#"
        there is no config group `student/teacher`
          from: command line `+student/teacher=one`
          available: dataset, student, teacher
        hint: did you mean `teacher`?
        "#);
        let tree = Tree::new(&[
            ("config.yaml", "defaults:\n  - techer: two\n"),
            ("teacher/two.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&[]), @r#"
        there is no config group `techer`
          from: TREE/config.yaml:2
          available: teacher
        hint: did you mean `teacher`?
        "#);
    }

    #[test]
    fn group_of_the_top_without_slash() {
        let tree = Tree::new(&[
            ("student/s.yaml", "defaults:\n  - teacher: two\n"),
            ("teacher/two.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&["+student=s"]), @r#"
        there is no config group `student/teacher`
          from: TREE/student/s.yaml:2
          available: student, teacher
        hint: a group at the top of the tree is written `/teacher: two`
        "#);
    }

    #[test]
    fn chosen_twice() {
        assert_snapshot!(groups().error(&["+dataset=mnist"]), @r#"
        `dataset` is chosen twice: `digits` and `mnist`
          from: TREE/config.yaml:2
          from: command line `+dataset=mnist`
        hint: to replace the other choice type it without the plus: dataset=mnist
        "#);
        assert_snapshot!(groups().error(&["+teacher=two", "+student=s"]), @r#"
        `teacher` is chosen twice: `two` and `one`
          from: command line `+teacher=two`
          from: TREE/student/s.yaml:3
        hint: to replace the other choice type it without the plus: teacher=two
        "#);
        let tree = Tree::new(&[
            ("config.yaml", "defaults:\n  - student: s\n  - teacher: two\n"),
            ("student/s.yaml", "defaults:\n  - /teacher: one\n"),
            ("teacher/one.yaml", ""),
            ("teacher/two.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&[]), @r#"
        `teacher` is chosen twice: `one` and `two`
          from: TREE/student/s.yaml:2
          from: TREE/config.yaml:3
        hint: to replace the other choice write `override /teacher: two` in the defaults list
        hint: or type teacher=OPTION
        "#);
    }

    #[test]
    fn given_twice() {
        assert_snapshot!(groups().error(&["teacher=one", "teacher=two"]), @r#"
        `teacher` is given twice
          from: command line `teacher=one`
          from: command line `teacher=two`
        "#);
    }

    #[test]
    fn missing_choice() {
        let tree = Tree::new(&[
            ("config.yaml", "defaults:\n  - teacher: ???\n"),
            ("teacher/one.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&[]), @r#"
        an option of `teacher` must be chosen
          from: TREE/config.yaml:2
          available: one
        hint: type teacher=OPTION
        "#);
        assert_eq!(tree.compose(&["+teacher=one"]).choices.len(), 1);
        assert_eq!(tree.compose(&["teacher=one"]).choices.len(), 1);
    }

    #[test]
    fn nothing_to_delete() {
        assert_snapshot!(groups().error(&["~teacher"]), @r#"
        no option of `teacher` is chosen, so there is none to delete
          from: command line `~teacher`
          chosen: dataset
        "#);
        assert_snapshot!(groups().error(&["~dataset=mnist"]), @r#"
        `dataset` is `digits`, not `mnist`, and is not deleted
          from: command line `~dataset=mnist`
          set by: TREE/config.yaml:2
        hint: to delete any choice of it type ~dataset
        "#);
    }

    #[test]
    fn more_than_one_option() {
        assert_snapshot!(groups().error(&["teacher=[one,two]"]), @r#"
        `teacher` takes one option, not list [one, two]
          from: command line `teacher=[one,two]`
        "#);
        assert_snapshot!(groups().error(&["teacher="]), @r#"
        `teacher` is given no option
          from: command line `teacher=`
        "#);
        assert_snapshot!(primary("defaults:\n  - teacher: [one, two]\n"), @r#"
        a group takes one option, not list [one, two]
          file: TREE/config.yaml:2
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
    }

    #[test]
    fn missing_file_of_the_same_folder() {
        let tree = Tree::new(&[("config.yaml", "defaults:\n  - bsae\n"), ("base.yaml", "")]);
        assert_snapshot!(tree.error(&[]), @r#"
        there is no config file `bsae.yaml`
          from: TREE/config.yaml:2
          available: base, config
        hint: did you mean `base`?
        "#);
    }

    #[test]
    fn files_in_a_circle() {
        let tree = Tree::new(&[
            ("teacher/a.yaml", "defaults:\n  - b\n"),
            ("teacher/b.yaml", "defaults:\n  - a\n"),
        ]);
        assert_snapshot!(tree.error(&["+teacher=a"]), @r#"
        config files choose each other in a circle
          chain: teacher/a.yaml → teacher/b.yaml → teacher/a.yaml
          from: TREE/teacher/b.yaml:2
        "#);
    }

    #[test]
    fn override_lines_in_a_circle() {
        let tree = Tree::new(&[
            ("config.yaml", "defaults:\n  - model: a\n"),
            ("model/a.yaml", "defaults:\n  - override /model: b\n"),
            ("model/b.yaml", ""),
        ]);
        assert_snapshot!(tree.error(&[]), @r#"
        the `override` lines of the defaults lists replace each other in a circle
          from: TREE/model/a.yaml:2
        "#);
    }

    #[test]
    fn broken_lists() {
        assert_snapshot!(primary("defaults: teacher\n"), @r#"
        `defaults` must be a list
          file: TREE/config.yaml:1
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
        assert_snapshot!(primary("seed: 1\ndefaults:\n  - {a: b, c: d}\n"), @r#"
        a line of a defaults list holds one `group: option`
          file: TREE/config.yaml:3
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
        assert_snapshot!(primary("defaults:\n  - teacher@student: one\n"), @r#"
        `teacher@student` names a package, which is not supported
          file: TREE/config.yaml:2
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
        assert_snapshot!(primary("defaults:\n  - overide /teacher: one\n"), @r#"
        `overide` before a group must be `override` or `optional`
          file: TREE/config.yaml:2
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
        assert_snapshot!(primary("defaults:\n  - teacher: ${seed}\n"), @r#"
        `${seed}`: a defaults list cannot refer to keys
          file: TREE/config.yaml:2
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
        assert_snapshot!(primary("defaults:\n  - _self_\n  - _self_\n"), @r#"
        `_self_` stands twice in one defaults list
          file: TREE/config.yaml:1
          expected: lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- _self_`
        "#);
    }
}

mod keys {
    use super::*;

    #[test]
    fn all_at_once_with_their_lines() {
        let tree = Tree::new(&[(
            "config.yaml",
            "sed: 1\nteacher:\n  epoch: 3\n  optimizer:\n    learning_rate: 0.1\nstudent: {epochs: many}\n",
        )]);
        assert_snapshot!(tree.error(&["modle.width=1", "student.optimizer.lr=fast"]), @r#"
        6 mistakes in the configuration
          mistake: unknown key `sed`
            set by: TREE/config.yaml:1
            available: seed, device, threads, resume, overwrite, dataset, model, split, teacher, deep_inv, initial, student
            hint: did you mean `seed`?
          mistake: unknown key `teacher.epoch`
            set by: TREE/config.yaml:3
            available: num_teachers, only, save_folder, epochs, batch_size, eval_batch_size, optimizer, schedule, augment, selection, validation_share
            hint: did you mean `teacher.epochs`?
          mistake: unknown key `teacher.optimizer.learning_rate`
            set by: TREE/config.yaml:5
            available: kind, lr, momentum, nesterov, weight_decay, betas, eps
            hint: did you mean `teacher.optimizer.lr`?
          mistake: unknown key `modle`
            set by: command line `modle.width=1`
            available: seed, device, threads, resume, overwrite, dataset, model, split, teacher, deep_inv, initial, student
            hint: did you mean `model.width`?
          mistake: `student.epochs` must be a whole number, 0 or more, found string "many"
            set by: TREE/config.yaml:6
          mistake: `student.optimizer.lr` must be a number, found string "fast"
            set by: command line `student.optimizer.lr=fast`
        "#);
    }

    #[test]
    fn key_of_the_top_in_a_group_file() {
        let tree = Tree::new(&[("student/s.yaml", "teacher:\n  epochs: 3\n")]);
        assert_snapshot!(tree.error(&["+student=s"]), @r#"
        unknown key `student.teacher`
          set by: TREE/student/s.yaml:1
          available: save_folder, seed, model, adaptive, new_batches_per_epoch, augment_fresh, objective, distill, class_weights, epochs, batch_size, eval_batch_size, optimizer, schedule, augment, selection
        hint: to set `teacher` at the top, begin the file with `# @package _global_`
        "#);
    }

    #[test]
    fn adding_what_is_set() {
        let tree = Tree::new(&[("config.yaml", "seed: 1\n")]);
        assert_snapshot!(tree.error(&["+seed=3"]), @r#"
        `seed` is already set, so it cannot be added
          from: command line `+seed=3`
          set by: TREE/config.yaml:1
        hint: to change it type it without the plus: seed=3
        "#);
        assert_snapshot!(tree.error(&["teacher.epochs=1", "+teacher.epochs=3"]), @r#"
        `teacher.epochs` is already set, so it cannot be added
          from: command line `+teacher.epochs=3`
          set by: command line `teacher.epochs=1`
        hint: to change it type it without the plus: teacher.epochs=3
        "#);
    }

    #[test]
    fn deleting_what_is_not_there() {
        let tree = Tree::new(&[("config.yaml", "seed: 1\n")]);
        assert_snapshot!(tree.error(&["~sed"]), @r#"
        there is no key `sed` to delete
          from: command line `~sed`
        hint: did you mean `~seed`?
        "#);
        assert_snapshot!(tree.error(&["~seed=2"]), @r#"
        `seed` is 1, not 2, and is not deleted
          from: command line `~seed=2`
          set by: TREE/config.yaml:1
        hint: to delete any value of it type ~seed
        "#);
    }

    #[test]
    fn not_a_key() {
        assert_snapshot!(mistake("teacher.only[0]=1"), @r#"
        `teacher.only[0]` points into a list, which cannot be changed in part
          from: command line `teacher.only[0]=1`
        hint: set the whole list: teacher.only=[…]
        "#);
        assert_snapshot!(mistake("model@student.model=lenet5"), @r#"
        `model@student.model` names a package, which is not supported
          from: command line `model@student.model=lenet5`
        hint: a group's content always stands under the group's own name
        "#);
        assert_snapshot!(mistake("a..b=1"), @r#"
        `a..b` is not a key
          from: command line `a..b=1`
          expected: names joined by points: a.b.c=value
        "#);
        assert_snapshot!(mistake("=1"), @r#"
        `=1` names no key
          from: command line `=1`
          expected: key=value
        "#);
    }

    #[test]
    fn below_a_reference() {
        let tree = Tree::new(&[("config.yaml", "student:\n  model: ${model}\n")]);
        assert_snapshot!(tree.error(&["student.model.width=3"]), @r#"
        cannot set keys below `${model}`, a reference to other keys
          from: command line `student.model.width=3`
          set by: TREE/config.yaml:2
        hint: replace the reference by a mapping of its own, or set the keys it refers to
        "#);
    }
}

mod types {
    use super::*;

    #[test]
    fn wrong_type_in_a_file() {
        let tree = Tree::new(&[(
            "student/mine.yaml",
            "# mine\nepochs: 3\n\noptimizer:\n  kind: sgd\n  lr: fast\n",
        )]);
        assert_snapshot!(tree.error(&["+student=mine"]), @r#"
        `student.optimizer.lr` must be a number, found string "fast"
          set by: TREE/student/mine.yaml:6
        "#);
    }

    #[test]
    fn each_type() {
        assert_snapshot!(mistake("seed=-1"), @r#"
        `seed` must be a whole number, 0 or more, found number -1
          set by: command line `seed=-1`
        "#);
        assert_snapshot!(mistake("teacher.epochs=1.5"), @r#"
        `teacher.epochs` must be a whole number, 0 or more, found number 1.5
          set by: command line `teacher.epochs=1.5`
        "#);
        assert_snapshot!(mistake("model.width=x"), @r#"
        `model.width` must be a whole number, found string "x"
          set by: command line `model.width=x`
        "#);
        assert_snapshot!(mistake("resume=yes"), @r#"
        `resume` must be true or false, found string "yes"
          set by: command line `resume=yes`
        "#);
        assert_snapshot!(mistake("dataset.root=3"), @r#"
        `dataset.root` must be a string, found number 3
          set by: command line `dataset.root=3`
        hint: put it in quotes: dataset.root="'3'"
        "#);
        assert_snapshot!(mistake("teacher.schedule.milestones=3"), @r#"
        `teacher.schedule.milestones` must be a list, found number 3
          set by: command line `teacher.schedule.milestones=3`
        "#);
        assert_snapshot!(mistake("teacher.schedule.milestones=[1,x]"), @r#"
        `teacher.schedule.milestones[1]` must be a whole number, 0 or more, found string "x"
          set by: command line `teacher.schedule.milestones=[1,x]`
        "#);
        assert_snapshot!(mistake("deep_inv.optimizer.betas=[0.5]"), @r#"
        `deep_inv.optimizer.betas` must be a list of 2 values, found list [0.5]
          set by: command line `deep_inv.optimizer.betas=[0.5]`
        "#);
        assert_snapshot!(mistake("deep_inv.optimizer.betas=[0.5,0.5,0.5]"), @r#"
        `deep_inv.optimizer.betas` must be a list of 2 values, found list [0.5, 0.5, 0.5]
          set by: command line `deep_inv.optimizer.betas=[0.5,0.5,0.5]`
        "#);
        assert_snapshot!(mistake("initial=3"), @r#"
        `initial` must be a mapping of keys, found number 3
          set by: command line `initial=3`
          available: num_batches, save_path
        "#);
        assert_snapshot!(mistake("teacher.epochs=null"), @r#"
        `teacher.epochs` must be a whole number, 0 or more, found null
          set by: command line `teacher.epochs=null`
        "#);
        assert_snapshot!(mistake("student.optimizer.lr=inf"), @r#"
        `student.optimizer.lr` must be a finite number, found number inf
          set by: command line `student.optimizer.lr=inf`
        "#);
        assert_snapshot!(mistake("dataset.mean=[nan]"), @r#"
        `dataset.mean[0]` must be a finite number, found number NaN
          set by: command line `dataset.mean=[nan]`
        "#);
        assert_snapshot!(mistake("threads=${oc.env:NO_SUCH_NAME,many}"), @r#"
        `threads` must be a whole number, 0 or more, found string "many"
          set by: command line `threads=${oc.env:NO_SUCH_NAME,many}`
        "#);
    }

    #[test]
    fn names() {
        assert_snapshot!(mistake("model.kind=resnet8"), @r#"
        `model.kind` must be one of the available names, found string "resnet8"
          set by: command line `model.kind=resnet8`
          available: resnet18, resnet34, resnet50, lenet5, cnn5, fedavg_cnn
        hint: did you mean `resnet18`?
        "#);
        assert_snapshot!(mistake("model.kind=3"), @r#"
        `model.kind` must be one of the available names, found number 3
          set by: command line `model.kind=3`
          available: resnet18, resnet34, resnet50, lenet5, cnn5, fedavg_cnn
        "#);
        assert_snapshot!(mistake("student.distill.ensemble=1"), @r#"
        `student.distill.ensemble` must be one of the available names, found number 1
          set by: command line `student.distill.ensemble=1`
          available: mean_logits, mean_softmax, label_share
        "#);
        assert_snapshot!(mistake("model.kind=null"), @r#"
        `model.kind` must be one of the available names, found null
          set by: command line `model.kind=null`
          available: resnet18, resnet34, resnet50, lenet5, cnn5, fedavg_cnn
        "#);
        assert_snapshot!(mistake("model.kind={resnet18: 1}"), @r#"
        `model.kind` must be one of the available names, found mapping {resnet18: 1}
          set by: command line `model.kind={resnet18: 1}`
          available: resnet18, resnet34, resnet50, lenet5, cnn5, fedavg_cnn
        "#);
    }

    #[test]
    fn mandatory_values() {
        let tree = Tree::new(&[(
            "config.yaml",
            "split:\n  save_path: ???\nteacher:\n  save_folder: ${split.save_path}.d\nstudent: {save_folder: ???}\n",
        )]);
        assert_snapshot!(tree.error(&[]), @r#"
        2 mistakes in the configuration
          mistake: `split.save_path` must be given
            from: TREE/config.yaml:2
            hint: type split.save_path=VALUE
          mistake: `student.save_folder` must be given
            from: TREE/config.yaml:5
            hint: type student.save_folder=VALUE
        "#);
        assert_snapshot!(tree.error(&["split.save_path=x"]), @r#"
        `student.save_folder` must be given
          from: TREE/config.yaml:5
        hint: type student.save_folder=VALUE
        "#);
        tree.compose(&["split.save_path=x", "student.save_folder=y"]);
    }
}

mod checks {
    use super::*;

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
                "`teacher.batch_size` must be 1 or more, found number 0",
            ),
            (
                "student.optimizer.lr=-1",
                "`student.optimizer.lr` must be 0 or more, found number -1",
            ),
            (
                "student.optimizer.betas=[0.9,1]",
                "`student.optimizer.betas[1]` must be 0 or more and less than 1, found number 1",
            ),
            (
                "deep_inv.teachers.n=0",
                "`deep_inv.teachers.n` must be 1 or more, found number 0",
            ),
            (
                "teacher.schedule.warmup=2",
                "`teacher.schedule.warmup` must be between 0 and 1, found number 2",
            ),
            (
                "dataset={mean: [0.5], std: [0]}",
                "`dataset.std[0]` must be greater than 0, found number 0",
            ),
            ("dataset={mean: [], std: []}", "`dataset.std` must not be an empty list"),
            (
                "dataset.channels=2",
                "`dataset.channels` must be 1 or 3, found number 2",
            ),
            ("dataset.size=4", "`dataset.size` must be 8 or more, found number 4"),
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
    fn relations() {
        assert_snapshot!(mistake("device=gpu"), @r#"
        `device` must be `auto`, `cpu`, `cuda` or `cuda:N`
          found: device=gpu, set by command line `device=gpu`
        "#);
        assert_snapshot!(mistake("device=cuda:x"), @r#"
        `device` must be `auto`, `cpu`, `cuda` or `cuda:N`
          found: device="cuda:x", set by command line `device=cuda:x`
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
            Some(project()),
            &["+student=2_teachers_custom_adap", "deep_inv=sampling_experimental"],
        ));
        assert_snapshot!(error.unwrap_err().to_string().replace(project().to_str().unwrap(), "config"), @r#"
        `deep_inv.teachers.n` must not be more than `teacher.num_teachers`
          found: deep_inv.teachers.n=5, set by config/deep_inv/sampling_experimental.yaml:8
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
            assert_eq!(Tree::new(&[]).compose(&[&format!("device={name}")]).config.device, name);
        }
    }
}

mod values {
    use super::*;

    #[test]
    fn grammar() {
        for (value, complaint) in [
            ("[1,2", "the closing `]` is missing"),
            ("{a: 1", "the closing `}` is missing"),
            ("{a}", "a mapping is written {key: value, key: value}"),
            ("{a: 1, a: 2}", "key `a` stands twice"),
            ("'a", "the closing ' is missing"),
            ("\"a", "the closing \" is missing"),
            ("'a' b", "there is text behind the closing '"),
            ("${a", "the closing `}` of `${` is missing"),
            ("a]", "`]` is unexpected; put text that holds it in quotes"),
            ("[1]2", "`2` is unexpected; put text that holds it in quotes"),
            ("[1,,2]", "a value is missing"),
            ("1,", "a value is missing"),
            (
                "sqrt(2)",
                "there is no function `sqrt`; available are choice(a, b, …) and range(start, stop, step)",
            ),
            (
                "range(a)",
                "`range` takes numbers: range(start, stop) or range(start, stop, step)",
            ),
            ("range(0,3,0)", "the step of `range` must not be 0"),
            ("range(3,0)", "this `range` holds no value"),
            ("range(0,1e9)", "this `range` holds 1000000000 values, more than 10000"),
        ] {
            assert_eq!(
                mistake(&format!("seed={value}")),
                format!(
                    "cannot read the value of `seed`: {complaint}\n  from: command line `seed={value}`\nhint: for text as it stands type \"seed='…'\""
                )
            );
        }
    }

    #[test]
    fn several_values_without_multirun() {
        assert_snapshot!(mistake("seed=1,2"), @r#"
        `seed` is given 2 values for one run
          from: command line `seed=1,2`
        hint: to run a job for each value add --multirun (-m)
        hint: for a list type seed=[1,2], for text with commas seed="'1,2'"
        "#);
        assert_snapshot!(mistake("deep_inv=choice(custom_params,paper_params)"), @r#"
        `deep_inv` is given 2 values for one run
          from: command line `deep_inv=choice(custom_params,paper_params)`
        hint: to run a job for each value add --multirun (-m)
        "#);
    }

    #[test]
    fn sweep_too_large() {
        let request = request(Some(project()), &["seed=range(9999)", "student.seed=range(9999)"]);
        assert_snapshot!(compose_all(&request, true).unwrap_err(), @r#"this sweep has more than 100000 jobs"#);
    }

    #[test]
    fn job_that_cannot_be_composed() {
        let request = request(Some(project()), &["seed=1,2", "dataset=mnist,mnits"]);
        let error = compose_all(&request, true).unwrap_err().to_string();
        assert_snapshot!(error, @r#"
        `dataset` has no option `mnits`
          from: command line `dataset=mnits`
          available: cifar10, cifar100, cifar10_jpeg, digits, fashion_mnist, image_folder, kmnist, mnist
          while: composing job 2 of 4: seed=1 dataset=mnits
        hint: did you mean `mnist`?
        "#);
    }
}

mod references {
    use super::*;

    #[test]
    fn missing_target() {
        let tree = Tree::new(&[("config.yaml", "seed: ${sed}\nstudent:\n  epochs: ${seed}\n")]);
        assert_snapshot!(tree.error(&[]), @r#"
        `${sed}` refers to a key that does not exist
          chain: `seed` → `sed`
          set by: TREE/config.yaml:1
        "#);
        assert_snapshot!(mistake("student.epochs=${student.model.width}"), @r#"
        `${student.model.width}` refers to a key that does not exist
          chain: `student.epochs` → `student.model.width`
          set by: command line `student.epochs=${student.model.width}`
        hint: did you mean `${student.model}`?
        "#);
    }

    #[test]
    fn circles() {
        let tree = Tree::new(&[(
            "config.yaml",
            "seed: ${teacher.epochs}\nteacher: {epochs: '${student.epochs}'}\nstudent: {epochs: '${seed}'}\n",
        )]);
        assert_snapshot!(tree.error(&[]), @r#"
        references lead in a circle
          chain: `seed` → `teacher.epochs` → `student.epochs` → `seed`
          set by: TREE/config.yaml:1
        "#);
        assert_snapshot!(mistake("seed=${seed}"), @r#"
        references lead in a circle
          chain: `seed` → `seed`
          set by: command line `seed=${seed}`
        "#);
        assert_snapshot!(mistake("model={kind: '${model}'}"), @r#"
        references lead in a circle
          chain: `model.kind` → `model` → `model.kind`
          set by: command line `model={kind: '${model}'}`
        "#);
    }

    #[test]
    fn resolvers() {
        assert_snapshot!(mistake("dataset.root=${oc.env:NO_SUCH_NAME}"), @r#"
        the environment variable `NO_SUCH_NAME` is not set
          key: `dataset.root`
          set by: command line `dataset.root=${oc.env:NO_SUCH_NAME}`
        hint: set it, or give a default: ${oc.env:NO_SUCH_NAME,DEFAULT}
        "#);
        assert_snapshot!(mistake("dataset.root=${env:HOME}"), @r#"
        there is no resolver `env`
          key: `dataset.root`
          set by: command line `dataset.root=${env:HOME}`
          available: oc.env:NAME,default and now:FORMAT
        "#);
        assert_snapshot!(mistake("dataset.root=${now:%!}"), @r#"
        `${now:%!}` is not a time format: strftime formatting failed: found unrecognized specifier directive `!`
          key: `dataset.root`
          set by: command line `dataset.root=${now:%!}`
        "#);
        assert_snapshot!(mistake("dataset.root=${.kind}"), @r#"
        `${.kind}` is relative, which is not supported
          key: `dataset.root`
          set by: command line `dataset.root=${.kind}`
        hint: write the whole key, from the top
        "#);
        assert_snapshot!(mistake("dataset.root=a${model}"), @r#"
        `${model}` is a mapping {kind: resnet18, width: null, blocks: null}, which cannot stand inside text
          key: `dataset.root`
          set by: command line `dataset.root=a${model}`
        "#);
        assert_snapshot!(primary("dataset:\n  root: a${model\n"), @r#"
        the closing `}` is missing in `a${model`
          set by: TREE/config.yaml:2
        "#);
    }
}

mod files {
    use super::*;

    #[test]
    fn duplicate_key() {
        let tree = Tree::new(&[(
            "teacher/a.yaml",
            "epochs: 1\noptimizer:\n  lr: 1\n  momentum: 0.5\n  lr: 2\n",
        )]);
        assert_snapshot!(tree.error(&["+teacher=a"]), @r#"
        key `lr` stands twice in one mapping
          file: TREE/teacher/a.yaml:5
          first: TREE/teacher/a.yaml:3
        "#);
    }

    #[test]
    fn broken_yaml() {
        assert_snapshot!(primary("seed: 1\nteacher:\n  epochs: 3\n batch_size: 4\n"), @r#"
        broken YAML: while parsing a block mapping, did not find expected key
          file: TREE/config.yaml:4:12
        hint: the mistake may also be at the end of the line before
        "#);
        assert_snapshot!(primary("seed: 1\nteacher:\n\tepochs: 3\n"), @r#"
        broken YAML: tabs disallowed within this context (block indentation)
          file: TREE/config.yaml:3:2
        hint: the mistake may also be at the end of the line before
        "#);
        assert_snapshot!(primary("seed: [1\n"), @r#"
        broken YAML: while parsing a flow sequence, expected ',' or ']'
          file: TREE/config.yaml:2:1
        hint: the mistake may also be at the end of the line before
        "#);
        assert_snapshot!(primary("seed: 'a\n"), @r#"
        broken YAML: while scanning a quoted scalar, found unexpected end of stream
          file: TREE/config.yaml:1:7
        "#);
        assert_snapshot!(primary("seed 1\n"), @r#"
        a config file must be a mapping of `key: value` lines
          file: TREE/config.yaml:1:1
        "#);
        assert_snapshot!(primary("- seed\n"), @r#"
        a config file must be a mapping of `key: value` lines
          file: TREE/config.yaml:1:1
        "#);
    }

    #[test]
    fn parts_of_yaml_that_are_not_taken() {
        assert_snapshot!(primary("teacher: &t\n  epochs: 1\n"), @r#"
        YAML anchors (`&name`) are not supported; refer to a key with `${key}`
          file: TREE/config.yaml:2:9
        hint: the mistake may also be at the end of the line before
        "#);
        assert_snapshot!(primary("seed: *t\n"), @r#"
        broken YAML: while parsing node, found unknown anchor
          file: TREE/config.yaml:1:7
        "#);
        assert_snapshot!(primary("seed: !!str 1\n"), @r#"
        YAML tags (`!name`) are not supported
          file: TREE/config.yaml:1:13
        "#);
        assert_snapshot!(primary("? [a]\n: 1\n"), @r#"
        a key must be a plain word
          file: TREE/config.yaml:1:3
        "#);
        assert_snapshot!(primary("seed: 1\n---\nseed: 2\n"), @r#"
        a config file holds one YAML document, and here a second one begins
          file: TREE/config.yaml:2
        "#);
    }

    #[test]
    fn not_text() {
        let tree = Tree::new(&[]);
        std::fs::write(tree.0.path().join("config.yaml"), [0xff, 0xfe]).unwrap();
        assert_snapshot!(tree.error(&[]), @r#"cannot read a config file: failed to read from file `TREE/config.yaml`: stream did not contain valid UTF-8"#);
    }
}
