"""What other tests rely on when they push to `LocalHub` and load from it: the real clients take it for the Hub."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from hub.client import connect
from hub.local_hub import LocalHub


Run = Callable[[str], str]
PREAMBLE = "from huggingface_hub import HfApi\napi = HfApi()\n"
TINY_VIT = """
import torch
from peft import AutoPeftModelForFeatureExtraction, LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast, Trainer, TrainingArguments
from transformers import ViTConfig, ViTForImageClassification, ViTModel

config = ViTConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
)

def assert_same_bits(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
"""
MODEL = """
model, newer = ViTModel(config), ViTModel(config)
model.push_to_hub("tiny")
assert_same_bits(AutoModel.from_pretrained("me/tiny"), model)
assert AutoConfig.from_pretrained("me/tiny").hidden_size == 8

words = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").push_to_hub("me/tiny")
assert AutoTokenizer.from_pretrained("me/tiny")("cat").input_ids == [1]

newer.push_to_hub("tiny", revision="next")
assert_same_bits(AutoModel.from_pretrained("me/tiny", revision="next"), newer)
assert_same_bits(AutoModel.from_pretrained("me/tiny"), model)
"""
ADAPTER = """
ViTModel(config).push_to_hub("me/base")
model = get_peft_model(
    ViTModel.from_pretrained("me/base"), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
)
model.push_to_hub("me/adapter")
assert_same_bits(PeftModel.from_pretrained(ViTModel.from_pretrained("me/base"), "me/adapter"), model)
assert_same_bits(AutoPeftModelForFeatureExtraction.from_pretrained("me/adapter"), model)
"""
TRAINERS = """
examples = [{"pixel_values": torch.randn(3, 8, 8), "labels": label} for label in (0, 1, 0, 1)]
for strategy in ("every_save", "end"):
    args = TrainingArguments(
        strategy,
        push_to_hub=True,
        hub_strategy=strategy,
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
    )
    trainer = Trainer(ViTForImageClassification(config), args, train_dataset=examples)
    trainer.train()
    trainer.push_to_hub()
    assert_same_bits(ViTForImageClassification.from_pretrained(f"me/{strategy}"), trainer.model)
"""


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def run(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script that begins with a client of the hub, in `tmp_path` in this process; returns what it prints."""
    connect(hub, tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)

    def run(script: str) -> str:
        exec(PREAMBLE + dedent(script), {})
        return capsys.readouterr().out.strip()

    return run


def run_script(script: str, hub: LocalHub, tmp_path: Path) -> str:
    """Run a script in a separate process, in `tmp_path`, logged in to `hub`; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=hub.environment(tmp_path / "home"),
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def titles(hub: LocalHub, repo_id: str) -> list[str]:
    return [commit.title for commit in hub.repositories[repo_id].commits.values()]


def test_an_uploaded_folder_comes_back_byte_for_byte(hub, run, tmp_path):
    files = {
        "README.md": b"---\ntags: [tiny]\n---\n",
        "sub folder/\u00e9#%.txt": b"text",
        "weights.bin": bytes(range(256)) * 999,
    }
    files["empty"] = b""
    for path, content in files.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    listed = run("""
        assert api.create_repo("pets").repo_id == f"{api.whoami()['name']}/pets"
        api.create_repo("me/pets", exist_ok=True)
        api.upload_folder(folder_path="folder", repo_id="me/pets")
        api.snapshot_download("me/pets", local_dir="copy")
        info = api.model_info("me/pets")
        assert info.tags == ["tiny"] and info.sha == api.list_repo_refs("me/pets").branches[0].target_commit
        assert [entry.path for entry in api.list_repo_tree("me/pets", "sub folder")] == ["sub folder/\u00e9#%.txt"]
        assert [entry.path for entry in api.get_paths_info("me/pets", ["sub folder", "no"])] == ["sub folder"]
        print(ascii(sorted(api.list_repo_files("me/pets"))))
    """)
    assert listed == ascii(sorted(files))
    assert hub.files("me/pets") == files
    assert {path: (tmp_path / "copy" / path).read_bytes() for path in files} == files
    assert ("GET", "/api/whoami-v2") in hub.requests


def test_an_earlier_commit_stays_readable(hub, run):
    first, second = run("""
        api.create_repo("me/pets")
        first = api.upload_file(path_or_fileobj=b"one", path_in_repo="file", repo_id="me/pets").oid
        second = api.upload_file(path_or_fileobj=b"two", path_in_repo="file", repo_id="me/pets").oid
        for revision, content in [(first, b"one"), (second, b"two"), ("main", b"two"), (first, b"one")]:
            assert open(api.hf_hub_download("me/pets", "file", revision=revision), "rb").read() == content
        api.delete_file("file", "me/pets")
        assert api.list_repo_files("me/pets") == []
        print(first, second)
    """).split()
    assert first != second
    assert (hub.files("me/pets", first), hub.files("me/pets")) == ({"file": b"one"}, {})


def test_files_that_are_unchanged_or_ignored_are_not_committed(hub, run, tmp_path):
    (tmp_path / "folder" / "logs").mkdir(parents=True)
    for name, content in {".gitignore": "logs/\n*.tmp", "a.tmp": "", "logs/one": "", "kept": "text"}.items():
        (tmp_path / "folder" / name).write_text(content)
    run("""
        api.create_repo("me/pets")
        commits = [api.upload_folder(folder_path="folder", repo_id="me/pets").oid for _ in range(2)]
        assert commits[0] == commits[1]
    """)
    assert set(hub.files("me/pets")) == {".gitignore", "kept"}
    assert len(titles(hub, "me/pets")) == 2, "the empty one and one upload"


def test_part_of_a_file_can_be_read_and_a_download_resumed(run):
    run("""
        import io
        from huggingface_hub import HfFileSystem, hf_hub_url
        from huggingface_hub.file_download import http_get

        api.create_repo("me/pets")
        api.upload_file(path_or_fileobj=bytes(range(256)), path_in_repo="file", repo_id="me/pets")
        assert HfFileSystem().cat_file("me/pets/file", start=100, end=103) == bytes([100, 101, 102])
        begun = io.BytesIO(bytes(range(100)))
        begun.seek(100)
        http_get(hf_hub_url("me/pets", "file"), begun, resume_size=100, expected_size=256)
        assert begun.getvalue() == bytes(range(256))
    """)


def test_what_is_missing_raises_the_clients_own_errors(run):
    run("""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
        api.create_repo("me/pets")
        api.upload_file(path_or_fileobj=b"text", path_in_repo="file", repo_id="me/pets")
        for error, attempt in [
            (EntryNotFoundError, lambda: api.hf_hub_download("me/pets", "no")),
            (EntryNotFoundError, lambda: api.delete_file("no", "me/pets")),
            (RevisionNotFoundError, lambda: api.hf_hub_download("me/pets", "file", revision="no")),
            (RevisionNotFoundError, lambda: api.list_repo_files("me/pets", revision="0" * 40)),
            (RepositoryNotFoundError, lambda: api.hf_hub_download("me/no", "file")),
            (RepositoryNotFoundError, lambda: api.model_info("no")),
            (RepositoryNotFoundError, lambda: api.upload_file(path_or_fileobj=b"", path_in_repo="f", repo_id="me/no")),
        ]:
            try:
                attempt()
            except error:
                continue
            raise AssertionError(error)
    """)


def test_writing_needs_the_token(hub, run):
    refused = run("""
        from huggingface_hub.errors import HfHubHTTPError
        api.create_repo("me/pets")
        for token in (False, "hf_wrong"):
            api = HfApi(token=token)
            for attempt in [
                lambda: api.create_repo("me/other"),
                lambda: api.upload_file(path_or_fileobj=b"text", path_in_repo="file", repo_id="me/pets"),
            ]:
                try:
                    attempt()
                except HfHubHTTPError as error:
                    print(error.response.status_code)
    """)
    assert refused.split() == ["401"] * 4
    assert set(hub.repositories) == {"me/pets"}
    assert hub.files("me/pets") == {}


def test_a_repository_is_created_once_and_its_card_must_be_readable(hub, run):
    run("""
        from huggingface_hub.errors import HfHubHTTPError
        api.create_repo("me/pets")
        try:
            api.create_repo("me/pets")
        except HfHubHTTPError as error:
            assert error.response.status_code == 409
        else:
            raise AssertionError("created twice")
        try:
            api.upload_file(path_or_fileobj=b"---\\ntags: [\\n---\\n", path_in_repo="README.md", repo_id="me/pets")
        except ValueError as error:
            assert "Invalid metadata" in str(error)
        else:
            raise AssertionError("broken metadata accepted")
    """)
    assert hub.files("me/pets") == {}


def test_settings_of_the_calling_process_do_not_reach_the_script(hub, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_wrong")
    assert run_script(PREAMBLE + "print(api.whoami()['name'])", hub, tmp_path) == "me"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A hub to which a model, an adapter and trainers were pushed, and from which each came back bit for bit."""
    tmp_path = tmp_path_factory.mktemp("pushed")
    with LocalHub() as hub, pytest.MonkeyPatch.context() as patch:
        connect(hub, tmp_path / "home", patch)
        patch.chdir(tmp_path)
        exec(TINY_VIT + MODEL + ADAPTER + TRAINERS, {})
        yield hub


def test_a_model_and_its_tokenizer_load_as_pushed(pushed):
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(pushed.files("me/tiny"))
    assert pushed.files("me/tiny")["model.safetensors"] != pushed.files("me/tiny", "next")["model.safetensors"]


def test_an_adapter_loads_as_pushed(pushed):
    assert set(pushed.files("me/adapter")) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def test_a_trainer_pushes_and_its_model_loads_as_trained(pushed):
    assert b"generated_from_trainer" in pushed.files("me/end")["README.md"]
    assert b"generated_from_trainer" in pushed.files("me/every_save")["README.md"]
    assert titles(pushed, "me/end")[1:] == ["End of training"]
    # The Trainer uploads in the background and skips a save while the last one is under way: only these two are sure.
    assert titles(pushed, "me/every_save")[1] == "Training in progress, step 1"
    assert titles(pushed, "me/every_save")[-1] == "End of training"
