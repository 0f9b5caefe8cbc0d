//! Checks model settings before any tensor is made, whether they come from a config or from a
//! file's metadata, and names architectures.

use super::settings::{ModelKind, ModelSettings, ModelSpec};
use crate::error::{Error, Result, Text, assignment, parameter};
use serde::Serialize;
use std::fmt;

/// Channels of a ResNet's first stage if no `width` is set.
const WIDTH: i64 = 64;
/// The largest channel and class count that is accepted: more than anyone needs, and so small that
/// every product fits an i64.
const MOST: i64 = 65_536;
/// The smallest image size, in pixels, of which the unpadded LeNet-5's convolutions and poolings
/// leave anything.
const SMALLEST_UNPADDED: i64 = 16;

/// Writes the name that serde writes: `resnet18`, `fedavg_cnn`, …
impl fmt::Display for ModelKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

impl ModelKind {
    /// Returns `true` for a ResNet, whose blocks end with a ReLU; a wide residual network is none.
    pub fn is_residual(self) -> bool {
        self.published_blocks().is_some()
    }

    /// Returns the published number of blocks in each stage of a ResNet, and `None` for the other
    /// kinds.
    fn published_blocks(self) -> Option<&'static [i64]> {
        match self {
            Self::Resnet18 => Some(&[2, 2, 2, 2]),
            Self::Resnet34 | Self::Resnet50 => Some(&[3, 4, 6, 3]),
            Self::Wrn16_1
            | Self::Wrn40_1
            | Self::Lenet5
            | Self::Lenet5Unpadded
            | Self::Cnn5
            | Self::Cnn64
            | Self::FedavgCnn
            | Self::MnistCnn
            | Self::Linear => None,
        }
    }
}

/// Writes the kind, and the settings that are not its defaults: `resnet18 width 16 blocks [1, 1,
/// 1]`.
impl fmt::Display for ModelSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.kind)?;
        if let Some(width) = self.width {
            write!(out, " width {width}")?;
        }
        match &self.blocks {
            Some(blocks) => write!(out, " blocks {blocks:?}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for ModelSettings {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.width() == other.width() && self.blocks() == other.blocks()
    }
}

impl ModelSettings {
    /// Returns `width` or its default.
    pub(super) fn width(&self) -> i64 {
        self.width.unwrap_or(WIDTH)
    }

    /// Returns `blocks` or the published ones of the kind.
    pub(super) fn blocks(&self) -> Vec<i64> {
        let published = || self.kind.published_blocks().unwrap_or_default().to_vec();
        self.blocks.clone().unwrap_or_else(published)
    }

    /// Checks that the kind takes the settings, and their ranges.
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
        check_range(parameter("width"), self.width(), 1, MOST)?;
        let blocks = self.blocks();
        if blocks.is_empty() || blocks.len() > 5 {
            return Err(
                Error::usage(parameter("blocks") + " must name one to five stages")
                    .note("found", format!("{blocks:?}"))
                    .hint(Text::from("say ") + assignment("blocks", "[2,2,2,2]")),
            );
        }
        blocks
            .iter()
            .try_for_each(|&count| check_range(parameter("blocks"), count, 1, 1024))
    }
}

/// Returns the error of a setting that is for residual networks only.
fn does_not_apply(field: &str, kind: ModelKind) -> Error {
    Error::usage(parameter(field) + format!(" does not apply to `{kind}`"))
        .note("available", "resnet18, resnet34 and resnet50 take it")
        .hint(Text::from("leave it out, or set ") + assignment(field, "null"))
}

/// Fails when `value`, which errors call `name`, is not in `least`..=`most`.
fn check_range(name: Text, value: i64, least: i64, most: i64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::usage(name + " is out of range")
        .note("expected", format!("{least} to {most}"))
        .note("found", value.to_string()))
}

impl ModelSpec {
    /// Combines `settings` with the shape of the data: 1 or 3 `channels`, height and width `size`
    /// in pixels, 8 or more, and 2 `classes` or more.
    ///
    /// # Errors
    /// Fails when [`ModelSpec::check`] does.
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

    /// Checks the settings and the shape.
    ///
    /// # Errors
    /// Fails with a usage error when the kind does not take a setting, a number is out of range, or
    /// the images are too small for the kind.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        if self.channels != 1 && self.channels != 3 {
            return Err(Error::usage("a model takes images of 1 or 3 channels")
                .note("found", self.channels.to_string()));
        }
        check_range("`image size in pixels`".into(), self.size, 8, 4096)?;
        check_range("`number of classes`".into(), self.classes, 2, MOST)?;
        if self.model.kind == ModelKind::Lenet5Unpadded && self.size < SMALLEST_UNPADDED {
            return Err(Error::usage(
                "the images are too small for `lenet5_unpadded`: nothing would be left of them",
            )
            .note(
                "expected",
                format!("{SMALLEST_UNPADDED}×{SMALLEST_UNPADDED} pixels or more"),
            )
            .note("found", format!("{0}×{0}", self.size))
            .hint(assignment("kind", "lenet5") + " pads them"));
        }
        Ok(())
    }
}
