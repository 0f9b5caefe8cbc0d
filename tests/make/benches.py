#!/usr/bin/env python3
"""Tests of the benchmarks' Python, by `make test`: what `make bench` measures on the stages calls
its own functions as they are defined, and runs no stage here.
"""
import inspect
import pathlib
import sys
import tempfile
import types
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))
sys.dont_write_bytecode = True
from driver import stages  # noqa: E402


def stand_in(run):
    """A function with the parameters of `run`, which leaves the files that a stage would leave."""
    signature = inspect.signature(run)

    def ran(*arguments, **keywords):
        command = signature.bind(*arguments, **keywords).arguments["command"]
        words = dict(str(word).split("=", 1) for word in command if "=" in str(word))
        for key, name in [("teacher.save_folder", "model_teacher0.safetensors"),
                          ("student.save_folder", "student.safetensors"),
                          ("student.save_folder", "metrics.json")]:
            if key in words:
                folder = pathlib.Path(words[key])
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text('{"epochs": [{"test_accuracy": 0.5}]}')
        said = '{"accuracy": 0.5, "parts": {"teachers": 1.0}}'
        return 1.0, 2.0, said

    return ran


class Stages(unittest.TestCase):
    def setUp(self):
        real = stages.run
        stages.run = stand_in(real)
        self.addCleanup(setattr, stages, "run", real)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_many_teachers(self):
        table = stages.many_teachers(self.folder, "fused", 2)
        self.assertIn("| 100 ", table)

    def test_distillation(self):
        table = stages.distillation(self.folder, 2, 3)
        self.assertIn("| 20 ", table)

    def test_start_up(self):
        table = stages.start_up(self.folder, 2)
        self.assertIn("`train_student`", table)

    def test_the_pipeline(self):
        options = types.SimpleNamespace(engines=["fused"], python="python3", threads=2)
        settings = {"teacher_epochs": 1, "inversion_steps": 1, "student_epochs": 1}
        results = stages.pipeline(self.folder, settings, options, 2)
        self.assertIn("50.0 %", stages.pipeline_table(results))


if __name__ == "__main__":
    unittest.main()
