//! Keys that do not exist, cannot be added or deleted.

use super::mistake;
use crate::config::Tree;
use insta::assert_snapshot;

#[test]
fn all_at_once_with_their_lines() {
    let tree = Tree::new(&[(
        "config.yaml",
        "sed: 1\nteacher:\n  epoch: 3\n  optimizer:\n    learning_rate: 0.1\nstudent: {epochs: \
         many}\n",
    )]);
    assert_snapshot!(tree.error(&["modle.width=1", "student.optimizer.lr=fast"]), @r#"
    6 mistakes in the configuration
      mistake: unknown key `sed`
        set by: TREE/config.yaml:1
        available: seed, device, precision, …
        hint: did you mean `seed`?
      mistake: unknown key `teacher.epoch`
        set by: TREE/config.yaml:3
        available: num_teachers, shared_initialisation, only, …
        hint: did you mean `teacher.epochs`?
      mistake: unknown key `teacher.optimizer.learning_rate`
        set by: TREE/config.yaml:5
        available: kind, momentum, nesterov, …
        hint: did you mean `teacher.optimizer.lr`?
      mistake: unknown key `modle`
        set by: command line `modle.width=1`
        available: seed, device, precision, …
        hint: did you mean `model.width`?
      mistake: `student.epochs` must be a whole number, 1 or more, found string "many"
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
      available: save_folder, seed, model, …
    hint: to set `teacher` at the top, begin the file with `# @package _global_`
    "#);
}

/// Its options set keys of other groups.
#[test]
fn group_in_place_of_a_key() {
    let tree = Tree::new(&[
        ("experiment/natural.yaml", "seed: 7\n"),
        ("mine/deep/x.yaml", "teacher: {epochs: 3}\n"),
    ]);
    assert_snapshot!(tree.error(&["+experiment=natural"]), @r#"
    `experiment` is a group, not a key
      set by: TREE/experiment/natural.yaml:1
    hint: to set `seed` at the top, begin the file with `# @package _global_`
    "#);
    assert_snapshot!(tree.error(&["+mine/deep=x"]), @r#"
    `mine/deep` is a group, not a key
      set by: TREE/mine/deep/x.yaml:1
    hint: to set `teacher` at the top, begin the file with `# @package _global_`
    "#);
    for typed in ["experiment.foo=1", "+experiment={a: 1}"] {
        let hint = "hint: type `+experiment=OPTION`";
        assert_eq!(
            tree.error(&[typed]),
            format!("`experiment` is a group, not a key\n  set by: command line `{typed}`\n{hint}")
        );
    }
    let tree = Tree::new(&[
        ("config.yaml", "experiment: natural\n"),
        ("experiment/natural.yaml", "# @package _global_\nseed: 7\n"),
    ]);
    assert_snapshot!(tree.error(&[]), @r#"
    `experiment` is a group, not a key
      set by: TREE/config.yaml:1
    hint: to choose an option of it, write `- /experiment: OPTION` below `defaults:`
    "#);
}

#[test]
fn key_with_points_in_a_file() {
    let tree = Tree::new(&[("config.yaml", "teacher.optimizer.lr: 0.3\n")]);
    assert_snapshot!(tree.error(&[]), @r#"
    unknown key `teacher.optimizer.lr`
      set by: TREE/config.yaml:1
      available: seed, device, precision, …
    hint: keys of a mapping are nested: `teacher: {optimizer: {lr: 0.3}}`
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
