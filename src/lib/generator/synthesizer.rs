//! Makes one synthetic batch after another with a generator. Called by `generate_initial` and by
//! [`AdaptiveSource`](crate::distill::AdaptiveSource).
//!
//! All random numbers of batch `index` come from streams of that index. Unless the generator is
//! persistent, a batch depends on nothing else, and batches can be made in any order.

use super::network::Generator;
use super::objective::GeneratorObjective;
use super::settings::GeneratorSettings;
use super::training::Training;
use crate::data::{Normalisation, augment};
use crate::error::{Error, Result, Text, parameter};
use crate::inversion::{
    BatchStore, BestBatch, Ensemble, History, LossTerm, StoredBatch, Synthesizer, SyntheticBatch,
    Teacher, TermsAt, class_counts, draw_labels,
};
use crate::model::Model;
use crate::runtime::seed::{Rng, Seeds};
use crate::runtime::{interrupt, read};
use crate::train::{AugmentSettings, Callback, Optimizer};
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// Makes synthetic batches from a set of teachers with a generator.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::generator::{GeneratorSettings, GeneratorSynthesizer};
/// use fed_distill::inversion::{Ensemble, EnsembleKind, Synthesizer, Teacher};
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let settings = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", 0))?;
/// let teacher = Teacher::new(model, vec![5, 3])?;
/// let ensemble = Ensemble::new(EnsembleKind::MeanLogits, &[&teacher], Device::Cpu);
///
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let settings =
///     GeneratorSettings { batch_size: 4, width: 4, steps: 3, ..GeneratorSettings::default() };
/// let mut maker =
///     GeneratorSynthesizer::new(vec![&teacher], ensemble, &settings, &normalisation, seeds)?;
/// // The callback `()` does nothing.
/// let batch = maker.make(0, None, &mut ())?;
/// assert_eq!(batch.images.size(), [4, 1, 8, 8]);
/// assert_eq!(batch.history.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GeneratorSynthesizer<'a> {
    teachers: Vec<&'a Teacher>,
    ensemble: Ensemble,
    settings: &'a GeneratorSettings,
    /// The normalised value of black, one a channel, on the device.
    padding: Tensor,
    seeds: Seeds,
    training: Training,
    /// Whether the weights are those of an earlier batch.
    begun: bool,
    /// The last batch that came from a store, after which a persistent generator has to be
    /// restored.
    loaded: Option<usize>,
}

impl<'a> GeneratorSynthesizer<'a> {
    /// Returns a synthesiser of `teachers`, whose images have one shape, were normalised by
    /// `normalisation`, and whose classes are the same; `ensemble` combines their predictions.
    ///
    /// # Errors
    /// Fails when there are no teachers, and when the device has no memory.
    pub fn new(
        teachers: Vec<&'a Teacher>,
        ensemble: Ensemble,
        settings: &'a GeneratorSettings,
        normalisation: &Normalisation,
        seeds: Seeds,
    ) -> Result<Self> {
        let Some(first) = teachers.first() else {
            return Err(Error::failed("there are no teachers to make images from"));
        };
        let shape = (first.spec.channels, first.spec.size);
        let GeneratorSettings { noise, width, .. } = *settings;
        let generator = Generator::new(noise, width, shape, normalisation, first.device)?;
        Ok(Self {
            training: Training::new(generator, settings),
            padding: Tensor::from_slice(&normalisation.black()).to_device(first.device),
            teachers,
            ensemble,
            settings,
            seeds,
            begun: false,
            loaded: None,
        })
    }

    /// Draws the labels i64 [N] of a batch, and returns `None` if they are to be predicted.
    fn labels(&self, rng: &mut Rng) -> Option<Tensor> {
        let sampling = self.settings.labels.sampling()?;
        let (seen, shares) = class_counts(&self.teachers, false);
        let even = vec![1.0; seen.len()];
        let labels = draw_labels(
            sampling,
            self.settings.batch_size,
            &seen,
            &shares,
            &even,
            rng,
        );
        Some(Tensor::from_slice(&labels).to_device(self.teachers[0].device))
    }

    /// Draws standard normal noise f32 [N,noise] on the host, a leaf that requires a gradient if it
    /// is optimised.
    fn noise(&self, rng: &mut Rng) -> Tensor {
        let shape = [self.settings.batch_size as i64, self.settings.noise];
        let count = (shape[0] * shape[1]) as usize;
        let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
        let noise = Tensor::from_slice(&values).view(shape);
        let noise = noise.to_device(self.teachers[0].device);
        noise.set_requires_grad(self.settings.learn_noise)
    }

    /// Draws new weights, unless those of the batch before are to be kept.
    fn begin(&mut self, rng: &mut Rng) -> Result<()> {
        if self.settings.persistent && self.begun {
            return Ok(());
        }
        self.training.generator.initialise(rng)?;
        self.training.restart();
        self.begun = true;
        Ok(())
    }

    /// Returns the error of a run that has diverged, at a step if that is known.
    fn diverged(step: Option<usize>) -> Error {
        let step = step.map_or(String::new(), |step| format!(" (step {step})"));
        let what = format!("the generator's loss became NaN or infinite{step}");
        let hint = Text::from("check the teachers' weights, or lower ") + parameter("optimizer.lr");
        Error::failed(what).hint(hint + " and the scales under " + parameter("loss"))
    }
}

impl Synthesizer for GeneratorSynthesizer<'_> {
    fn steps(&self, _: bool) -> usize {
        self.settings.steps
    }

    fn is_independent(&self) -> bool {
        !self.settings.persistent
    }

    fn terms(&self) -> Vec<LossTerm> {
        let loss = &self.settings.loss;
        let term = |name, scale, of| LossTerm { name, scale, of };
        vec![
            term("total (scaled)", 1.0, |at: &TermsAt| at.total),
            term("cross-entropy", loss.cross_entropy, |at| at.cross_entropy),
            term("batch norm", loss.batch_norm, |at| at.batch_norm),
            term("activation", loss.activation, |at| {
                at.activation.unwrap_or_default()
            }),
            term("information entropy", loss.information, |at| {
                at.information.unwrap_or_default()
            }),
        ]
    }

    fn teachers_of(&self, _: &SyntheticBatch) -> Vec<&Teacher> {
        self.teachers.clone()
    }

    fn make(
        &mut self,
        index: usize,
        student: Option<&Model>,
        callback: &mut dyn Callback,
    ) -> Result<SyntheticBatch> {
        let mut rng = self.seeds.stream("generator", index as u64);
        self.begin(&mut rng)?;
        let labels = self.labels(&mut rng);
        let mut noise = self.noise(&mut rng);
        let learnt = self.settings.learn_noise;
        let mut of_noise: Option<Optimizer> = learnt.then(|| self.training.of_noise(&noise));
        let objective = GeneratorObjective {
            teachers: &self.teachers,
            ensemble: &self.ensemble,
            loss: &self.settings.loss,
            student,
        };
        let (mut history, mut best) = (History::new(self.settings.steps), None::<BestBatch>);
        let augmentation = &self.settings.augment;
        for step in 0..self.settings.steps {
            interrupt::check()?;
            if step > 0 && !learnt {
                noise = self.noise(&mut rng);
            }
            let view = |images: &Tensor| {
                let AugmentSettings { crop, flip } = *augmentation;
                augment(images, crop, flip, Some(&self.padding), &mut rng)
            };
            let of_noise = of_noise.as_mut();
            let (terms, images) =
                self.training
                    .step(&noise, labels.as_ref(), &objective, of_noise, view)?;
            let best = best.get_or_insert_with(|| BestBatch::new(&images));
            best.update(&terms.total.detach(), &images);
            history.record(step, &terms);
            callback.step();
        }
        let history = history.read()?;
        let broken = history.iter().find(|at| !at.total.is_finite());
        let Some(best) = best else {
            return Err(Error::failed("a generator needs at least one step"));
        };
        let best_loss: f64 = read(&best.loss)?;
        if broken.is_some() || !best_loss.is_finite() {
            return Err(Self::diverged(broken.map(|at| at.step)));
        }
        let labels = match labels {
            Some(labels) => labels,
            None => {
                let joint = self.ensemble.predict(&self.teachers, &best.images, 1.0)?;
                joint.argmax(1, false)
            }
        };
        Ok(SyntheticBatch {
            images: best.images,
            labels,
            teacher: None,
            best_loss,
            history,
        })
    }

    fn load(&mut self, index: usize, store: &dyn BatchStore) -> Result<Option<SyntheticBatch>> {
        let found = store.get(index)?.map(|stored| stored.batch);
        if found.is_some() {
            self.loaded = Some(index);
        }
        Ok(found)
    }

    /// Brings a persistent generator into its state.
    fn restore(&mut self, store: &dyn BatchStore) -> Result<()> {
        let Some(index) = self.loaded.take().filter(|_| self.settings.persistent) else {
            return Ok(());
        };
        let state = store.get_state(index)?.ok_or_else(|| {
            let what = format!("the generator's state after synthetic batch {index} is gone");
            let hint = store.hint_if_missing().into_iter();
            hint.fold(Error::failed(what), Error::hint)
        })?;
        self.training.restore(&state)?;
        self.begun = true;
        Ok(())
    }

    fn store(&self, index: usize, batch: &SyntheticBatch, store: &dyn BatchStore) -> Result<()> {
        if self.settings.persistent {
            // Before the batch: where a batch is, the state after it is as well.
            store.put_state(index, &self.training.state())?;
        }
        let (batch, moments) = (batch.share(), None);
        store.put(index, &StoredBatch { batch, moments })
    }
}
