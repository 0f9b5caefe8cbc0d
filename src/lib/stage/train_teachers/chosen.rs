//! Chooses the teachers that a run trains: those of a split's nodes that the config names, or the
//! one of a party with images of its own.

use crate::config::schema::TeacherConfig;
use crate::error::Error;
use crate::run::StageContext;
use crate::words::counted;
use anyhow::{Result, bail};

/// Tells a party with images of its own, without a split, how its teacher gets a number.
const PARTY: &str = "a party with images of its own says which number its teacher has: \
    `teacher.index=1`";

/// Returns the number of the teacher of a party with images of its own (`teacher.index`), if the
/// run is such a party's.
///
/// # Errors
/// Fails (usage) with a split, and when the other settings name other teachers.
pub(super) fn party(context: &StageContext) -> Result<Option<usize>> {
    let config = context.config;
    let Some(index) = config.teacher.index else {
        return Ok(None);
    };
    let refused = |what: String, hint: &str| bail!(Error::usage(what).hint(hint.to_owned()));
    if let Some(split) = &config.split.save_path {
        return refused(
            format!(
                "`teacher.index` is {index}, the teacher of a party with images of its own, but \
                 `split.save_path` is `{}`",
                split.display()
            ),
            &format!(
                "`teacher.only=[{index}]` trains that teacher of the split; `split.save_path=null` \
                 takes all images for the one teacher"
            ),
        );
    }
    if let Some(only) = config
        .teacher
        .only
        .as_ref()
        .filter(|only| !only.contains(&index))
    {
        return refused(
            format!("`teacher.index` is {index}, but `teacher.only` is {only:?}"),
            "a party trains one teacher: `teacher.index` alone says which",
        );
    }
    if let Some(count) = config.teacher.num_teachers.filter(|count| index >= *count) {
        return refused(
            format!(
                "`teacher.index` is {index}, but there {} {} (`teacher.num_teachers`)",
                if count == 1 { "is" } else { "are" },
                counted(count, "teacher")
            ),
            &format!("teachers count from 0: choose from 0 to {}", count - 1),
        );
    }
    if config.dataset.mean.is_none() || config.dataset.std.is_none() {
        tracing::warn!(
            "mean and standard deviation are computed from these images alone, but teachers of \
             several parties go together only with the same ones: agree on them, as \
             `dataset.mean=[0.5] dataset.std=[0.25]`"
        );
    }
    Ok(Some(index))
}

/// Returns the numbers of the teachers of a split with `nodes` nodes, or of the one node that there
/// is without a split.
///
/// # Errors
/// Fails when the config names teachers that there are not (usage).
pub(super) fn of_split(context: &StageContext, nodes: usize) -> Result<Vec<usize>> {
    let is_split = context.config.split.save_path.is_some();
    if !is_split {
        refuse_settings_without_split(context)?;
    }
    chosen(&context.config.teacher, nodes).map_err(|error| match is_split {
        true => error,
        false => Error::from(error).hint(PARTY).into(),
    })
}

/// Refuses several teachers where no split is given, and warns of a split's settings that then have
/// no effect.
///
/// # Errors
/// Fails when `teacher.num_teachers` is more than one (usage).
fn refuse_settings_without_split(context: &StageContext) -> Result<()> {
    const HOW: &str = "make a split with `split_data`, and give its path: \
        split.save_path=outputs/split.json";
    if let Some(count) = context
        .config
        .teacher
        .num_teachers
        .filter(|count| *count > 1)
    {
        bail!(
            Error::usage(format!(
                "`teacher.num_teachers` is {count}, but no split is given: there is one node, \
                 with all images"
            ))
            .hint(HOW)
            .hint(PARTY)
        );
    }
    let typed = context.composed.overrides.iter();
    let mut typed = typed.filter(|typed| typed.trim_start_matches('+').starts_with("split."));
    if let Some(typed) = typed.next() {
        tracing::warn!(
            "`{typed}` has no effect, because no split is given: one teacher is trained on all \
             images; {HOW}"
        );
    }
    Ok(())
}

/// Returns how many of a split's nodes train teachers.
///
/// # Errors
/// Fails when the config names more than there are (usage).
pub(in crate::stage) fn teacher_count(settings: &TeacherConfig, nodes: usize) -> Result<usize> {
    match settings.num_teachers {
        None => Ok(nodes),
        Some(count) if (1..=nodes).contains(&count) => Ok(count),
        Some(count) => Err(Error::usage(format!(
            "`teacher.num_teachers` is {count}, but the split has {}",
            counted(nodes, "node")
        ))
        .hint(format!("choose 1 to {nodes}"))
        .into()),
    }
}

/// Returns the numbers of the teachers that `settings` name among those of `nodes` nodes.
fn chosen(settings: &TeacherConfig, nodes: usize) -> Result<Vec<usize>> {
    let count = teacher_count(settings, nodes)?;
    match &settings.only {
        Some(only) => named(only, count),
        None => Ok((0..count).collect()),
    }
}

/// Returns the teachers that `teacher.only` names, of `count` that there are.
///
/// # Errors
/// Fails when it names none, one twice, or one that there is not (usage).
pub(in crate::stage) fn named(only: &[usize], count: usize) -> Result<Vec<usize>> {
    if only.is_empty() {
        bail!(
            Error::usage("`teacher.only` names no teacher").hint("`teacher.only=null` trains all")
        );
    }
    if let Some((_, twice)) = only
        .iter()
        .enumerate()
        .find(|&(at, node)| only[..at].contains(node))
    {
        bail!(Error::usage(format!(
            "`teacher.only` names teacher {twice} twice"
        )));
    }
    if let Some(wrong) = only.iter().find(|&&node| node >= count) {
        bail!(
            Error::usage(format!(
                "`teacher.only` names teacher {wrong}, but there {} {}",
                if count == 1 { "is" } else { "are" },
                counted(count, "teacher")
            ))
            .hint(match count {
                1 => "the only teacher is 0: `teacher.only=[0]`".into(),
                _ => format!("teachers count from 0: choose from 0 to {}", count - 1),
            })
        );
    }
    Ok(only.to_vec())
}
