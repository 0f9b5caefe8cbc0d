//! Programs under `mpirun`.

use crate::common::{Place, child, signals};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough for every job here on a busy machine, and less than ranks wait by default for one that is
/// silent.
const IN_TIME: Duration = Duration::from_secs(50);

/// A running MPI job.
pub struct Job {
    mpirun: Child,
}

/// How it ended.
pub struct Ended {
    /// Of `mpirun`: the first rank's that was not zero.
    pub code: i32,
    pub out: String,
    pub errors: String,
}

/// Programs, each with its number of ranks and arguments.
pub type Programs<'a> = &'a [(usize, PathBuf, Vec<&'a str>)];

impl Job {
    pub fn start(place: &Place, programs: Programs) -> Self {
        let mut command = Command::new("mpirun");
        command.args([
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
        ]);
        // A busy machine needs more than the usual second between the signal and the kill.
        command.args(["--mca", "odls_base_sigkill_timeout", "5"]);
        for (index, (ranks, program, arguments)) in programs.iter().enumerate() {
            if index > 0 {
                command.arg(":");
            }
            command
                .args(["-n", &ranks.to_string()])
                .arg(program)
                .args(arguments);
        }
        let mpirun = signals::heard(&mut command)
            // For ranks that are this executable; others do not read it.
            .env(child::CHILD, "1")
            .current_dir(place.path("."))
            .stdin(Stdio::null())
            .stdout(file(place, "stdout"))
            .stderr(file(place, "stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("mpirun: {error}; `make test-mpi` installs it"));
        Self { mpirun }
    }

    /// Sends a signal to one rank.
    pub fn signal(&self, rank: usize, signal: i32) {
        let pid = self.pid(rank);
        // SAFETY: a signal to a process that this test started.
        assert_eq!(
            unsafe { libc::kill(pid, signal) },
            0,
            "rank {rank}, process {pid}"
        );
    }

    /// Ctrl-C for `mpirun`. Rank `held` does not move until it is told, so that the run cannot come
    /// to its end.
    pub fn interrupt(&self, held: usize) {
        self.end_by(self.mpirun.id() as i32, libc::SIGINT, &[held]);
    }

    /// Kills a rank. The ranks `held` do not move until they are told to end.
    pub fn kill(&self, rank: usize, held: &[usize]) {
        self.end_by(self.pid(rank), libc::SIGKILL, held);
    }

    /// Sends a signal that makes `mpirun` end the job: it wakes all ranks, waits for as long as it
    /// will before it kills, and only then tells them. By then they could be done, hence `held`.
    fn end_by(&self, pid: i32, signal: i32, held: &[usize]) {
        // SAFETY: signals to processes that this test started.
        let send = |pid, signal| assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "process {pid}");
        let mut held: Vec<i32> = held.iter().map(|&rank| self.pid(rank)).collect();
        let hold = |held: &[i32]| held.iter().for_each(|&pid| send(pid, libc::SIGSTOP));
        hold(&held);
        send(pid, signal);
        let begun = Instant::now();
        while !held.is_empty() {
            hold(&held);
            assert!(begun.elapsed() < IN_TIME, "no rank is told");
            std::thread::sleep(Duration::from_millis(2));
            held.retain(|&pid| {
                let told = is_told(pid);
                if told {
                    send(pid, libc::SIGCONT);
                }
                !told
            });
        }
    }

    fn pid(&self, rank: usize) -> i32 {
        let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
        let is_wanted = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        };
        let own = self.mpirun.id();
        let threads = std::fs::read_dir(format!("/proc/{own}/task"))
            .unwrap()
            .flatten();
        let children = threads.flat_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            text.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<i32>>()
        });
        children
            .collect::<Vec<_>>()
            .into_iter()
            .find(is_wanted)
            .expect("the rank runs")
    }

    /// Waits until a file of `place` has `bytes`.
    pub fn wait_for(&mut self, place: &Place, file: &str, bytes: u64) {
        let begun = Instant::now();
        let path = place.path(file);
        while std::fs::metadata(&path).map_or(0, |data| data.len()) < bytes {
            let errors = || read(place, "stderr");
            assert!(
                self.mpirun.try_wait().unwrap().is_none(),
                "it ended by itself before {file}:\n{}",
                errors()
            );
            assert!(
                begun.elapsed() < IN_TIME,
                "{file} does not come:\n{}",
                errors()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end, which must come in time.
    pub fn end(mut self, place: &Place) -> Ended {
        let begun = Instant::now();
        let status = loop {
            match self.mpirun.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > IN_TIME => {
                    let _ = self.mpirun.kill();
                    panic!("it hangs:\n{}", read(place, "stderr"));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Ended {
            code: status.code().unwrap_or(-1),
            out: read(place, "stdout"),
            errors: read(place, "stderr"),
        }
    }
}

/// Whether SIGTERM waits for a process that does not move (`ShdPnd` of proc(5): a bit for each
/// signal, from 1).
fn is_told(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pending = status
        .lines()
        .find_map(|line| line.strip_prefix("ShdPnd:"))
        .unwrap();
    u64::from_str_radix(pending.trim(), 16).unwrap() & 1 << (libc::SIGTERM - 1) != 0
}

/// Runs a stage on `ranks` ranks to its end, which must be good; what it printed.
pub fn ok(place: &Place, ranks: usize, stage: &str, arguments: Vec<&str>) -> Ended {
    let shown = arguments.join(" ");
    let ended = Job::start(place, &[(ranks, binary(stage), arguments)]).end(place);
    assert_eq!(ended.code, 0, "{stage} {shown}\n{}", ended.errors);
    ended
}

pub fn binary(stage: &str) -> PathBuf {
    assert_cmd::cargo::cargo_bin(stage)
}

fn name(stream: &str) -> String {
    format!("mpirun.{stream}")
}

fn file(place: &Place, stream: &str) -> std::fs::File {
    std::fs::File::create(place.path(&name(stream))).unwrap()
}

fn read(place: &Place, stream: &str) -> String {
    std::fs::read_to_string(place.path(&name(stream))).unwrap()
}
