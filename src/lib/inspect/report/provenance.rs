//! Where everything comes from: the runs, their commands and settings, the files and their hashes.

use super::super::run::percent;
use super::super::{settings, show};
use super::Entry;
use crate::error::Result;
use crate::report::{Table, html};
use crate::run::manifest;
use crate::words::counted;

/// Every run in a line.
pub fn runs(entries: &[Entry]) -> String {
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
            run.status().to_string(),
            run.started(),
            run.took().unwrap_or("–".into()),
            settings::seeds(run),
            settings::summary(run),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
        ]);
    }
    html::table(&table)
}

/// Commands, settings, files and their hashes.
pub fn provenance(entries: &[Entry]) -> Result<String> {
    let mut body = checked(entries)?;
    for entry in entries {
        let manifest = &entry.run.manifest;
        let mut chosen = Table::new(&["setting", "value"]);
        for (key, value) in settings::chosen(&manifest.config) {
            chosen.row(vec![key, settings::typed(&value)]);
        }
        let every: Vec<String> = settings::flat(&manifest.config)
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
        let content = html::verbatim(&manifest.argv.join(" "))
            + &html::table(&show::facts(&entry.run, None))
            + &html::table(&hashes)
            + &html::heading("Settings that are not the built-in defaults")
            + &html::table(&chosen)
            + &html::heading("Every setting")
            + &html::columns(&every);
        body += &html::fold(
            &format!("{} ({})", entry.run.name, manifest.stage),
            &content,
        );
    }
    Ok(body)
}

/// Whether the files are as the runs left them, and how many nobody can say it of.
fn checked(entries: &[Entry]) -> Result<String> {
    let (mut findings, mut hashed, mut gone) = (Vec::new(), 0, 0);
    for entry in entries {
        let check = manifest::check(&entry.run.place)?;
        hashed += check.hashed;
        gone += check.gone.len();
        findings.extend(check.findings.iter().map(ToString::to_string));
    }
    findings.sort();
    findings.dedup();
    let mut body = match findings.is_empty() {
        true => html::paragraph(&format!(
            "{} hashed again when this report was made: all were as the runs left them.",
            counted(hashed, "recorded file")
        )),
        false => {
            html::paragraph("Not as the runs left them when this report was made:")
                + &html::verbatim(&findings.join("\n"))
        }
    };
    if gone > 0 {
        body += &html::paragraph(&format!(
            "Not checked: {} no longer there.",
            match gone {
                1 => "an input that is".into(),
                _ => format!("{gone} inputs that are"),
            }
        ));
    }
    Ok(body)
}
