//! The teachers' logits that are kept: the bits of whole batches, whatever is kept of them, and no
//! pass through a teacher that is not needed.

use crate::common::machine::device;
use fed_distill::Result;
use fed_distill::distill::{Distillation, LogitCache};
use fed_distill::inversion::{Ensemble, EnsembleKind, Origin, Teacher, TeacherCache, predict};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::{Rng, Seeds};
use fed_distill::train::{Batch, Objective, View};
use rand::Rng as _;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tch::{Kind, Tensor};

const CLASSES: i64 = 5;
const SIZE: i64 = 12;

fn spec(kind: ModelKind) -> ModelSpec {
    let residual = kind.is_residual();
    let settings = ModelSettings {
        kind,
        width: residual.then_some(8),
        blocks: residual.then(|| vec![1, 1]),
    };
    ModelSpec::new(&settings, 1, SIZE, CLASSES).unwrap()
}

fn model(kind: ModelKind, index: u64) -> Model {
    let mut rng = Seeds::new(3).stream("test/logits", index);
    Model::new(&spec(kind), device(), &mut rng).unwrap()
}

fn images(count: i64) -> Tensor {
    let values = Tensor::arange(count * SIZE * SIZE, (Kind::Float, device()));
    (values * 0.37).sin().view([count, 1, SIZE, SIZE])
}

fn rng() -> Rng {
    Seeds::new(4).stream("test/logits", 0)
}

/// The view of this number, of an image whose label and teacher follow from it.
fn synthetic(number: u64) -> View {
    View {
        number: Some(number),
        label: (number % 5) as usize,
        teacher: (number % 4).checked_sub(1).map(|teacher| teacher as usize),
    }
}

/// Batches of several sizes, in which images come again, also twice in one, and some are not used.
fn batches(rng: &mut Rng, pool: &Tensor) -> Vec<(Tensor, Vec<View>)> {
    let sizes = [64, 64, 40, 64, 7, 64, 40, 1, 64, 40, 7, 64];
    let batch = |count: usize| {
        let chosen: Vec<i64> = (0..count)
            .map(|_| rng.random_range(0..pool.size()[0]))
            .collect();
        let views = chosen
            .iter()
            .map(|&index| match rng.random_bool(0.9) {
                true => synthetic(1000 + index as u64),
                false => View::default(),
            })
            .collect();
        let chosen = Tensor::from_slice(&chosen).to_device(device());
        (pool.index_select(0, &chosen), views)
    };
    sizes.into_iter().map(batch).collect()
}

const KINDS: [ModelKind; 5] = [
    ModelKind::Resnet18,
    ModelKind::Lenet5,
    ModelKind::Cnn64,
    ModelKind::Wrn16_1,
    ModelKind::Linear,
];

#[test]
fn bits_do_not_depend_on_what_is_kept() {
    tch::set_num_threads(1);
    let mut rng = rng();
    let pool = images(150);
    let teachers: Vec<Teacher> = KINDS
        .iter()
        .zip(0..)
        .map(|(&kind, index)| Teacher::new(model(kind, index), vec![1; 5]).unwrap())
        .collect();
    let all: Vec<&Teacher> = teachers.iter().collect();
    // Nothing, a few rows, more than there are.
    for bytes in [0, 4000, 1 << 24] {
        let mut cache = LogitCache::new(bytes);
        for (batch, (images, views)) in batches(&mut rng, &pool).iter().enumerate() {
            let some: Vec<bool> = (0..views.len() * all.len())
                .map(|_| rng.random_range(0..3) > 0)
                .collect();
            // A view keeps its teachers, as an image keeps its label.
            let needed = (batch % 2 == 1 && bytes == 4000).then_some(&some[..]);
            let found = cache.logits(&all, images, views, needed).unwrap();
            if needed.is_some() {
                cache = LogitCache::new(bytes);
            }
            for (index, (found, teacher)) in found.iter().zip(&all).enumerate() {
                let whole = teacher.loaded().unwrap().predict(images);
                for (image, view) in views.iter().enumerate() {
                    let used = needed.is_none_or(|all| all[image * KINDS.len() + index]);
                    if view.number.is_some() && used {
                        let row = image as i64;
                        assert_eq!(found.get(row), whole.get(row), "{:?}", KINDS[index]);
                    }
                }
            }
        }
    }
}

/// A teacher that is read when it is asked, and how often it was read.
fn counted(kind: ModelKind, index: u64, counts: Vec<u64>) -> (Teacher, Rc<Cell<usize>>) {
    let reads = Rc::new(Cell::new(0));
    let counter = Rc::clone(&reads);
    let cache = TeacherCache::new(1, move |_| {
        counter.set(counter.get() + 1);
        Ok(model(kind, index))
    });
    let teacher = Teacher::cached(spec(kind), device(), counts, &cache, 0);
    (teacher.unwrap(), reads)
}

/// A pass over all teachers in turn reads those that there is no room for, and no others.
#[test]
fn teachers_in_turn_stay_in_memory() {
    let reads = Rc::new(Cell::new(0));
    let counter = Rc::clone(&reads);
    let cache = TeacherCache::new(4, move |index| {
        counter.set(counter.get() + 1);
        Ok(model(ModelKind::Linear, index as u64))
    });
    let pass = || {
        let before = reads.get();
        (0..5).for_each(|index| drop(cache.get(index).unwrap()));
        reads.get() - before
    };
    assert_eq!(pass(), 5);
    for _ in 0..10 {
        assert!((1..=2).contains(&pass()));
    }
}

/// Whether the logits of an image depend on the rest of its batch is the machine's affair: where
/// they do not, a teacher that has seen every view is asked no more.
#[test]
fn a_known_view_costs_no_pass() {
    tch::set_num_threads(1);
    let images = images(64);
    let views: Vec<View> = (0..64).map(synthetic).collect();
    for kind in KINDS {
        let reads = Rc::new(Cell::new(0));
        let counter = Rc::clone(&reads);
        // Holds one of the two, so that each is read whenever it is asked.
        let cache = TeacherCache::new(1, move |index| {
            counter.set(counter.get() + 1);
            Ok(model(kind, index as u64))
        });
        let two = [0, 1]
            .map(|index| Teacher::cached(spec(kind), device(), vec![1; 5], &cache, index).unwrap());
        let two: Vec<&Teacher> = two.iter().collect();
        let loaded = two[0].loaded().unwrap();
        let halves = images.split(32, 0);
        let parts: Vec<Tensor> = halves.iter().map(|half| loaded.predict(half)).collect();
        let independent = Tensor::cat(&parts, 0) == loaded.predict(&images);
        drop(loaded);
        let mut kept = LogitCache::new(1 << 20);
        for _ in 0..2 {
            kept.logits(&two, &images, &views, None).unwrap();
        }
        let before = reads.get();
        kept.logits(&two, &images, &views, None).unwrap();
        let asked = if independent { 0 } else { 2 };
        assert_eq!(reads.get() - before, asked, "{kind:?}");
    }
}

fn labels(of: &[i64]) -> Tensor {
    Tensor::from_slice(of).to_device(device())
}

/// A teacher of no image's label is not asked, and the prediction has the bits of asking all.
#[test]
fn teachers_without_a_weight_are_not_asked() -> Result<()> {
    let images = images(4);
    let (classes, made_from) = ([0, 1, 1, 0], labels(&[0, 0, 0, 0]));
    let labels = labels(&classes);
    let origin = Some(Origin {
        labels: &labels,
        teachers: Some(&made_from),
    });
    let views = classes.map(|label| View {
        number: None,
        label: label as usize,
        teacher: Some(0),
    });
    let counts = [vec![3, 1, 0, 0, 0], vec![0, 0, 2, 2, 1]];
    for kind in [EnsembleKind::LabelGated, EnsembleKind::MadeFrom] {
        let made =
            [0, 1].map(|index| counted(ModelKind::Lenet5, index, counts[index as usize].clone()));
        let [(own, own_reads), (foreign, foreign_reads)] = &made;
        let teachers = [own, foreign];
        let ensemble = Ensemble::new(kind, &teachers, device());
        let found = predict(&teachers, &images, ensemble.needed(&views).as_deref())?;
        let found = ensemble.log_probabilities(&found, 2.0, origin);
        assert_eq!((own_reads.get(), foreign_reads.get()), (1, 0), "{kind:?}");
        let logits = teachers.map(|teacher| teacher.loaded().unwrap().predict(&images));
        assert_eq!(found, ensemble.log_probabilities(&logits, 2.0, origin));
    }
    // Every other rule asks both.
    let (own, reads) = counted(ModelKind::Lenet5, 0, counts[0].clone());
    let (foreign, others) = counted(ModelKind::Lenet5, 1, counts[1].clone());
    let teachers = [&own, &foreign];
    let ensemble = Ensemble::new(EnsembleKind::LabelShare, &teachers, device());
    assert_eq!(ensemble.needed(&views), None);
    let _ = ensemble.predict(&teachers, &images, 2.0)?;
    assert_eq!((reads.get(), others.get()), (1, 1));
    Ok(())
}

/// The loss of each rule, on batches with real images and images that come again.
#[test]
fn losses_have_the_same_bits() {
    tch::set_num_threads(1);
    let mut rng = rng();
    let pool = images(150);
    let teachers: Vec<Teacher> = (0..3)
        .map(|index| {
            let counts = (0..5).map(|class| (class + index) % 3).collect();
            Teacher::new(model(ModelKind::Cnn64, index), counts).unwrap()
        })
        .collect();
    for kind in [
        EnsembleKind::MeanLogits,
        EnsembleKind::MeanSoftmax,
        EnsembleKind::LabelShare,
        EnsembleKind::LabelGated,
        EnsembleKind::MadeFrom,
    ] {
        let objective = |cache| {
            let all: Vec<&Teacher> = teachers.iter().collect();
            Distillation {
                ensemble: Ensemble::new(kind, &all, device()),
                teachers: all,
                temperature: 3.0,
                label_weight: 0.2,
                class_weights: None,
                cache,
            }
        };
        let (plain, cached) = (
            objective(None),
            objective(Some(RefCell::new(LogitCache::new(1 << 20)))),
        );
        for (images, views) in batches(&mut rng, &pool) {
            let is_real = |view: &View| f32::from(u8::from(view.number.is_none()));
            let real: Vec<f32> = views.iter().map(is_real).collect();
            let own: Vec<i64> = views.iter().map(|view| view.label as i64).collect();
            let teacher = |view: &View| view.teacher.map_or(-1, |teacher| teacher as i64);
            let made_from: Vec<i64> = views.iter().map(teacher).collect();
            let batch = Batch {
                labels: labels(&own),
                teachers: Some(labels(&made_from)),
                real: Some(Tensor::from_slice(&real).to_device(device())),
                scores: None,
                views: Some(views.clone()),
                images,
            };
            let logits = (Tensor::arange(views.len() as i64 * CLASSES, (Kind::Float, device()))
                * 1.3)
                .cos()
                .view([-1, CLASSES]);
            let [plain, cached] =
                [&plain, &cached].map(|objective| objective.loss(&logits, &batch).unwrap());
            assert_eq!(plain, cached, "{kind:?}");
        }
    }
}
