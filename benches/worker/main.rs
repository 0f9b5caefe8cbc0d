//! A process that runs this library's steps on demand, for `benches/compare.py`: it alternates with
//! the Python workers, which speak the same protocol.
//!
//! `worker save FOLDER CASE` writes the case's weights and images for the Python side.
//! `worker serve FOLDER CASE` prints a line of JSON when it is ready, then answers each line
//! `N` on stdin with the seconds N steps took, and an end of input with the peak of its memory.

#[path = "../common/mod.rs"]
mod common;

use clap::Parser;
use common::cases::{Cases, Engine, Task};
use common::{inversion, training};
use fed_distill::model::Precision;
use fed_distill::runtime::{device, threads};
use fed_distill::{Error, Result};
use serde_json::json;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

#[derive(Parser)]
struct Arguments {
    action: Action,
    folder: PathBuf,
    case: String,
    /// What the driver calls this process: names the file of its gradient.
    #[arg(long, default_value = "ours")]
    variant: String,
    #[arg(long, default_value = "plain")]
    engine: Engine,
    #[arg(long, default_value = "f32")]
    precision: Compute,
    /// A device as the config's `device` names it.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// All cores where it is not given.
    #[arg(long)]
    threads: Option<usize>,
}

/// The type of images, activations and convolution weights.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Compute {
    F32,
    Bf16,
}

impl From<Compute> for Precision {
    fn from(compute: Compute) -> Self {
        match compute {
            Compute::F32 => Self::F32,
            Compute::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Action {
    Save,
    Serve,
}

fn main() -> std::process::ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let cases = Cases::read()?;
    let case = cases.get(&arguments.case)?;
    if let Action::Save = arguments.action {
        return cases.make(case)?.save(&arguments.folder);
    }
    threads::set(arguments.threads, 1)?;
    // Before the first tensor: it loads libtorch's CUDA half.
    let device = device::choose(&arguments.device)?;
    device::tune(device, false)?;
    let precision = arguments.precision.into();
    let before = memory_kib("VmHWM");
    match case.task {
        Task::Inversion => {
            let mut steps =
                inversion::Steps::new(&cases, case, arguments.engine, device, precision)?;
            let check = steps.check()?;
            ready(arguments, check, before)?;
            serve(|count| timed(device, || steps.run(count)))
        }
        Task::Training => {
            let mut steps = training::Steps::new(&cases, case, device, precision)?;
            let check = steps.check()?;
            ready(arguments, check, before)?;
            serve(|count| timed(device, steps.epoch(count)?))
        }
    }
}

/// Seconds until all of `run` is computed, on a device that computes on its own as well.
fn timed(device: Device, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    synchronize(device);
    let start = Instant::now();
    run()?;
    synchronize(device);
    Ok(start.elapsed().as_secs_f64())
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Says that the steps can begin, and leaves the gradient where the driver compares it with the
/// others'.
fn ready(
    arguments: &Arguments,
    (loss, gradient): (f64, Tensor),
    before: Option<u64>,
) -> Result<()> {
    let values: Vec<f32> = Vec::try_from(
        gradient
            .to_device(Device::Cpu)
            .to_kind(Kind::Float)
            .contiguous()
            .flatten(0, -1),
    )?;
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs_err::write(
        arguments
            .folder
            .join(format!("gradient.{}.f32", arguments.variant)),
        bytes,
    )?;
    say(&json!({
        "before_kib": before,
        "loss": loss,
    }))
}

fn serve(mut steps: impl FnMut(usize) -> Result<f64>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let count = line
            .trim()
            .parse()
            .map_err(|_| Error::usage(format!("`{line}` is no number of steps")))?;
        say(&json!(steps(count)?))?;
    }
    say(&json!({"peak_kib": memory_kib("VmHWM")}))
}

fn say(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A figure of `/proc/self/status`; nothing where there is no such file.
fn memory_kib(key: &str) -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
