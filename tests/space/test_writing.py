"""A Space's folder: what it gets of adapters and images, and how it is read back."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from PIL import Image

from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.space.folder import Settings, load_prompts
from hf_sharp_prompt.space.writing import names_of_adapters, write_space


def adapter_with(space: Path, target: Path, **fields: object) -> str:
    """Copy an adapter, and change fields of its config."""
    shutil.copytree(space / "adapters" / "coop", target)
    config = target / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **fields}))
    return str(target)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_holds_the_app_and_of_adapters_and_images_only_what_it_needs(space, tmp_path):
    """Beside an adapter lie training arguments with a token; a photo tells where it was taken."""
    adapter = adapter_with(space, tmp_path / "runs" / "pets" / "seed1", base_model_name_or_path=str(CLIP_PATH))
    Path(adapter, "training_args.bin").write_bytes(b"a token")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg", exif=exif)
    write_space(tmp_path / "space", [adapter], images=[str(tmp_path / "photo.jpg")])
    assert files_in(tmp_path / "space") == {
        *("app.py", "README.md", "requirements.txt", "space.yaml", "images/photo.png"),
        *("adapters/pets/adapter_config.json", "adapters/pets/adapter_model.safetensors"),
    }
    for name in files_in(tmp_path / "space"):
        content = (tmp_path / "space" / name).read_bytes()
        assert not any(secret in content for secret in (str(tmp_path).encode(), str(CLIP_PATH).encode(), b"at home"))
    assert Settings.read(tmp_path / "space" / "space.yaml") == Settings("demo", "a photo of a {}.")
    assert load_prompts(tmp_path / "space").names == ["pets"]


def test_the_hub_is_told_how_to_run_it(space, tmp_path):
    adapter = adapter_with(space, tmp_path / "pets", base_model_name_or_path="openai/clip-vit-base-patch16")
    write_space(tmp_path / "space", [adapter])
    card = SpaceCard.load(tmp_path / "space" / "README.md")
    assert (card.data.sdk, card.data.app_file) == ("gradio", "app.py")
    assert card.data.models == ["openai/clip-vit-base-patch16"]
    assert (tmp_path / "space" / "requirements.txt").read_text().startswith("hf-sharp-prompt[space]==")
    assert str(tmp_path) not in card.text


def test_the_example_is_what_the_command_writes(space, tmp_path):
    """Otherwise `examples/space` shows something that nobody gets."""
    write_space(
        tmp_path / "space",
        [str(space / "adapters" / name) for name in ("coop", "gcscoop")],
        model="demo",
        images=[str(path) for path in (space / "images").iterdir()],
        requirement="hf-sharp-prompt[space]",
    )
    versions = "README.md"  # it names that of Gradio
    assert files_in(tmp_path / "space") == {name for name in files_in(space) if "__pycache__" not in name}
    for name in files_in(tmp_path / "space") - {versions}:
        assert (tmp_path / "space" / name).read_bytes() == (space / name).read_bytes(), name


@pytest.mark.parametrize(
    ("adapters", "names"),
    [
        (["runs/pets/coop/seed1"], ["coop"]),
        (["runs/pets/coop/seed1", "runs/pets/gcscoop/seed1"], ["coop", "gcscoop"]),
        (["runs/pets/coop/seed1", "runs/cars/coop/seed1"], ["pets-coop", "cars-coop"]),
        (["runs/pets/coop/seed1", "runs/pets/coop/seed2"], ["coop-seed1", "coop-seed2"]),
        (["me/pets", "../you/pets/"], ["me-pets", "you-pets"]),
        (["runs/<b>a b</b> & c"], ["b_c"]),
    ],
)
def test_adapters_are_called_by_as_much_of_their_paths_as_tells_them_apart(adapters, names):
    assert names_of_adapters(adapters) == names


def test_the_directory_that_one_is_in_has_a_name(space, monkeypatch):
    monkeypatch.chdir(space / "adapters" / "coop")
    assert names_of_adapters(["."]) == ["coop"]


def test_an_adapter_that_is_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"An adapter is named twice among me/pets, me/pets; name each once\."):
        names_of_adapters(["me/pets", "me/pets"])


def test_prompts_of_different_models_are_not_compared(space, tmp_path):
    adapters = [
        adapter_with(space, tmp_path / name, base_model_name_or_path=model)
        for name, model in (("one", "openai/clip-vit-base-patch16"), ("two", "openai/clip-vit-base-patch32"))
    ]
    with pytest.raises(ValueError, match=r"patch16, and .* for openai/clip-vit-base-patch32; prompts are compared on"):
        write_space(tmp_path / "space", adapters)
    nameless = adapter_with(space, tmp_path / "three", base_model_name_or_path=None)
    with pytest.raises(ValueError, match=r"does not name its base model; name it with --model\."):
        write_space(tmp_path / "space", [nameless])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("model: [", "cannot be read"),
        ("model: demo", "must give model and template a text each, and nothing else"),
        ("model: demo\ntemplate: 3", "must give model and template a text each"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_damaged_settings_are_refused(content, sentence, tmp_path):
    (tmp_path / "space.yaml").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        Settings.read(tmp_path / "space.yaml")


def test_a_folder_without_adapters_says_where_they_belong(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"There are no adapters in {tmp_path / 'adapters'}; put each into a"):
        load_prompts(tmp_path)
