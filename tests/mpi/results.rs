//! N ranks give the results of one process.

use crate::common::{Place, child};
use crate::job::{self, Job};
use crate::{FED_AVG, FED_MD, Federated, rank, same, split};

#[test]
fn messages_of_any_length_arrive_whole_and_in_order() {
    if child::is_child() {
        return rank::pieces();
    }
    let place = Place::new();
    let pieces = child::arguments(messages_of_any_length_arrive_whole_and_in_order);
    let program = std::env::current_exe().unwrap();
    let ended = Job::start(&place, &[(3, program, pieces)]).end(&place);
    assert_eq!(
        (ended.code, ended.out.matches(" has all").count()),
        (0, 3),
        "{}",
        ended.errors
    );
}

/// Alone, with `threads` of one process and on three processes.
fn on_all(federated: &Federated, threads: &str, options: &[&str]) {
    let [alone, several, processes] = [(), (), ()].map(|()| Place::new());
    let options = federated.with(options);
    let table = federated.alone(&alone, &options, &[]);
    assert_eq!(federated.alone(&several, &options, &[threads]), table);
    split(&processes, &options);
    let ended = job::ok(&processes, 3, federated.stage, options.clone());
    assert_eq!(ended.out, table, "rank 0 alone prints\n{}", ended.errors);
    same(&alone, &several, federated.files);
    same(&alone, &processes, federated.files);
    // What is there is known to all ranks.
    let again = job::ok(
        &processes,
        2,
        federated.stage,
        [&options[..], &["resume=true"]].concat(),
    );
    assert!(
        again.out.is_empty() && again.errors.matches("trained already").count() == 1,
        "{}",
        again.errors
    );
}

#[test]
fn fed_avg_on_all() {
    for statistics in ["fed_avg.statistics=average", "fed_avg.statistics=local"] {
        on_all(&FED_AVG, "fed_avg.ranks=3", &[statistics, "+fed_avg=adam"]);
    }
}

#[test]
fn fed_md_on_all() {
    on_all(&FED_MD, "fed_md.ranks=3", &[]);
}

const SGD: [&str; 10] = [
    "dataset=digits",
    "dataset.size=16",
    "dataset.max_train=200",
    "dataset.max_test=50",
    "model=lenet5_unpadded",
    "distributed_sgd.save_folder=out",
    "distributed_sgd.batch_size=30",
    "distributed_sgd.report_every=2",
    "threads=1",
    "device=cpu",
];

const METHODS: [&str; 2] = [
    "distributed_sgd.method=all_reduce",
    "distributed_sgd.method=parameter_server",
];

#[test]
fn distributed_sgd_on_all() {
    for method in METHODS {
        let (threads, processes) = (Place::new(), Place::new());
        let options = [&SGD[..], &["distributed_sgd.ranks=3", method]].concat();
        let (code, table, errors) = threads.run_with("distributed_sgd", &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let ended = job::ok(&processes, 3, "distributed_sgd", options);
        assert_eq!(ended.out, table, "{}", ended.errors);
        same(
            &threads,
            &processes,
            &[
                "out/model.safetensors",
                "out/metrics.jsonl",
                "out/metrics.json",
            ],
        );
    }
}

/// In four parts it has the same bits on one, two and four processes.
#[test]
fn distributed_sgd_in_parts_on_all() {
    let options = [&SGD[..], &["distributed_sgd.parts=4"]].concat();
    let alone = Place::new();
    let (code, _, errors) = alone.run_with("distributed_sgd", &options, &[]);
    assert_eq!(code, 0, "{errors}");
    for (method, ranks) in METHODS
        .into_iter()
        .flat_map(|method| [(method, 2), (method, 4)])
    {
        let processes = Place::new();
        job::ok(
            &processes,
            ranks,
            "distributed_sgd",
            [&options[..], &[method]].concat(),
        );
        same(
            &alone,
            &processes,
            &["out/model.safetensors", "out/metrics.jsonl"],
        );
    }
}
