//! Runs the server's stages on the accepted teachers, as processes of their own with `resume=true`:
//! after a crash the same commands resume from their checkpoints.

use crate::artifact::fault::explain;
use crate::artifact::{atomic, hash, json};
use crate::error::Error;
use crate::network::server::Server;
use crate::network::state::Event;
use crate::runtime::interrupt;
use anyhow::Result;
use serde_json::json;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How often a stage is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What the server sets for its stages.
const OWN_KEYS: [&str; 6] = [
    "teacher.save_folder",
    "teacher.num_teachers",
    "split.save_path",
    "initial.save_path",
    "student.save_folder",
    "resume",
];

/// Refuses overrides of keys that the server sets itself.
///
/// # Errors
/// Fails (usage) with the first of them.
pub fn refuse_own_keys(overrides: &[String]) -> Result<()> {
    let is_own = |typed: &&String| {
        let key = typed.trim_start_matches(['+', '~']).split('=').next();
        key.is_some_and(|key| OWN_KEYS.contains(&key) || key == "overwrite")
    };
    match overrides.iter().find(is_own) {
        Some(typed) => Err(Error::usage(format!("the server sets `{typed}` itself"))
            .hint("leave it out: everything of this federation is in its folder")
            .into()),
        None => Ok(()),
    }
}

/// Holds the work that follows the uploads.
pub struct Stages {
    server: Arc<Server>,
    /// What the user typed for the stages; `None` starts none.
    overrides: Option<Vec<String>>,
}

impl Stages {
    /// Prepares the work.
    pub fn new(server: Arc<Server>, overrides: Option<Vec<String>>) -> Self {
        Self { server, overrides }
    }

    /// Lays the teachers out, runs the stages and offers the student.
    ///
    /// # Errors
    /// Fails when a stage does, and with class interrupted when a stop was asked for.
    pub fn run(&self) -> Result<()> {
        let teachers = self.lay_out()?;
        let Some(overrides) = &self.overrides else {
            tracing::info!("the teachers are in {}", teachers.display());
            return Ok(());
        };
        let folder = &self.server.store.folder;
        let count = self.server.store.view(|state| state.closed.len());
        let path = |path: PathBuf| crate::config::quoted(&path.display().to_string());
        let values = [
            path(teachers),
            count.to_string(),
            "null".to_owned(),
            path(folder.join("initial.safetensors")),
            path(folder.join("student")),
            "true".to_owned(),
        ];
        let set = OWN_KEYS.iter().zip(values);
        let fixed: Vec<String> = set.map(|(key, value)| format!("{key}={value}")).collect();
        for stage in ["generate_initial", "train_student"] {
            self.stage(stage, overrides, &fixed)?;
        }
        let student = folder.join("student").join("student.safetensors");
        offer(&self.server, &student)?;
        tracing::info!("the student is ready: {}", student.display());
        Ok(())
    }

    /// Links the accepted files as `model_teacher0…`, in the order in which the clients enrolled,
    /// with a list of whose they are.
    fn lay_out(&self) -> Result<PathBuf> {
        let store = &self.server.store;
        let folder = store.folder.join("teachers");
        atomic::create_folder(&folder)?;
        let closed = store.view(|state| {
            let uploads = state.closed.iter().filter_map(|id| state.uploads.get(id));
            let named = uploads.map(|upload| {
                let client = state.clients.get(&upload.client);
                let (name, images) = client.map_or_else(
                    || (String::new(), 0),
                    |client| (client.name.clone(), client.images),
                );
                (upload.sha256.clone(), name, images)
            });
            named.collect::<Vec<_>>()
        });
        let mut list = Vec::new();
        for (index, (sha256, name, images)) in closed.iter().enumerate() {
            let file = format!("model_teacher{index}.safetensors");
            let teacher = folder.join(&file);
            match std::fs::remove_file(&teacher) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(explain("write", &teacher, error).into());
                }
                _ => atomic::link_or_copy(&store.blob(sha256), &teacher)?,
            }
            list.push(json!({"teacher": index, "client": name, "images": images,
                "sha256": sha256}));
        }
        json::write(&folder.join("clients.json"), &list)?;
        Ok(folder)
    }

    /// Runs one stage to its end.
    fn stage(&self, name: &'static str, overrides: &[String], fixed: &[String]) -> Result<()> {
        let own = std::env::current_exe().map_err(Error::from)?;
        let binary = own.with_file_name(name);
        self.server.set_stage(Some(name));
        tracing::info!("{name} starts");
        let mut command = Command::new(&binary);
        command.args(overrides).args(fixed).stdin(Stdio::null());
        // Ctrl-C in a terminal reaches a whole group, and a stage that is told to stop twice ends
        // at once; this process passes the signal on.
        command.process_group(0);
        // SAFETY: both may be called between fork and exec. The stage ends with this process, so
        // that the next one does not find it at work. A shell that starts the server in the
        // background has it ignore SIGINT, which the stage must not inherit: it is how it is told
        // to stop.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .map_err(|error| explain("run", &binary, error))?;
        let status = self.until_ended(&mut child)?;
        self.server.set_stage(None);
        if interrupt::requested() || self.is_aborted() {
            return Err(interrupt::stopped().into());
        }
        match status.success() {
            true => Ok(()),
            false => Err(Error::failed(format!("`{name}` failed: {status}"))
                .hint(
                    "its own message is above; end this server, fix the cause, and start `serve \
                     run` again",
                )
                .into()),
        }
    }

    /// Waits for a stage, and passes a stop on to it.
    fn until_ended(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait().map_err(Error::from)? {
                return Ok(status);
            }
            if !told && (interrupt::requested() || self.is_aborted()) {
                told = true;
                // SAFETY: a signal to a child that was not waited for yet.
                unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
            }
            std::thread::sleep(TICK);
        }
    }

    fn is_aborted(&self) -> bool {
        let phase = self.server.store.view(|state| state.phase.clone());
        phase != crate::network::state::Phase::Closed
    }
}

/// Makes a file the result that clients download.
pub fn offer(server: &Server, file: &Path) -> Result<()> {
    let (bytes, sha256) = hash::file(file)?;
    atomic::link_or_copy(file, &server.store.blob(&sha256))?;
    let finished = Event::Finished { sha256, bytes };
    Ok(server.store.commit(|_| Ok::<_, Error>(Some(finished)))?)
}
