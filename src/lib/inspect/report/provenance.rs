//! Makes the sections on the origin of the results: the runs, their commands and settings, the
//! files and their hashes.

use super::super::format::{or_dash, percent};
use super::super::run::Entry;
use super::super::{settings, show};
use crate::artifact::json;
use crate::report::{Table, html};
use crate::run::manifest;
use crate::words::counted;
use anyhow::Result;
use maud::{Markup, html};

/// Returns a table with a line for every run.
pub fn runs(entries: &[Entry]) -> Markup {
    let mut table = Table::new(&[
        "run",
        "stage",
        "status",
        "started (UTC)",
        "took",
        "seed",
        "settings",
        "final %",
        "best %",
    ]);
    for Entry { run, metrics } in entries {
        table.row(vec![
            run.name.clone(),
            run.manifest.stage.clone(),
            run.status(),
            run.started(),
            or_dash(run.took()),
            settings::seeds(run),
            settings::summary(run),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
        ]);
    }
    html::table(&table)
}

/// Returns the commands, settings, files and hashes of all runs, after the result of hashing every
/// file again.
pub fn provenance(entries: &[Entry]) -> Result<Markup> {
    Ok(html! {
        (checked(entries)?)
        @for entry in entries {
            (html::fold(&format!("{} ({})", entry.run.name, entry.run.manifest.stage), of(entry)))
        }
    })
}

/// Returns command, settings, files and hashes of a run.
fn of(entry: &Entry) -> Markup {
    let manifest = &entry.run.manifest;
    let chosen = settings::table(&settings::chosen(&manifest.config));
    let every: Vec<String> = json::leaves(&manifest.config)
        .iter()
        .map(|(key, value)| format!("{key}={}", settings::typed(value)))
        .collect();
    let mut hashes = Table::new(&["", "role", "file", "bytes", "sha256"]);
    for (way, records) in [("read", &manifest.inputs), ("wrote", &manifest.outputs)] {
        for record in records {
            hashes.row(vec![
                way.into(),
                record.role.clone(),
                record.path.display().to_string(),
                record.bytes.to_string(),
                record.sha256.clone(),
            ]);
        }
    }
    html! {
        (html::verbatim(&manifest.argv.join(" ")))
        (html::table(&show::facts(&entry.run, None)))
        (html::table(&hashes))
        (html::heading("Settings that are not the built-in defaults"))
        (html::table(&chosen))
        (html::heading("Every setting"))
        (html::columns(&every))
    }
}

/// Hashes all recorded files again and reports which have changed, and how many are gone.
fn checked(entries: &[Entry]) -> Result<Markup> {
    let (mut findings, mut hashed, mut gone) = (Vec::new(), 0, 0);
    for entry in entries {
        let check = manifest::check(&entry.run.path)?;
        hashed += check.hashed;
        gone += check.gone.len();
        findings.extend(check.findings.iter().map(ToString::to_string));
    }
    findings.sort();
    findings.dedup();
    let inputs = match gone {
        1 => "an input that is".into(),
        _ => format!("{gone} inputs that are"),
    };
    Ok(html! {
        @if findings.is_empty() {
            (html::paragraph(&format!(
                "{} hashed again when this report was made: all were unchanged.",
                counted(hashed, "recorded file")
            )))
        } @else {
            (html::paragraph("Changed, missing or not readable when this report was made:"))
            (html::verbatim(&findings.join("\n")))
        }
        @if gone > 0 {
            (html::paragraph(&format!("Not checked: {inputs} no longer there.")))
        }
    })
}
