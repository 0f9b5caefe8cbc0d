//! For any value: what is typed in quotes arrives, and the printed config composes to itself.

use crate::config::Tree;
use fed_distill::config::{Composed, Request, compose, quoted};
use fed_distill::train::{Milestones, ScheduleSettings};
use proptest::prelude::*;

/// Text as an override's value: references made plain, then quoted.
fn typed(text: &str) -> String {
    let mut plain = String::new();
    for (i, part) in text.split("${").enumerate() {
        if i > 0 {
            let slashes = plain.len() - plain.trim_end_matches('\\').len();
            plain.push_str(&"\\".repeat(slashes + 1));
            plain.push_str("${");
        }
        plain.push_str(part);
    }
    quoted(&plain)
}

fn words() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        "null", "~", "true", "1", "1e5", ".inf", "a: b", "a #b", "- a", "${seed}", r"\${x}", "'",
        "\"", "\\", " a ", "", "[", "{}", "# c", "a,b", "é", "\u{2028}", "\t", "\u{7f}",
        "\u{feff}", "---", "...", "a\nb", "%", "@", "!x", "&y", "*z", "|", ">",
    ])
    .prop_map(str::to_owned);
    let pieces = prop_oneof![nasty, any::<String>()];
    prop::collection::vec(pieces, 0..4)
        .prop_map(|parts| parts.concat())
        .prop_filter("mandatory", |text| text != "???")
}

/// Returns text that is a path as it stands: `~` at its head is the home folder, and no path is
/// empty.
fn paths() -> impl Strategy<Value = String> {
    words().prop_filter("path", |text| !text.is_empty() && !text.starts_with('~'))
}

/// Composes what `--cfg job` prints as a tree of its own.
fn fed_back(composed: &Composed) -> Composed {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.yaml"), composed.to_yaml(&|_| true)).unwrap();
    let request = Request {
        overrides: Vec::new(),
        config_dir: Some(folder.path().to_owned()),
        config_name: Some("job".into()),
    };
    compose(&request).unwrap_or_else(|error| panic!("{error}\n{}", composed.to_yaml(&|_| true)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn quoted_text_arrives(text in paths()) {
        let typed = format!("teacher.save_folder={}", typed(&text));
        let config = Tree::new(&[]).compose(&[&typed]).config;
        prop_assert_eq!(config.teacher.save_folder, Some(text.into()));
    }

    #[test]
    fn numbers_arrive(
        seed in any::<u64>(),
        lr in 0.0..f64::MAX,
        list in prop::collection::vec(any::<u32>(), 0..5),
        blanks in " {0,2}",
    ) {
        let milestones: Vec<_> = list.iter().map(|i| format!("{blanks}{i}{blanks}")).collect();
        let config = Tree::new(&[]).compose(&[
            &format!("seed={seed}"),
            &format!("student.optimizer.lr={lr:?}"),
            &format!("student={{schedule: {{milestones: [{}]}}}}", milestones.join(",")),
        ]).config;
        prop_assert_eq!(config.seed, seed);
        prop_assert_eq!(config.student.optimizer.lr, lr);
        let milestones = Milestones {
            milestones: list.iter().map(|i| *i as usize).collect(),
            ..Milestones::default()
        };
        prop_assert_eq!(config.student.schedule, ScheduleSettings::Milestones(milestones));
    }

    #[test]
    fn the_printed_config_composes_to_itself(
        text in paths(),
        seed in any::<u64>(),
        eps in 1e-300..1e300,
        weights in prop::option::of(prop::collection::vec(1e-9..1e9, 1..4)),
        kind in prop::sample::select(vec!["resnet18", "lenet5"]),
    ) {
        let weights = weights.map_or("null".to_owned(), |weights| format!("{weights:?}"));
        let composed = Tree::new(&[]).compose(&[
            &format!("teacher.save_folder={}", typed(&text)),
            &format!("seed={seed}"),
            &format!("deep_inv.optimizer.eps={eps:?}"),
            &format!("student.class_weights={weights}"),
            &format!("student.model.kind={kind}"),
        ]);
        let again = fed_back(&composed);
        prop_assert_eq!(&again.config, &composed.config);
        prop_assert_eq!(again.to_yaml(&|_| true), composed.to_yaml(&|_| true));
    }

    /// Whatever is typed, composing ends with a config or a usage error.
    #[test]
    fn nothing_typed_makes_it_panic(
        argument in prop_oneof![
            any::<String>(),
            words().prop_map(|text| format!("dataset.root={text}")),
        ],
    ) {
        let tree = Tree::new(&[]);
        if let Err(error) = compose(&tree.request(&[&argument])) {
            prop_assert_eq!(error.class(), fed_distill::Class::Usage);
        }
    }

    /// Whatever a file holds, likewise.
    #[test]
    fn no_file_makes_it_panic(
        text in prop_oneof![
            any::<String>(),
            words().prop_map(|text| format!("seed: {text}\nmodel:\n  - {text}")),
        ],
    ) {
        let tree = Tree::new(&[("config.yaml", &text)]);
        if let Err(error) = compose(&tree.request(&[])) {
            prop_assert_eq!(error.class(), fed_distill::Class::Usage);
        }
    }
}
