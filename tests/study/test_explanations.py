"""What is measured of the prompts that the study has trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from support.demo_images import few_images

from hf_sharp_prompt.experiments import base_to_novel, clip
from hf_sharp_prompt.study import explanations, landscapes, recording


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A prompt has been trained; the words are the command's."""
    directory = tmp_path_factory.mktemp("runs")
    words = ["--dataset", "colour_shape_tint", "--shots", "1", "--max_steps", "2", "--use_cpu", "--seeds", "1"]
    words += ["--recipes", "coop", "--learning_rate", "0.5", "--output_dir", str(directory)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "load_image_dataset", lambda *_, **__: few_images(4, train=2, test=2))
        assert base_to_novel.main(words) == 0
        yield words


def read(words, method):
    return json.loads((directory_of(words) / method / "seed1" / "explanation.json").read_text())


def directory_of(words):
    return Path(words[-1]) / "colour_shape_tint"


def test_every_prompt_has_its_sharpness_and_its_distance_from_zero_shot(words):
    assert explanations.main(words) == 0
    found = read(words, "coop")
    assert found["samples"] == 2, "the images that it was trained on"
    assert found["within"]["0.5"]["worst"] > found["loss"]
    assert 0 < found["distance"] < 1
    before = (directory_of(words) / "coop" / "seed1" / "explanation.json").stat().st_mtime_ns
    assert explanations.main(words) == 0
    assert (directory_of(words) / "coop" / "seed1" / "explanation.json").stat().st_mtime_ns == before, "not twice"


def test_a_prompt_that_was_trained_again_is_measured_again(words):
    explanations.main(words)
    path = directory_of(words) / "coop" / "seed1" / "explanation.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "files": {}, "loss": -1}))
    assert explanations.main(words) == 0
    assert read(words, "coop") == content


def test_runs_that_are_not_finished_are_asked_for(words, tmp_path):
    with pytest.raises(ValueError, match="do the runs first"):
        explanations.main([*words[:-1], str(tmp_path)])


def test_a_prompt_that_moves_image_features_is_refused(words, tmp_path):
    vision = [*words[:-1], str(tmp_path), "--recipes", "vpt"]
    assert base_to_novel.main(vision) == 0
    with pytest.raises(ValueError, match="vpt learns tokens in the image tower"):
        explanations.main(vision)


def test_landscapes_are_drawn_side_by_side(words):
    assert landscapes.main(words, points=3) == 0
    assert Image.open(directory_of(words) / "landscapes.png").width > 300


def test_the_path_of_a_prompt_is_recorded_after_every_epoch(words):
    by_epoch = [word for word in words if word not in ("--max_steps", "2")]
    assert recording.main([*by_epoch[:-1], words[-1], "--num_train_epochs", "3"]) == 0
    path = np.load(directory_of(words) / "coop" / "seed1" / "path.npy")
    trained = load_file(directory_of(words) / "coop" / "seed1" / "adapter_model.safetensors")
    assert path.shape == (3, sum(tensor.size for tensor in trained.values()))
    assert len(np.unique(path, axis=0)) == 3, "it moves in every epoch"
