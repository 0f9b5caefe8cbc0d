//! A real binary: streams, exit codes, flags, the built-in tree.

use crate::common::config_dir;
use assert_cmd::Command;
use std::path::Path;
use std::process::{Output, Stdio};

fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("split_data").unwrap();
    command
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs `split_data` in an empty folder, where only the built-in tree can be found.
fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), arguments)
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && errors.is_empty(),
        "{arguments:?}: {errors}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_lists_what_there_is() {
    let help = stdout(&["--help"]);
    for part in [
        "Reads:",
        "Writes:",
        "the built-in config tree",
        "full_2_teachers",
        "cifar10_jpeg",
        "--multirun",
        "--config-dir FOLDER",
    ] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
    assert!(help.contains("Two nodes with disjoint halves of the classes."));
    assert!(!help.contains("_report"));
    assert_eq!(stdout(&["-h"]), help);
    // Its own group has no options.
    let output = Command::cargo_bin("generate_initial")
        .unwrap()
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("generate_initial +method=shapes"), "{help}");
    assert!(!help.contains("=OPTION"), "{help}");
}

/// jemalloc prints statistics when asked through the environment; glibc's `malloc` prints nothing.
#[cfg(all(target_os = "linux", feature = "jemalloc"))]
#[test]
fn binaries_use_jemalloc_and_the_library_does_not() {
    let statistics = |program: &Path, argument| {
        let output = Command::new(program)
            .arg(argument)
            .env("MALLOC_CONF", "stats_print:true")
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let mut binaries = vec![
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
        "fed_avg",
        "fed_md",
        "distributed_sgd",
        "inspect",
    ];
    if cfg!(feature = "net") {
        binaries.extend(["serve", "join"]);
    }
    for binary in binaries {
        let text = statistics(&assert_cmd::cargo::cargo_bin(binary), "--help");
        assert!(text.contains("opt.dirty_decay_ms: -1"), "{binary}: {text}");
    }
    // This program links the library, and no allocator of its own.
    let text = statistics(&std::env::current_exe().unwrap(), "--list");
    assert!(!text.contains("jemalloc"), "{text}");
}

#[test]
fn version() {
    assert_eq!(
        stdout(&["--version"]),
        format!("split_data {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn cfg_prints_yaml_that_can_be_fed_back() {
    let arguments = [
        "+student=heter_10_teacher_custom",
        "dataset=mnist",
        "device=cpu",
        "--cfg",
        "job",
    ];
    let printed = stdout(&arguments);
    assert!(printed.starts_with("seed: 42\ndevice: cpu\n"), "{printed}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.yaml"), &printed).unwrap();
    let again = stdout(&[
        "--config-dir",
        folder.path().to_str().unwrap(),
        "--config-name",
        "job",
        "--cfg",
        "job",
    ]);
    assert_eq!(again, printed);
}

#[test]
fn the_built_in_tree_is_the_one_on_disk() {
    let overrides = ["+student=1_teacher_paper", "--cfg", "job"];
    let folder = config_dir();
    let disk = [
        &["--config-dir", folder.to_str().unwrap()],
        overrides.as_slice(),
    ]
    .concat();
    assert_eq!(stdout(&overrides), stdout(&disk));
}

#[test]
fn info_says_what_keys_mean() {
    let mut keys = String::new();
    for stage in [
        "train_teachers",
        "train_student",
        "fed_avg",
        "fed_md",
        "distributed_sgd",
    ] {
        let mut command = Command::cargo_bin(stage).unwrap();
        let output = command.args(["--info", "keys"]).output().unwrap();
        keys += &String::from_utf8(output.stdout).unwrap();
    }
    let undocumented: Vec<&str> = keys
        .lines()
        .filter(|line| !line.ends_with(':'))
        .filter(|line| {
            line.split_once("# ")
                .is_none_or(|(_, text)| !text.contains(". "))
        })
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:#?}");
    for words in ["whole number", "true | false. ", "auto | f32 | bf16"] {
        assert!(keys.contains(words), "{words} is missing in\n{keys}");
    }
}

#[test]
fn info_says_who_set_what() {
    let config = stdout(&["+split=iid_10_teachers", "seed=3", "--info", "config"]);
    let line = |key: &str| {
        config
            .lines()
            .find(|line| line.trim_start().starts_with(key))
            .unwrap()
            .to_owned()
    };
    assert!(line("seed:").ends_with("# command line `seed=3`"));
    assert!(
        line("num_nodes:").ends_with("# built-in config/split/iid_10_teachers.yaml:6"),
        "{}",
        line("num_nodes:")
    );
    assert!(line("device:").ends_with("# built-in default"));

    let defaults = stdout(&["+split=iid_10_teachers", "--info", "defaults"]);
    let files: Vec<_> = defaults
        .lines()
        .filter_map(|line| line.strip_prefix("built-in config/")?.split("  ").next())
        .collect();
    assert_eq!(
        files,
        [
            "dataset/cifar10.yaml",
            "config.yaml",
            "split/iid_10_teachers.yaml"
        ]
    );
    assert!(defaults.contains("chosen by command line `+split=iid_10_teachers`"));
}

/// It comes before the built-in tree.
#[test]
fn config_folder_beside_the_current_directory() {
    let folder = tempfile::tempdir().unwrap();
    let seed = || {
        let output = run_in(folder.path(), &["--info", "config"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    std::fs::create_dir(folder.path().join("config")).unwrap();
    assert!(
        seed().starts_with("seed: 42"),
        "a folder without the primary file is not the tree"
    );
    std::fs::write(folder.path().join("config/config.yaml"), "seed: 7\n").unwrap();
    assert!(seed().starts_with("seed: 7 ") && seed().ends_with("# config/config.yaml:1"));
}

/// Lines that announce jobs.
fn announced(errors: &str) -> Vec<&str> {
    errors
        .lines()
        .filter(|line| line.starts_with("job "))
        .collect()
}

#[test]
fn a_sweep_runs_its_jobs_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = [
        "-m",
        "seed=1,2",
        "device=cpu",
        "split.save_path=${seed}.json",
    ];
    let output = run_in(folder.path(), &sweep);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let rest = "device=cpu split.save_path=${seed}.json";
    assert_eq!(
        announced(&errors),
        [
            format!("job 1 of 2: seed=1 {rest}"),
            format!("job 2 of 2: seed=2 {rest}")
        ]
    );
    assert!(folder.path().join("1.json").is_file() && folder.path().join("2.json").is_file());

    let printed = stdout(&["-m", "seed=1,2", "--cfg", "job"]);
    assert_eq!(printed.matches("\ndevice: auto\n").count(), 2);
    assert!(printed.starts_with("---\n# job 1 of 2: seed=1\nseed: 1\n"));
}

/// Whoever read the messages has gone.
#[test]
fn a_sweep_runs_when_nobody_reads_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let sweep = [
        "-m",
        "seed=1,2",
        "device=cpu",
        "split.save_path=${seed}.json",
    ];
    let status = std::process::Command::new(assert_cmd::cargo::cargo_bin("split_data"))
        .current_dir(folder.path())
        .args(sweep)
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(folder.path().join("2.json").is_file());
}

/// What is done stays.
#[test]
fn failed_job_ends_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let paths = "split.save_path=choice(a.json, file/b.json, c.json)";
    let output = run_in(folder.path(), &["-m", "device=cpu", paths]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(announced(&errors).len(), 2, "{errors}");
    assert!(
        errors.contains("\n  while: job 2 of 3: device=cpu split.save_path=file/b.json\n"),
        "{errors}"
    );
    assert!(folder.path().join("a.json").is_file() && !folder.path().join("c.json").exists());
}

#[test]
fn every_job_is_composed_before_the_first_starts() {
    let text = stderr(&["-m", "seed=1,x"]);
    assert_eq!(
        text,
        "error: `seed` must be a whole number, 0 or more, found string \"x\"\n  set by: command \
         line `seed=x`\n  while: composing job 2 of 2: seed=x\n"
    );
}

#[test]
fn flags_that_are_none() {
    let flags = "--multirun, --cfg, --info, --config-dir, --config-name, --help, --version";
    assert_eq!(
        stderr(&["--teacher=full_1_teacher"]),
        format!(
            "error: `--teacher=full_1_teacher` is not a flag\n  available: {flags}\nhint: \
             overrides have no dashes; type `teacher=full_1_teacher`\n"
        )
    );
    assert_eq!(
        stderr(&["-m", "--mutlirun"]),
        format!(
            "error: `--mutlirun` is not a flag\n  available: {flags}\nhint: did you mean \
             `--multirun`?\n"
        )
    );
    assert_eq!(
        stderr(&["--teacher", "full_1_teacher"]),
        format!(
            "error: `--teacher` is not a flag\n  available: {flags}\nhint: overrides have no \
             dashes: `teacher=VALUE`\n"
        )
    );
    // No stage has a key of this name; of those that end in it, the ones that it reads are named.
    for (stage, typed, hint) in [
        (
            "split_data",
            "--epochs",
            "overrides are written KEY=VALUE, without dashes; `--help` lists the groups",
        ),
        (
            "train_teachers",
            "--epochs",
            "overrides have no dashes, and whole keys: `teacher.epochs=VALUE`",
        ),
        (
            "train_student",
            "--epochs",
            "overrides have no dashes, and whole keys: `student.epochs=VALUE`",
        ),
        (
            "train_student",
            "--num-nodes=5",
            "overrides have no dashes, and whole keys: `split.num_nodes=5`",
        ),
        (
            "train_student",
            "--max_train=5",
            "overrides have no dashes, and whole keys: `dataset.max_train=5`",
        ),
    ] {
        let output = Command::new(assert_cmd::cargo::cargo_bin(stage))
            .args([typed, "5"])
            .output();
        let text = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(text.ends_with(&format!("hint: {hint}\n")), "{text}");
    }
    for switch in ["resume", "overwrite", "tensorboard"] {
        assert!(stderr(&[&format!("--{switch}")]).ends_with(&format!(
            "hint: overrides have no dashes; type `{switch}=true`\n"
        )));
    }
    assert!(stderr(&["-x"]).starts_with("error: `-x` is not a flag\n"));
    assert_eq!(
        stderr(&["--cfg", "all"]),
        "error: `--cfg` cannot be `all`\n  available: job\n"
    );
    assert_eq!(
        stderr(&["--info"]),
        "error: `--info` needs a value\n  available: config, defaults, keys\n\
         hint: type `--info config`\n"
    );
    assert_eq!(
        stderr(&["--cfg"]),
        "error: `--cfg` needs a value\n  available: job\nhint: type `--cfg job`\n"
    );
    for (typed, refused) in [("--multirun=3", "--multirun"), ("-m=3", "-m")] {
        let text = stderr(&[typed]);
        assert_eq!(text, format!("error: `{refused}` takes no value\n"));
    }
}

/// What was typed is named, whichever letter of it is no flag.
#[test]
fn flags_of_hydra_that_are_none() {
    for (typed, meant) in [
        (&["-c", "job"][..], "did you mean `--cfg`?"),
        (&["-i", "config"], "did you mean `--info`?"),
        (&["-cp", "conf"], "did you mean `--config-dir`?"),
        (&["--config-path", "conf"], "did you mean `--config-dir`?"),
        (&["--config-path=conf"], "did you mean `--config-dir`?"),
        (&["-seed=3"], "overrides have no dashes; type `seed=3`"),
        (
            &["-model=lenet5"],
            "overrides have no dashes; type `model=lenet5`",
        ),
    ] {
        let text = stderr(typed);
        let first = format!("error: `{}` is not a flag\n", typed[0]);
        assert!(text.starts_with(&first), "{text}");
        assert!(text.ends_with(&format!("hint: {meant}\n")), "{text}");
    }
    let text = stderr(&["--cfg", "job", "--info", "config"]);
    assert!(text.contains("cannot be given together"), "{text}");
    assert!(
        text.contains("`--cfg`") && text.contains("`--info`"),
        "{text}"
    );
}

/// A name behind a word that is none is no subcommand.
#[test]
fn unknown_subcommand_before_another() {
    let output = Command::cargo_bin("inspect")
        .unwrap()
        .args(["--json", "foo", "runs"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: `inspect` has no subcommand `foo`\n"),
        "{text}"
    );
}

#[test]
fn config_places_that_do_not_exist() {
    assert_eq!(
        stderr(&["--config-dir", "nowhere"]),
        "error: config folder `nowhere` does not exist\n  from: command line `--config-dir`\n"
    );
    assert_eq!(
        stderr(&["--config-name", "confg"]),
        "error: there is no config file `confg.yaml` in the built-in config tree\n  available: \
         config\nhint: did you mean `--config-name config`?\n"
    );
    assert_eq!(
        stderr(&["-cn", "demo"]),
        "error: there is no config file `demo.yaml` in the built-in config tree\n  available: \
         config\nhint: it is an option of `experiment`: type `+experiment=demo`\n"
    );
}

/// Another Hydra project's folder: its `./config` is not ours.
#[test]
fn a_config_folder_of_another_project_is_passed_over() {
    for (files, reason) in [
        (
            &[("config.yaml", "defaults:\n  - model: bert\nlr: 0.1\n")][..],
            "`lr`",
        ),
        (
            &[("config.yaml", "defaults:\n  - model: bert\n")],
            "model/bert.yaml",
        ),
        (
            &[
                ("config.yaml", "defaults:\n  - model: bert\nseed: 3\n"),
                ("model/bert.yaml", "hidden: 768\n"),
            ],
            "`hidden`",
        ),
        (
            &[
                ("config.yaml", "defaults:\n  - trainer: gpu\n"),
                ("trainer/gpu.yaml", "devices: 1\n"),
            ],
            "`trainer`",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("config").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let output = run_in(
            folder.path(),
            &["+scale=tiny", "+split=iid", "--cfg", "job"],
        );
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        for word in [
            "warning: ",
            "another program's",
            reason,
            "--config-dir config",
        ] {
            assert!(errors.contains(word), "no `{word}` in {errors}");
        }
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .starts_with("seed: 42\n")
        );
    }
}

/// With several threads the process begins again.
#[test]
fn warnings_are_given_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::write(folder.path().join("config/config.yaml"), "lr: 0.1\n").unwrap();
    for multirun in [&[][..], &["-m", "overwrite=true"]] {
        let output = Command::cargo_bin("split_data")
            .unwrap()
            .current_dir(folder.path())
            .args(["device=cpu", "threads=2", "split.save_path=split.json"])
            .args(multirun)
            .env_remove("GOMP_SPINCOUNT")
            .env_remove("OMP_WAIT_POLICY")
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        assert_eq!(errors.matches("another program's").count(), 1, "{errors}");
    }
}

#[test]
fn hydras_short_flags() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    std::fs::write(folder.path().join("conf/study.yaml"), "seed: 5\n").unwrap();
    for flags in [
        &["-cd", "conf", "-cn", "study"][..],
        &["-cd=conf", "-cn=study"],
    ] {
        let output = run_in(folder.path(), &[flags, &["--cfg", "job"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.starts_with("seed: 5\n"),
            "{text}"
        );
    }
}
