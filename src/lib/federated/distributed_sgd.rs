//! Stochastic gradient descent over several ranks: each batch is cut into a shard a rank, and the shards' gradients are summed to the
//! batch's, so that every form takes the steps of one process, to float32 rounding.
//!
//! Networks with batch norm are an exception: each shard has statistics of its own.

use super::ledger::Ledger;
use super::link::{Kind, Link};
use super::transport::Transport;
use crate::data::{ImageSet, Normalisation};
use crate::error::{Class, During, Error, Result};
use crate::model::{Model, ModelSpec, Pass, StateDict};
use crate::runtime::interrupt;
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, Batch, BatchSource, FitState, Optimizer, OptimizerSettings, Position, Shuffled};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Type, Reduction, Tensor, no_grad};

/// Who holds the model, and what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Nothing travels: rank 0 trains alone.
    Centralised,
    /// Every rank draws the same batches, takes its shard, and steps by the sum of all gradients. The sum is taken at rank 0 in the order
    /// of the ranks and handed to all, so that no rank's model differs in a bit.
    AllReduce,
    /// Rank 0 draws the batches, hands out shards, receives losses and gradients, steps, and sends the model back.
    ParameterServer,
}

/// How to train.
#[derive(Clone, Debug)]
pub struct SgdSettings {
    pub epochs: usize,
    /// Images in a batch, over all ranks.
    pub batch_size: usize,
    pub optimizer: OptimizerSettings,
    pub augment: AugmentSettings,
    /// Batches from one loss to the next.
    pub report_every: usize,
}

/// What is trained on what; the same on every rank.
#[derive(Debug)]
pub struct Task<'a> {
    pub spec: ModelSpec,
    pub device: Device,
    pub train: &'a ImageSet,
    pub normalisation: &'a Normalisation,
    pub seeds: Seeds,
}

/// Mean loss of the `report_every` batches that end with batch `batch` (counted from 1) of an epoch (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossAt {
    pub epoch: usize,
    pub batch: usize,
    pub loss: f64,
}

/// What rank 0 has in the end.
#[derive(Debug)]
pub struct Outcome {
    pub model: Model,
    /// Batches of all epochs.
    pub steps: usize,
    pub losses: Vec<LossAt>,
    /// A round is a step; a node is a rank.
    pub ledger: Ledger,
}

/// What a saved run goes on with beside the tensors of its [`FitState`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// Since the last mean loss.
    sum: f64,
    losses: Vec<LossAt>,
    ledger: Ledger,
}

/// What listens to rank 0.
pub trait Steps {
    /// After each batch.
    fn step(&self) {}

    /// Whether the run should be saved now; asked before each batch.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is due, when the user interrupts it and when all batches are done.
    ///
    /// # Errors
    /// Ends the run.
    fn save(&mut self, state: &FitState, notes: &Notes) -> Result<()> {
        let _ = (state, notes);
        Ok(())
    }
}

/// Hears nothing, saves nothing.
impl Steps for () {}

/// Runs this rank's part; `None` on other ranks than 0. A run goes on from the `start` of rank 0; on other ranks `start` and `observer` do not
/// matter (`None`, `&mut ()`).
///
/// # Errors
/// A loss that is not finite (names epoch and batch), messages that are not what they should be, ranks that are gone, Ctrl-C (saved as of the
/// last batch).
pub fn run(
    method: Method,
    settings: &SgdSettings,
    task: &Task,
    transport: &mut dyn Transport,
    start: Option<(FitState, Notes)>,
    observer: &mut dyn Steps,
) -> Result<Option<Outcome>> {
    let link = Link::new(transport);
    if method == Method::Centralised && !link.is_server() {
        return Ok(None);
    }
    let mut rank = Rank::begin(method, settings, task, link, start)?;
    let outcome = rank.train(settings, task, observer);
    let stopped = matches!(&outcome, Err(error) if error.class() == Class::Interrupted);
    if rank.link.is_server() && (stopped || outcome.is_ok()) {
        rank.save(observer).during(|| "saving the run")?;
    }
    outcome?;
    Ok(rank.link.is_server().then(|| Outcome {
        ledger: rank.link.take_ledger(),
        model: rank.model,
        steps: rank.step,
        losses: rank.notes.losses,
    }))
}

/// One rank at work. Its functions take a step and return the loss of the whole batch.
struct Rank<'a> {
    method: Method,
    model: Model,
    optimizer: Optimizer,
    link: Link<'a>,
    lr: f64,
    at: Position,
    /// Batches of all epochs that are done.
    step: usize,
    notes: Notes,
}

/// The images from `start` on, `count` of them, that are `rank`'s of `images`: every image is in one shard, and sizes differ by one at
/// most. With fewer images than ranks some shards are empty.
pub fn shard(images: i64, ranks: usize, rank: usize) -> (i64, i64) {
    let cut = |rank: usize| images * rank as i64 / ranks as i64;
    (cut(rank), cut(rank + 1) - cut(rank))
}

impl<'a> Rank<'a> {
    /// At the first batch, or where the run of rank 0's `start` goes on.
    fn begin(
        method: Method,
        settings: &SgdSettings,
        task: &Task,
        mut link: Link<'a>,
        start: Option<(FitState, Notes)>,
    ) -> Result<Self> {
        let (state, notes) = start.unzip();
        let start = match method {
            Method::Centralised => state,
            // A parameter server alone has moments.
            Method::ParameterServer => link.spread(state.as_ref(), &|name| name.starts_with("model."))?,
            Method::AllReduce => link.spread(state.as_ref(), &|_| true)?,
        };
        let mut rng = task.seeds.stream("teacher/initialisation", 0);
        let mut model = Model::new(&task.spec, task.device, &mut rng)?;
        let mut optimizer = Optimizer::new(&settings.optimizer, model.parameters());
        if let Some(start) = &start {
            model.load_state(&start.part("model"))?;
            if method == Method::AllReduce || link.is_server() {
                optimizer.restore(start)?;
            }
        }
        let notes = notes.unwrap_or_default();
        link.set_ledger(notes.ledger.clone());
        let at = start.map(|start| start.position).unwrap_or_default();
        Ok(Self {
            method,
            model,
            optimizer,
            link,
            lr: settings.optimizer.lr,
            step: usize::try_from(at.optimizer_steps).unwrap_or(0),
            at,
            notes,
        })
    }

    fn train(&mut self, settings: &SgdSettings, task: &Task, observer: &mut dyn Steps) -> Result<()> {
        let mut source = Shuffled::new(
            task.train,
            task.normalisation,
            settings.augment.clone(),
            settings.batch_size,
            task.seeds,
            "distributed_sgd/batches".into(),
        );
        while self.at.epoch < settings.epochs {
            let steps = source.begin(self.at.epoch)?;
            if self.at.step > 0 {
                source.skip(self.at.step, self.at.drawn)?;
            }
            while self.at.step < steps {
                self.at.drawn = source.drawn();
                interrupt::check()?;
                if self.link.is_server() && observer.due() {
                    self.save(observer)?;
                }
                let loss = self.take_step(&mut source)?;
                self.step += 1;
                self.at.step += 1;
                self.note(loss, settings.report_every)?;
                observer.step();
            }
            self.notes.sum = 0.0;
            self.at = Position {
                epoch: self.at.epoch + 1,
                ..Position::default()
            };
        }
        Ok(())
    }

    /// The loss of the step.
    fn take_step(&mut self, source: &mut Shuffled) -> Result<f64> {
        let step = self.at.step;
        match self.method {
            Method::Centralised => self.alone(&source.next(step, &self.model)?),
            Method::AllReduce => self.all_reduce(&source.next(step, &self.model)?),
            Method::ParameterServer if self.link.is_server() => self.serve(&source.next(step, &self.model)?),
            Method::ParameterServer => self.work(),
        }
    }

    fn note(&mut self, loss: f64, every: usize) -> Result<()> {
        let (epoch, batch) = (self.at.epoch, self.at.step);
        if !loss.is_finite() {
            return Err(Error::failed(format!(
                "the training loss became NaN or infinite in epoch {epoch}, batch {batch}"
            ))
            .hint("lower the learning rate (`optimizer.lr`)"));
        }
        self.notes.sum += loss;
        if batch % every == 0 {
            let loss = self.notes.sum / every as f64;
            if self.link.is_server() {
                tracing::info!("epoch {epoch}, batch {batch}: loss {loss:.4}");
            }
            self.notes.losses.push(LossAt { epoch, batch, loss });
            self.notes.sum = 0.0;
        }
        Ok(())
    }

    fn save(&self, observer: &mut dyn Steps) -> Result<()> {
        let state = self.model.state();
        let named = |(name, tensor): (&str, &Tensor)| (format!("model.{name}"), tensor.shallow_clone());
        let mut tensors: Vec<(String, Tensor)> = state.iter().map(named).collect();
        tensors.extend(self.optimizer.moments());
        let position = Position {
            optimizer_steps: self.optimizer.steps(),
            ..self.at
        };
        let notes = Notes {
            // A step that was broken off is taken, and counted, again.
            ledger: self.link.ledger().before(self.step),
            ..self.notes.clone()
        };
        observer.save(&FitState { position, tensors }, &notes)
    }

    fn alone(&mut self, batch: &Batch) -> Result<f64> {
        let logits = self.model.forward(&batch.images, &mut Pass::Train);
        let loss = logits.f_cross_entropy_loss(&batch.labels, None::<Tensor>, Reduction::Mean, -100, 0.0)?;
        self.optimizer.step(&loss, self.lr)?;
        Ok(f64::try_from(&loss)?)
    }

    fn all_reduce(&mut self, batch: &Batch) -> Result<f64> {
        let (rank, ranks) = (self.link.rank(), self.link.ranks());
        let (start, count) = shard(batch.labels.size()[0], ranks, rank);
        let mine = self.gradients(
            &batch.images.narrow(0, start, count),
            &batch.labels.narrow(0, start, count),
            batch.labels.size()[0],
        )?;
        self.link.upload(self.step, rank, Kind::Gradient, &mine)?;
        if self.link.is_server() {
            let sum = self.sum()?;
            for node in 0..ranks {
                self.link.download(self.step, node, Kind::Gradient, &sum)?;
            }
        }
        let sum = self.link.from_server(self.step, rank, Kind::Gradient)?;
        self.apply(&sum)
    }

    /// Rank 0 of a parameter server, which works on a shard as well.
    fn serve(&mut self, batch: &Batch) -> Result<f64> {
        let (images, ranks) = (batch.labels.size()[0], self.link.ranks());
        for node in (0..ranks).rev() {
            let (start, count) = shard(images, ranks, node);
            let part = StateDict::new(vec![
                ("images".into(), batch.images.narrow(0, start, count)),
                ("labels".into(), batch.labels.narrow(0, start, count)),
                ("total".into(), Tensor::from_slice(&[images])),
            ]);
            self.link.download(self.step, node, Kind::Batch, &part)?;
        }
        self.answer()?;
        let sum = self.sum()?;
        let loss = self.apply(&sum)?;
        let state = self.model.state();
        for node in 0..ranks {
            self.link.download(self.step, node, Kind::Model, &state)?;
        }
        // What rank 0 sent itself is what it has.
        self.link.from_server(self.step, 0, Kind::Model)?;
        Ok(loss)
    }

    /// Every other rank of a parameter server. The loss is that of its shard.
    fn work(&mut self) -> Result<f64> {
        let loss = self.answer()?;
        let state = self.link.from_server(self.step, self.link.rank(), Kind::Model)?;
        self.model.load_state(&state)?;
        Ok(loss)
    }

    /// Receives a shard and sends its gradient.
    fn answer(&mut self) -> Result<f64> {
        let rank = self.link.rank();
        let part = self
            .link
            .from_server(self.step, rank, Kind::Batch)?
            .to_device(self.model.device());
        let total = i64::try_from(field(&part, "total")?.squeeze())?;
        let mine = self.gradients(field(&part, "images")?, field(&part, "labels")?, total)?;
        self.link.upload(self.step, rank, Kind::Gradient, &mine)?;
        Ok(f64::try_from(field(&mine, "loss")?)?)
    }

    /// `loss` and `gradient.0`, …: the shard's part of the mean over a batch of `total` images.
    fn gradients(&self, images: &Tensor, labels: &Tensor, total: i64) -> Result<StateDict> {
        let mut parameters = self.model.parameters();
        let (loss, gradients) = match labels.size()[0] {
            0 => (
                Tensor::zeros([], (Type::Float, self.model.device())),
                parameters
                    .iter()
                    .map(|parameter| parameter.detach().zeros_like())
                    .collect(),
            ),
            _ => {
                parameters.iter_mut().for_each(Tensor::zero_grad);
                let logits = self.model.forward(images, &mut Pass::Train);
                let loss =
                    logits.f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Sum, -100, 0.0)? / total as f64;
                loss.f_backward()?;
                (loss.detach(), parameters.iter().map(Tensor::grad).collect::<Vec<_>>())
            }
        };
        let mut named = vec![("loss".to_owned(), loss)];
        named.extend(
            gradients
                .into_iter()
                .enumerate()
                .map(|(index, gradient)| (format!("gradient.{index}"), gradient)),
        );
        Ok(StateDict::new(named))
    }

    /// Rank 0: the sum of what all ranks sent, in their order.
    fn sum(&mut self) -> Result<StateDict> {
        let mut sum = self.link.from_node(self.step, 0, Kind::Gradient)?;
        for node in 1..self.link.ranks() {
            let other = self.link.from_node(self.step, node, Kind::Gradient)?;
            let add = |(name, tensor): (&str, &Tensor)| {
                let other = field(&other, name)?;
                if other.size() != tensor.size() {
                    return Err(Error::failed(format!("rank {node} sent a `{name}` of another shape")));
                }
                Ok((name.to_owned(), no_grad(|| tensor + other)))
            };
            sum = StateDict::new(sum.iter().map(add).collect::<Result<_>>()?);
        }
        Ok(sum)
    }

    /// Steps by a sum of gradients; its loss.
    fn apply(&mut self, sum: &StateDict) -> Result<f64> {
        let sum = sum.to_device(self.model.device());
        let count = self.model.parameters().len();
        let gradients = (0..count).map(|index| Ok(field(&sum, &format!("gradient.{index}"))?.shallow_clone()));
        let gradients = gradients.collect::<Result<Vec<_>>>()?;
        self.optimizer.apply(&gradients, self.lr);
        Ok(f64::try_from(field(&sum, "loss")?)?)
    }
}

fn field<'a>(state: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    state
        .get(name)
        .ok_or_else(|| Error::failed(format!("a message lacks `{name}`")))
}
