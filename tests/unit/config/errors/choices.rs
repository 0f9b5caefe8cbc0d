//! Groups and options.

use super::{groups, primary};
use crate::config::Tree;
use insta::assert_snapshot;

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

/// It may be missing as the file names it, and not as somebody types it.
#[test]
fn unknown_option_in_place_of_an_optional_one() {
    let tree = Tree::new(&[
        ("config.yaml", "defaults:\n  - optional teacher: nobody\n"),
        ("teacher/two.yaml", ""),
    ]);
    tree.compose(&[]);
    assert_snapshot!(tree.error(&["teacher=twoo"]), @r#"
    `teacher` has no option `twoo`
      from: command line `teacher=twoo`
      available: two
    hint: did you mean `two`?
    "#);
}

#[test]
fn unknown_group() {
    assert_snapshot!(groups().error(&["techer=one"]), @r#"
    unknown key `techer`
      set by: command line `techer=one`
      available: seed, device, precision, …
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
        (
            "config.yaml",
            "defaults:\n  - student: s\n  - teacher: two\n",
        ),
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

/// A folder with a primary file is a whole tree: who expected the built-in options beside its own,
/// as in Hydra, is told how to have them.
#[test]
fn whole_tree_says_why_it_lacks_an_option() {
    let mine = ("student/mine.yaml", "epochs: 3\n");
    let defaults = "defaults:\n  - dataset: mnist\n";
    let listed = Tree::new(&[mine, ("config.yaml", defaults)]);
    for text in [
        Tree::new(&[mine]).error(&["+student=mine", "+dataset=mnist"]),
        Tree::new(&[mine]).error(&["+student=1_teacher_paper"]),
        listed.error(&[]),
    ] {
        assert!(
            text.contains("the built-in tree has `") && text.contains("`--config-name NAME`"),
            "{text}"
        );
    }
    let text = Tree::new(&[mine]).error(&["+student=theirs"]);
    assert!(!text.contains("built-in"), "{text}");
    // What the hint says: under another name the folder adds to the built-in tree.
    let other = Tree::new(&[mine, ("primary.yaml", defaults)]);
    std::fs::remove_file(other.0.path().join("config.yaml")).unwrap();
    let mut request = other.request(&["+student=mine", "+split=iid"]);
    request.config_name = Some("primary".into());
    let config = fed_distill::config::compose(&request).unwrap().config;
    assert_eq!(
        (config.student.epochs, config.dataset.kind.to_string()),
        (3, "mnist".into())
    );
}
