//! `inspect table` shows methods in rows and settings of the data in columns, with the mean over
//! seeds in each cell: the table of a paper.

use super::compare::methods::{self, Method};
use super::format::size;
use super::group::{self, Found, Spread, differing};
use super::identity::Identity;
use super::run::Entry;
use super::{Answer, find, settings};
use crate::error::Error;
use crate::report::Table;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Folder to search
    #[arg(value_name = "DIR", default_value = "outputs")]
    folder: PathBuf,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Markdown,
    Csv,
    Latex,
}

/// Holds a result of a method in a cell.
struct Measured {
    run: String,
    accuracy: f64,
    /// Sent by all nodes, up and down.
    bytes: u64,
    /// SHA-256 of the teachers' files, which stand for methods that need no student.
    teachers: Vec<String>,
}

/// Holds a row of the table.
struct Row {
    method: String,
    /// What tells it from other rows of the same method.
    identity: Identity,
    trained: bool,
    /// One list for each column.
    cells: Vec<Vec<Measured>>,
}

/// Describes the data of a column.
#[derive(Clone)]
struct Column {
    settings: Identity,
    /// The dataset in a word or two.
    dataset: String,
}

/// Holds the table before it is written.
#[derive(Default)]
struct Results {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

impl Request {
    /// Returns the table.
    ///
    /// # Errors
    /// Fails when there is no such folder, or no finished run of a student or a baseline in it.
    pub fn answer(&self) -> Result<Answer> {
        let (runs, broken) = find::below(&self.folder)?;
        broken.iter().for_each(|error| tracing::warn!("{error}"));
        let runs = runs.into_iter().filter(methods::is_comparable);
        let warn = |error: &Error| tracing::warn!("{error}");
        let entries: Vec<Entry> = runs.map(|run| Entry::new(run, warn)).collect();
        let (found, left_out) = group::find(&entries.iter().collect::<Vec<_>>());
        group::warn_about(&left_out);
        if found.is_empty() {
            let folder = self.folder.display();
            let what = format!("`{folder}` holds no finished student or baseline");
            bail!(Error::failed(what).hint("`inspect runs` lists the runs below a folder"));
        }
        let results = Results::of(&found);
        let text = match self.format {
            Format::Text => format!("{}\n\n{}", results.text(), NOTE),
            Format::Markdown => results.markdown(),
            Format::Csv => results.csv(),
            Format::Latex => results.latex(),
        };
        Answer::new(text, results.data())
    }
}

const NOTE: &str = "Test accuracy in percent after the last epoch or round, mean ± sample standard \
                    deviation (number of runs that differ in seeds and paths only).\nsent: bytes \
                    of all nodes, up and down, in one run.";

impl Results {
    /// Puts the runs of each group into its row and column.
    fn of(found: &[Found]) -> Self {
        let mut results = Self::default();
        for group in found {
            let (data, own) = split_by_data(&group.identity);
            let column = Column {
                settings: data,
                dataset: settings::dataset(&group.members[0].run),
            };
            for Entry { run, metrics } in &group.members {
                for method in methods::of(run, metrics) {
                    results.add(&column, &own, method);
                }
            }
        }
        // Students first, then what their teachers give, each by its name.
        results.rows.sort_by_cached_key(|row| {
            let teachers = row
                .cells
                .iter()
                .flatten()
                .all(|one| one.teachers.is_empty());
            (teachers, !row.trained, row.method.clone())
        });
        results
    }

    fn add(&mut self, data: &Column, own: &Identity, method: Method) {
        let Some(accuracy) = method.final_test_accuracy else {
            return;
        };
        let mut identity = own.clone();
        if method.shared {
            identity.retain(|key, _| is_of_teachers(key));
        }
        let is_same = |column: &Column| column.settings == data.settings;
        let column = self.columns.iter().position(is_same);
        let column = column.unwrap_or_else(|| {
            self.columns.push(data.clone());
            self.columns.len() - 1
        });
        let is_it = |row: &Row| row.method == method.method && row.identity == identity;
        let row = self.rows.iter().position(is_it).unwrap_or_else(|| {
            self.rows.push(Row {
                method: method.method.clone(),
                identity,
                trained: method.trained,
                cells: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[row];
        row.cells
            .resize_with(self.columns.len().max(row.cells.len()), Vec::new);
        let cell = &mut row.cells[column];
        // Students of the same teachers have one ensemble.
        if !method.shared || !cell.iter().any(|one| one.teachers == method.teachers) {
            cell.push(Measured {
                run: method.run,
                accuracy,
                bytes: method.upload_bytes + method.download_bytes,
                teachers: method.teachers,
            });
        }
    }

    /// Returns the columns in the order in which they are shown, with what is said of each.
    fn shown(&self) -> Vec<(usize, String)> {
        let all: Vec<&Identity> = self.columns.iter().map(|one| &one.settings).collect();
        let label = |column: &Column| match differing(&column.settings, &all).join(" ") {
            none if none.is_empty() => column.dataset.clone(),
            label => label,
        };
        let mut shown: Vec<(usize, String)> = self.columns.iter().map(label).enumerate().collect();
        shown.sort_by(|one, other| one.1.cmp(&other.1));
        shown
    }

    /// Returns the name of a row: the method, and the settings in which rows of that name differ.
    fn name(&self, row: &Row) -> String {
        let alike = self.rows.iter().filter(|other| other.method == row.method);
        let all: Vec<&Identity> = alike.map(|row| &row.identity).collect();
        let differing = differing(&row.identity, &all).into_iter();
        let words = [row.method.clone()].into_iter().chain(differing);
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns the headers and the rows, with `sign` between a mean and its deviation.
    fn cells(&self, sign: &str, none: &str) -> (Vec<String>, Vec<Vec<String>>) {
        let columns = self.shown();
        let labels = columns.iter().map(|(_, label)| label.clone());
        let headers = ["method".to_owned()].into_iter().chain(labels);
        let headers: Vec<String> = headers.chain(["sent".to_owned()]).collect();
        let line = |row: &Row| {
            let cell = |(column, _): &(usize, String)| match row.spread(*column) {
                Some(spread) => format!("{} ({})", spread.percent(sign), spread.n),
                None => none.to_owned(),
            };
            let cells = columns.iter().map(cell);
            let cells = [self.name(row)].into_iter().chain(cells);
            cells.chain([row.sent()]).collect()
        };
        (headers, self.rows.iter().map(line).collect())
    }

    fn text(&self) -> Table {
        let (headers, rows) = self.cells(" ± ", "–");
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut table = Table::new(&headers);
        for row in rows {
            table.row(row);
        }
        table
    }

    fn markdown(&self) -> String {
        let (headers, rows) = self.cells(" ± ", "–");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let rule = format!("|{}", "---|".repeat(headers.len()));
        let rows = rows.iter().map(|row| line(row));
        let lines = [line(&headers), rule].into_iter().chain(rows);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns a line for each cell, for programs that make tables and plots.
    fn csv(&self) -> String {
        let quoted = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut lines = vec!["method,data,runs,mean,std,lowest,highest,bytes".to_owned()];
        for row in &self.rows {
            for (column, label) in self.shown() {
                let Some(spread) = row.spread(column) else {
                    continue;
                };
                let (lowest, highest) = row.range(column);
                let std = spread.std.map_or(String::new(), |std| std.to_string());
                lines.push(format!(
                    "{},{},{},{},{std},{lowest},{highest},{}",
                    quoted(&self.name(row)),
                    quoted(&label),
                    spread.n,
                    spread.mean,
                    row.bytes(column)
                ));
            }
        }
        lines.join("\n")
    }

    /// Returns a `tabular` of LaTeX.
    fn latex(&self) -> String {
        let (headers, rows) = self.cells(" ± ", "--");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| in_latex(cell)).collect();
            format!("{} \\\\", cells.join(" & "))
        };
        let rows: Vec<String> = rows.iter().map(|row| line(row)).collect();
        format!(
            "\\begin{{tabular}}{{l{}}}\n\\hline\n{}\n\\hline\n{}\n\\hline\n\\end{{tabular}}",
            "r".repeat(headers.len() - 1),
            line(&headers),
            rows.join("\n")
        )
    }

    /// Returns the rows as JSON, with the runs behind each cell.
    fn data(&self) -> Value {
        let columns = self.shown();
        let row = |row: &Row| {
            let cell = |(column, label): &(usize, String)| {
                let spread = row.spread(*column)?;
                let (lowest, highest) = row.range(*column);
                let run = |one: &Measured| {
                    let (run, accuracy, bytes) = (&one.run, one.accuracy, one.bytes);
                    json!({"run": run, "test_accuracy": accuracy, "bytes": bytes})
                };
                let runs: Vec<Value> = row.cells[*column].iter().map(run).collect();
                let dataset = &self.columns[*column].dataset;
                Some(json!({"data": label, "dataset": dataset, "spread": spread,
                    "lowest": lowest, "highest": highest, "runs": runs}))
            };
            let cells: Vec<Value> = columns.iter().filter_map(cell).collect();
            json!({"method": self.name(row), "cells": cells})
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({"rows": rows})
    }
}

impl Row {
    fn cell(&self, column: usize) -> &[Measured] {
        self.cells.get(column).map_or(&[], Vec::as_slice)
    }

    fn spread(&self, column: usize) -> Option<Spread> {
        Spread::of(self.cell(column).iter().map(|one| Some(one.accuracy)))
    }

    /// Returns the lowest and the highest accuracy of a cell.
    fn range(&self, column: usize) -> (f64, f64) {
        let values = self.cell(column).iter().map(|one| one.accuracy);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    }

    /// Returns the mean of the bytes that a run of a cell sent.
    fn bytes(&self, column: usize) -> u64 {
        let cell = self.cell(column);
        cell.iter().map(|one| one.bytes).sum::<u64>() / (cell.len() as u64).max(1)
    }

    /// Returns what a run sent, from the least to the most.
    fn sent(&self) -> String {
        let all = || self.cells.iter().flatten().map(|one| one.bytes);
        let (Some(least), Some(most)) = (all().min(), all().max()) else {
            return String::new();
        };
        match (size(least), size(most)) {
            (least, most) if least == most => least,
            (least, most) => format!("{least} to {most}"),
        }
    }
}

/// Returns text as LaTeX sets it.
fn in_latex(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => escaped += r"\textbackslash{}",
            '~' => escaped += r"\textasciitilde{}",
            '^' => escaped += r"\textasciicircum{}",
            '±' => escaped += r"$\pm$",
            '{' | '}' | '$' | '_' | '%' | '#' | '&' => escaped.extend(['\\', letter]),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Splits an identity into the settings of the data, and the rest.
fn split_by_data(identity: &Identity) -> (Identity, Identity) {
    let is_of_data = |key: &str| {
        // `split` itself only says whether the run read the split that its teachers were trained
        // on.
        let group = key.split('.').next().unwrap_or(key);
        ["dataset", "split"].contains(&group) && key != "split"
    };
    let of = |wanted: bool| {
        let parts = identity.iter().filter(|(key, _)| is_of_data(key) == wanted);
        parts
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    (of(true), of(false))
}

/// Returns true for a key on which teachers, and their joint prediction, depend.
fn is_of_teachers(key: &str) -> bool {
    key.starts_with("teacher.") || ["model", "precision", "teachers"].contains(&key)
}
