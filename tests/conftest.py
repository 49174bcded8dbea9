"""No network, no caches left behind, few threads, and long files first. What else tests share is in `support`."""

import gc
import os
import tempfile

import pytest


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores
_caches = tempfile.TemporaryDirectory(prefix="hf_sharp_prompt_tests-")
for _name in ("HF_DATASETS_CACHE", "HF_METRICS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE"):
    os.environ[_name] = os.path.join(_caches.name, _name)

# Workers take whole files in this order; a long one at the end would keep one worker busy alone.
LONGEST_FILES = [
    *("test_two_processes.py", "test_clip_contract.py", "test_run_base2novel.py", "test_vit_prompt.py"),
    *("test_commands.py", "test_precision.py", "test_recipes.py", "test_runs.py"),
    *("test_vision_tower.py", "test_run_long_tail.py", "test_shared_prefix.py", "test_trainer.py"),
    *("test_subspace_training.py", "test_checkpoint.py", "test_gpu.py", "test_clip_designs.py"),
    *("test_report.py", "test_seeded_trainer.py", "test_fidelity.py", "test_smoke.py"),
    *("test_convert.py", "test_train.py", "test_objectives_training.py", "test_local_hub.py"),
    *("test_adapter_file.py", "test_tasks.py"),
]


def pytest_configure(config: pytest.Config) -> None:
    """Import what tests share where tests run, which is not where xdist's workers are looked after."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        gc.disable()  # nothing that is imported is garbage
        config.pluginmanager.import_plugin("support.small_clip")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """Nothing that was imported is looked at again, in search of garbage."""
    gc.enable()
    gc.collect()
    gc.freeze()
