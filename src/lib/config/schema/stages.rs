//! Holds the config groups `checkpoint`, `teacher`, `initial` and `student`: what each stage does
//! and where its files go.

use crate::distill::TeacherWeightSettings;
use crate::inversion::EnsembleKind;
use crate::model::ModelSettings;
use crate::setting::{FilePath, Free};
use crate::train::{AugmentSettings, OptimizerSettings, ScheduleSettings, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Holds config group `checkpoint`: what an unfinished run keeps, so that `resume=true` can resume
/// it. It changes no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Seconds of training from one checkpoint to the next, at least; 0 writes one at every step.
    /// Synthetic batches are kept one by one as they are made, and Ctrl-C always leaves a
    /// checkpoint.
    #[schemars(range(min = 0))]
    pub every: f64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 60.0 }
    }
}

/// Holds config group `teacher`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherConfig {
    /// Nodes that train a teacher; nodes beyond are the student's own data. `null`: all nodes.
    #[schemars(range(min = 1))]
    pub num_teachers: Option<usize>,
    /// Whether all nodes start from the same weights, as federated averaging needs (a shared seed
    /// costs no upload), or each from its own.
    pub shared_initialisation: bool,
    /// Teachers to train, so that several machines can share the work; in the server's stages,
    /// those to use, where some never came. `null`: all.
    pub only: Option<Vec<usize>>,
    /// Number of the one teacher that a party trains on images of its own, without a split: the i
    /// of `model_teacher{i}.safetensors`. `null`: 0.
    #[schemars(range(max = 1_000_000_000))]
    pub index: Option<usize>,
    /// Folder of `model_teacher{i}.safetensors`.
    pub save_folder: Option<FilePath>,
    /// Number of teachers that the server's stages hold in memory; the others are read again when
    /// they are needed. Changes speed and memory, not results. `null`: as many as 2 GiB hold.
    pub in_memory: Free<Option<usize>>,
    /// Passes over the images.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Epochs from one evaluation (on the test set, the node's own part of it, and images held out)
    /// to the next; the last epoch is always evaluated. The accuracies of the others are `null`,
    /// and `selection` chooses among the evaluated ones.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_every: usize,
    /// Optimiser and its learning rate.
    pub optimizer: OptimizerSettings,
    /// Course of the learning rate.
    pub schedule: ScheduleSettings,
    /// Augmentation of the images.
    pub augment: AugmentSettings,
    /// Which epoch's weights are saved.
    pub selection: Selection,
    /// Share of each node's training images held out, for `selection: best_validation`.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Whether the uploaded card tells how many training images of each class there were.
    pub label_counts: LabelCounts,
    /// Label counts on the uploaded card are rounded up to multiples of this, so that they tell
    /// less; 1: exact.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub count_step: u64,
    /// Where the server's stages take the teachers' label counts from.
    pub counts_from: CountsFrom,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self {
            num_teachers: None,
            shared_initialisation: true,
            only: None,
            index: None,
            save_folder: None,
            in_memory: None.into(),
            epochs: 300,
            batch_size: 256,
            eval_batch_size: 1024.into(),
            eval_every: 1,
            optimizer: OptimizerSettings::default(),
            schedule: ScheduleSettings::default(),
            augment: AugmentSettings::default(),
            selection: Selection::Last,
            validation_share: 0.1,
            label_counts: LabelCounts::Exact,
            count_step: 1,
            counts_from: CountsFrom::Card,
        }
    }
}

/// Selects what a teacher's card tells of its training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelCounts {
    /// Tells their number in each class, rounded up to multiples of `count_step`.
    Exact,
    /// Tells nothing; the server estimates them from the teacher's weights.
    None,
}

/// Selects where the server's stages take the teachers' label counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountsFrom {
    /// Takes those on a teacher's card, and estimates those of a teacher whose card has none.
    Card,
    /// Estimates those of all teachers from their weights, as if no card told them.
    Weights,
}

/// Holds config group `initial`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InitialConfig {
    /// Synthetic batches made before the student exists.
    #[schemars(range(max = 1_000_000_000))]
    pub num_batches: usize,
    /// The `.safetensors` file of the images and labels.
    pub save_path: Option<FilePath>,
}

impl Default for InitialConfig {
    fn default() -> Self {
        Self {
            num_batches: 50,
            save_path: None,
        }
    }
}

/// Says what the student learns from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Learns the label that it was made for.
    CrossEntropy,
    /// Learns the teachers' averaged prediction (Kullback-Leibler divergence), and the label of
    /// real images.
    Distill,
}

/// Selects the colour around an image that is cropped at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Pads with black, as around real images.
    Black,
    /// Pads synthetic images with zero after normalisation, which is the mean colour of the
    /// training images, and real ones with black, as the public Python project does.
    Mean,
}

/// Selects the student's weights before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StudentInit {
    /// Draws them.
    Random,
    /// Takes the teachers' mean, weighted by their numbers of training images: all must have the
    /// student's architecture.
    Average,
}

/// Selects what a temperature softens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Soften {
    /// Softens each teacher's prediction, before they are combined.
    Each,
    /// Softens the joint prediction.
    Joint,
}

/// Holds `student.distill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DistillSettings {
    /// Softmax temperature of teachers and student; the loss is scaled by its square (Hinton et al.
    /// 2015, arXiv:1503.02531).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Rule that joins the teachers' predictions; `null`: as `generator.ensemble`, or, without a
    /// generator, as `deep_inv.ensemble`.
    pub ensemble: Option<EnsembleKind>,
    /// What the temperature softens on the teachers' side.
    pub soften: Soften,
    /// Share λ of the label that an image was made for in its loss: (1 − λ) of the divergence from
    /// the teachers and λ of the cross-entropy with the label.
    #[schemars(range(min = 0, max = 1))]
    pub label_weight: f64,
    /// Mebibytes of memory for the teachers' logits of synthetic images that were trained on
    /// before, in the same crop and mirroring. Changes speed and memory, not results; 0 keeps none.
    /// `null`: as many as are needed, in at most a quarter of the free memory.
    #[schemars(range(max = 1_000_000_000))]
    pub cache_mib: Free<Option<u64>>,
}

impl Default for DistillSettings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            ensemble: None,
            soften: Soften::Each,
            label_weight: 0.0,
            cache_mib: None.into(),
        }
    }
}

/// Holds config group `student`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StudentConfig {
    /// Folder of `student.safetensors`, `dataset.safetensors`, `metrics.json` and pictures.
    pub save_folder: Option<FilePath>,
    /// Seed of the student's weights and training; differs from the global one, or a student of one
    /// teacher would start as it did.
    pub seed: u64,
    /// Architecture of the student; `null`: the teachers'.
    pub model: Option<ModelSettings>,
    /// Weights before training.
    pub init: StudentInit,
    /// Whether new batches are made against the student (competition term, or a generator's
    /// divergence) instead of against the teachers alone.
    pub adaptive: bool,
    /// Synthetic batches made and added in each epoch.
    #[schemars(range(max = 1_000_000_000))]
    pub new_batches_per_epoch: usize,
    /// Images an epoch passes over, in whole batches: the public Python project takes the size of
    /// the real training set (50,000 on CIFAR-10), however many synthetic images there are. `null`:
    /// those that the set holds, but for less than a batch, which are others in each epoch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub epoch_images: Option<usize>,
    /// Whether a fresh batch is augmented when it is trained on the first time.
    pub augment_fresh: bool,
    /// What the student learns from an image.
    pub objective: Objective,
    /// Settings of the objective `distill`.
    pub distill: DistillSettings,
    /// Learning of the teachers' weights in the ensemble `weighted_logits`.
    pub teacher_weights: TeacherWeightSettings,
    /// Change of each pixel, in normalised units, of the synthetic images of a batch: in a random
    /// direction that changes the teachers' joint prediction most. 0 changes nothing.
    #[schemars(range(min = 0))]
    pub perturbation: f64,
    /// One weight a class in the student's cross-entropy, and in the distillation loss by label;
    /// `null`: all equal.
    #[schemars(extend("minimum" = 0))]
    pub class_weights: Option<Vec<f64>>,
    /// Passes over the images.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Epochs from one evaluation on the test set to the next; the last epoch is always evaluated.
    /// The accuracies of the others are `null`, and `selection` chooses among the evaluated ones.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_every: usize,
    /// Optimiser and its learning rate.
    pub optimizer: OptimizerSettings,
    /// Course of the learning rate.
    pub schedule: ScheduleSettings,
    /// Augmentation of the images.
    pub augment: AugmentSettings,
    /// Colour around an image that is cropped.
    pub padding: Padding,
    /// Which epoch's weights are saved.
    pub selection: Selection,
}

impl Default for StudentConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            seed: 43,
            model: None,
            init: StudentInit::Random,
            adaptive: true,
            new_batches_per_epoch: 2,
            epoch_images: None,
            augment_fresh: false,
            objective: Objective::CrossEntropy,
            distill: DistillSettings::default(),
            teacher_weights: TeacherWeightSettings::default(),
            perturbation: 0.0,
            class_weights: None,
            epochs: 300,
            batch_size: 256,
            eval_batch_size: 1024.into(),
            eval_every: 1,
            optimizer: OptimizerSettings::default(),
            schedule: ScheduleSettings::default(),
            augment: AugmentSettings::default(),
            padding: Padding::Black,
            selection: Selection::Last,
        }
    }
}
