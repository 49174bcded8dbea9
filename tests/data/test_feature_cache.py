"""Features kept in a file: those of these very images, weights and crops, or made again."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import torch
from accelerate import PartialState
from datasets import ClassLabel, Dataset, Features
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.forks import run_two_forks, start_fork
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from hf_sharp_prompt import ImageEncoder
from hf_sharp_prompt.data import ImageCollator, ImageFeatures, RandomResizedCropFlip
from hf_sharp_prompt.data.features import dataset as dataset_module
from hf_sharp_prompt.data.features import writing


SIZE = 48
CLASSES = ["ant", "bee"]


def make_dataset(count: int = 7, seed: int = 0) -> Dataset:
    """Images of noise, stored as a folder's or the Hub's are: undecoded."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    columns = {"image": list(pixels.numpy()), "label": [number % 2 for number in range(count)]}
    made = Dataset.from_dict(columns, Features({"image": datasets.Image(), "label": ClassLabel(names=CLASSES)}))
    return made.cast_column("image", datasets.Image(decode=False))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture
def augmenting(image_processor) -> ImageCollator:
    return ImageCollator(image_processor, RandomResizedCropFlip(SIZE))


class Counting(ImageEncoder):
    """Counts how many images it has encoded."""

    count = 0

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self.count += len(pixel_values)
        return super().__call__(pixel_values)


@pytest.fixture
def encoder(clip) -> Counting:
    return Counting(clip)


def files(directory: Path) -> dict[str, bytes]:
    """Name and content of what is kept, leaving out the (empty) locks."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


def test_the_second_time_nothing_is_encoded_and_all_is_the_same(dataset, encoder, augmenting, tmp_path):
    """The point of the cache."""
    expected = ImageFeatures.compute(dataset, encoder, augmenting, views=3, seed=5, batch_size=2)
    for encoded in (21, 0):
        encoder.count = 0
        features = ImageFeatures.cached(
            dataset, encoder, augmenting, views=3, seed=5, batch_size=2, cache_dir=tmp_path
        )
        assert encoder.count == encoded
        assert torch.equal(features.features, expected.features)
        assert features.features.shape == (7, 3, 24)
        assert features.labels.tolist() == dataset["label"]
        assert features.class_names == CLASSES
    assert features[3].keys() == {"image_features", "labels"}
    assert len(files(tmp_path)) == 1


def test_the_file_is_one_that_safetensors_reads(dataset, encoder, augmenting, tmp_path):
    """Features are of use elsewhere, too."""
    features = ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    tensors = load_file(path)
    assert torch.equal(tensors["image_features"], features.features)
    assert torch.equal(tensors["labels"], features.labels)


def changed(part: str, dataset: Dataset, model: CLIPModel, collator: ImageCollator) -> dict:
    """The arguments of `cached`, one of them other than usual."""
    arguments = {"dataset": dataset, "collator": collator, "views": 2, "seed": 1, "dtype": torch.float32}
    processor = collator.image_processor
    if part == "weight of the tower":
        with torch.no_grad():
            model.vision_model.encoder.layers[1].mlp.fc1.weight[3, 4] += 1e-3
    elif part == "projection":
        model.visual_projection.weight.data *= 2
    elif part == "activation":
        config = model.config.to_dict()
        config["vision_config"]["hidden_act"] = "gelu"
        other = CLIPModel(CLIPConfig.from_dict(config)).eval()
        other.load_state_dict(model.state_dict())
        model = other
    elif part == "precision of the tower":
        model = model.double()
    elif part == "processor":
        processor = type(processor).from_dict(processor.to_dict() | {"image_mean": [0.1, 0.1, 0.1]})
        arguments["collator"] = ImageCollator(processor, collator.augment)
    elif part == "augmentation":
        arguments["collator"] = ImageCollator(processor, RandomResizedCropFlip(SIZE, scale=(0.5, 1.0)))
    elif part == "no augmentation":
        arguments["collator"] = ImageCollator(processor)
    elif part == "images":
        arguments["dataset"] = make_dataset(seed=1)
    elif part == "choice of images":
        arguments["dataset"] = dataset.select(range(1, 7))
    elif part != "nothing":
        arguments[part] = {"views": 1, "seed": 2, "dtype": torch.float16}[part]
    return arguments | {"encode": Counting(model)}


PARTS = ["weight of the tower", "projection", "activation", "precision of the tower", "processor", "augmentation"]
PARTS += ["no augmentation", "images", "choice of images", "views", "seed", "dtype"]


@pytest.mark.parametrize("part", PARTS)
def test_whatever_changes_the_features_makes_them_anew(part, dataset, clip, augmenting, tmp_path):
    """Otherwise one trains, unknowingly, on the features of another model, data set or crop."""
    usual = ImageFeatures.cached(**changed("nothing", dataset, clip, augmenting), cache_dir=tmp_path)
    kept = files(tmp_path)
    arguments = changed(part, dataset, clip, augmenting)
    features = ImageFeatures.cached(**arguments, cache_dir=tmp_path)
    assert arguments["encode"].count == len(arguments["dataset"]) * arguments["views"]
    assert features.features.dtype == arguments["dtype"]
    assert features.features.shape != usual.features.shape or not torch.equal(features.features, usual.features)
    assert kept.items() < files(tmp_path).items(), "the others are still there"


def test_the_text_tower_does_not_matter(dataset, clip, augmenting, tmp_path):
    """Otherwise every trained prompt encodes the images again."""
    first = ImageFeatures.cached(**changed("nothing", dataset, clip, augmenting), cache_dir=tmp_path)
    with torch.no_grad():
        clip.text_model.embeddings.token_embedding.weight.add_(1)
        clip.text_projection.weight.add_(1)
        clip.logit_scale.add_(1)
    again = changed("nothing", dataset, clip, augmenting)
    assert torch.equal(ImageFeatures.cached(**again, cache_dir=tmp_path).features, first.features)
    assert again["encode"].count == 0


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "too long":
        path.write_bytes(content + b"\0")
    elif how == "in its header":
        path.write_bytes(content[:40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "not such a file":
        path.write_text("features\n" * 100)
    elif how == "foreign":
        save_file({"image_features": torch.zeros(7, 1, 24), "labels": torch.zeros(7, dtype=torch.long)}, path)
    elif how == "of another seed":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert '"seed": "0"' in metadata["made_from"]
        metadata["made_from"] = metadata["made_from"].replace('"seed": "0"', '"seed": "1"')
        save_file(load_file(path), path, metadata)
    else:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        CHANGES[how](tensors, metadata)
        save_file(tensors, path, metadata)


def replace_features(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict, dict], None]:
    def replace(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        tensors["image_features"] = change(tensors["image_features"]).contiguous()

    return replace


CHANGES = {
    "zeroed": replace_features(torch.zeros_like),
    "not a number": replace_features(lambda features: features.masked_fill(features == features[3, 0, 5], torch.nan)),
    "one bit": replace_features(lambda features: torch.cat([features[:-1], -features[-1:]])),
    "other rows": replace_features(lambda features: features.flip(0)),
    "fewer": replace_features(lambda features: features[:5]),
    "of two views": replace_features(lambda features: features.view(7, 2, -1)),
    "of another dtype": replace_features(torch.Tensor.half),
    "of other labels": lambda tensors, _: tensors["labels"].neg_(),
    "labels without features": lambda tensors, _: tensors.pop("image_features"),
    "features without labels": lambda tensors, _: tensors.pop("labels"),
    "one tensor more": lambda tensors, _: tensors.update(more=torch.zeros(1)),
    "other class names": lambda _, metadata: metadata.update(class_names='["bee", "ant"]'),
    "no class names": lambda _, metadata: metadata.pop("class_names"),
    "class names that are no JSON": lambda _, metadata: metadata.update(class_names="[ant"),
    "origin that is no JSON": lambda _, metadata: metadata.update(made_from="{"),
    "origin that is a number": lambda _, metadata: metadata.update(made_from="7"),
    "no checksum": lambda _, metadata: metadata.pop("checksum"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_features_that_are_not_those_that_were_written_are_made_again(
    how, dataset, encoder, augmenting, tmp_path, caplog
):
    """Otherwise one trains on zeros, on other images' features, or every later run ends in a traceback."""
    first = ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path).features.clone()
    whole = files(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    damage(path, how)
    encoder.count = 0
    again = ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path)
    assert torch.equal(again.features, first)
    assert (encoder.count, files(tmp_path)) == (7, whole)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().endswith("; the images are encoded again.")


def test_images_replaced_under_the_same_path_are_encoded_again(encoder, image_processor, tmp_path):
    """The fingerprint that `datasets` saved is still the old one."""
    path = str(tmp_path / "image.bmp")
    features = Features({"image": datasets.Image(decode=False), "label": ClassLabel(names=CLASSES)})
    dataset = Dataset.from_dict({"image": [path], "label": [0]}, features)
    collator = ImageCollator(image_processor)
    made = []
    for shade in (10, 200):
        Image.new("RGB", (SIZE, SIZE), (shade, 0, 0)).save(path)
        made.append(ImageFeatures.cached(dataset, encoder, collator, cache_dir=tmp_path / "cache").features)
    assert encoder.count == 2
    assert not torch.equal(*made)


def test_a_transform_belongs_to_what_features_are_made_from(dataset, encoder, image_processor, tmp_path):
    """Otherwise the features of the transform before are handed out."""
    collator = ImageCollator(image_processor)
    plain = ImageFeatures.cached(dataset, encoder, collator, cache_dir=tmp_path).features
    grey = dataset.with_transform(lambda rows: {"image": [Image.new("L", (SIZE, SIZE), 9) for _ in rows["image"]]})
    assert not torch.equal(ImageFeatures.cached(grey, encoder, collator, cache_dir=tmp_path).features, plain)


@pytest.mark.parametrize("arguments", [{"views": 0}, {"views": -1}, {"batch_size": 0}, {"num_workers": -1}])
@pytest.mark.parametrize("make", [ImageFeatures.compute, ImageFeatures.cached])
def test_sizes_without_meaning_are_refused(make, arguments, dataset, encoder, augmenting, tmp_path, monkeypatch):
    """Otherwise torch or Python fails later, without saying which argument it was."""
    where = {"cache_dir": tmp_path} if make == ImageFeatures.cached else {}
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=rf"views and batch_size must be at least 1 .*{name}={value}"):
        make(dataset, encoder, augmenting, **arguments, **where)
    assert not list(tmp_path.glob("*.safetensors"))


def test_no_images_are_refused(dataset, encoder, augmenting, tmp_path):
    for make, where in ((ImageFeatures.compute, {}), (ImageFeatures.cached, {"cache_dir": tmp_path})):
        with pytest.raises(ValueError, match="There are no images to encode"):
            make(dataset.select([]), encoder, augmenting, **where)


def test_features_that_overflow_are_refused(dataset, encoder, augmenting, clip, tmp_path):
    """Half precision ends at 65,504; otherwise infinite features are kept for every later run."""
    clip.visual_projection.weight.data.mul_(1e6)
    with pytest.raises(ValueError, match=r"of 7 images of a batch are not finite as torch.float16; keep them as"):
        ImageFeatures.cached(dataset, encoder, augmenting, dtype=torch.float16, cache_dir=tmp_path)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is incomplete or not a feature file"),
        ("too long", "is incomplete or not a feature file"),
        ("in its header", "is incomplete or not a feature file"),
        ("empty", "is incomplete or not a feature file"),
        ("not such a file", "is incomplete or not a feature file"),
        ("foreign", "was made from another data, dtype, encoder, preprocessing, seed, transform, transformers, views"),
        ("of another seed", "was made from another seed"),
    ],
)
def test_a_damaged_file_is_noticed_and_made_anew(how, message, dataset, encoder, augmenting, tmp_path, caplog):
    """Otherwise a full disk or a copy that broke off is trained on, or stops every later run."""
    ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path)
    whole = files(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    damage(path, how)
    encoder.count = 0
    features = ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path)
    assert f"{path} {message}" in caplog.text
    assert "the images are encoded again" in caplog.text
    assert encoder.count == len(features) == 7
    assert files(tmp_path) == whole


def test_half_precision_takes_half_the_space_and_is_handed_out_in_single(dataset, encoder, augmenting, tmp_path):
    """Otherwise training mixes precisions, or loses more than the rounding."""
    single = ImageFeatures.cached(dataset, encoder, augmenting, dtype=torch.float32, cache_dir=tmp_path)
    half = ImageFeatures.cached(dataset, encoder, augmenting, dtype=torch.float16, cache_dir=tmp_path)
    assert half.features.nbytes * 2 == single.features.nbytes
    assert torch.equal(half.features, single.features.half())
    item = half[2]["image_features"]
    assert item.dtype == torch.float32
    torch.testing.assert_close(item, single[2]["image_features"], rtol=2**-11, atol=1e-7)


def test_other_precisions_are_refused(dataset, encoder, augmenting, tmp_path):
    with pytest.raises(ValueError, match=r"torch.float16 or torch.float32, not as torch.float64"):
        ImageFeatures.cached(dataset, encoder, augmenting, dtype=torch.float64, cache_dir=tmp_path)


def test_an_encoder_that_cannot_be_recognised_is_refused(dataset, augmenting, clip, tmp_path):
    """Otherwise the features of one model are handed out as those of another."""
    with pytest.raises(ValueError, match=r"no fingerprint of its weights; give ImageEncoder\(model\)"):
        ImageFeatures.cached(
            dataset, lambda pixels: clip.get_image_features(pixels).pooler_output, augmenting, cache_dir=tmp_path
        )


def resident(path: Path) -> tuple[int, int]:
    """Bytes of a file that this process has mapped, and of these, bytes in its memory."""
    sizes, within = {"Size": 0, "Rss": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            within = rest[-1] == str(path)
        elif within and name[:-1] in sizes:
            sizes[name[:-1]] += int(rest[0]) * 1024
    return sizes["Size"], sizes["Rss"]


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="only Linux says what is in memory")
def test_opening_does_not_read_the_features(encoder, image_processor, tmp_path):
    """Otherwise the features of a large data set have to fit into memory, once per process."""
    dataset = make_dataset(count=2)
    wide = torch.zeros(2, 5_000_000)
    encoder.__class__ = type("Wide", (Counting,), {"__call__": lambda self, pixels: wide[: len(pixels)]})
    features = ImageFeatures.cached(dataset, encoder, ImageCollator(image_processor), cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    mapped, read = resident(path)
    assert mapped >= 40_000_000
    assert read < 1_000_000
    features[1]["image_features"].sum()
    assert resident(path)[1] >= 20_000_000, "and they are read when they are used"


MADE = {"views": 2, "seed": 3, "batch_size": 2}


def make_in_process(data: Path, checkpoint: str, out: Path, seconds: float = 0) -> None:
    """Make features in a file and in memory, and keep what this process has; encoding each batch may take a while."""
    state = PartialState(cpu=True)
    datasets.enable_progress_bars()  # whatever tests before have done
    encoder = Slow(CLIPModel.from_pretrained(checkpoint))
    encoder.seconds = seconds
    collator = ImageCollator(CLIPImageProcessor.from_pretrained(checkpoint), RandomResizedCropFlip(SIZE))
    for kind, make, where in (
        ("file", ImageFeatures.cached, {"cache_dir": out / "cache"}),
        ("memory", ImageFeatures.compute, {}),
    ):
        encoder.count = 0
        made = make(datasets.load_from_disk(data), encoder, collator, num_workers=1, **MADE, **where)
        kept = (encoder.count, made.features, made.labels, made.class_names)
        torch.save(kept, out / f"{kind}{state.process_index}.pt")
    state.destroy_process_group()  # else a process may abort on its way out


class Slow(Counting):
    seconds = 0.0

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return super().__call__(pixel_values)


@pytest.fixture
def data(dataset, tmp_path) -> Path:
    """The data set on disk: processes that read the same file know the same fingerprint."""
    dataset.save_to_disk(tmp_path / "data")
    return tmp_path / "data"


def test_two_processes_make_what_one_makes(data, checkpoint, encoder, augmenting, tmp_path):
    """Otherwise results depend on the number of processes, or images are left out or taken twice."""
    printed = run_two_forks(make_in_process, data, checkpoint, tmp_path, output_dir=tmp_path)
    bars = printed.count("Encoding images:   0%")
    assert bars == 2, "one for the file and one for memory, both the main process's"
    alone = {"dataset": datasets.load_from_disk(data), "encode": encoder, "collator": augmenting}
    expected = ImageFeatures.cached(**alone, **MADE, cache_dir=tmp_path / "alone")
    assert files(tmp_path / "cache") == files(tmp_path / "alone")
    for kind in ("file", "memory"):
        shares = [torch.load(tmp_path / f"{kind}{process}.pt") for process in range(2)]
        # Batches of 2, 2, 2 and 1 images, two views of each: every other one is the first process's.
        assert [count for count, *_ in shares] == [7, 7]
        for _, features, labels, names in shares:
            assert torch.equal(features, expected.features)
            assert torch.equal(labels, expected.labels)
            assert names == CLASSES


def test_a_kill_in_the_middle_does_no_harm(data, checkpoint, encoder, augmenting, tmp_path):
    """A run that is killed while it encodes leaves nothing that a later run could take for features."""
    process = start_fork(make_in_process, data, checkpoint, tmp_path, 1)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cache").glob("*.unfinished")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert [Path(name).suffix for name in files(tmp_path / "cache")] == [".unfinished"]
    again = {"dataset": datasets.load_from_disk(data), "encode": encoder, "collator": augmenting, **MADE}
    kept = ImageFeatures.cached(**again, cache_dir=tmp_path / "cache")
    assert [Path(name).suffix for name in files(tmp_path / "cache")] == [".safetensors"]
    assert encoder.count == 14
    assert torch.equal(kept.features, ImageFeatures.compute(**again).features)


class Interrupted(Counting):
    """Is interrupted after so many images."""

    images = 0

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.count >= self.images:
            raise KeyboardInterrupt
        return super().__call__(pixel_values)


@pytest.mark.parametrize(("batch_size", "again"), [(2, 6), (3, 8)])
def test_an_encoding_that_was_interrupted_is_continued(
    batch_size, again, dataset, clip, encoder, augmenting, tmp_path, monkeypatch
):
    """Otherwise a job that is preempted every hour never encodes a large data set."""
    monkeypatch.setattr(writing, "SECONDS_BETWEEN_NOTES", 0)
    arguments = {"views": 2, "seed": 3}
    ImageFeatures.cached(dataset, encoder, augmenting, **arguments, cache_dir=tmp_path / "whole")
    interrupted = Interrupted(clip)
    interrupted.images = 8
    with pytest.raises(KeyboardInterrupt):
        ImageFeatures.cached(dataset, interrupted, augmenting, **arguments, batch_size=2, cache_dir=tmp_path / "cut")
    assert {Path(name).suffix for name in files(tmp_path / "cut")} == {".unfinished", ".note"}
    encoder.count = 0
    ImageFeatures.cached(dataset, encoder, augmenting, **arguments, batch_size=batch_size, cache_dir=tmp_path / "cut")
    assert encoder.count == again
    assert load_features(tmp_path / "cut").allclose(load_features(tmp_path / "whole"), atol=1e-6)
    assert len(files(tmp_path / "cut")) == 1


def load_features(directory: Path) -> torch.Tensor:
    (path,) = directory.glob("*.safetensors")
    return load_file(path)["image_features"]


def test_what_an_interruption_has_left_damaged_is_encoded_again(
    dataset, clip, encoder, augmenting, tmp_path, monkeypatch
):
    """A machine that goes down may keep a note of what its disk has lost."""
    monkeypatch.setattr(writing, "SECONDS_BETWEEN_NOTES", 0)
    interrupted = Interrupted(clip)
    interrupted.images = 4
    with pytest.raises(KeyboardInterrupt):
        ImageFeatures.cached(dataset, interrupted, augmenting, batch_size=2, cache_dir=tmp_path)
    (unfinished,) = tmp_path.glob(".*.unfinished")
    content = bytearray(unfinished.read_bytes())
    content[-5] ^= 1
    unfinished.write_bytes(content)
    kept = ImageFeatures.cached(dataset, encoder, augmenting, cache_dir=tmp_path)
    assert encoder.count == 7
    assert torch.equal(kept.features, ImageFeatures.compute(dataset, encoder, augmenting).features)


def make_on_two_machines(data: Path, checkpoint: str, out: Path) -> None:
    """Make features as the one process of one of two machines, with directories of their own and with one for both."""
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    state = PartialState(cpu=True)
    written: list[Path] = []
    dataset_module.write = lambda path, *args: (written.append(path), writing.write(path, *args))
    collator = ImageCollator(CLIPImageProcessor.from_pretrained(checkpoint), RandomResizedCropFlip(SIZE))
    made = {}
    for case, directory in (
        ("own", out / f"machine {state.process_index}"),
        ("own, once more", out / f"machine {state.process_index}"),
        ("own, one of them lost", out / f"machine {state.process_index}"),
        ("shared", out / "shared"),
    ):
        if "lost" in case and state.process_index == 1:
            shutil.rmtree(directory)
        encoder = Counting(CLIPModel.from_pretrained(checkpoint))
        features = ImageFeatures.cached(datasets.load_from_disk(data), encoder, collator, **MADE, cache_dir=directory)
        made[case] = (encoder.count, len(written), features.features.clone())
        written.clear()
    torch.save(made, out / f"{state.process_index}.pt")
    state.destroy_process_group()


def test_each_machine_has_the_features_that_its_processes_read(data, checkpoint, encoder, augmenting, tmp_path):
    """Whether machines share the cache is theirs to decide; and where they do, two writers would spoil the file."""
    run_two_forks(make_on_two_machines, data, checkpoint, tmp_path, output_dir=tmp_path)
    first, second = (torch.load(tmp_path / f"{process}.pt") for process in range(2))
    expected = ImageFeatures.compute(datasets.load_from_disk(data), encoder, augmenting, **MADE).features
    assert all(torch.equal(features, expected) for made in (first, second) for _, _, features in made.values())
    # Images encoded, and files written, by the one and by the other machine: two views of seven images.
    counts = {case: (first[case][:2], second[case][:2]) for case in first}
    assert counts == {
        "own": ((7, 1), (7, 1)),
        "own, once more": ((0, 0), (0, 0)),
        "own, one of them lost": ((7, 0), (7, 1)),
        "shared": ((7, 1), (7, 0)),
    }
    for directory in ("machine 0", "machine 1", "shared"):
        assert [Path(name).suffix for name in files(tmp_path / directory)] == [".safetensors"]
