//! Takes a rank through the run, batch after batch and epoch after epoch: reports mean losses, and
//! keeps all that a stopped run needs to resume. Only rank 0 calls back.

use super::gradients::Cut;
use super::settings::{Method, SgdSettings, Task};
use crate::error::{Error, Result};
use crate::federated::ledger::Ledger;
use crate::federated::link::Link;
use crate::federated::lower_rate;
use crate::model::Model;
use crate::runtime::{interrupt, read};
use crate::train::{
    BatchSource, Callback, FitState, Optimizer, Position, Shuffled, refuse_diverged,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Reports the mean loss of the `report_every` batches that end with batch `batch` (counted from 1)
/// of an epoch (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossAt {
    /// Index of the epoch.
    pub epoch: usize,
    /// Number of the batch in the epoch.
    pub batch: usize,
    /// The mean loss.
    pub loss: f64,
}

/// The names of what a saved run has beside the model and the moments: the sum of the losses since
/// the last mean, f64 [], and the ledger as JSON, u8 [bytes].
const LOSS: &str = "sums.loss";
const LEDGER: &str = "ledger.json";

/// Holds a rank's run in progress. Between steps, [`Training::state`] returns all of its state.
pub(super) struct Training<'a> {
    pub method: Method,
    pub settings: &'a SgdSettings,
    task: &'a Task<'a>,
    pub cut: Cut,
    pub model: Model,
    /// In use on all ranks, but on rank 0 alone of a parameter server.
    pub optimizer: Optimizer,
    pub link: Link<'a>,
    at: Position,
    /// Sum of the losses since the last mean.
    sum: f64,
    /// What was sent and received in whole steps.
    pub ledger: Ledger,
}

impl<'a> Training<'a> {
    /// Returns a run that begins with the weights that the shared seed draws, or continues from the
    /// `start` of rank 0.
    pub fn begin(
        method: Method,
        settings: &'a SgdSettings,
        task: &'a Task<'a>,
        mut link: Link<'a>,
        start: Option<&FitState>,
    ) -> Result<Self> {
        let start = match method {
            Method::Centralised => start.map(FitState::share),
            _ => link.share_start(start, &|_, _| true)?,
        };
        let mut rng = task.seeds.stream("teacher/initialisation", 0);
        let model = Model::new(&task.spec, task.device, &mut rng)?.with_precision(task.precision);
        let ranks = match method {
            Method::Centralised => 1,
            _ => link.ranks(),
        };
        let mut training = Self {
            method,
            settings,
            task,
            cut: Cut::new(settings.parts, ranks),
            optimizer: Optimizer::new(&settings.optimizer, model.parameters()),
            model,
            link,
            at: Position::default(),
            sum: 0.0,
            ledger: Ledger::default(),
        };
        if let Some(start) = &start {
            training.restore(start)?;
        }
        Ok(training)
    }

    fn restore(&mut self, start: &FitState) -> Result<()> {
        self.at = start.position;
        self.link.complete = usize::try_from(self.at.optimizer_steps).unwrap_or(0);
        self.model.load_state(&start.part("model"))?;
        self.optimizer.restore(start)?;
        let get = |wanted: &str| start.tensors.iter().find(|(name, _)| name == wanted);
        let Some(((_, loss), (_, ledger))) = get(LOSS).zip(get(LEDGER)) else {
            return Err(Error::failed("the saved run has no loss or no ledger"));
        };
        self.sum = read(loss)?;
        let ledger = Vec::<u8>::try_from(ledger)?;
        self.ledger = serde_json::from_slice(&ledger).map_err(unreadable)?;
        Ok(())
    }

    /// Takes all steps that are left.
    pub fn train(&mut self, callback: &mut dyn Callback<LossAt>) -> Result<()> {
        let mut source = Shuffled::new(
            self.task.train,
            self.task.normalisation,
            self.settings.augment.clone(),
            self.settings.batch_size,
            self.task.seeds,
            "distributed_sgd/batches".into(),
        );
        while self.at.epoch < self.settings.epochs {
            let steps = source.begin_at(&self.at)?;
            while self.at.step < steps {
                self.at.drawn = source.drawn();
                interrupt::check()?;
                if self.link.is_server() && callback.due() {
                    callback.save(&self.state()?)?;
                }
                let loss = self.take_step(self.at.step, &mut source)?;
                self.at.step += 1;
                self.ledger.fold(&self.link.take_ledger());
                self.add_loss(loss, callback)?;
                callback.step();
            }
            refuse_diverged(&self.model, self.at.epoch)?;
            self.sum = 0.0;
            self.at = self.at.next_epoch();
        }
        Ok(())
    }

    /// Adds the loss of the step just taken, and reports the mean after every `report_every`.
    fn add_loss(&mut self, loss: f64, callback: &mut dyn Callback<LossAt>) -> Result<()> {
        let (epoch, batch, every) = (self.at.epoch, self.at.step, self.settings.report_every);
        if !loss.is_finite() {
            return Err(Error::failed(format!(
                "the training loss became NaN or infinite in epoch {}, batch {batch}",
                epoch + 1
            ))
            .hint(lower_rate()));
        }
        self.sum += loss;
        if batch % every == 0 {
            let loss = self.sum / every as f64;
            self.sum = 0.0;
            if self.link.is_server() {
                callback.report(None, &LossAt { epoch, batch, loss })?;
            }
        }
        Ok(())
    }

    /// Returns the state of the run, as views.
    ///
    /// # Errors
    /// Fails when the weights are not finite: resuming from there would be useless.
    pub fn state(&self) -> Result<FitState> {
        refuse_diverged(&self.model, self.at.epoch)?;
        let mut state = self.optimizer.state(&self.model, self.at);
        let ledger = serde_json::to_vec(&self.ledger).map_err(unreadable)?;
        state.tensors.extend([
            (LOSS.to_owned(), Tensor::from(self.sum)),
            (LEDGER.to_owned(), Tensor::from_slice(&ledger)),
        ]);
        Ok(state)
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::failed(format!("the saved ledger cannot be read: {error}"))
}
