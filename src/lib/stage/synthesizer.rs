//! Chooses what makes synthetic batches by the config. Called by the server's stages.

use super::teachers::TeacherSet;
use crate::config::Config;
use crate::error::{During, Error};
use crate::inversion::{Inverter, Synthesizer};
use crate::runtime::seed::Seeds;

/// Returns the config group of the synthesiser's settings.
pub fn group(_: &Config) -> &'static str {
    "deep_inv"
}

/// Returns the key that makes batches depend on each other where they do.
pub fn depends_by(_: &Config) -> &'static str {
    "deep_inv.keep_moments"
}

/// Returns the synthesiser that the config asks for, of the teachers of `set`.
///
/// # Errors
/// Fails when the settings do not fit the teachers.
pub fn synthesizer<'a>(
    config: &'a Config,
    set: &'a TeacherSet,
) -> Result<Box<dyn Synthesizer + 'a>, Error> {
    let seeds = Seeds::new(config.seed);
    let inverter = Inverter::new(set.all(), &config.deep_inv, seeds).within(group(config))?;
    Ok(Box::new(inverter))
}
