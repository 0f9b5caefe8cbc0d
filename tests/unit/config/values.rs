//! What the text of a value means, on the command line and in files, and what references stand for.

use crate::config::Tree;
use fed_distill::config::Config;
use fed_distill::train::{AdamMoments, OptimizerKind, ScheduleSettings};

fn given(argument: &str) -> Config {
    Tree::new(&[]).compose(&[argument]).config
}

fn saved(value: &str) -> Option<String> {
    let folder = given(&format!("teacher.save_folder={value}"))
        .teacher
        .save_folder;
    folder.map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn numbers_and_truth_values() {
    assert_eq!(given("teacher.epochs=1_000").teacher.epochs, 1000);
    assert_eq!(given("teacher.epochs=+5").teacher.epochs, 5);
    assert_eq!(given("seed=18446744073709551615").seed, u64::MAX);
    for (text, lr) in [
        ("1e-3", 1e-3),
        ("1E3", 1e3),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_0.2_5", 10.25),
        ("2", 2.0),
    ] {
        assert_eq!(
            given(&format!("student.optimizer.lr={text}"))
                .student
                .optimizer
                .lr,
            lr,
            "{text}"
        );
    }
    for text in ["true", "True", "TRUE", "tRuE"] {
        assert!(*given(&format!("resume={text}")).resume);
    }
    assert!(!*given("dataset.download=FALSE").dataset.download);
    assert_eq!(given("threads=null").threads, None);
    // Programs write whole numbers with a point.
    for text in ["7.0", "7.", "0.7e1"] {
        assert_eq!(given(&format!("seed={text}")).seed, 7, "{text}");
    }
    assert_eq!(given("teacher.epochs=1e3").teacher.epochs, 1000);
}

/// YAML 1.1, which PyYAML reads, takes `1e-8` for a string, and `on` or `2024-01-31` for none.
#[test]
fn what_is_written_reads_the_same_in_yaml_1_1() {
    let typed = [
        "teacher.optimizer={kind: adam, eps: 1e-8}",
        "student.optimizer.lr=2.5e+20",
    ];
    for (text, written) in [
        ("no", "\"no\""),
        ("'2024-01-31'", "\"2024-01-31\""),
        ("007", "\"007\""),
        ("runs/7", "runs/7"),
    ] {
        let folder = format!("teacher.save_folder={text}");
        let composed = Tree::new(&[]).compose(&[typed[0], typed[1], &folder]);
        let yaml = composed.to_yaml(&|_| true);
        for line in [
            "eps: 1.0e-08",
            "lr: 2.5e+20",
            &format!("save_folder: {written}"),
        ] {
            assert!(
                yaml.contains(&format!(" {line}\n")),
                "no `{line}` in\n{yaml}"
            );
        }
        let again = Tree::new(&[("config.yaml", &yaml)]).compose(&[]).config;
        assert_eq!(again, composed.config);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let tree = Tree::new(&[
        ("config.yaml", "\u{feff}seed: 3\n"),
        ("scale/s.yaml", "\u{feff}# @package _global_\nseed: 5\n"),
    ]);
    assert_eq!(tree.compose(&[]).config.seed, 3);
    assert_eq!(tree.compose(&["+scale=s"]).config.seed, 5);
}

#[test]
fn a_file_may_begin_with_its_version_of_yaml() {
    let head = "%YAML 1.2\n---\n# @package _global_\nseed: 5\n";
    let tree = Tree::new(&[("scale/s.yaml", head)]);
    assert_eq!(tree.compose(&["+scale=s"]).config.seed, 5);
}

/// A sweep's folders are typed again, in quotes.
#[test]
fn quoted_text_is_read_as_it_was() {
    for text in ["a b", "it's", r"a\b", r"a\", r"\\'\\", r"'", "a,b=[1]"] {
        let quoted = fed_distill::config::quoted(text);
        assert_eq!(saved(&quoted).as_deref(), Some(text), "{quoted}");
    }
}

#[test]
fn text() {
    for (typed, text) in [
        ("plain", "plain"),
        ("  a b  ", "a b"),
        ("http://x:80/y?z=1", "http://x:80/y?z=1"),
        ("it's", "it's"),
        ("'a, b'", "a, b"),
        ("\"a, 'b'\"", "a, 'b'"),
        (r"'it\'s'", "it's"),
        (r"'a\\'", r"a\"),
        // Backslashes are halved before a quote alone, as Hydra does.
        (r"'a\\b'", r"a\\b"),
        (r"'a\\\'b'", r"a\'b"),
        (r"a\\b", r"a\b"),
        (r"a\=b", "a=b"),
        (r"'a\b'", r"a\b"),
        (r"a\,b\ ", "a,b "),
        (r"\[x\]", "[x]"),
        ("'null'", "null"),
        ("'1'", "1"),
        ("007", "007"),
        ("1__0", "1__0"),
        ("e5", "e5"),
        ("-", "-"),
    ] {
        assert_eq!(saved(typed).as_deref(), Some(text), "{typed}");
    }
    assert_eq!(saved("null"), None);
    // No path is empty.
    let classes = given("dataset.classes=['',x]").dataset.classes;
    assert_eq!(classes, Some(vec![String::new(), "x".into()]));
}

#[test]
fn lists_and_mappings() {
    let milestones = |text: &str| match given(&format!("teacher.schedule.milestones={text}"))
        .teacher
        .schedule
    {
        ScheduleSettings::Milestones(schedule) => schedule.milestones,
        other => panic!("{other:?}"),
    };
    assert_eq!(milestones("[1,2, 3 ]"), [1, 2, 3]);
    assert_eq!(milestones("[]"), Vec::<usize>::new());
    let config = given("student={optimizer: {kind: adam, betas: [0.5, 0.9]}, 'epochs': 4}");
    let adam = AdamMoments {
        betas: [0.5, 0.9],
        ..AdamMoments::default()
    };
    assert_eq!(config.student.optimizer.kind, OptimizerKind::Adam(adam));
    assert_eq!(
        (config.student.epochs, config.student.optimizer.lr),
        (4, 0.1)
    );
    assert_eq!(given("student={}").student, Config::default().student);
}

#[test]
fn files_read_the_same_words() {
    let tree = Tree::new(&[(
        "config.yaml",
        "seed: 1_000\nresume: TRUE\ndataset:\n  kind: mnist\n  root: '1'\n  mean: [1e-3]\n  \
         std:\n    - 1E1\nteacher: {save_folder: ~}\n",
    )]);
    let config = tree.compose(&[]).config;
    assert_eq!((config.seed, *config.resume), (1000, true));
    assert_eq!(config.dataset.root, Some("1".into()));
    assert_eq!(
        (config.dataset.mean, config.dataset.std),
        (Some(vec![1e-3]), Some(vec![10.0]))
    );
}

#[test]
fn references_take_type_or_stand_in_text() {
    let tree = Tree::new(&[(
        "config.yaml",
        concat!(
            "seed: 3\n",
            "split: {save_path: 'out/${seed}/${model.kind}.json'}\n",
            "student:\n  seed: ${seed}\n  model: ${model}\n  class_weights: ['${seed}', 1]\n",
            "teacher: {save_folder: '${split.save_path}.d', epochs: '${ student.epochs }'}\n",
            "initial: {save_path: '${teacher.${oc.env:NO_SUCH_NAME,save_folder}}'}\n",
        ),
    )]);
    let config = tree.compose(&["model.width=8", "student.epochs=7"]).config;
    assert_eq!(config.split.save_path, Some("out/3/resnet18.json".into()));
    assert_eq!(config.student.seed, 3);
    assert_eq!(config.student.model, Some(config.model.clone()));
    assert_eq!(config.student.class_weights, Some(vec![3.0, 1.0]));
    assert_eq!(
        config.teacher.save_folder,
        Some("out/3/resnet18.json.d".into())
    );
    assert_eq!(config.teacher.epochs, 7);
    assert_eq!(config.initial.save_path, config.teacher.save_folder);
}

#[test]
fn a_backslash_makes_a_reference_plain() {
    assert_eq!(saved(r"a\${seed}").as_deref(), Some("a${seed}"));
    assert_eq!(saved(r"'a\${seed}'").as_deref(), Some("a${seed}"));
    assert_eq!(saved(r"'a\\${seed}'").as_deref(), Some(r"a\42"));
    assert_eq!(saved(r"'a\\\${seed}'").as_deref(), Some(r"a\${seed}"));
}

#[test]
fn the_environment_has_the_type_that_is_needed() {
    // `CARGO_PKG_VERSION_MAJOR` is set for every test by cargo, and is a number.
    let name = "CARGO_PKG_VERSION_MAJOR";
    let major: u64 = std::env::var(name).unwrap().parse().unwrap();
    assert_eq!(given(&format!("seed=${{oc.env:{name}}}")).seed, major);
    assert_eq!(
        saved(&format!("${{oc.env:{name}}}")),
        Some(major.to_string())
    );
    assert_eq!(
        saved(&format!("v${{oc.env:{name}}}")),
        Some(format!("v{major}"))
    );
    assert_eq!(given("threads=${oc.env:NO_SUCH_NAME,3}").threads, Some(3));
    assert_eq!(given("threads=${oc.env:NO_SUCH_NAME,null}").threads, None);
    assert_eq!(
        saved("${oc.env:NO_SUCH_NAME, 'a b'}").as_deref(),
        Some("a b")
    );
    assert!(*given("resume=${oc.env:NO_SUCH_NAME,true}").resume);
    // It may name a key.
    let named = given("seed=${${oc.env:NO_SUCH_NAME,teacher.epochs}}");
    assert_eq!(named.seed, 300);
}

#[test]
fn now_is_the_same_everywhere() {
    let config = Tree::new(&[])
        .compose(&[
            "teacher.save_folder=${now:%Y-%m-%d_%H}",
            "split.save_path=${now:%Y-%m-%d_%H}",
        ])
        .config;
    let text = config.teacher.save_folder.unwrap();
    assert_eq!(Some(&text), config.split.save_path.as_ref());
    let text = text.to_str().unwrap();
    assert!(text.len() == 13 && text.starts_with("20"), "{text}");
}
