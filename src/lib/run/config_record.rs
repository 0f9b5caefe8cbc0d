//! Writes the config of a run beside its results, to the paths where Hydra writes it.

use super::StageContext;
use super::job::{Job, companion};
use crate::artifact::atomic;
use anyhow::Result;
use serde_json::Value;

impl StageContext<'_> {
    /// Writes `config.yaml` (every key, references resolved but those to environment variables:
    /// `--config-dir FOLDER` gives the same run) and `overrides.yaml` (the command line's) beside a
    /// manifest, as Hydra does: into `.hydra/` in the folder of a run, `.hydra_teacher0/` for one
    /// of several runs in a folder, `STEM.hydra/` for a run that writes a single file.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn snapshot(&self, job: &Job) -> Result<()> {
        let folder = companion(&job.manifest, ".hydra");
        atomic::write(
            &folder.join("config.yaml"),
            self.composed.to_recorded_yaml().as_bytes(),
        )?;
        // JSON's strings are YAML's, whatever is in them.
        let lines = self.composed.overrides.iter();
        let list: String = lines
            .map(|line| format!("- {}\n", Value::from(line.as_str())))
            .collect();
        let list = if list.is_empty() { "[]\n".into() } else { list };
        atomic::write(&folder.join("overrides.yaml"), list.as_bytes())?;
        Ok(())
    }
}
