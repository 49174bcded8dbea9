"""A Hugging Face Hub for tests: the part of its HTTP interface that pushing, listing and loading models need.

The real `huggingface_hub` client talks to it, and with it `Trainer.push_to_hub`, `PeftModel.from_pretrained("me/x")`,
`AutoTokenizer` and the rest, so that a test runs a script as a user would, without the internet:

    with LocalHub() as hub:
        subprocess.run([sys.executable, "train.py", "--push_to_hub"], env=hub.environment(tmp_path), check=True)
        assert "adapter_model.safetensors" in hub.files("me/pets")

The client reads `HF_ENDPOINT` once, when it is imported, and transformers and peft take no other endpoint: hence the
subprocess. `hub.client.connect` makes the test's own process a client, which saves the seconds of its imports.

Repositories start with an empty commit (the Hub's holds a `.gitattributes`); anyone may read them, and the token
writes in every namespace. Every file is a regular one, sent inside the commit: it is the server that asks the client
for Git LFS or Xet, file by file, so the client's own upload path is unchanged and Xet stays enabled. Spaces are
repositories whose ids here begin with `spaces/`; they are not run. Collections gather models. What is not served (pull
requests, tags, and data sets, but for refusals) is answered by 501 and a message.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, final
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub import ModelCard


class HubError(Exception):
    """A refusal, from which the client makes its own exception: by `code` if there is one, else by `status`."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None, **body: Any):
        super().__init__(message)
        self.reply = (status, {"X-Error-Code": code} | (headers or {}), json.dumps({"error": message} | body).encode())


def blob_id(data: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Commit(NamedTuple):
    """One state of a repository."""

    sha: str
    title: str
    files: dict[str, bytes]

    def entries(self) -> dict[str, dict[str, Any]]:
        """Every folder and file by its path, as the Hub describes them."""
        folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents} - {"."}
        found = [{"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())} for path in folders]
        for path, data in self.files.items():
            found.append({"type": "file", "path": path, "size": len(data), "oid": blob_id(data)})
        return {entry["path"]: entry for entry in sorted(found, key=lambda entry: entry["path"])}


@dataclass
class Repository:
    """A repository of a model or a Space: its commits by sha, oldest first, and where its branches point."""

    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=lambda: {"main": ""})
    private: bool = False

    def add(self, branch: str, title: str, files: dict[str, bytes]) -> Commit:
        """Commit `files`, the whole content, to `branch`. The sha names content and ancestors, as Git's does."""
        blobs = [(path, blob_id(data)) for path, data in sorted(files.items())]
        sha = hashlib.sha1(repr((self.branches[branch], title, blobs)).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = Commit(sha, title, files), sha
        return self.commits[sha]

    def at(self, revision: str) -> Commit:
        """The commit that a branch or a sha means."""
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]


@dataclass
class Collection:
    """A collection: a title, and the repositories in it."""

    title: str
    private: bool
    items: list[str] = field(default_factory=list)

    def described(self, slug: str) -> dict[str, Any]:
        """What the Hub says of it."""
        items = [{"_id": blob_id(name.encode()), "id": name, "type": "model"} for name in self.items]
        return {
            "slug": slug,
            "title": self.title,
            "owner": {"name": slug.partition("/")[0]},
            "private": self.private,
            "items": [{**item, "position": place} for place, item in enumerate(items)],
            "lastUpdated": "2026-01-01T00:00:00.000Z",
            "position": 0,
            "theme": "blue",
            "upvotes": 0,
        }


class Failure(NamedTuple):
    """What `LocalHub.fail` asks for."""

    request: re.Pattern[str]
    status: int | str
    headers: dict[str, str]


class NoAnswerError(Exception):
    """A connection that ends without an answer."""


@final
class LocalHub:
    """The server: a context manager that listens on a free port of 127.0.0.1 while it is entered."""

    def __init__(self, user: str = "me") -> None:
        self.user = user
        self.token = f"hf_{secrets.token_hex(17)}"
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, Collection] = {}  # by slug
        self.requests: list[tuple[str, str]] = []  # method and path (with the query), as received
        self.gated: set[str] = set()  # ids of data sets that no token gives access to
        self.failures: list[Failure] = []  # still to come, see `fail`
        self.closing = threading.Event()  # ends the connections that hang
        self.lock = threading.Lock()  # held while a request is answered
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalHub:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """This process's environment, for a script that is logged in here and keeps its cache in `home`.

        Whatever else configures the Hub's libraries (another token, offline mode) is left out, and so are proxies.
        """
        foreign = re.compile(r"(HF|HUGGING_?FACE|TRANSFORMERS)_.*|.*_PROXY", re.IGNORECASE)
        return {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)} | {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",  # also against the proxies that macOS and Windows keep outside the environment
        }

    def fail(self, request: str, status: int | str, times: int = 1, headers: dict[str, str] | None = None) -> None:
        """Answer the next `times` requests whose `METHOD /path` the regular expression matches with an error.

        Args:
            request: The regular expression.
            status: The status of HTTP; or "drop" to close the connection, or "hang" to keep it open, without a word.
            times: How many requests fail.
            headers: Headers of the answer.
        """
        with self.lock:
            self.failures += [Failure(re.compile(request), status, headers or {})] * times

    def repository(self, repo_id: str) -> Repository:
        if repo_id not in self.repositories:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self.repositories[repo_id]

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds at a branch or a commit."""
        return dict(self.repository(repo_id).at(revision).files)


_ROUTES: list[tuple[re.Pattern[str], bool, Callable[..., Any]]] = []


def _route(pattern: str, token: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the endpoint that serves `METHOD /path`; with `token`, only to who is logged in."""
    fields = {
        "repo": r"(?P<repo_id>(?:spaces/)?[^/]+(?:/[^/]+)?)",
        "revision": r"(?P<revision>[^/]+)",
        "path": r"(?P<path>.+)",
        "slug": r"(?P<slug>[^/]+/[^/]+)",
    }

    def register(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        _ROUTES.append((re.compile(pattern.format(**fields)), token, endpoint))
        return endpoint

    return register


class _Handler(BaseHTTPRequestHandler):
    """One connection. An endpoint returns what to send as JSON, or (status, headers, body), or raises a `HubError`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else, on a kept connection, the body waits until the headers are acknowledged

    def __init__(self, hub: LocalHub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *args: Any) -> None:
        """Be silent: `hub.requests` is the log."""

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._fail()
            with self.hub.lock:
                answer = self._dispatch()
        except NoAnswerError:
            self.close_connection = True
            return
        except HubError as error:
            answer = error.reply
        if not isinstance(answer, tuple):
            answer = (200, {"Content-Type": "application/json"}, json.dumps(answer).encode())
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_GET

    def _fail(self) -> None:
        """Fail as a test has asked for."""
        with self.hub.lock:
            path = f"{self.command} {urlsplit(self.path).path}"
            failure = next((each for each in self.hub.failures if each.request.match(path)), None)
            if failure is None:
                return
            self.hub.failures.remove(failure)
        if failure.status == "hang":
            self.hub.closing.wait(60)
        if isinstance(failure.status, str):
            raise NoAnswerError
        raise HubError(failure.status, "This failure was asked for.", headers=failure.headers)

    def _dispatch(self) -> Any:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", self.hub.token):
            raise HubError(401, "Invalid credentials in Authorization header")
        path = url.path.replace("/api/spaces/", "/api/models/spaces/", 1)
        for pattern, needs_token, endpoint in _ROUTES:
            if (match := pattern.fullmatch(f"{self.command} {path}")) and "create_pr" not in self.query:
                if needs_token and not token:
                    raise HubError(401, "Invalid username or password.")
                return endpoint(self, **{name: unquote(part) for name, part in match.groupdict().items() if part})
        raise HubError(501, f"LocalHub does not serve {self.command} {self.path}")

    @_route("GET /api/whoami-v2", token=True)
    def whoami(self) -> Any:
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "name": self.hub.user, "fullname": self.hub.user, "orgs": [], "auth": access}

    @_route("POST /api/validate-yaml")
    def validate_yaml(self) -> Any:
        """Refuse a card whose metadata the client's own `ModelCard` cannot read."""
        content = json.loads(self.body)["content"]
        try:
            ModelCard(content)
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise HubError(400, "Invalid metadata", errors=[{"message": str(error)}]) from error
        return {"errors": [], "warnings": []}

    @_route("POST /api/repos/create", token=True)
    def create_repo(self) -> Any:
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or self.hub.user}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        if kind == "space" and "sdk" not in wanted:
            raise HubError(400, "A Space needs an sdk")
        repo_id = f"spaces/{name}" if kind == "space" else name
        url = f"{self.hub.endpoint}/{repo_id}"
        if repo_id in self.hub.repositories:
            raise HubError(409, f"You already created this {kind} repo", url=url)
        self.hub.repositories[repo_id] = Repository(private=wanted.get("visibility") == "private")
        self.hub.repositories[repo_id].add("main", "initial commit", {})
        return {"url": url, "name": name}

    @_route("POST /api/collections", token=True)
    def create_collection(self) -> Any:
        """Make one, whose slug is the title's words and a number; an owner has one of a title."""
        wanted = json.loads(self.body)
        words = re.sub(r"[^a-z0-9]+", "-", wanted["title"].lower()).strip("-")
        slug = f"{wanted['namespace']}/{words}-{blob_id(wanted['title'].encode())[:24]}"
        if slug in self.hub.collections:
            raise HubError(409, "This collection already exists", slug=slug)
        self.hub.collections[slug] = Collection(wanted["title"], wanted["private"])
        return self.hub.collections[slug].described(slug)

    @_route("GET /api/collections/{slug}")
    def collection(self, slug: str) -> Any:
        if slug not in self.hub.collections:
            raise HubError(404, "Collection not found")
        return self.hub.collections[slug].described(slug)

    @_route("POST /api/collections/{slug}/items", token=True)
    def add_collection_item(self, slug: str) -> Any:
        self.collection(slug)
        item = json.loads(self.body)["item"]
        self.hub.repository(item["id"])
        items = self.hub.collections[slug].items
        if item["id"] in items:
            raise HubError(409, "This item is already in the collection")
        items.append(item["id"])
        return self.collection(slug)

    @_route("GET /api/models/{repo}(?:/revision/{revision})?")
    def model_info(self, repo_id: str, revision: str = "main") -> Any:
        commit = self.hub.repository(repo_id).at(revision)
        readme = commit.files.get("README.md", b"---\n{}\n---\n").decode()
        card = ModelCard(readme, ignore_metadata_errors=True).data.to_dict()
        stated = {name: card.get(name) for name in ("library_name", "pipeline_tag", "tags")}
        siblings = [{"rfilename": path, "size": len(data)} for path, data in sorted(commit.files.items())]
        return {"id": repo_id, "sha": commit.sha, "private": False, "siblings": siblings, "cardData": card, **stated}

    @_route("(?:GET|HEAD) /datasets/{repo}/resolve/{revision}/{path}")
    def resolve_in_dataset(self, repo_id: str, revision: str, path: str) -> Any:
        """Refuse: there are no data sets but gated ones, which need a login, and then an access that is not given."""
        if repo_id not in self.hub.gated:
            raise HubError(404, "Repository not found", "RepoNotFound")
        status = 403 if self.headers.get("Authorization") else 401
        raise HubError(status, f"Access to dataset {repo_id} is restricted.", "GatedRepo")

    @_route("GET /api/models/{repo}/tree/{revision}(?:/{path})?")
    def tree(self, repo_id: str, revision: str, path: str = "") -> Any:
        folder = f"{path}/" if path else ""
        entries = self.hub.repository(repo_id).at(revision).entries()
        inside = {name.removeprefix(folder): entry for name, entry in entries.items() if name.startswith(folder)}
        if path and not inside:
            raise HubError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        deep = self.query.get("recursive") == ["true"]
        return [entry for name, entry in inside.items() if deep or "/" not in name]

    @_route("POST /api/models/{repo}/paths-info/{revision}")
    def paths_info(self, repo_id: str, revision: str) -> Any:
        entries = self.hub.repository(repo_id).at(revision).entries()
        return [entries[path] for path in parse_qs(self.body.decode()).get("paths", []) if path in entries]

    @_route("GET /api/models/{repo}/refs")
    def refs(self, repo_id: str) -> Any:
        branches = self.hub.repository(repo_id).branches.items()
        named = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in branches]
        return {"branches": named, "tags": [], "converts": [], "pullRequests": []}

    @_route("POST /api/models/{repo}/branch/{revision}", token=True)
    def create_branch(self, repo_id: str, revision: str) -> Any:
        repository = self.hub.repository(repo_id)
        if revision in repository.branches:
            raise HubError(409, f"Reference already exists: {revision}")
        repository.branches[revision] = repository.at(json.loads(self.body).get("startingPoint", "main")).sha
        return {}

    @_route("POST /api/models/{repo}/preupload/{revision}", token=True)
    def preupload(self, repo_id: str, revision: str) -> Any:
        """Say how to send each file. Of `.gitignore`, names and wildcards are honoured; negation is not."""
        present = self.hub.repository(repo_id).at(revision).files
        wanted = json.loads(self.body)
        rules = wanted.get("gitIgnore", present.get(".gitignore", b"").decode()).splitlines()

        def plan(path: str) -> dict[str, Any]:
            ignored = any(fnmatch(name, rule.strip("/")) for rule in rules for name in (path, *path.split("/")))
            oid = blob_id(present[path]) if path in present else None
            return {"path": path, "uploadMode": "regular", "shouldIgnore": ignored, "oid": oid}

        return {"files": [plan(file["path"]) for file in wanted["files"]]}

    @_route("POST /api/models/{repo}/commit/{revision}", token=True)
    def commit(self, repo_id: str, revision: str) -> Any:
        repository = self.hub.repository(repo_id)
        head = repository.at(revision)
        if revision not in repository.branches:
            raise HubError(404, f"{revision} is not a branch", "RevisionNotFound")
        title, files = "", dict(head.files)
        for operation in map(json.loads, self.body.splitlines()):
            match operation["key"], operation["value"]:
                case "header", header:
                    title = header["summary"]
                    if header.get("parentCommit", head.sha) != head.sha:
                        raise HubError(412, "A commit has happened since. Please refresh and try again.")
                case "file", file:
                    files[file["path"]] = base64.b64decode(file["content"])
                case "deletedFile", {"path": path} if path in files:
                    del files[path]
                case "deletedFile", {"path": path}:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                case "deletedFolder", {"path": path}:
                    folder = f"{path.rstrip('/')}/"
                    files = {name: data for name, data in files.items() if not name.startswith(folder)}
                case key, _:
                    raise HubError(400, f"LocalHub does not know the operation {key}")
        sha = repository.add(revision, title, files).sha
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{sha}"}

    @_route("(?:GET|HEAD) /{repo}/resolve/{revision}/{path}")
    def resolve(self, repo_id: str, revision: str, path: str) -> Any:
        commit = self.hub.repository(repo_id).at(revision)
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        data = commit.files[path]
        headers |= {"ETag": f'"{blob_id(data)}"', "Content-Type": "application/octet-stream"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            return 200, headers, data
        first, last = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
        if first > last:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(data)}"})
        return 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]
