//! Chooses the device a run computes on, by the config's `device`. Stages call [`choose`] once,
//! before their first tensor.

use super::cuda::{self, Missing};
use super::launcher::launched;
use crate::error::{Error, Result};
use std::sync::{Arc, Once};
use tch::{Device, Kind, Tensor};

/// Lists the forms of `device`, for errors.
const FORMS: &str = "auto, cpu, cuda, cuda:N (N counts from 0)";

/// Holds what `device` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Auto,
    Cpu,
    /// The device of this number; `None` leaves the number to this process.
    Cuda(Option<usize>),
}

/// Returns the device for `wanted`: `auto` (CUDA when it works, else the CPU; which and why is
/// logged once), `cpu`, `cuda` or `cuda:N`. Without a number it is the first, and where processes
/// were started together each takes one by its number on its machine, in turn.
///
/// Loads CUDA unless `cpu` is wanted, and tries the device with a small sum. Call it before
/// anything else that uses libtorch.
///
/// # Errors
/// Fails for another form (usage), and for a CUDA device that is not there or does not work: the
/// error says what is missing and what there is.
pub fn choose(wanted: &str) -> Result<Device> {
    match parse(wanted)? {
        Wanted::Cpu => Ok(Device::Cpu),
        Wanted::Auto => Ok(automatic()),
        Wanted::Cuda(index) => demanded(wanted, index),
    }
}

/// Sets how libtorch computes on `device`. On CUDA, cuDNN tries its algorithms for each new shape
/// and keeps the fastest; with `deterministic` it takes those that give the same bytes every time.
/// Elsewhere nothing changes.
///
/// TF32 is left as libtorch has it: convolutions of float32 may round their operands to it, matrix
/// products may not.
///
/// # Errors
/// Fails when libtorch lacks the switch that `deterministic` needs.
pub fn tune(device: Device, deterministic: bool) -> Result<()> {
    if !matches!(device, Device::Cuda(_)) {
        return Ok(());
    }
    tch::Cuda::cudnn_set_benchmark(!deterministic);
    match deterministic {
        true => cuda::set_deterministic(),
        false => Ok(()),
    }
}

/// Returns true for the forms that [`choose`] takes, whether or not there is such a device.
pub fn is_form(wanted: &str) -> bool {
    parse(wanted).is_ok()
}

fn parse(wanted: &str) -> Result<Wanted> {
    let number = |digits: &str| {
        digits
            .bytes()
            .all(|digit| digit.is_ascii_digit())
            .then(|| digits.parse().ok())
    };
    match wanted {
        "auto" => Ok(Wanted::Auto),
        "cpu" => Ok(Wanted::Cpu),
        "cuda" => Ok(Wanted::Cuda(None)),
        _ => wanted
            .strip_prefix("cuda:")
            .and_then(number)
            .flatten()
            .map(|index| Wanted::Cuda(Some(index)))
            .ok_or_else(|| {
                let error =
                    Error::usage(format!("there is no device `{wanted}`")).note("available", FORMS);
                match meant(wanted) {
                    Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                    None => error,
                }
            }),
    }
}

/// Returns the form that `wanted`, another spelling of it or another name of the GPU, stands for.
pub fn meant(wanted: &str) -> Option<String> {
    let plain = wanted.to_lowercase();
    let plain = match plain.strip_prefix("gpu") {
        Some(number) => format!("cuda{number}"),
        None => plain,
    };
    (plain != wanted && parse(&plain).is_ok()).then_some(plain)
}

fn automatic() -> Device {
    static SAID: Once = Once::new();
    match cuda::devices() {
        Err(missing @ Missing::Broken(_)) => {
            SAID.call_once(|| tracing::warn!("device: cpu, because {}", missing.describe()));
            Device::Cpu
        }
        Err(missing) => {
            // Whoever has a GPU should know how to get it used; whoever has none need not read
            // about it.
            let advice = match (&missing, missing.hint()) {
                (Missing::Library { driver: true, .. }, Some(hint)) => format!("; {hint}"),
                _ => String::new(),
            };
            SAID.call_once(|| tracing::info!("device: cpu ({}{advice})", missing.describe()));
            Device::Cpu
        }
        Ok(count) => {
            let index = own(count);
            match works(index) {
                Ok(()) => {
                    let more = if count > 1 {
                        format!(", {count} devices")
                    } else {
                        String::new()
                    };
                    SAID.call_once(|| {
                        tracing::info!("device: cuda:{index} (CUDA works here{more})")
                    });
                    Device::Cuda(index)
                }
                Err(error) => {
                    SAID.call_once(|| {
                        tracing::warn!(
                            "device: cpu, because cuda:{index} is there and does not work ({error})"
                        )
                    });
                    Device::Cpu
                }
            }
        }
    }
}

/// Returns the number of this process's device, of `count`.
fn own(count: usize) -> usize {
    launched().map_or(0, |launched| launched.local % count)
}

fn demanded(wanted: &str, index: Option<usize>) -> Result<Device> {
    let refuse =
        |why: String| Error::failed(format!("the device `{wanted}` cannot be used: {why}"));
    match cuda::devices() {
        Err(missing) => {
            let error = refuse(missing.describe()).note("available", "cpu");
            let error = match &missing {
                Missing::Broken(cause) => error.caused_by(Arc::clone(cause)),
                _ => error,
            };
            let error = missing
                .found()
                .into_iter()
                .fold(error, |error, text| error.note("found", text));
            Err(missing.hint().into_iter().fold(
                error.hint("`device=cpu`, or `device=auto` to take what there is"),
                Error::hint,
            ))
        }
        Ok(count) if index.is_some_and(|index| index >= count) => {
            let devices: Vec<String> = (0..count).map(|index| format!("cuda:{index}")).collect();
            Err(refuse(format!(
                "there are only {count} CUDA devices (counted from 0)"
            ))
            .note("available", format!("cpu, {}", devices.join(", ")))
            .hint(format!("`device=cuda:{}`, or `device=auto`", count - 1)))
        }
        Ok(count) => {
            let index = index.unwrap_or_else(|| own(count));
            works(index).map(|()| Device::Cuda(index)).map_err(|error| {
                refuse(error.to_string())
                    .hint("`device=cpu`, or another CUDA device")
                    .caused_by(error)
            })
        }
    }
}

/// Computes something on the device: it may be too old for this libtorch, out of memory, or taken
/// by another process.
fn works(index: usize) -> Result<()> {
    let ones = Tensor::f_ones([2], (Kind::Float, Device::Cuda(index)))?;
    let sum = ones.f_sum(Kind::Float)?.f_double_value(&[])?;
    if sum == 2.0 {
        Ok(())
    } else {
        Err(Error::failed(format!("it computes 1 + 1 = {sum}")))
    }
}

impl Missing {
    fn describe(&self) -> String {
        match self {
            Self::Library { driver: true, .. } => {
                "this libtorch is CPU-only, although there is an NVIDIA driver".into()
            }
            Self::Library { .. } => "this libtorch is CPU-only".into(),
            Self::Broken(why) => format!("libtorch_cuda cannot be loaded: {why}"),
            Self::Driver => "there is no NVIDIA driver (libcuda.so.1)".into(),
            Self::Devices => "the NVIDIA driver shows no device".into(),
        }
    }

    fn found(&self) -> Option<String> {
        match self {
            Self::Library { folder, .. } => {
                Some(format!("no libtorch_cuda.so in {}", folder.display()))
            }
            Self::Devices => std::env::var("CUDA_VISIBLE_DEVICES")
                .ok()
                .map(|list| format!("CUDA_VISIBLE_DEVICES=`{list}`")),
            Self::Broken(_) | Self::Driver => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Library { .. } | Self::Broken(_) => {
                Some("with an NVIDIA GPU: `FED_DISTILL_LIBTORCH=cuda make setup`, then build again")
            }
            Self::Driver => {
                Some("with an NVIDIA GPU: install its driver, and see that `nvidia-smi` works")
            }
            Self::Devices => Some(
                "see that `nvidia-smi` lists a GPU and that CUDA_VISIBLE_DEVICES does not hide it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_exact() {
        assert_eq!(parse("auto").ok(), Some(Wanted::Auto));
        assert_eq!(parse("cpu").ok(), Some(Wanted::Cpu));
        assert_eq!(parse("cuda").ok(), Some(Wanted::Cuda(None)));
        assert_eq!(parse("cuda:12").ok(), Some(Wanted::Cuda(Some(12))));
        for wrong in [
            "",
            "CPU",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "cuda: 1",
            "cuda:99999999999999999999999",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
