//! Chooses what makes synthetic batches by the config: inversion, or a generator if there is one.
//! Called by the server's stages.

use super::teachers::TeacherSet;
use crate::config::Config;
use crate::error::{During, Error};
use crate::generator::GeneratorSynthesizer;
use crate::inversion::{Ensemble, Inverter, Synthesizer, warn_of_labels};
use crate::runtime::seed::Seeds;
use tch::Tensor;

/// Returns the config group of the synthesiser's settings.
pub fn group(config: &Config) -> &'static str {
    match config.generator {
        Some(_) => "generator",
        None => "deep_inv",
    }
}

/// Returns what making the batches is called, in the progress.
pub fn work(config: &Config) -> &'static str {
    match config.generator {
        Some(_) => "making batches with a generator",
        None => "inverting the teachers",
    }
}

/// Returns what the loss of the synthesiser is called, in plots.
pub fn loss(config: &Config) -> &'static str {
    match config.generator {
        Some(_) => "Generator's loss",
        None => "Inversion loss",
    }
}

/// Returns the key that makes batches depend on each other where they do.
pub fn depends_by(config: &Config) -> &'static str {
    match config.generator {
        Some(_) => "generator.persistent",
        None => "deep_inv.keep_moments",
    }
}

/// Returns the key of the number of images in a synthetic batch.
pub fn batch_size_key(config: &Config) -> &'static str {
    match config.generator {
        Some(_) => "generator.batch_size",
        None => "deep_inv.batch_size",
    }
}

/// Refuses settings that do not fit the teachers of `set`, before anything is written, and tells
/// what makes the batches: against a student or not, or none at all.
///
/// # Errors
/// Fails as [`synthesizer`] does.
pub fn check(config: &Config, set: &TeacherSet, student: Option<bool>) -> Result<(), Error> {
    if config.generator.is_some() {
        synthesizer(config, set, None)?;
        tracing::info!("a generator makes the synthetic batches: `generator` is set");
        return Ok(());
    }
    let inverter = inverter(config, set)?;
    if let Some(student) = student {
        inverter.tell_engine(student);
    }
    // Only now are there as many weights as classes.
    warn_of_labels(&config.deep_inv, &set.all());
    Ok(())
}

/// Returns what inverts the teachers of `set`.
fn inverter<'a>(config: &'a Config, set: &'a TeacherSet) -> Result<Inverter<'a>, Error> {
    let inverter = Inverter::new(set.all(), &config.deep_inv, Seeds::new(config.seed));
    let inverter = inverter.within("deep_inv")?;
    Ok(inverter.with_normalisation(&set.card.normalisation))
}

/// Returns the synthesiser that the config asks for, of the teachers of `set`; its ensemble follows
/// the teachers' `weights` f32 [teachers], if there are any.
///
/// # Errors
/// Fails when the settings do not fit the teachers.
pub fn synthesizer<'a>(
    config: &'a Config,
    set: &'a TeacherSet,
    weights: Option<&Tensor>,
) -> Result<Box<dyn Synthesizer + 'a>, Error> {
    let (all, seeds) = (set.all(), Seeds::new(config.seed));
    let normalisation = &set.card.normalisation;
    let kind = config.synthesis_ensemble();
    let ensemble = Ensemble::new(kind, &all, set.teachers[0].device);
    let ensemble = match weights {
        Some(weights) => ensemble.with_weights(weights),
        None => ensemble,
    };
    let Some(settings) = &config.generator else {
        return Ok(Box::new(inverter(config, set)?.with_ensemble(ensemble)));
    };
    let maker = GeneratorSynthesizer::new(all, ensemble, settings, normalisation, seeds);
    Ok(Box::new(maker.within("generator")?))
}
