#!/usr/bin/env python3
"""Tests of the Makefile, by `make test`: it finds the binaries wherever cargo puts them.

Each test runs the project's own Makefile and scripts, with the real cargo, in a checkout of its own
whose binaries only print their path and arguments.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ["split_data", "train_teachers", "generate_initial", "train_student"]
BINARIES = [*STAGES, "fed_avg", "fed_md", "inspect"]
MANIFEST = """[package]
name = "stand-in"
version = "0.0.0"
edition = "2021"
[features]
mpi = []
net = []
[profile.release]
opt-level = 0
"""
# `--cfg job` prints what the Makefile reads of the config: five nodes, three teachers.
SOURCE = r"""fn main() {
    let words: Vec<String> = std::env::args().collect();
    if cfg!(feature = "mpi") {
        println!("RAN with MPI");
    }
    if words.iter().any(|word| word == "--cfg") {
        println!("split:\n  num_nodes: 5\n  save_path: x\nteacher:\n  num_teachers: 3\n");
    } else {
        let binary = std::env::current_exe().unwrap();
        println!("RAN {} {}", binary.display(), words[1..].join(" "));
    }
}
"""


class Makefile(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "libtorch" / "lib").mkdir(parents=True)
        # Nothing of the caller's cargo or make but the folder of cargo's own files.
        home = os.environ.get("CARGO_HOME") or str(pathlib.Path.home() / ".cargo")
        theirs = ("CARGO", "FEATURES", "GNUMAKE", "MAKE", "MFLAGS")
        self.variables = {name: value for name, value in os.environ.items()
                          if not name.startswith(theirs)}
        self.variables.update(CARGO_HOME=home, LIBTORCH=str(self.folder / "libtorch"),
                              XDG_CACHE_HOME=str(self.folder / "cache"))

    def make_checkout(self, name="checkout"):
        """Makes a checkout in a folder of that name."""
        checkout = self.folder / name
        (checkout / "src" / "bin").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", checkout)
        for folder in ("scripts", "config"):
            shutil.copytree(ROOT / folder, checkout / folder)
        (checkout / "Cargo.toml").write_text(MANIFEST)
        for binary in BINARIES:
            (checkout / "src" / "bin" / f"{binary}.rs").write_text(SOURCE)
        return checkout

    def make(self, checkout, *arguments, **variables):
        """Returns the exit status, what each binary printed (path, arguments), and the errors."""
        done = subprocess.run(["make", *arguments], cwd=checkout, text=True, capture_output=True,
                              env={**self.variables, **variables})
        ran = [line[4:] for line in done.stdout.splitlines() if line.startswith("RAN ")]
        return done.returncode, ran, done.stderr

    def demo(self, checkout, binaries, **variables):
        """Checks that `make demo` runs the four stages, in order, from the folder `binaries`."""
        code, ran, errors = self.make(checkout, "demo", "ARGS=seed=7", **variables)
        self.assertEqual(code, 0, errors)
        rest = "+experiment=demo outputs=outputs overwrite=true seed=7"
        self.assertEqual(ran, [f"{binaries}/{stage} {rest}" for stage in STAGES])

    def test_the_demo_resumes_when_it_is_told_to(self):
        checkout = self.make_checkout()
        code, ran, errors = self.make(checkout, "demo", "ARGS=resume=true")
        self.assertEqual(code, 0, errors)
        self.assertNotIn("overwrite=true", ran[0])

    def host(self):
        shown = subprocess.run(["rustc", "-vV"], text=True, capture_output=True, check=True).stdout
        return next(line[6:] for line in shown.splitlines() if line.startswith("host: "))

    def test_a_protocol_runs_the_stages_of_one_setting(self):
        checkout = self.make_checkout()
        code, ran, errors = self.make(checkout, "protocol", "NAME=b_mnist", "ALPHA=0.05",
                                      "METHOD=dense", "SEED=4", "ARGS=threads=1")
        self.assertEqual(code, 0, errors)
        setting = "${outputs}/protocols/b_mnist/alpha_${split.alpha}/seed_${seed}/dense"
        initial = f"initial.save_path={setting}/initial.safetensors "
        student = f"student.seed=5 student.save_folder={setting}/student "
        shared = "+protocol=b_mnist +method=dense outputs=outputs split.alpha=0.05 seed=4 "
        binaries = checkout / "target" / "release"
        for own, stage, line in zip(["", "", initial, initial + student], STAGES, ran):
            self.assertEqual(line, f"{binaries}/{stage} {shared}{own}resume=true threads=1")
        self.assertEqual(len(ran), 4)
        code, ran, errors = self.make(checkout, "protocol", "NAME=b_mnist", "ALPHA=0.05",
                                      "METHOD=dense", "ARGS=overwrite=true")
        self.assertNotIn("resume=true", ran[0])
        code, ran, errors = self.make(checkout, "protocol", "NAME=b_mnist")
        self.assertEqual((code, ran), (2, []))
        self.assertIn("METHOD=dense SEED=1; names: a_mnist b_cifar10", errors)
        self.assertIn("methods: co_boosting dense", errors)

    def test_findings_are_kept_apart_by_seed(self):
        checkout = self.make_checkout()
        code, ran, errors = self.make(checkout, "findings", "SEED=3", "FINDINGS=1_a iid_b_3000",
                                      "ARGS=threads=1")
        self.assertEqual(code, 0, errors)
        folder = "outputs/findings/seed_3"
        def line(stage, name, *more):
            words = [f"{checkout}/target/release/{stage}", f"+experiment={name}",
                     f"outputs={folder}", "resume=true", "+scale=small", "seed=3",
                     *["student.seed=4"] * (stage == STAGES[3]), *more, "threads=1"]
            return " ".join(words)
        students = [f"student.save_folder={folder}/{{}}/cross_entropy",
                    f"student.save_folder={folder}/{{}}/distill student.objective=distill "
                    "student.distill.temperature=3"]
        longer = "deep_inv.di.grad_updates_batch=300"
        expected = [line(stage, "1_a") for stage in STAGES[1:3]]
        expected += [line(STAGES[3], "1_a", student.format("1_a")) for student in students]
        expected += [line(stage, "iid_b_3000", longer) for stage in STAGES[:3]]
        expected += [line(STAGES[3], "iid_b_3000", longer, student.format("iid_b_3000"))
                     for student in students]
        self.assertEqual(ran, expected)

    def test_outputs_keep_a_repetition_apart(self):
        checkout = self.make_checkout()
        code, ran, errors = self.make(checkout, "compare", "NAME=mnist_5_dirichlet", "OUTPUTS=a b")
        self.assertEqual(code, 0, errors)
        self.assertIn("+experiment=mnist_5_dirichlet outputs=a b resume=true", ran[0])
        self.assertTrue(ran[-1].endswith("inspect compare a b/mnist_5_dirichlet"), ran)

    def test_features_that_are_given_are_those_of_every_target(self):
        checkout = self.make_checkout()
        for features, times in [(None, 0), ("net,mpi", 4), (None, 0)]:
            given = {"FEATURES": features} if features else {}
            code, ran, errors = self.make(checkout, "demo", **given)
            self.assertEqual((code, ran.count("with MPI")), (0, times), errors)

    def test_the_default_folder(self):
        checkout = self.make_checkout()
        self.demo(checkout, checkout / "target" / "release")

    def test_target_folder_and_triple_in_the_environment(self):
        checkout, elsewhere = self.make_checkout(), self.folder / "elsewhere"
        host = self.host()
        self.demo(checkout, elsewhere / host / "release", CARGO_TARGET_DIR=str(elsewhere),
                  CARGO_BUILD_TARGET=host)

    def test_target_folder_in_a_config_file(self):
        checkout, elsewhere = self.make_checkout(), self.folder / "configured"
        (self.folder / ".cargo").mkdir()
        (self.folder / ".cargo" / "config.toml").write_text(
            f'[build]\ntarget-dir = "{elsewhere}"\n')
        self.demo(checkout, elsewhere / "release")

    def test_blanks_in_the_path(self):
        checkout = self.make_checkout("with two blanks")
        code, ran, errors = self.make(checkout, "demo")
        self.assertEqual((code, len(ran)), (0, 4), errors)
        # jemalloc cannot be built below a folder whose path has blanks.
        self.assertTrue(ran[0].startswith(f"{self.folder}/cache/fed-distill/target-"), ran)
        # `where` leads a shell there.
        done = subprocess.run(["bash", "-c", 'PATH="$(make -s where):$PATH"; inspect runs'],
                              cwd=checkout, text=True, capture_output=True, env=self.variables)
        inspect = ran[0].split(" ")[0].replace("split_data", "inspect")
        self.assertEqual(done.stdout, f"RAN {inspect} runs\n", done.stderr)
        # The user's own choice wins.
        chosen = self.folder / "chosen"
        self.demo(checkout, chosen / "release", CARGO_TARGET_DIR=str(chosen))
        # Where the cache has blanks too, the set-up refuses.
        code, ran, errors = self.make(checkout, "demo", XDG_CACHE_HOME=str(checkout / "cache"))
        self.assertNotEqual(code, 0)
        self.assertEqual(ran, [])
        self.assertIn("CARGO_TARGET_DIR", errors)

    def test_teachers_side_by_side(self):
        checkout = self.make_checkout("with two blanks")
        code, ran, errors = self.make(checkout, "-j2", "compare", "NAME=mnist_5_dirichlet")
        self.assertEqual(code, 0, errors)
        names = [pathlib.Path(line.split(" +")[0].split(" compare")[0]).name for line in ran]
        self.assertEqual(names, ["split_data", *["train_teachers"] * 3, "generate_initial",
                                 "train_student", "fed_avg", "fed_md", "inspect"])
        words = [word for line in ran for word in line.split()]
        only = sorted(word for word in words if word.startswith("teacher.only"))
        self.assertEqual(only, [f"teacher.only=[{node}]" for node in range(3)])

    def test_parties_side_by_side(self):
        checkout = self.make_checkout()
        (checkout / "examples").mkdir()
        (checkout / "examples" / "digit_folders.rs").write_text(SOURCE)
        for party in range(3):
            folder = checkout / "outputs" / "parties" / f"party{party}"
            folder.mkdir(parents=True)
            (folder / f"model_teacher{party}.safetensors").touch()
        code, ran, errors = self.make(checkout, "demo-parties", "ARGS=seed=7")
        self.assertEqual(code, 0, errors)
        names = [pathlib.Path(line.split()[0]).name for line in ran]
        self.assertEqual(names, ["digit_folders", *["train_teachers"] * 3, "generate_initial",
                                 "train_student"])
        numbers = sorted(word for line in ran for word in line.split() if "index" in word)
        self.assertEqual(numbers, [f"teacher.index={party}" for party in range(3)])
        for line in ran[4:]:
            self.assertIn("seed=7", line)
            self.assertNotIn("images/party", line, "the server has no party's images")

    def test_dry_runs_build_nothing(self):
        checkout = self.make_checkout()
        code, _, errors = self.make(checkout, "-n", "demo")
        self.assertEqual(code, 0, errors)
        self.assertFalse((checkout / "target").exists())

    def test_a_report_of_another_folder(self):
        checkout = self.make_checkout()
        code, ran, errors = self.make(checkout, "report", "DIR=my runs")
        self.assertEqual(code, 0, errors)
        self.assertEqual(ran, [f"{checkout}/target/release/inspect report my runs"])


if __name__ == "__main__":
    unittest.main()
