//! Keeps the teachers' logits of synthetic images, so that a view of an image that the student has
//! seen before costs no pass through the teachers. Called by [`Distillation`](super::Distillation).
//!
//! A crop moves an image by up to c pixels in both directions, so that it has (2c + 1)² views, and
//! twice as many with mirroring; without augmentation it has one. The teachers are frozen: their
//! logits of a view are the same whenever it is drawn.
//!
//! They are the same to the bit only if what a teacher computes for an image does not depend on the
//! other images of its batch. libtorch chooses its kernels by the shapes of their arguments, so it
//! does where batches are small, and not where they are larger. Therefore each teacher is tried
//! with each number of images that batches have, before logits are kept or used: those of the whole
//! batch against those of all its images in parts of [`PART`], in another order. Where a teacher
//! does not give the same bits, it is asked for whole batches of that number, of which nothing is
//! kept. So results do not depend on what is kept.

use crate::error::Result;
use crate::inversion::Teacher;
use crate::train::View;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Images that a teacher is asked for at a time where it is not asked for a whole batch. With fewer
/// than 16 libtorch's matrix products sum in another order.
const PART: usize = 32;
/// Rows for which memory is taken at first.
const FIRST: usize = 4096;
/// Bytes of a row beside its logits, about: the entry of the table of views.
const ENTRY: usize = 48;

/// Holds the teachers' logits of views of images.
///
/// ```
/// use fed_distill::distill::LogitCache;
/// use fed_distill::inversion::Teacher;
/// use fed_distill::model::{Model, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use fed_distill::train::View;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let (width, blocks) = (Some(4), Some(vec![1]));
/// let settings = ModelSettings { width, blocks, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", 0))?;
/// let teacher = Teacher::new(model, vec![5, 3])?;
///
/// let images = Tensor::ones([64, 1, 8, 8], (Kind::Float, Device::Cpu));
/// let view = |number| View { number: Some(number), ..View::default() };
/// let views: Vec<View> = (0..64).map(view).collect();
/// let mut cache = LogitCache::new(1 << 20);
/// let logits = cache.logits(&[&teacher], &images, &views, None)?;
/// assert_eq!(logits[0], teacher.loaded()?.predict(&images));
/// // The same bits, from memory.
/// assert_eq!(cache.logits(&[&teacher], &images, &views, None)?, logits);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogitCache {
    /// Bytes that may be taken.
    bytes: u64,
    /// Logits of each teacher, f32 [capacity,classes].
    kept: Vec<Tensor>,
    /// The row in `kept` of each view.
    rows: HashMap<u64, i64>,
    /// Whether a teacher's logits of an image do not depend on the others, by the teacher's index
    /// and the number of images in a batch.
    independent: HashMap<(usize, usize), bool>,
}

/// Divides the images of a batch by what is kept of them.
struct Division {
    /// Images whose logits are kept, and the rows of `kept`.
    known: (Vec<i64>, Vec<i64>),
    /// Images whose logits are not kept.
    unknown: Vec<usize>,
}

impl LogitCache {
    /// Returns an empty cache that takes `bytes` of memory at most.
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            kept: Vec::new(),
            rows: HashMap::new(),
            independent: HashMap::new(),
        }
    }

    /// Returns each teacher's logits f32 `[N,classes]` of `images` `[N,C,H,W]`, normalised, and
    /// keeps them. `views` has the number of each image's view, by which it is found again, and
    /// none for an image whose logits are not used. `needed` is what
    /// [`Ensemble::needed`](crate::inversion::Ensemble::needed) returns. Logits that are
    /// not used, or not needed, may be zero.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn logits(
        &mut self,
        teachers: &[&Teacher],
        images: &Tensor,
        views: &[View],
        needed: Option<&[bool]>,
    ) -> Result<Vec<Tensor>> {
        let division = self.divide(views);
        let (mut logits, mut all_independent) = (Vec::new(), true);
        for (index, teacher) in teachers.iter().enumerate() {
            let is_needed =
                |image: &usize| needed.is_none_or(|all| all[image * teachers.len() + index]);
            let wanted: Vec<i64> = division
                .unknown
                .iter()
                .copied()
                .filter(is_needed)
                .map(|image| image as i64)
                .collect();
            let is_asked = !wanted.is_empty() || !division.known.0.is_empty();
            let independent = !is_asked || self.is_independent(index, teacher, images)?;
            all_independent &= independent;
            logits.push(match independent {
                true => self.of_teacher(index, teacher, images, &division, &wanted)?,
                false => teacher.loaded()?.predict(images),
            });
        }
        if all_independent {
            self.keep(views, &division.unknown, &logits);
        }
        Ok(logits)
    }

    /// Divides the images of a batch with these views; images that are not used are in no part.
    fn divide(&self, views: &[View]) -> Division {
        let (mut known, mut unknown) = ((Vec::new(), Vec::new()), Vec::new());
        for (image, view) in views.iter().enumerate() {
            match view.number.map(|number| self.rows.get(&number)) {
                Some(Some(&row)) => {
                    known.0.push(image as i64);
                    known.1.push(row);
                }
                Some(None) => unknown.push(image),
                None => {}
            }
        }
        Division { known, unknown }
    }

    /// Returns a teacher's logits of `images`: those that are known, and those of the `wanted` ones
    /// of the others.
    fn of_teacher(
        &self,
        index: usize,
        teacher: &Teacher,
        images: &Tensor,
        division: &Division,
        wanted: &[i64],
    ) -> Result<Tensor> {
        let (count, device) = (images.size()[0], images.device());
        let (known, rows) = &division.known;
        // Asking for the others alone would take as many images, in more passes.
        if padded(wanted.len()) >= count as usize {
            return Ok(teacher.loaded()?.predict(images));
        }
        let options = (Kind::Float, device);
        let mut logits = Tensor::f_zeros([count, teacher.spec.classes], options)?;
        if !known.is_empty() {
            let kept = self.kept[index].f_index_select(0, &indices(rows, device))?;
            let _ = logits.f_index_copy_(0, &indices(known, device), &kept)?;
        }
        if !wanted.is_empty() {
            let made = in_parts(teacher, images, wanted)?;
            let _ = logits.f_index_copy_(0, &indices(wanted, device), &made)?;
        }
        Ok(logits)
    }

    /// Returns true if the logits of an image do not depend on the other images of the batch, for
    /// this teacher and this number of images; tries it the first time.
    fn is_independent(&mut self, index: usize, teacher: &Teacher, images: &Tensor) -> Result<bool> {
        let count = images.size()[0];
        let key = (index, count as usize);
        if let Some(&known) = self.independent.get(&key) {
            return Ok(known);
        }
        let whole = teacher.loaded()?.predict(images);
        let turned: Vec<i64> = (0..count).rev().collect();
        let parts = in_parts(teacher, images, &turned)?;
        let same = parts.f_flip([0i64])?.f_equal(&whole)?;
        if !same {
            tracing::debug!(
                "the logits of teacher {index} depend on the other images of a batch of {count}: \
                 it is asked for whole batches"
            );
        }
        self.independent.insert(key, same);
        Ok(same)
    }

    /// Keeps the logits of the images `unknown`, as many as there is memory for.
    fn keep(&mut self, views: &[View], unknown: &[usize], logits: &[Tensor]) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        let room = self.room(self.rows.len() + unknown.len(), logits);
        for &image in unknown {
            let row = self.rows.len();
            // A view may occur twice in a batch.
            let number = views[image].number;
            if let Some(number) = number.filter(|number| !self.rows.contains_key(number))
                && row < room
            {
                self.rows.insert(number, row as i64);
                from.push(image as i64);
                to.push(row as i64);
            }
        }
        if from.is_empty() {
            return;
        }
        for (kept, logits) in self.kept.iter_mut().zip(logits) {
            let device = logits.device();
            let made = logits.index_select(0, &indices(&from, device));
            let _ = kept.index_copy_(0, &indices(&to, device), &made);
        }
    }

    /// Makes room for `rows` rows of `logits`, or for as many as there is memory for, and returns
    /// for how many there is room.
    fn room(&mut self, rows: usize, logits: &[Tensor]) -> usize {
        let rooms = self.kept.iter().map(|kept| kept.size()[0] as usize);
        // Less than all grew where memory ran out.
        let room = match self.kept.len() == logits.len() {
            true => rooms.min().unwrap_or(0),
            false => 0,
        };
        let each = logits
            .iter()
            .map(|of| 4 * of.size()[1] as usize)
            .sum::<usize>()
            + ENTRY;
        let most = usize::try_from(self.bytes / each as u64).unwrap_or(usize::MAX);
        let wanted = rows.max(2 * room).max(FIRST).min(most);
        if rows <= room || wanted <= room {
            return room;
        }
        // One teacher after the other, so that no more than one is there twice.
        let mut grow = |(teacher, logits): (usize, &Tensor)| -> Result<(), tch::TchError> {
            let shape = [wanted as i64, logits.size()[1]];
            let grown = Tensor::f_zeros(shape, (Kind::Float, logits.device()))?;
            match self.kept.get_mut(teacher) {
                Some(kept) => {
                    let rows = |of: &Tensor| of.f_narrow(0, 0, room as i64);
                    rows(&grown)?.f_copy_(&rows(kept)?)?;
                    *kept = grown;
                }
                None => self.kept.push(grown),
            }
            Ok(())
        };
        match logits.iter().enumerate().try_for_each(&mut grow) {
            Ok(()) => wanted,
            Err(error) => {
                tracing::warn!("no memory for more of the teachers' logits: {error}");
                self.bytes = (room * each) as u64;
                room
            }
        }
    }
}

/// Rounds a number of images up to whole parts.
fn padded(count: usize) -> usize {
    count.div_ceil(PART) * PART
}

/// Returns a teacher's logits of the `wanted` images, at least one, [`PART`] at a time; the last
/// part is filled up with the first image.
fn in_parts(teacher: &Teacher, images: &Tensor, wanted: &[i64]) -> Result<Tensor> {
    let teacher = teacher.loaded()?;
    let mut all = wanted.to_vec();
    all.resize(padded(wanted.len()), wanted[0]);
    let part = |part: &[i64]| {
        let images = images.f_index_select(0, &indices(part, images.device()))?;
        Ok(teacher.predict(&images))
    };
    let parts: Vec<Tensor> = all.chunks(PART).map(part).collect::<Result<_>>()?;
    Ok(Tensor::f_cat(&parts, 0)?.f_narrow(0, 0, wanted.len() as i64)?)
}

/// Returns indices as a tensor on `device`.
fn indices(of: &[i64], device: Device) -> Tensor {
    crate::data::upload(&Tensor::from_slice(of), device)
}
