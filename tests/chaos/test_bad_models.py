"""No model file hangs, crashes, fills memory, or runs anything."""

from tests.chaos.bad_models import hostile_model_files, mutated_model_files


def test_mutated_model_files_are_refused_or_work(tmp_path):
    mutated_model_files(tmp_path, n=120)


def test_hostile_model_files_are_refused(tmp_path):
    hostile_model_files(tmp_path)
