//! `${…}` that leads nowhere.

use super::{mistake, primary};
use crate::common::config_dir;
use crate::config::{Tree, request};
use fed_distill::config::compose;
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
    hint: did you mean `${model.width}`?
    "#);
}

/// In a mapping of a list too, where the default must not stand in for what was meant.
#[test]
fn missing_target_in_a_list() {
    assert_snapshot!(mistake("fed_md.models=[{kind: resnet18, width: '${model.widht}'}]"), @"
    `${model.widht}` refers to a key that does not exist
      chain: `fed_md.models.width` → `model.widht`
      set by: command line `fed_md.models=[{kind: resnet18, width: '${model.widht}'}]`
    hint: did you mean `${model.width}`?
    ");
}

/// What a reference within a reference stands for is no reference again.
#[test]
fn references_without_end() {
    let arguments = ["outputs=\\${outputs}", "split.save_path=${${outputs}}"];
    let error = compose(&request(Some(config_dir()), &arguments)).unwrap_err();
    assert_snapshot!(error.to_string(), @"
    `${${outputs}}` does not name a key, but `${outputs}`
      key: `split.save_path`
      set by: command line `split.save_path=${${outputs}}`
    ");
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
