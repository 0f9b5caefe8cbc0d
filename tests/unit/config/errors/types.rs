//! Values of the wrong type.

use super::mistake;
use crate::config::Tree;
use insta::assert_snapshot;

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
    `teacher.epochs` must be a whole number, 1 or more, found number 1.5
      set by: command line `teacher.epochs=1.5`
    "#);
    assert_snapshot!(mistake("model.width=x"), @r#"
    `model.width` must be a whole number, 1 or more, found string "x"
      set by: command line `model.width=x`
    "#);
    assert_snapshot!(mistake("resume=yes"), @r#"
    `resume` must be true or false, found string "yes"
      set by: command line `resume=yes`
    "#);
    assert_snapshot!(mistake("teacher.save_folder=3"), @r#"
    `teacher.save_folder` must be a string, found number 3
      set by: command line `teacher.save_folder=3`
    hint: put it in quotes: teacher.save_folder="'3'"
    "#);
    assert_snapshot!(mistake("teacher.schedule.milestones=3"), @r#"
    `teacher.schedule.milestones` must be a list, found number 3
      set by: command line `teacher.schedule.milestones=3`
    hint: for a list type teacher.schedule.milestones=[3]
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
    hint: type its keys: initial="{KEY: VALUE, …}"
    "#);
    assert_snapshot!(mistake("teacher.epochs=null"), @r#"
    `teacher.epochs` must be a whole number, 1 or more, found null
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
    `threads` must be a whole number, 1 or more, found string "many"
      set by: command line `threads=${oc.env:NO_SUCH_NAME,many}`
    "#);
}

/// Whether the type or the range refuses a number is nothing to the user.
#[test]
fn numbers_out_of_range_are_told_alike() {
    for (key, range) in [
        ("fed_avg.rounds", "between 1 and 1,000,000"),
        ("fed_md.rounds", "between 1 and 1,000,000"),
        ("distributed_sgd.report_every", "1 or more"),
    ] {
        for value in ["-1", "0"] {
            let typed = format!("{key}={value}");
            let expected = format!(
                "`{key}` must be {range}, found number {value}\n  set by: command line `{typed}`"
            );
            assert_eq!(mistake(&typed), expected);
        }
    }
    assert_snapshot!(mistake("fed_md.models=linear"), @r#"
    `fed_md.models` must be a list, found string "linear"
      set by: command line `fed_md.models=linear`
    hint: for a list type fed_md.models=[linear]
    "#);
}

#[test]
fn names() {
    assert_snapshot!(mistake("model.kind=resnet8"), @r#"
    `model.kind` must be one of the available names, found string "resnet8"
      set by: command line `model.kind=resnet8`
      available: resnet18, resnet34, resnet50, …
    hint: did you mean `resnet18`?
    "#);
    assert_snapshot!(mistake("model.kind=3"), @r#"
    `model.kind` must be one of the available names, found number 3
      set by: command line `model.kind=3`
      available: resnet18, resnet34, resnet50, …
    "#);
    assert_snapshot!(mistake("student.distill.ensemble=1"), @r#"
    `student.distill.ensemble` must be one of the available names, found number 1
      set by: command line `student.distill.ensemble=1`
      available: mean_logits, mean_softmax, label_share, …
    "#);
    assert_snapshot!(mistake("model.kind=null"), @r#"
    `model.kind` must be one of the available names, found null
      set by: command line `model.kind=null`
      available: resnet18, resnet34, resnet50, …
    "#);
    assert_snapshot!(mistake("model.kind={resnet18: 1}"), @r#"
    `model.kind` must be one of the available names, found mapping {resnet18: 1}
      set by: command line `model.kind={resnet18: 1}`
      available: resnet18, resnet34, resnet50, …
    "#);
}

#[test]
fn mandatory_values() {
    let tree = Tree::new(&[(
        "config.yaml",
        "split:\n  save_path: ???\nteacher:\n  save_folder: ${split.save_path}.d\nstudent: \
         {save_folder: ???}\n",
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
