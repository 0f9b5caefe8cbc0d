//! Writes `--help`: what the stage does, reads and writes, the options of its groups, examples,
//! flags.

use super::arguments::Arguments;
use crate::config::Tree;
use crate::run::stages::Stage;
use std::fmt::Write;

/// Returns the whole text. Groups are listed as the given config tree has them.
pub fn text(stage: &Stage, tree: &Tree) -> String {
    let mut out = format!(
        "{}\n\nUsage: {} [FLAGS] [OVERRIDE]…\n\n",
        stage.about, stage.name
    );
    let _ = writeln!(out, "Reads:  {}\nWrites: {}", stage.reads, stage.writes);
    let _ = writeln!(out, "\nGroups and their options, in {tree}:");
    for group in stage.groups() {
        write_group(&mut out, group, tree);
    }
    write_examples(&mut out, stage, tree);
    out.push_str("\nFlags:\n");
    write_columns(&mut out, &Arguments::flags(), 2);
    out
}

fn write_group(out: &mut String, group: &str, tree: &Tree) {
    let _ = writeln!(out, "  {group}");
    let about = |option: String| {
        let text = tree
            .read(&format!("{group}/{option}.yaml"))
            .unwrap_or_default();
        (option, first_paragraph(&text))
    };
    let options: Vec<_> = tree.options(group).into_iter().map(about).collect();
    write_columns(out, &options, 4);
}

/// Returns the first paragraph of the comments at the head of a file, without instructions to the
/// reader.
fn first_paragraph(text: &str) -> String {
    let comments = text.lines().map_while(|line| line.strip_prefix('#'));
    let words = comments
        .map(str::trim)
        .skip_while(|line| line.is_empty() || line.starts_with('@'));
    words
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn write_examples(out: &mut String, stage: &Stage, tree: &Tree) {
    let name = stage.name;
    let own = stage.groups().last().unwrap_or("dataset");
    let chosen = match tree.options(own).first() {
        Some(option) => format!("+{own}={option}"),
        None => "+method=shapes".into(),
    };
    let examples = [
        (format!("{name} {chosen}"), "choose an option of a group"),
        (
            format!("{name} dataset=mnist seed=7"),
            "replace a choice, set a key",
        ),
        (format!("{name} -m seed=1,2,3"), "a job for each value"),
        (
            format!("{name} {chosen} --cfg job"),
            "print every key and its value",
        ),
        (format!("{name} {chosen} --info config"), "and who set it"),
    ];
    out.push_str("\nExamples:\n");
    write_columns(
        out,
        &examples.map(|(typed, why)| (typed, why.to_owned())),
        2,
    );
}

fn write_columns(out: &mut String, rows: &[(String, String)], indent: usize) {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        let line = format!("{:indent$}{left:width$}  {right}", "");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
