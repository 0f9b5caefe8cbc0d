//! Criterion over every case of `benches/cases.json`: `cargo bench`, or `cargo bench -- small` for
//! some of them.
//!
//! For the ratio to PyTorch on the same machine see `make bench`, which alternates both.

mod common;

use common::cases::{Cases, Engine, Task};
use common::{inversion, training};
use criterion::{Criterion, criterion_group, criterion_main};
use fed_distill::runtime::threads;
use std::time::Duration;
use tch::Device;

fn steps(criterion: &mut Criterion) {
    let wanted = std::env::var("BENCH_THREADS")
        .ok()
        .and_then(|text| text.parse().ok());
    threads::set(wanted, 1).expect("BENCH_THREADS must suit this machine");
    let cases = Cases::read().expect("benches/cases.json");
    let mut group = criterion.benchmark_group("step");
    for (name, case) in &cases.steps {
        match case.task {
            Task::Inversion => {
                for engine in [Engine::Plain, Engine::Fused] {
                    group.bench_function(format!("{name}/{engine:?}"), |bencher| {
                        let mut steps = inversion::Steps::new(&cases, case, engine, Device::Cpu)
                            .expect("a case that can be made");
                        bencher.iter(|| steps.run(1).expect("an inversion step"));
                    });
                }
            }
            Task::Training => {
                group.bench_function(name, |bencher| {
                    let mut steps = training::Steps::new(&cases, case, Device::Cpu)
                        .expect("a case that can be made");
                    bencher.iter(|| {
                        steps
                            .epoch(1)
                            .and_then(|run| run())
                            .expect("a training step")
                    });
                });
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = steps
}
criterion_main!(benches);
