//! Aligns text tables for the terminal and for HTML. Nothing is printed here.

use comfy_table::{CellAlignment, TableComponent, presets};
use std::fmt;

/// The rule under the headers is made of these.
const RULE: char = '─';
/// Longest rule of [`Table::with_short_rule`] where there is no terminal.
const WIDTH: usize = 100;

/// Holds a plain text table: no colours, no borders, a rule under the headers, columns of numbers
/// to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table without rows.
    pub fn new(headers: &[&str]) -> Self {
        Self {
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Appends a row; cells that are missing at its end stay blank.
    pub fn row(&mut self, cells: Vec<String>) -> &mut Self {
        self.rows.push(cells);
        self
    }

    /// Returns the table as [`Display`](fmt::Display) writes it, with a rule that is no longer than
    /// the terminal is wide, or than 100 columns where there is none: for cells of any length,
    /// which the terminal breaks.
    pub fn with_short_rule(&self) -> String {
        let terminal = comfy_table::Table::new().width();
        let most = terminal.map_or(WIDTH, usize::from);
        let line = |line: &str| match line.chars().all(|letter| letter == RULE) {
            true => line.chars().take(most).collect(),
            false => line.to_owned(),
        };
        let lines: Vec<String> = self.to_string().lines().map(line).collect();
        lines.join("\n")
    }

    /// Returns the headers, the rows, and which columns hold numbers.
    pub(super) fn parts(&self) -> (&[String], &[Vec<String>], Vec<bool>) {
        let numeric = (0..self.headers.len()).map(|column| self.is_numeric(column));
        (&self.headers, &self.rows, numeric.collect())
    }

    /// Reports whether a column has a number and nothing but numbers and blanks.
    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .filter(|cell| !is_blank(cell))
            .peekable();
        cells.peek().is_some() && cells.all(|cell| is_number(cell))
    }
}

impl fmt::Display for Table {
    /// Writes lines without a trailing blank and without a final newline.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_style(TableComponent::HeaderLines, RULE)
            .set_style(TableComponent::MiddleHeaderIntersections, RULE)
            .force_no_tty()
            .set_header(&self.headers);
        table.add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        out.write_str(&lines.join("\n"))
    }
}

/// Recognises what stands for "no value" in a column of numbers.
fn is_blank(cell: &str) -> bool {
    matches!(cell.trim(), "" | "-" | "–" | "—" | "n/a" | "null")
}

/// Recognises `1,234`, `-0.5`, `1e-3`, `91.2%`, `0.91 ± 0.02`, `3 / 10`, `12.5 MiB`, …
fn is_number(cell: &str) -> bool {
    let mut words = cell.split([' ', '±', '/']).filter(|word| !word.is_empty());
    words.next().is_some_and(is_figure) && words.all(|word| is_figure(word) || is_unit(word))
}

fn is_figure(word: &str) -> bool {
    let plain = word
        .trim_end_matches(['%', '×'])
        .replace([',', '_'], "")
        .replace('−', "-");
    plain.chars().any(|letter| letter.is_ascii_digit()) && plain.parse::<f64>().is_ok()
}

fn is_unit(word: &str) -> bool {
    matches!(
        word,
        "%" | "B" | "kB" | "KB" | "MB" | "GB" | "KiB" | "MiB" | "GiB" | "ms" | "s" | "min" | "h"
    )
}
