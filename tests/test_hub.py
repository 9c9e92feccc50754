"""Encoders, indexes and runs go to the hub and come back whole, whatever interrupts them.

The hub is a folder here: the calls of huggingface_hub are replaced by ones that copy files.
"""

from __future__ import annotations

import fnmatch
import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.trec import write_run
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.evaluation.cards import Draft
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.interop.hub import pull, push
from dupmae_toolkit.interop.hub_layout import HubName
from dupmae_toolkit.model.checkpoints import BUILTIN
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder, ranked

ENCODER = HashingEncoder()


class Hub:
    """A hub of folders, one for each commit. ``sent`` and ``got`` list the files that moved.

    fail_after: how many files move before the connection breaks; None: it does not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: dict[tuple[str, str], list[Path]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: set[str] = set()
        self.sent: list[str] = []
        self.got: list[str] = []
        self.fail_after: int | None = None

    def moved(self, name: str, files: list[str]) -> None:
        if self.fail_after is not None and len(files) >= self.fail_after:
            raise ConnectionError("the connection broke. And more")
        files.append(name)

    def create_repo(self, *, repo_id, repo_type, private, exist_ok):
        assert exist_ok
        full = repo_id if "/" in repo_id else f"me/{repo_id}"
        if (repo_type, full) not in self.commits:
            self.commits[repo_type, full] = []
            self.private[full] = private
        return SimpleNamespace(repo_id=full)

    def upload_folder(self, *, repo_id, folder_path, repo_type, commit_message, delete_patterns):
        commits = self.commits[repo_type, repo_id]
        files = [path for path in sorted(Path(folder_path).rglob("*")) if path.is_file()]
        for path in files:
            if (digest := sha256_file(path)) not in self.blobs:
                self.moved(path.relative_to(folder_path).as_posix(), self.sent)
                self.blobs.add(digest)
        fresh = self.folder / f"{repo_type}-{len(commits)}-{repo_id.replace('/', '-')}"
        fresh.mkdir(parents=True)
        if commits:
            for path in sorted(commits[-1].rglob("*")):
                name = path.relative_to(commits[-1]).as_posix()
                if path.is_file() and not any(
                    fnmatch.fnmatch(name, each) for each in delete_patterns or ()
                ):
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, fresh / name)
        for path in files:
            place = fresh / path.relative_to(folder_path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        commits.append(fresh)
        return SimpleNamespace(oid=f"{len(commits) - 1:040x}")

    def repo_info(self, repo_id, *, repo_type, revision):
        commits = self.commits.get((repo_type, repo_id))
        if not commits:
            error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
            raise error
        number = len(commits) - 1 if revision is None else int(revision, 16)
        if number >= len(commits):
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)
        names = [p.relative_to(commits[number]).as_posix() for p in commits[number].rglob("*")]
        siblings = [SimpleNamespace(rfilename=name) for name in names]
        return SimpleNamespace(sha=f"{number:040x}", siblings=siblings)

    def snapshot_download(self, repo_id, *, repo_type, revision, local_dir, allow_patterns):
        folder = self.commits[repo_type, repo_id][int(revision, 16)]
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, each) for each in allow_patterns):
                place = Path(local_dir, name)
                if not place.exists() or place.read_bytes() != path.read_bytes():
                    self.moved(name, self.got)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place)
        Path(local_dir, ".cache/huggingface").mkdir(parents=True, exist_ok=True)
        return local_dir

    def hf_hub_download(self, repo_id, *, filename, **rest):
        self.snapshot_download(repo_id, allow_patterns=[filename], **rest)
        return str(Path(rest["local_dir"], filename))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    real = {name: getattr(huggingface_hub, name) for name in ("snapshot_download",)}
    real |= {"hf_hub_download": huggingface_hub.hf_hub_download}
    methods = ("create_repo", "upload_folder", "repo_info")
    real |= {name: getattr(huggingface_hub.HfApi, name) for name in methods}

    def checked(name: str):
        """The fake's method, called only as the library's own may be called."""
        signature = inspect.signature(real[name])
        given = [None] if "self" in signature.parameters else []

        def call(*arguments, **named):
            signature.bind(*given, *arguments, **named)
            return getattr(made, name)(*arguments, **named)

        return call

    for name in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, checked(name))
    api = SimpleNamespace(**{name: checked(name) for name in methods})
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "index"
    with HybridIndex.build(path, documents_of(30), ENCODER) as opened:
        opened.delete([documents_of(30)[4].id])
    return path


@pytest.fixture
def index(built, tmp_path) -> Path:
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def files_of(folder: Path) -> dict[str, str]:
    """The checksum of every file by its path."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_index_goes_and_comes_back(hub, index, tmp_path, capsys):
    code, out, err = run(capsys, "export", index, "--to", "hf:me/notes", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["kind"], summary["files"]) == ("index", len(files_of(index)))
    assert hub.private == {"me/notes": True}
    code, out, err = run(capsys, "import", "hf:me/notes", "--output", tmp_path / "new", "--json")
    assert code == 0, err
    assert json.loads(out)["commit"] == summary["commit"]
    assert files_of(tmp_path / "new") == files_of(index)
    assert verify_index(tmp_path / "new") == []
    assert not (tmp_path / ".importing-new").exists()


def test_an_encoder_goes_without_what_could_run(hub, tmp_path, capsys):
    folder = tmp_path / "encoder"
    shutil.copytree(BUILTIN, folder)
    for name in ("pytorch_model.bin", "optimizer.pt", "modeling.py", ".env", "log.txt.exe"):
        (folder / name).write_bytes(b"x")
    (folder / "checkpoint-7").mkdir()
    (folder / "checkpoint-7/model.safetensors").write_bytes(b"x")
    code, _, err = run(capsys, "export", folder, "--to", "hf:me/mine", "--public")
    assert code == 0, err
    assert "not uploaded: " in err
    assert "6 other files (__init__.py, " in err
    assert hub.private == {"me/mine": False}
    assert [kind for kind, _ in hub.commits] == ["model"]
    pull("hf:me/mine", tmp_path / "new")
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    wanted.add("README.md")
    assert set(files_of(tmp_path / "new")) == wanted
    assert files_of(tmp_path / "new").items() <= files_of(folder).items()


def test_a_run_goes_with_its_settings(hub, tmp_path):
    write_run(ranked(q=["d"]), tmp_path / "a.trec")
    Draft(["dupmae", "fuse"], {}).write(tmp_path / "a.trec.card.json", [tmp_path / "a.trec"], {})
    (tmp_path / "other.trec").write_text("1 Q0 d 1 2.0 t\n")
    done = push(tmp_path / "a.trec", "hf:runs")
    assert str(done.where) == "hf:me/runs"
    pull("hf:me/runs", tmp_path / "new")
    assert sorted(files_of(tmp_path / "new")) == ["a.trec", "a.trec.card.json", "a.trec.json"]


@pytest.fixture
def encoder(tmp_path) -> Path:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BUILTIN / name, folder / name)
    return folder


def test_a_data_set_and_a_model_of_one_name_are_told_apart(hub, index, encoder, tmp_path):
    push(index, "hf:me/notes")
    push(encoder, "hf:me/notes")
    with pytest.raises(InputError, match="filled both") as caught:
        pull("hf:me/notes", tmp_path / "new")
    assert str(caught.value).endswith("write hf:datasets/me/notes or hf:models/me/notes")
    assert not (tmp_path / "new").exists()
    pull("hf:models/me/notes", tmp_path / "model")
    assert files_of(tmp_path / "model") == files_of(encoder)
    assert str(pull("hf:datasets/me/notes", tmp_path / "set").where) == "hf:datasets/me/notes"
    assert files_of(tmp_path / "set") == files_of(index)
    there = hub.commits["model", "me/notes"][-1]
    (there / "dupmae.json").unlink()  # of the two, only the data set is an export now
    pull("hf:me/notes", tmp_path / "new")
    assert files_of(tmp_path / "new") == files_of(index)


def test_a_revision_that_only_one_repository_of_the_name_has_is_found(
    hub, index, encoder, tmp_path
):
    push(index, "hf:me/notes")
    push(encoder, "hf:me/notes")
    push(encoder, "hf:models/me/notes")
    with pytest.raises(InputError, match=r"hf:me/notes@2: no branch, tag or commit of that name"):
        pull("hf:me/notes@2", tmp_path / "new")
    pull("hf:me/notes@1", tmp_path / "new")
    assert files_of(tmp_path / "new") == files_of(encoder)


def test_an_upload_to_the_other_type_is_refused(hub, index, encoder):
    with pytest.raises(InputError, match=r"hf:models/me/a: .* write hf:datasets/"):
        push(index, "hf:models/me/a")
    with pytest.raises(InputError, match=r"hf:datasets/me/a: .* write hf:models/"):
        push(encoder, "hf:datasets/me/a")
    assert hub.commits == {}


def test_an_upload_that_breaks_changes_nothing_there_and_continues(hub, index, tmp_path):
    push(index, "hf:me/notes")
    sent = len(hub.sent)
    with HybridIndex.open(index, ENCODER) as opened:
        opened.add([{"id": "later", "text": "w1 w2"}])
    hub.fail_after = sent + 3
    with pytest.raises(DupMAEError) as caught:
        push(index, "hf:me/notes")
    assert str(caught.value) == (
        "hf:me/notes: the upload failed (the connection broke); run the same command again to "
        "continue"
    )
    assert len(hub.commits["dataset", "me/notes"]) == 1
    hub.fail_after = None
    push(index, "hf:me/notes")
    assert len(hub.sent) == len(set(hub.sent[:sent])) + len(hub.sent[sent:])
    pull("hf:me/notes", tmp_path / "new")
    assert files_of(tmp_path / "new") == files_of(index)
    pull(f"hf:me/notes@{0:040x}", tmp_path / "old")
    assert len(files_of(tmp_path / "old")) < len(files_of(index))
    assert verify_index(tmp_path / "old") == []


def test_what_an_index_no_longer_names_leaves_the_repository(hub, index, tmp_path):
    push(index, "hf:me/notes")
    first = hub.commits["dataset", "me/notes"][-1]
    (first / "README.md").write_text("by hand")
    with HybridIndex.open(index, ENCODER) as opened:
        opened.compact()
    push(index, "hf:me/notes")
    there = set(files_of(hub.commits["dataset", "me/notes"][-1]))
    named = Manifest.load(index).checksums
    assert all(name.startswith("segments/000002/") for name in named if "/" in name)
    assert there == {*named, "manifest.json", "README.md", "dupmae.json"}


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_download_that_breaks_continues(hub, index, tmp_path, after):
    push(index, "hf:me/notes")
    hub.fail_after = after
    with pytest.raises(DupMAEError, match="the download failed") as caught:
        pull("hf:me/notes", tmp_path / "new")
    assert not isinstance(caught.value, InputError)
    assert not (tmp_path / "new").exists()
    hub.fail_after = None
    pull("hf:me/notes", tmp_path / "new")
    assert len(hub.got) == len(set(hub.got)) == len(files_of(index)) + 1
    assert files_of(tmp_path / "new") == files_of(index)


def test_a_file_that_arrives_changed_is_refused(hub, index, tmp_path):
    push(index, "hf:me/notes")
    there = hub.commits["dataset", "me/notes"][-1]
    for name in sorted(files_of(there)):
        kept = (there / name).read_bytes()
        (there / name).write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
        with pytest.raises(InputError) as caught:
            pull("hf:me/notes", tmp_path / "new")
        assert "\n" not in str(caught.value)
        (there / name).unlink()
        with pytest.raises(InputError):
            pull("hf:me/notes", tmp_path / "new")
        (there / name).write_bytes(kept)
    assert not (tmp_path / "new").exists()
    pull("hf:me/notes", tmp_path / "new")
    assert files_of(tmp_path / "new") == files_of(index)


RECORDS = [
    ("[]", "not valid"),
    ("{", "JSON"),
    ({"kind": "encoder"}, "no encoder has"),
    ({"kind": "program"}, "kind is 'program'"),
    ({"format_version": 2}, "update dupmae-toolkit"),
    ({"files": {}}, "names no files"),
    ({"files": None}, "not valid"),
    ({"files": {"../../.bashrc": {"bytes": 1, "sha256": "0"}}}, "not a valid name"),
    ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}, "not a valid name"),
    ({"files": {"segments/1/lucene/../x": {"bytes": 1, "sha256": "0"}}}, "not a valid name"),
    ({"files": {"*": {"bytes": 1, "sha256": "0"}}}, "which no index has"),
    ({"files": {"model.bin": {"bytes": 1, "sha256": "0"}}}, "which no index has"),
    ({"files": {".git/hooks/x.json": {"bytes": 1, "sha256": "0"}}}, "which no index has"),
    ({"files": {"manifest.json": {"bytes": -1, "sha256": "0"}}}, "bytes is -1"),
]


@pytest.mark.parametrize(("change", "said"), RECORDS)
def test_a_hostile_record_is_refused(hub, index, tmp_path, change, said):
    push(index, "hf:me/notes")
    path = hub.commits["dataset", "me/notes"][-1] / "dupmae.json"
    if isinstance(change, str):
        path.write_text(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said) as caught:
        pull("hf:me/notes", tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    assert hub.got == ["dupmae.json"]


def test_files_that_are_whole_must_be_an_index(hub, index, tmp_path):
    push(index, "hf:me/notes")
    there = hub.commits["dataset", "me/notes"][-1]
    record = json.loads((there / "dupmae.json").read_text())
    (there / "segments/000001/lucene/_x.cfs").write_text("more")
    stated = {"bytes": 4, "sha256": sha256_file(there / "segments/000001/lucene/_x.cfs")}
    record["files"]["segments/000001/lucene/_x.cfs"] = stated
    (there / "dupmae.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="names other files"):
        pull("hf:me/notes", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_exchanged_is_refused_before_the_network(hub, index, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("no run\n")
    (tmp_path / "bad name.trec").write_text("1 Q0 d 1 2.0 t\n")
    damaged = tmp_path / "damaged"
    shutil.copytree(index, damaged)
    np.save(damaged / "segments/000001/forward/impacts-shape.npy", np.array([1, 2, 3]))
    cases = [
        (("export", index, "--to", "me/notes"), "write a repository of the hub as hf:OWNER/NAME"),
        (("export", index, "--to", "hf:a/b/c"), "write a repository of the hub"),
        (("export", index, "--to", "hf:../b"), "write a repository of the hub"),
        (("export", index, "--to", "hf:a/b@v1"), "leave out @v1"),
        (("export", index, "--to", "hf:a/b", "--terms", "both"), "leave out --output"),
        (("export", index, "--to", "hf:a/b", "--format", "npy"), "either --format"),
        (("export", tmp_path / "full", "--to", "hf:a/b"), "neither an index nor an encoder"),
        (("export", tmp_path / "full/x", "--to", "hf:a/b"), "x:1"),
        (("export", tmp_path / "no", "--to", "hf:a/b"), "no such index"),
        (("export", tmp_path / "bad name.trec", "--to", "hf:a/b"), "rename the run"),
        (("export", damaged, "--to", "hf:a/b"), "verify --repair"),
        (("import", "hf:a/b/c", "--output", tmp_path / "new"), "write a repository"),
        (("import", "hf:a/b", "--output", tmp_path / "full"), "not empty"),
        (("import", "hf:a/b", "--output", tmp_path / "full/x"), "is a file"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for words, said in cases:
        code, out, err = run(capsys, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), words
        assert said in err, words
    assert (hub.commits, hub.sent, hub.got) == ({}, [], [])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repository_that_is_not_there_is_refused(hub, tmp_path):
    with pytest.raises(InputError, match="HF_TOKEN"):
        pull("hf:me/nothing", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    assert HubName.parse("hf:a.b/c-d@refs/pr/1") == HubName("a.b/c-d", "refs/pr/1")
    assert HubName.parse("hf:datasets/me/a@v") == HubName("me/a", "v", "dataset")
    assert HubName.parse("hf:models/a") == HubName("models/a")


def test_an_index_that_is_changed_while_it_is_checked_is_checked_again(hub, index, monkeypatch):
    from dupmae_toolkit.interop import hub as module

    packed = module.pack
    changes = iter(["d1", "d2"])

    def pack(path):
        for name in changes:
            with HybridIndex.open(path) as opened:
                opened.delete([name])
            break
        return packed(path)

    monkeypatch.setattr(module, "pack", pack)
    done = push(index, "hf:me/notes")
    assert done.package.files.keys() == packed(index)[0].files.keys()
    assert done.package.files == packed(index)[0].files
    assert next(changes, None) is None  # so it began again


def test_an_index_that_changes_all_the_time_is_refused(hub, index, monkeypatch):
    from dupmae_toolkit.interop import hub as module

    packed = module.pack
    ids = iter(["d1", "d2", "d3", "d4"])

    def pack(path):
        found = packed(path)
        with HybridIndex.open(path) as opened:
            opened.delete([next(ids)])
        return found

    monkeypatch.setattr(module, "pack", pack)
    with pytest.raises(InputError, match="keeps changing"):
        push(index, "hf:me/notes")
