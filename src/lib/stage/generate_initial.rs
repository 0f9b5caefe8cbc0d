//! `generate_initial` makes the synthetic batches that the student starts with from the teachers
//! alone. It reads no image, but to describe teachers whose files do not (PyTorch's state dicts).

use super::batches::{self, BatchFiles};
use super::pictures;
use super::synthesizer::{self, synthesizer};
use super::teachers::{self, TeacherSet};
use crate::artifact::{json, tensors};
use crate::config::Composed;
use crate::error::{During, Error};
use crate::federated::transport::Rank;
use crate::inversion::{BatchStore, LossTerm, StoredBatch, Synthesizer, SyntheticBatch, TermsAt};
use crate::run::agreement;
use crate::run::job::{Job, Session};
use crate::run::journal::{BatchLine, Journal};
use crate::run::manifest;
use crate::run::ranks::{self, Shared};
use crate::run::stages;
use crate::run::weights::{self, Card};
use crate::run::{Demand, StageContext, open_for, required};
use crate::runtime::Progress;
use crate::runtime::output;
use crate::words::counted;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::VecDeque;
use std::path::Path;
use tch::Tensor;

/// Describes one batch in `STEM.metrics.json`.
#[derive(Debug, Serialize)]
struct BatchMetrics {
    batch: usize,
    teacher: Option<usize>,
    best_loss: f64,
    label_counts: Vec<u64>,
    history: Vec<TermsAt>,
}

/// Runs the stage.
///
/// # Errors
/// Fails when teachers are missing or damaged, when a loss is never finite, and when a file cannot
/// be written.
pub fn run(composed: &Composed) -> Result<()> {
    let context = open_for(composed, ranks::processes())?;
    let path = required(
        &context.config.initial.save_path,
        "initial.save_path",
        "outputs/initial.safetensors",
    )?;
    refuse_no_batches(&context)?;
    let job = Job {
        stage: &stages::GENERATE_INITIAL,
        manifest: manifest::beside(path),
        output: path.to_path_buf(),
        log: path.with_extension("log"),
    };
    let context = &context;
    if !ranks::perform_on_processes(context, &job, &Generate { context })? {
        tracing::info!("{} is there already", path.display());
    }
    Ok(())
}

/// Refuses to make no initial batches at all.
///
/// # Errors
/// Fails (usage) where `initial.num_batches` is 0.
pub fn refuse_no_batches(context: &StageContext) -> Result<()> {
    if context.config.initial.num_batches > 0 {
        return Ok(());
    }
    bail!(
        Error::usage("`initial.num_batches` is 0: the student needs something to start with")
            .note("set by", context.composed.set_by("initial.num_batches"))
            .hint("type initial.num_batches=1 or more")
    );
}

/// Does the stage's work. Where a batch follows from its number alone, batch i is made by rank i
/// mod ranks; rank 0 keeps and writes them all.
struct Generate<'a> {
    context: &'a StageContext<'a>,
}

impl Shared for Generate<'_> {
    type Inputs = TeacherSet;

    fn load(&self, run: &mut manifest::Run) -> Result<TeacherSet> {
        let set = teachers::load(self.context)?;
        let dataset = &self.context.config.dataset;
        agreement::refuse_other(dataset, &set.card, &set.paths[0])?;
        set.record(run)?;
        let image = super::image_bytes(&set.card.model);
        super::refuse_synthesis(self.context, image)?;
        super::refuse_generator_crop(self.context, set.card.model.size)?;
        synthesizer::check(self.context.config, &set, Some(false))?;
        self.context.refuse_demand(&Demand {
            what: "synthetic images",
            count: self.images(),
            // The batches, and all of them together as they are saved.
            bytes: 2 * image,
            keys: &[
                "initial.num_batches",
                synthesizer::batch_size_key(self.context.config),
            ],
        })?;
        // The batches are in the checkpoint as well until the run is done.
        run.needs_space((2 * self.images() * image) as u64);
        if let Some(fingerprint) = &set.fingerprint {
            run.fact("dataset_fingerprint", fingerprint)?;
        }
        Ok(set)
    }

    fn work(&self, set: &TeacherSet, rank: &mut Rank, session: Option<&mut Session>) -> Result<()> {
        let config = self.context.config;
        let mut maker = synthesizer(config, set, None)?;
        let Some(session) = session else {
            return make_for_rank_0(&mut *maker, rank, synthesizer::group(config));
        };
        // Batches that an interrupted run finished come from the store, and write their lines
        // again.
        let mut journal = Journal::open(self.context, session, &[], None)?;
        let batches = self.make(&mut *maker, rank, &mut journal, session)?;
        let path = &session.job.output;
        let loss = (synthesizer::loss(config), &*maker.terms());
        save(set, &batches, loss, path, journal, session)
    }
}

impl Generate<'_> {
    /// Returns how many images are made.
    fn images(&self) -> u128 {
        let config = self.context.config;
        config.initial.num_batches as u128 * config.synthetic_batch() as u128
    }

    /// Returns all batches in order on rank 0: its own and those of the others.
    fn make(
        &self,
        maker: &mut dyn Synthesizer,
        rank: &mut Rank,
        journal: &mut Journal,
        session: &Session,
    ) -> Result<Vec<SyntheticBatch>> {
        let (config, ranks) = (self.context.config, rank.ranks());
        let store = BatchFiles {
            checkpoints: session.checkpoints,
            device: self.context.device,
        };
        let (count, steps) = (config.initial.num_batches, maker.steps(false) as u64);
        let shared = ranks > 1 && maker.is_independent();
        let mut missing = Vec::new();
        for index in 0..count {
            if shared && store.get(index)?.is_none() {
                missing.push(index);
            }
        }
        if ranks > 1 && !shared {
            tracing::warn!(
                "`{}` makes each batch depend on an earlier one: rank 0 makes them all",
                synthesizer::depends_by(config)
            );
        }
        let list = json::value(&missing)?.to_string();
        (1..ranks).for_each(|other| rank.send(other, list.clone().into_bytes()));
        let progress = Progress::new(
            synthesizer::work(config),
            (count as u64).saturating_mul(steps),
        );
        let mut others = Others::new(ranks, &missing, steps, &progress);
        let mut batches = Vec::new();
        for index in 0..count {
            progress.message(format!("batch {} of {count}", index + 1));
            others.store_arrived(rank, &store)?;
            let is_counted = index % ranks > 0 && missing.contains(&index);
            let made = others
                .store_until(index, rank, &store)
                .and_then(|()| maker.load(index, &store))
                .and_then(|there| match there {
                    None => maker.make_or_load(index, None, &store, &mut &progress),
                    Some(batch) => {
                        progress.skip(if is_counted { 0 } else { steps });
                        Ok(batch)
                    }
                });
            if made.is_err() {
                // What others have finished is not lost with this rank's own batch.
                let _ = others.store_arrived(rank, &store);
            }
            let batch = made
                .within(synthesizer::group(config))
                .with_context(|| format!("making synthetic batch {index}"))?;
            tracing::debug!("batch {index}: best loss {:.3}", batch.best_loss);
            journal.add(&BatchLine::initial(
                index,
                batch.teacher,
                batch.best_loss,
                &batch.history,
            ))?;
            batches.push(batch);
        }
        progress.finish();
        Ok(batches)
    }
}

/// Stores the batches of the other ranks as if they had been made here.
struct Others<'a> {
    /// Those that each rank has yet to send, in its order.
    missing: Vec<VecDeque<usize>>,
    /// Steps of a batch.
    steps: u64,
    progress: &'a Progress,
}

impl<'a> Others<'a> {
    /// Returns what awaits the batches `missing`, ascending, which `ranks` ranks make in turn.
    fn new(ranks: usize, missing: &[usize], steps: u64, progress: &'a Progress) -> Self {
        let of = |rank| {
            missing
                .iter()
                .copied()
                .filter(move |index| index % ranks == rank)
        };
        Self {
            missing: (0..ranks).map(|rank| of(rank).collect()).collect(),
            steps,
            progress,
        }
    }

    /// Stores what has arrived, also after another rank has failed.
    fn store_arrived(&mut self, rank: &mut Rank, store: &BatchFiles) -> Result<(), Error> {
        for from in 1..self.missing.len() {
            while let Some(&index) = self.missing[from].front()
                && let Some(bytes) = rank.arrived(from)
            {
                self.store(from, index, &bytes, store)?;
            }
        }
        Ok(())
    }

    /// Waits for batch `index`, if another rank makes it.
    fn store_until(
        &mut self,
        index: usize,
        rank: &mut Rank,
        store: &BatchFiles,
    ) -> Result<(), Error> {
        let from = index % self.missing.len();
        while let Some(&next) = self.missing[from].front()
            && from > 0
            && next <= index
        {
            let bytes = rank.receive(from)?;
            self.store(from, next, &bytes, store)?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        from: usize,
        index: usize,
        bytes: &[u8],
        store: &BatchFiles,
    ) -> Result<(), Error> {
        let stored = StoredBatch {
            batch: batches::decode(bytes, store.device)?,
            moments: None,
        };
        store.put(index, &stored)?;
        self.missing[from].pop_front();
        self.progress.add(self.steps);
        Ok(())
    }
}

/// Makes, on any other rank, its batches of those that rank 0 lacks.
fn make_for_rank_0(maker: &mut dyn Synthesizer, rank: &mut Rank, group: &str) -> Result<()> {
    let missing: Vec<usize> = serde_json::from_slice(&rank.receive(0)?).map_err(|error| {
        let text = format!("the list of missing batches cannot be read: {error}");
        Error::failed(text).caused_by(error)
    })?;
    let (own, ranks) = (rank.number(), rank.ranks());
    for index in missing.into_iter().filter(|index| index % ranks == own) {
        let batch = maker
            .make(index, None, &mut ())
            .within(group)
            .with_context(|| format!("making synthetic batch {index}"))?;
        rank.send(0, batches::encode(&batch)?);
    }
    Ok(())
}

fn save(
    set: &TeacherSet,
    batches: &[SyntheticBatch],
    (loss, terms): (&str, &[LossTerm]),
    path: &Path,
    mut journal: Journal,
    session: &mut Session,
) -> Result<()> {
    let cat = |of: &dyn Fn(&SyntheticBatch) -> Tensor| {
        Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0)
    };
    let images = cat(&|batch| batch.images.shallow_clone());
    let labels = cat(&|batch| batch.labels.shallow_clone());
    let teachers = cat(&SyntheticBatch::teachers);
    let classes = set.card.classes.len();
    // Of the teachers' label counts the student needs none from here.
    let card = Card {
        label_counts: Some(super::label_counts(&labels, classes)?),
        synthetic_counts: Vec::new(),
        ..set.card.clone()
    };
    tensors::write(
        path,
        &[
            ("images", &images),
            ("labels", &labels),
            ("teachers", &teachers),
        ],
        &weights::metadata(&card)?,
    )?;
    let run = &mut session.run;
    run.fact("batches", batches.len())?;
    run.output("initial", path)?;
    let metrics: Vec<BatchMetrics> = batches
        .iter()
        .enumerate()
        .map(|(index, batch)| metrics(index, batch, classes))
        .collect::<Result<_>>()?;
    let metrics_path = path.with_extension("metrics.json");
    json::write(&metrics_path, &metrics)?;
    run.output("metrics", &metrics_path)?;
    let picture = path.with_extension("png");
    let cycled = batches.iter().all(|batch| batch.teacher.is_some());
    match cycled && set.teachers.len() > 1 {
        true => pictures::grid_by_teacher(
            &picture,
            &images,
            &teachers,
            set.teachers.len(),
            &set.card.normalisation,
        )?,
        false => pictures::grid_by_class(
            &picture,
            "Synthetic images by class",
            &images,
            &labels,
            &set.card.classes,
            &set.card.normalisation,
        )?,
    }
    run.output("grid", &picture)?;
    let mut drawn = vec![("grid", picture)];
    let histories: Vec<&[TermsAt]> = metrics.iter().map(|batch| &batch.history[..]).collect();
    // Pictures that are chosen and not inverted have a loss, and no curve.
    if histories.iter().any(|history| history.len() > 1) {
        let curves = path.with_extension("loss.png");
        pictures::loss_curves(&curves, loss, &histories, terms)?;
        run.output("loss curves", &curves)?;
        run.output("loss curves", &curves.with_extension("svg"))?;
        drawn.push(("loss", curves));
    }
    for (tag, picture) in &drawn {
        journal.picture(tag, batches.len() as i64, picture)?;
    }
    journal.finish(session)?;
    output::print(format!(
        "{} in {}: {}",
        counted(labels.size()[0], "synthetic image"),
        counted(batches.len(), "batch"),
        path.display()
    ))?;
    for (tag, picture) in &drawn {
        output::print(format!("{:<6} {}", format!("{tag}:"), picture.display()))?;
    }
    Ok(())
}

fn metrics(index: usize, batch: &SyntheticBatch, classes: usize) -> Result<BatchMetrics> {
    Ok(BatchMetrics {
        batch: index,
        teacher: batch.teacher,
        best_loss: batch.best_loss,
        label_counts: super::label_counts(&batch.labels, classes)?,
        history: batch.history.clone(),
    })
}
