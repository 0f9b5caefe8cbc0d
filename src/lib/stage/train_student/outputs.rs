//! Writes the results of `train_student`: weights, the synthetic set, metrics, pictures, and the
//! table on stdout.

use super::super::pictures;
use super::super::summary;
use super::super::teachers::TeacherSet;
use super::super::test;
use super::recorder::Notes;
use crate::artifact::{json, tensors};
use crate::data::{Dataset, ImageSet};
use crate::distill::{FreshReport, SyntheticImages};
use crate::model::Model;
use crate::partition::owners;
use crate::report::{HeatMap, LinePlot, Series, confusion};
use crate::run::BestWeights;
use crate::run::Comparison;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::Journal;
use crate::run::manifest;
use crate::run::metrics::{StudentEpoch, StudentMetrics};
use crate::run::weights::{self, Card};
use crate::runtime::output;
use crate::train::Evaluation;
use crate::words::percent;
use anyhow::Result;
use std::path::Path;
use tch::{Kind, Tensor};

/// Holds a trained student and what was recorded during its training.
pub struct Finished<'a> {
    pub set: &'a TeacherSet,
    pub dataset: &'a Dataset,
    pub folder: &'a Path,
    pub notes: &'a Notes,
    pub best: BestWeights,
    /// Real images of the student's own.
    pub real: Option<&'a ImageSet>,
    pub synthetic: SyntheticImages,
    /// The teachers' weights in the ensemble `weighted_logits`, f32 [teachers].
    pub weights: Tensor,
}

impl Finished<'_> {
    /// Writes everything and prints the comparison.
    ///
    /// # Errors
    /// Fails when a weight is not finite, and when a file cannot be written.
    pub fn save(
        &self,
        context: &StageContext,
        model: &mut Model,
        mut journal: Journal,
        session: &mut Session,
    ) -> Result<()> {
        let run = &mut *session.run;
        let SyntheticImages { images, labels, .. } = &self.synthetic;
        let synthetic = super::super::label_counts(labels, self.dataset.classes.len())?;
        let of_images = Card {
            model: model.spec().clone(),
            label_counts: Some(synthetic.clone()),
            synthetic_counts: Vec::new(),
            ..self.set.card.clone()
        };
        let real = self.real.map(|own| own.counts(synthetic.len()));
        let real = real.unwrap_or_else(|| vec![0; synthetic.len()]);
        let card = Card {
            label_counts: Some(synthetic.iter().zip(real).map(|(a, b)| a + b).collect()),
            synthetic_counts: synthetic,
            ..of_images.clone()
        };
        let state = self.best.state(model);
        model.load_state(&state)?;
        let weights_path = self.folder.join("student.safetensors");
        weights::save(&weights_path, &state, &card)?;
        run.output("weights", &weights_path)?;
        let data_path = self.folder.join("dataset.safetensors");
        tensors::write(
            &data_path,
            &[("images", images), ("labels", labels)],
            &weights::metadata(&of_images)?,
        )?;
        run.output("dataset", &data_path)?;
        let evaluation = test(model, self.dataset, *context.config.student.eval_batch_size)?;
        let comparison = summary::compare(
            self.set,
            self.dataset,
            &evaluation,
            context.config,
            &self.weights,
        )?;
        self.metrics(context, &evaluation, &comparison, run)?;
        let pictures = self.pictures(context, &evaluation, run)?;
        let steps = self
            .notes
            .epochs
            .iter()
            .map(|epoch| epoch.fit.steps as i64)
            .sum();
        let of_test = ["per_class", "confusion"].into_iter();
        let of_test = of_test.filter(|_| self.is_tested());
        for name in ["dataset", "curves"].into_iter().chain(of_test) {
            let picture = self.folder.join(format!("{name}.png"));
            journal.picture(name, steps, &picture)?;
        }
        journal.finish(session)?;
        output::print(comparison.table())?;
        output::print(format!(
            "student: final {}, best on test {}",
            percent(self.last()),
            percent(self.best())
        ))?;
        output::print(format!("weights:  {}", weights_path.display()))?;
        for picture in pictures.iter().filter(|name| name.ends_with(".png")) {
            output::print(format!("picture:  {}", self.folder.join(picture).display()))?;
        }
        Ok(())
    }

    /// Returns true if there are test images.
    fn is_tested(&self) -> bool {
        !self.dataset.test.is_empty()
    }

    /// Returns the highest accuracy of an epoch on the test set.
    fn best(&self) -> Option<f64> {
        let epochs = self.notes.epochs.iter();
        epochs
            .filter_map(|epoch| epoch.test_accuracy)
            .reduce(f64::max)
    }

    /// Returns the accuracy after the last epoch on the test set.
    fn last(&self) -> Option<f64> {
        self.notes
            .epochs
            .last()
            .and_then(|epoch| epoch.test_accuracy)
    }

    fn metrics(
        &self,
        context: &StageContext,
        evaluation: &Evaluation,
        comparison: &Comparison,
        run: &mut manifest::Run,
    ) -> Result<()> {
        let path = self.folder.join("metrics.json");
        let metrics = StudentMetrics {
            synthetic_images: self.synthetic.labels.size()[0] as usize,
            real_images: self.real.map_or(0, ImageSet::len),
            saved_epoch: self.best.epoch(),
            selection: context.config.student.selection,
            final_test_accuracy: self.last(),
            best_test_accuracy: self.best(),
            saved_test_accuracy: evaluation.accuracy(),
            comparison: Some(comparison.clone()),
            teacher_weights: match super::inputs::teacher_weights(context.config).step > 0.0 {
                true => Some(Vec::try_from(self.weights.to_kind(Kind::Double))?),
                false => None,
            },
            confusion: self.is_tested().then(|| evaluation.confusion.clone()),
            epochs: self.notes.epochs.clone(),
        };
        json::write(&path, &metrics)?;
        run.output("metrics", &path)?;
        for teacher in 0..self.set.teachers.len() {
            let of: Vec<&FreshReport> = self
                .notes
                .fresh
                .iter()
                .filter(|batch| batch.teacher.is_none_or(|own| own == teacher))
                .collect();
            let path = self
                .folder
                .join(format!("di_metrics_teacher{teacher}.json"));
            json::write(&path, &of)?;
            run.output("inversion metrics", &path)?;
        }
        Ok(())
    }

    /// Draws the pictures, and returns their names.
    fn pictures(
        &self,
        context: &StageContext,
        evaluation: &Evaluation,
        run: &mut manifest::Run,
    ) -> Result<Vec<&'static str>> {
        let SyntheticImages { images, labels, .. } = &self.synthetic;
        let (classes, normalisation) = (&self.dataset.classes, &self.dataset.normalisation);
        let mut names = Vec::new();
        let mut add = |name| {
            names.push(name);
            run.output("picture", &self.folder.join(name))
        };
        pictures::grid_by_class(
            &self.folder.join("dataset.png"),
            "Synthetic images by class",
            images,
            labels,
            classes,
            normalisation,
        )?;
        add("dataset.png")?;
        let batch = context.config.synthetic_batch() as i64;
        // Fresh batches stand behind the initial ones.
        let (total, fresh) = (labels.size()[0], self.notes.fresh.len() as i64);
        let shown = [
            ("fresh_first.png", "First fresh batch", fresh),
            ("fresh_last.png", "Last fresh batch", 1),
        ];
        for (name, title, back) in shown.into_iter().filter(|_| fresh > 0) {
            let start = total - back * batch;
            let (images, labels) = (
                images.narrow(0, start, batch),
                labels.narrow(0, start, batch),
            );
            pictures::grid_by_class(
                &self.folder.join(name),
                title,
                &images,
                &labels,
                classes,
                normalisation,
            )?;
            add(name)?;
        }
        pictures::save_both(&self.curves(), &self.folder.join("curves.png"))?;
        add("curves.png")?;
        add("curves.svg")?;
        if !self.is_tested() {
            return Ok(names);
        }
        let map = self.per_class();
        for name in ["per_class.svg", "per_class.png"] {
            map.save(&self.folder.join(name))?;
            add(name)?;
        }
        let owners =
            Some(self.owners()).filter(|owners| owners.iter().any(|owner| !owner.is_empty()));
        confusion(
            &self.folder.join("confusion.png"),
            "Student on the test set",
            classes,
            &evaluation.confusion,
            owners.as_deref(),
        )?;
        add("confusion.png")?;
        Ok(names)
    }

    /// Returns the plot of accuracies over epochs.
    fn curves(&self) -> LinePlot<'static> {
        let series = |name: &str, of: &dyn Fn(&StudentEpoch) -> Option<f64>| Series {
            name: name.into(),
            points: self
                .notes
                .epochs
                .iter()
                .filter_map(|epoch| Some((shown(epoch.fit.epoch), 100.0 * of(epoch)?)))
                .collect(),
        };
        // A point an epoch: the mean over the batches made in it.
        let fresh = |name: &str, of: fn(&FreshReport) -> f64| {
            let mean = |epoch: usize| {
                let batches: Vec<f64> = self
                    .notes
                    .fresh
                    .iter()
                    .filter(|batch| batch.epoch == epoch)
                    .map(of)
                    .collect();
                (
                    shown(epoch),
                    100.0 * batches.iter().sum::<f64>() / batches.len() as f64,
                )
            };
            Series {
                name: name.into(),
                points: (0..self.notes.epochs.len()).map(mean).collect(),
            }
        };
        // The share of them, augmented, to which it gives the labels that they were made for.
        let learnt = match self.real {
            Some(_) => "synthetic and real, as labelled",
            None => "synthetic, as labelled",
        };
        let is_tested = self.is_tested();
        let mut all = vec![series(learnt, &|epoch| Some(epoch.fit.train_accuracy))];
        if is_tested {
            all.insert(0, series("test images", &|epoch| epoch.test_accuracy));
        }
        if !self.notes.fresh.is_empty() {
            all.push(fresh("fresh images", |batch| batch.student_accuracy));
            all.push(fresh("teachers on fresh images", |batch| {
                batch.teacher_accuracy
            }));
        }
        LinePlot {
            title: match is_tested {
                true => "Accuracy of the student",
                false => "Agreement of the student with the labels of its images",
            },
            x: "epoch",
            y: match is_tested {
                true => "accuracy (%)",
                false => "agreement (%)",
            },
            log_x: false,
            log_y: false,
            series: all,
        }
    }

    /// Returns the map of the test accuracy of each class over epochs, with the classes' owners in
    /// their names.
    fn per_class(&self) -> HeatMap<'static> {
        let class = |(class, owner): (usize, String)| {
            let name = &self.dataset.classes[class];
            let at = |epoch: &StudentEpoch| {
                Some((shown(epoch.fit.epoch), epoch.per_class_accuracy[class]?))
            };
            Series {
                name: if owner.is_empty() {
                    name.clone()
                } else {
                    format!("{name} ({owner})")
                },
                points: self.notes.epochs.iter().filter_map(at).collect(),
            }
        };
        HeatMap {
            title: "Test accuracy of the student by class",
            x: "epoch",
            y: "class",
            rows: self.owners().into_iter().enumerate().map(class).collect(),
        }
    }

    /// Returns for each class the name of the teacher that owns it, or an empty text.
    fn owners(&self) -> Vec<String> {
        let counts: Vec<_> = self
            .set
            .teachers
            .iter()
            .map(|teacher| teacher.label_counts.clone())
            .collect();
        let name = |owner: Option<usize>| {
            owner.map_or(String::new(), |teacher| format!("teacher {teacher}"))
        };
        owners(&counts).into_iter().map(name).collect()
    }
}

/// Returns the number of an epoch as people count, from 1; files count from 0.
fn shown(epoch: usize) -> f64 {
    epoch as f64 + 1.0
}
