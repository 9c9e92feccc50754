"""The project installed into a fresh environment: what lands there, and which types a user sees.

Nothing is downloaded: the environment finds its dependencies in the one that runs the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PIP = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation"]

#: mypy would read torch and transformers for half a minute; they are no part of what is checked.
MYPY_CONFIG = """\
[mypy]
strict = true

[mypy-torch.*,transformers.*,huggingface_hub.*]
follow_imports = skip
"""

RIGHT = """\
import numpy as np

import dupmae_toolkit
from dupmae_toolkit import (
    Document,
    DupMAEEncoder,
    Hit,
    HybridIndex,
    Query,
    Representations,
    Run,
    load_encoder,
)


def best(hits: list[Hit]) -> float | None:
    return hits[0].score + (hits[0].dense or 0.0) if hits else None


def width(encoder: DupMAEEncoder) -> int:
    return encoder.dense_dim


encoder = load_encoder("builtin", device="cpu")
vectors: Representations = encoder.encode_queries(["a question"])
norms: float = float(np.linalg.norm(vectors.dense, axis=1).sum()) + vectors.truncated
documents = [Document("1", "strptime", "Parse a string."), Document(id="2", text="Shuffle.")]
with HybridIndex.build("notes", documents, encoder, overwrite=True) as index:
    for hit in index.search("how do I parse a date", k=10):
        print(hit.rank + 1, hit.id.upper(), hit.title, hit.text)
    several: list[list[Hit]] = index.search(["one", "two"], exact=True)
    index.add([{"id": "3", "title": "heapq", "text": "A queue."}])
    index.delete(["3"])
    run: Run = index.search_batch([Query("1", "one")], k=100)
    print(best(several[0]), run["1"].ids, len(index), norms)
again = HybridIndex.open("notes", DupMAEEncoder.from_pretrained("builtin"))
version: str = dupmae_toolkit.__version__
"""

#: mypy must report the lines with a comment, and no others.
WRONG = """\
from dupmae_toolkit import Document, Hit, HybridIndex, load_encoder
from dupmae_toolkit import HybridIndx  # wrong


def show(index: HybridIndex, hit: Hit) -> None:
    print(hit.no_such_field)  # wrong
    print(hit.dense + 1.0)  # wrong
    hit.rank = 1  # wrong
    index.search(3)  # wrong
    index.search("one", k="ten")  # wrong
    index.serach("one")  # wrong
    Document(1)  # wrong
    load_encoder(["builtin"])  # wrong
    HybridIndex.build("notes", [Document("1")])  # wrong
    HybridIndex.build(["notes"], ["a text"], load_encoder("builtin"))  # wrong
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that no build leaves anything in this one."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("dupmae_toolkit", "cli", "src", "tests", "benchmarks", "recipes"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=leave)
    return folder


def fresh(folder: Path) -> Path:
    """A fresh environment, which has what the project depends on."""
    venv.create(folder, symlinks=True)
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    # Python does not read the .pth files of a folder that it finds by one, so the installation
    # that runs the tests is not found in the fresh environment.
    (site_packages(folder) / "dependencies.pth").write_text("\n".join(paths))
    return folder


@pytest.fixture(scope="module")
def environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the project installed as `make install` does it."""
    folder = fresh(tmp_path_factory.mktemp("environment"))
    python(folder, *PIP, "install", *OFFLINE, "--editable", project)
    return folder


def site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment)}))


def python(environment: Path, *words: object, code: int = 0, cwd: Path | None = None) -> str:
    """What the environment's Python prints; it must exit with ``code``.

    That is stdout, or stderr if it prints nothing there and fails as it should.
    """
    settings = {"PYTHONPATH", "MYPYPATH", "MYPY_CACHE_DIR"}
    done = subprocess.run(
        [environment / "bin" / "python", *map(str, words)],
        cwd=cwd or environment,
        env={name: value for name, value in os.environ.items() if name not in settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout or (done.stderr if code else "")


def test_an_editable_install_imports_both_packages_from_the_checkout(environment, project):
    code = "import dupmae_toolkit, dupmae_cli; print(dupmae_toolkit.__path__, dupmae_cli.__path__)"
    found = python(environment, "-c", code)
    assert found == f"['{project}/src/dupmae_toolkit'] ['{project}/src/dupmae_cli']\n"
    assert python(environment, environment / "bin" / "dupmae", "--version").startswith("dupmae ")


def test_it_is_one_folder_on_the_path_that_type_checkers_can_follow(environment, project):
    """pyright and editors read such files and look into the folders that they name; finders that
    setuptools installs as code where it cannot name a folder are lost on them."""
    [path] = site_packages(environment).glob("__editable__*")
    assert path.read_text().strip() == str(project / "src")
    assert (project / "src" / "dupmae_toolkit" / "py.typed").is_file()


def test_mypy_accepts_right_use_and_reports_wrong_use(environment):
    files = {"right.py": RIGHT, "wrong.py": WRONG, "mypy.ini": MYPY_CONFIG}
    for name, text in files.items():
        (environment / name).write_text(text)
    out = python(environment, "-m", "mypy", "right.py", "wrong.py", code=1)
    reported = re.findall(r"^(\S+): error: ", out, re.MULTILINE)
    lines = enumerate(WRONG.splitlines(), 1)
    assert reported == [f"wrong.py:{number}" for number, line in lines if "# wrong" in line], out


@pytest.fixture(scope="module")
def sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of the project."""
    folder = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=project, check=True, capture_output=True)
    [archive] = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def wheel(request, environment, project, sdist, tmp_path_factory) -> Path:
    """A wheel, built from the checkout or from a source distribution of it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = project if request.param == "checkout" else sdist
    python(environment, *PIP, "wheel", *OFFLINE, "--wheel-dir", folder, source)
    [path] = folder.glob("*.whl")
    return path


def test_a_wheel_holds_every_file_of_both_packages_the_recipes_and_nothing_else(project, wheel):
    folders = {
        "dupmae_toolkit": "dupmae_toolkit",
        "dupmae_cli": "cli",
        "dupmae_toolkit/training/recipes": "recipes",
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        for path in RECIPES:
            assert archive.read(f"dupmae_toolkit/training/recipes/{path.name}") == path.read_bytes()
    assert found == {
        f"{package}/{path.relative_to(project / folder).as_posix()}"
        for package, folder in folders.items()
        for path in (project / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def check_recipes(environment: Path, folder: Path) -> None:
    """The installed command lists, prints and takes the recipes by name, in an empty folder."""
    folder.mkdir()
    dupmae = environment / "bin" / "dupmae"
    listed = python(environment, dupmae, "recipes", cwd=folder)
    assert [line.split()[0] for line in listed.splitlines()] == [path.stem for path in RECIPES]
    printed = python(environment, dupmae, "recipes", "builtin-near", cwd=folder)
    assert printed == (ROOT / "recipes" / "builtin-near.yaml").read_text("utf-8")
    words = ["pretrain", "pretrain-msmarco", "--data", "collection.tsv"]
    out = python(environment, dupmae, *words, code=2, cwd=folder)
    assert out == (
        f"dupmae: checkpoints/pretrain-general/final: no such folder in {folder}; `dupmae pretrain "
        "pretrain-general`, run there, makes it; or name another start with --set model=FOLDER "
        "(changes=…)\n"
    )
    assert list(folder.iterdir()) == []


def test_an_installed_wheel_has_the_recipes(wheel, tmp_path):
    installed = fresh(tmp_path / "environment")
    python(installed, *PIP, "install", *OFFLINE, wheel)
    assert "site-packages" in python(installed, "-c", "import dupmae_cli; print(dupmae_cli)")
    check_recipes(installed, tmp_path / "empty")


def test_an_editable_install_has_the_recipes_of_the_checkout(environment, project, tmp_path):
    check_recipes(environment, tmp_path / "empty")
    changed = project / "recipes" / "mine.yaml"
    changed.write_text("# One of my own.\nmodel: builtin\noutput: out\nsteps: 1\ndata: [x]\n")
    try:
        found = python(environment, environment / "bin" / "dupmae", "recipes", "mine", cwd=tmp_path)
        assert found == changed.read_text()
    finally:
        changed.unlink()


def test_a_source_distribution_has_the_recipes_and_no_half_of_the_tests(sdist):
    with tarfile.open(sdist) as archive:
        recipes = {Path(name).name for name in archive.getnames() if name.endswith(".yaml")}
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert not {"tests", "benchmarks"} & tops
    assert recipes == {path.name for path in RECIPES}
