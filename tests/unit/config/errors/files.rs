//! Files that cannot be read.

use super::primary;
use crate::config::Tree;
use insta::assert_snapshot;

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
    assert_snapshot!(
        tree.error(&[]),
        @r#"cannot read a config file: failed to read from file `TREE/config.yaml`: stream did not contain valid UTF-8"#
    );
}
