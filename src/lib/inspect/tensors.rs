//! `inspect tensors` lists the tensors in a file.

use super::Answer;
use super::format::{or_dash, size};
use super::recognise::{self, Wanted};
use crate::artifact::{hash, tensors};
use crate::report::Table;
use crate::run::weights;
use crate::words::counted;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;
use tch::{Kind, Tensor};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// A safetensors file or a PyTorch state dict (`.pt`)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Holds least, greatest and mean of the finite values, and how many are not finite.
struct Range {
    least: Option<f64>,
    greatest: Option<f64>,
    mean: Option<f64>,
    not_finite: i64,
}

impl Request {
    /// Returns a table with a line for each tensor.
    ///
    /// # Errors
    /// Fails for a file that is missing, damaged, or of neither format.
    pub fn answer(&self) -> Result<Answer> {
        let path = recognise::file(&self.file, Wanted::Tensors, "tensors")?;
        let (state, metadata) = tensors::read_state(path)?;
        let (bytes, sha256) = hash::file(path)?;
        let mut table = Table::new(&[
            "tensor",
            "type",
            "shape",
            "values",
            "least",
            "greatest",
            "mean",
            "not finite",
        ]);
        let (mut data, mut values) = (Vec::new(), 0);
        for (name, tensor) in state.iter() {
            let range = range(tensor)?;
            let write = |value: Option<f64>| or_dash(value.map(number));
            values += tensor.numel();
            table.row(vec![
                name.into(),
                kind(tensor.kind()).into(),
                format!("{:?}", tensor.size()),
                tensor.numel().to_string(),
                write(range.least),
                write(range.greatest),
                write(range.mean),
                if range.not_finite > 0 {
                    range.not_finite.to_string()
                } else {
                    String::new()
                },
            ]);
            data.push(json!({
                "name": name, "type": kind(tensor.kind()), "shape": tensor.size(),
                "least": range.least, "greatest": range.greatest, "mean": range.mean,
                "not_finite": range.not_finite,
            }));
        }
        let mut text = format!(
            "{table}\n\n{}, {}, {}, sha256 {sha256}",
            counted(state.len(), "tensor"),
            counted(values, "value"),
            size(bytes)
        );
        let card = weights::card(&metadata).ok().flatten();
        if let Some(card) = &card {
            text += &format!(
                "\n{} of {}×{}×{} images in {} classes of {}",
                card.model.model.kind,
                card.model.channels,
                card.model.size,
                card.model.size,
                card.classes.len(),
                card.dataset
            );
        }
        Answer::new(
            text,
            json!({"file": path, "bytes": bytes, "sha256": sha256, "card": card,
                "metadata": metadata, "tensors": data}),
        )
    }
}

/// Returns the name of a type.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::Double => "f64",
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        Kind::Int64 => "i64",
        Kind::Int => "i32",
        Kind::Int16 => "i16",
        Kind::Int8 => "i8",
        Kind::Uint8 => "u8",
        Kind::Bool => "bool",
        _ => "other",
    }
}

/// Returns the range of a tensor's values.
fn range(tensor: &Tensor) -> Result<Range> {
    let all = tensor.f_to_kind(Kind::Double)?.f_flatten(0, -1)?;
    let finite = all.f_masked_select(&all.f_isfinite()?)?;
    let some = finite.numel() > 0;
    let value = |tensor: Tensor| -> Result<Option<f64>> { Ok(Some(tensor.f_double_value(&[])?)) };
    Ok(Range {
        least: if some { value(finite.f_min()?)? } else { None },
        greatest: if some { value(finite.f_max()?)? } else { None },
        mean: if some {
            value(finite.f_mean(Kind::Double)?)?
        } else {
            None
        },
        not_finite: (all.numel() - finite.numel()) as i64,
    })
}

/// Formats a number with four significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if value.fract() == 0.0 && size < 1e9 => format!("{value:.0}"),
        1e-3..1e6 => {
            let decimals = (3.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.3e}"),
    }
}
