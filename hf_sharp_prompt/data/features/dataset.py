from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import datasets
import torch
import transformers
import xxhash
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets.fingerprint import Hasher
from huggingface_hub import cached_assets_path
from huggingface_hub.utils import WeakFileLock
from torch.utils.data import Dataset

from ..collator import ImageCollator
from ..fingerprint import fingerprint
from ..labels import check_labels, class_names_of, labels_of
from . import file as feature_file
from .encoding import Encoder, Encoding, FingerprintedEncoder, encode_images
from .file import Contents
from .nodes import is_first_to_see
from .writing import count_kept, write


logger = logging.getLogger(__name__)


class ImageFeatures(Dataset):
    """Features of a frozen image tower, computed once and used in every step, run and evaluation.

    Items are `{"image_features": (width,), "labels": ()}`, as the model takes them instead of pixels; features kept in
    half precision are returned in single precision. With several views per image, every access draws one.

    [`ImageFeatures.compute`] makes them in memory; [`ImageFeatures.cached`] makes them once and keeps them in a file.

    Args:
        features: Features, images × views × width.
        labels: The number of each image's class.
        class_names: The names of the classes.

    Raises:
        ValueError: The sizes do not fit, or a label is missing or beyond the classes.

    Example:
        ```python
        clip = CLIPModel.from_pretrained("openai/clip-vit-base-patch16")
        collator = ImageCollator(processor, augment=RandomResizedCropFlip(224))
        train = ImageFeatures.cached(dataset, ImageEncoder(clip), collator, views=10, num_workers=8)
        ```
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, class_names: Sequence[str]) -> None:
        if features.ndim != 3 or not features.is_floating_point() or len(features) != len(labels):
            raise ValueError(
                "Image features are floats of images × views × width, with one label for each image; got "
                f"{features.dtype} of shape {tuple(features.shape)} and {len(labels)} labels."
            )
        check_labels(labels, class_names, "the labels of the features")
        self.features = features
        self.labels = labels
        self.class_names = list(class_names)

    @classmethod
    def compute(
        cls,
        dataset: datasets.Dataset,
        encode: Encoder,
        collator: ImageCollator,
        views: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> ImageFeatures:
        """Encode a data set, in memory.

        Call it in all processes: each encodes a share and gets the whole, the same bits as one process alone.

        Args:
            dataset: With a column of images and one of labels, a `ClassLabel`, named as [`ImageCollator`] takes them.
            encode: Pixel values (batch × channels × height × width) to features (batch × width), e.g. an
                [`~hf_sharp_prompt.ImageEncoder`].
            collator: Makes the pixel values, augmenting or not.
            views: How often each image is encoded, at least once; more makes sense with augmentation.
            seed: Seed of the augmentation; each view of each image has its own stream of torch's random numbers.
            dtype: What the features are kept as.
            batch_size: Images encoded at a time.
            num_workers: Processes that decode and augment.

        Raises:
            ValueError: No images; fewer than one view; no column of images or labels; images without a label or that
                cannot be decoded; features that are not finite.
        """
        encoding = Encoding(dataset, encode, collator, views, seed, dtype, batch_size, num_workers)
        labels_and_names = _labels_of(dataset, collator)
        return cls(torch.cat(list(encode_images(encoding))), *labels_and_names)

    @classmethod
    def cached(
        cls,
        dataset: datasets.Dataset,
        encode: FingerprintedEncoder,
        collator: ImageCollator,
        views: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 64,
        num_workers: int = 0,
        cache_dir: str | Path | None = None,
    ) -> ImageFeatures:
        """Encode a data set, unless an earlier call did, into a file that is mapped into memory.

        The file's name and metadata say what the features were made from: the encoder's weights, the preprocessing,
        the images and labels themselves, `views`, `seed`, `dtype` and the version of transformers. Where one differs,
        the images are encoded into another file. A file that is incomplete or was changed, which its checksum tells,
        is replaced, and a sentence says so. Files are only added: delete the directory to get the space back. A call
        that was killed while it encoded is continued by the next, with any number of processes.

        Args:
            dataset, collator, views, seed, batch_size, num_workers: As for [`ImageFeatures.compute`].
            encode: An encoder with a `fingerprint`, such as [`~hf_sharp_prompt.ImageEncoder`].
            dtype: `torch.float32`, or `torch.float16` for half the space.
            cache_dir: The directory of the files, shared by all machines or each machine's own. A file is written once
                for all that see the same directory, so that each machine has the features that its processes read.
                Defaults to `hf_sharp_prompt/image_features/default` in Hugging Face's assets cache
                (`HF_ASSETS_CACHE`, by default `~/.cache/huggingface/assets`).

        Raises:
            ValueError: As for [`ImageFeatures.compute`]; an encoder without a fingerprint, or another dtype.
        """
        encoding = Encoding(dataset, encode, collator, views, seed, dtype, batch_size, num_workers)
        return cls(*feature_file.read(make_file(encoding, *_labels_of(dataset, collator), cache_dir)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        view = int(torch.randint(self.features.shape[1], ()))
        features = self.features[index, view]
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return {"image_features": features, "labels": self.labels[index]}


@fingerprint.register(ImageFeatures)
def _fingerprint_features(features: ImageFeatures) -> str:
    described = features.class_names, tuple(features.features.shape), str(features.features.dtype)
    digest = xxhash.xxh3_128(repr(described).encode())
    for tensor in (features.labels, features.features):
        for rows in tensor.split(1024):  # so that features in a file are not all in memory
            digest.update(rows.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def make_file(
    encoding: Encoding, labels: torch.Tensor, class_names: Sequence[str], cache_dir: str | Path | None = None
) -> Path:
    """Encode images into a file, unless an earlier call did.

    Args:
        encoding: The images, the encoder and its settings.
        labels: The label of each image.
        class_names: The names of the classes.
        cache_dir: As for [`ImageFeatures.cached`].

    Returns:
        The file.

    Raises:
        ValueError: An encoder without a fingerprint, a dtype that files do not have, or images that cannot be encoded.
    """
    encode, dtype = encoding.encode, encoding.dtype
    if not isinstance(encode, FingerprintedEncoder):
        raise ValueError(
            "Features are cached by what they were made from, and this encoder has no fingerprint of its weights; "
            "give ImageEncoder(model), or use ImageFeatures.compute."
        )
    if dtype not in feature_file.DTYPES:
        raise ValueError(f"Features are cached as torch.float16 or torch.float32, not as {dtype}.")
    state = PartialState()
    directory = Path(cache_dir or cached_assets_path("hf_sharp_prompt", "image_features")).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    encoder_fingerprint = encode.fingerprint  # read by all, since the tower may be sharded over the processes
    (made_from,) = broadcast_object_list([_made_from(encoding, encoder_fingerprint) if state.is_main_process else {}])
    contents = Contents(made_from, labels, class_names, encoding.views, dtype)
    path = directory / f"{Hasher.hash(made_from)}.safetensors"
    writes = is_first_to_see(directory)
    # Runs that want the same features at the same time wait for the first of them.
    with WeakFileLock(path.with_suffix(".lock")) if writes else nullcontext():
        found = not writes or feature_file.holds(path, contents)
        everywhere = all(gather_object([found]))
        if not everywhere:
            kept = len(labels) if found else count_kept(path, contents)
            first = min(gather_object([kept])) // encoding.batch_size * encoding.batch_size
            batches = encode_images(encoding, first)
            if not found:
                write(path, contents, batches, first)
            deque(batches, maxlen=0)  # the other processes encode their shares
        state.wait_for_everyone()
    if state.is_main_process:
        done = "read from" if everywhere else "encoded into"
        logger.info(f"{len(labels)} images' features are {done} {path}.")
    return path


def _made_from(encoding: Encoding, encoder_fingerprint: str) -> dict[str, str]:
    dataset = encoding.dataset
    columns = [column for column in (encoding.image_column, encoding.label_column) if column is not None]
    return {
        "encoder": encoder_fingerprint,
        "preprocessing": encoding.collator.fingerprint,
        "data": fingerprint(dataset.select_columns(columns)),
        "transform": Hasher.hash(dataset.format["format_kwargs"].get("transform")),
        "views": str(encoding.views),
        "seed": str(encoding.seed),
        "dtype": str(encoding.dtype),
        "transformers": transformers.__version__,
    }


def _labels_of(dataset: datasets.Dataset, collator: ImageCollator) -> tuple[torch.Tensor, list[str]]:
    names = class_names_of(dataset, collator.label_column)
    if not names:
        raise ValueError(
            "Image features need the names of their classes; cast the column of labels to a ClassLabel, or load the "
            "data with load_image_dataset."
        )
    return torch.from_numpy(labels_of(dataset, collator.label_column)), names
