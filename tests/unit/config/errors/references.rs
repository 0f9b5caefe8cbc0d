//! `${…}` that leads nowhere.

use super::{mistake, primary};
use crate::config::Tree;
use insta::assert_snapshot;

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
        "seed: ${teacher.epochs}\nteacher: {epochs: '${student.epochs}'}\nstudent: {epochs: \
         '${seed}'}\n",
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
