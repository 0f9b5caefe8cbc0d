//! N ranks give the results of one process.

use crate::common::Place;
use crate::job::{self, Job};
use crate::{FED_AVG, same, with};

const FED: [&str; 3] = ["fed/global.safetensors", "fed/metrics.jsonl", "fed/metrics.json"];

#[test]
fn parcels_of_any_length_arrive_whole_and_in_order() {
    let place = Place::new();
    let rank = job::binary("fed_avg").with_file_name("examples").join("mpi_rank");
    let ended = Job::start(&place, &[(3, rank, vec!["pieces"])]).end(&place, 30.0);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 3), "{}", ended.errors);
}

#[test]
fn federated_averaging_is_the_same_on_processes_threads_and_alone() {
    for statistics in ["fed_avg.statistics=average", "fed_avg.statistics=local"] {
        let [alone, threads, processes] = [(), (), ()].map(|()| Place::new());
        let options = with(&FED_AVG, &[statistics, "+fed_avg=adam"]);
        for place in [&alone, &threads, &processes] {
            assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
        }
        let (code, table, errors) = alone.run_with("fed_avg", &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let (code, other, errors) = threads.run_with("fed_avg", &options, &["fed_avg.ranks=3"]);
        assert_eq!((code, &other), (0, &table), "{errors}");
        let ended = job::ok(&processes, 3, "fed_avg", options.clone());
        assert_eq!(ended.out, table, "rank 0 alone prints\n{}", ended.errors);
        same(&alone, &threads, &FED);
        same(&alone, &processes, &FED);
        // What is there is known to all ranks.
        let again = job::ok(&processes, 2, "fed_avg", [&options[..], &["resume=true"]].concat());
        assert!(
            again.out.is_empty() && again.errors.matches("trained already").count() == 1,
            "{}",
            again.errors
        );
    }
}

#[test]
fn distributed_sgd_is_the_same_on_processes_and_threads() {
    for method in [
        "distributed_sgd.method=all_reduce",
        "distributed_sgd.method=parameter_server",
    ] {
        let (threads, processes) = (Place::new(), Place::new());
        let options = vec![
            "dataset=digits",
            "dataset.size=16",
            "dataset.max_train=200",
            "dataset.max_test=50",
            "model=lenet5_unpadded",
            "distributed_sgd.save_folder=out",
            "distributed_sgd.batch_size=32",
            "distributed_sgd.report_every=2",
            "distributed_sgd.ranks=3",
            "threads=1",
            "device=cpu",
            method,
        ];
        let (code, table, errors) = threads.run_with("distributed_sgd", &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let ended = job::ok(&processes, 3, "distributed_sgd", options);
        assert_eq!(ended.out, table, "{}", ended.errors);
        same(
            &threads,
            &processes,
            &["out/model.safetensors", "out/metrics.jsonl", "out/metrics.json"],
        );
    }
}
