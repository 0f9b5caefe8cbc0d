//! Which model settings make sense: checked before any tensor is made, whether they come from a
//! config or from a file's metadata.

use super::settings::{ModelKind, ModelSettings, ModelSpec};
use crate::{Error, Result};
use std::fmt;

/// Channels of a ResNet's first stage where `width` is `null`.
const WIDTH: i64 = 64;
/// What a channel count, a depth or a class count may reach: far beyond use, and small enough for
/// every product to fit an i64.
const MOST: i64 = 65_536;

impl ModelKind {
    /// The name in a config: `resnet18`, `fedavg_cnn`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Lenet5 => "lenet5",
            Self::Lenet5Unpadded => "lenet5_unpadded",
            Self::Cnn5 => "cnn5",
            Self::FedavgCnn => "fedavg_cnn",
            Self::Linear => "linear",
        }
    }

    /// Whether it is a ResNet.
    pub fn is_residual(self) -> bool {
        self.published_blocks().is_some()
    }

    /// Blocks in each stage of a ResNet as published; `None` for the other kinds.
    fn published_blocks(self) -> Option<&'static [i64]> {
        match self {
            Self::Resnet18 => Some(&[2, 2, 2, 2]),
            Self::Resnet34 | Self::Resnet50 => Some(&[3, 4, 6, 3]),
            Self::Lenet5 | Self::Lenet5Unpadded | Self::Cnn5 | Self::FedavgCnn | Self::Linear => {
                None
            }
        }
    }
}

/// `resnet18 width 16 blocks [1, 1, 1]`: the kind, and what is not its default.
impl fmt::Display for ModelSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind.name())?;
        if let Some(width) = self.width {
            write!(out, " width {width}")?;
        }
        match &self.blocks {
            Some(blocks) => write!(out, " blocks {blocks:?}"),
            None => Ok(()),
        }
    }
}

impl ModelSettings {
    /// `width`, or its default.
    pub(super) fn width(&self) -> i64 {
        self.width.unwrap_or(WIDTH)
    }

    /// `blocks`, or those of the kind's name.
    pub(super) fn blocks(&self) -> Vec<i64> {
        let published = || self.kind.published_blocks().unwrap_or_default().to_vec();
        self.blocks.clone().unwrap_or_else(published)
    }

    fn check(&self) -> Result<()> {
        if self.kind.published_blocks().is_none() {
            let set = [
                ("width", self.width.is_some()),
                ("blocks", self.blocks.is_some()),
            ];
            return match set.iter().find(|(_, is_set)| *is_set) {
                None => Ok(()),
                Some((field, _)) => Err(does_not_apply(field, self.kind)),
            };
        }
        within("model.width", self.width(), 1, MOST)?;
        let blocks = self.blocks();
        if blocks.is_empty() || blocks.len() > 5 {
            return Err(Error::usage("`model.blocks` must name one to five stages")
                .note("found", format!("{blocks:?}"))
                .hint("say `model.blocks=[2,2,2,2]`"));
        }
        blocks
            .iter()
            .try_for_each(|&count| within("model.blocks", count, 1, 1024))
    }
}

fn does_not_apply(field: &str, kind: ModelKind) -> Error {
    Error::usage(format!(
        "`model.{field}` does not apply to `{}`",
        kind.name()
    ))
    .note("available", "resnet18, resnet34 and resnet50 take it")
    .hint(format!("leave it out, or set `model.{field}=null`"))
}

fn within(field: &str, value: i64, least: i64, most: i64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::usage(format!("`{field}` is out of range"))
        .note("expected", format!("{least} to {most}"))
        .note("found", value.to_string()))
}

impl ModelSpec {
    /// Settings plus the data's shape: `channels` 1 or 3, `size` pixels at least 8, `classes` at
    /// least 2.
    ///
    /// # Errors
    /// As [`ModelSpec::check`].
    pub fn new(settings: &ModelSettings, channels: i64, size: i64, classes: i64) -> Result<Self> {
        let spec = Self {
            model: settings.clone(),
            channels,
            size,
            classes,
        };
        spec.check()?;
        Ok(spec)
    }

    /// # Errors
    /// Usage errors: a setting that the kind does not take, or a number out of range.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        if self.channels != 1 && self.channels != 3 {
            return Err(Error::usage("a model takes images of 1 or 3 channels")
                .note("found", self.channels.to_string()));
        }
        within("image size in pixels", self.size, 8, 4096)?;
        within("number of classes", self.classes, 2, MOST)
    }
}
