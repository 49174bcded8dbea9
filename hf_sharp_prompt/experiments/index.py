"""The index of an output directory: a `README.md` on what was run, what came out, and how to load an adapter."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCardData

from ..files import written_whole
from ..printable import printable
from .publishing import COLLECTION_TAG, Publication
from .results import succeeded
from .skipped import SKIPPED_NAME
from .summary import Group, gather, make_tables
from .table_formats import as_markdown


logger = logging.getLogger(__name__)

INDEX_NAME = "README.md"
MARK = "<!-- Written by hf_sharp_prompt; every command that adds results writes it again. -->"


def write_index(output_dir: Path) -> None:
    """Write the index; a `README.md` that is not ours stays as it is, and a warning says so."""
    path = output_dir / INDEX_NAME
    if path.is_file() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        logger.warning(f"{path} is a file of yours, so it is not replaced; choose another --output_dir for an index.")
        return
    with written_whole(path) as unfinished:
        unfinished.write_text(index_of(output_dir, gather([output_dir])), encoding="utf-8")


def index_of(output_dir: Path, groups: Sequence[Group]) -> str:
    """The text of the index."""
    commands = dict.fromkeys(
        command for group in groups for record in group.directories.values() for command in record.commands
    )
    smoke = ["This is a smoke test of a few images and epochs: its figures are no result.", ""]
    parts = [MARK, "", "# Results", "", *(smoke if any(group.smoke for group in groups) else [])]
    parts += ["Mean ± standard deviation over n runs, in percent. `sharp-prompt summarize` writes the same tables as"]
    parts += ["LaTeX or CSV. The commands, which continue where they stopped when they are run again:", ""]
    parts += ["```bash", *map(printable, commands), "```", "", "## Tables", "", as_markdown(make_tables(groups))]
    parts += ["## Files", ""]
    for group in groups:
        for directory in group.directories:
            where = printable(directory.relative_to(output_dir).as_posix())
            methods = ", ".join(printable(name) for name, runs in group.results.items() if has_adapters(runs))
            title = printable(f"{group.protocol}, {group.title}")
            parts.append(f"- `{where}/METHOD/seedN`: adapters of {title}, each with its card. METHOD: {methods}.")
    for path in sorted(output_dir.glob(f"*/{SKIPPED_NAME}")):
        where = printable(path.relative_to(output_dir).as_posix())
        parts.append(f"- `{where}`: the images that could not be read and were left out, one JSON object a line.")
    parts += ["", "Beside them, `summary.json` has every run's figures, `experiment.json` says what the runs have in"]
    parts += ["common, and figures are PNG files.", *how_to_load(output_dir, groups)]
    return "\n".join(parts).rstrip() + "\n"


def collection_card(output_dir: Path, publications: Sequence[Publication]) -> str:
    """The card of a repository that holds the adapters of an output directory: its index, by their places there.

    Args:
        output_dir: The output directory.
        publications: The adapters.
    """
    tags = ["hf-sharp-prompt", "prompt-learning", COLLECTION_TAG]
    data = ModelCardData(library_name="peft", tags=tags)
    index = index_of(output_dir, gather([output_dir]))
    for each in publications:
        folder = each.directory.relative_to(output_dir).as_posix()
        load = f"PeftModel.from_pretrained(base, {each.repository!r}, subfolder={each.subfolder!r})"
        index = index.replace(f"PeftModel.from_pretrained(base, {folder!r})", load)
    folders = "\n".join(f"- [`{each.subfolder}`]({each.subfolder})" for each in publications)
    return f"---\n{data.to_yaml()}\n---\n\n{index}\n## Adapters\n\n{folders}\n"


def has_adapters(runs: Sequence[dict[str, object]]) -> bool:
    """Whether a method is trained; a baseline is not."""
    return any("adapter" in run for run in runs)


def how_to_load(output_dir: Path, groups: Sequence[Group]) -> list[str]:
    """Lines on how an adapter is loaded; none if there is no adapter yet."""
    for group in groups:
        for directory, record in group.directories.items():
            for method, runs in group.results.items():
                for run in succeeded(runs):
                    adapter = directory / method / f"seed{run.get('seed')}"
                    if (adapter / "adapter_config.json").is_file():
                        return code_of_adapter(adapter.relative_to(output_dir).as_posix(), record.base_model)
    return []


def code_of_adapter(adapter: str, base_model: Sequence[str]) -> list[str]:
    """The Python that loads an adapter."""
    imports, code = base_model[: base_model.index("")], base_model[base_model.index("") + 1 :]
    return [
        *("", "## Load an adapter", "", "```python"),
        *("import hf_sharp_prompt  # makes PEFT know prompts", "from peft import PeftModel", *imports, "", *code),
        f"model = PeftModel.from_pretrained(base, {printable(adapter)!r})",
        "```",
    ]
