"""Training texts about programming: the docstrings of the installed packages.

    python -m benchmarks.docstrings FOLDER

Writes FOLDER/docstrings.jsonl (a name with its parameters and module as ``title``, its docstring as
``text``) and FOLDER/docstring-pairs.jsonl (``query``, ``positive``): the first sentence of a
docstring as a person might ask it, and the title with the rest of the docstring. The standard
library is left out, because its docstrings are the documents of the demonstration; so is every text
that begins as one of them, since packages copy from it. The texts depend on which packages are
installed, and in which versions.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae_toolkit.demo.docstrings import read_docstrings

#: Packages in pure Python, or with Python around their C code, that document what they do.
PACKAGES = str.split(
    """
    PIL accelerate attr cachetools click cloudpickle datasets faiss fastapi filelock flask
    fontTools fsspec httpx huggingface_hub jinja2 joblib jsonschema lxml matplotlib
    more_itertools networkx numpy openai packaging pandas pathspec platformdirs
    psutil pyarrow pydantic pygments pyparsing pytest referencing requests rich
    scipy setuptools sklearn starlette sympy tokenizers torch tqdm transformers typer urllib3
    uvicorn websockets werkzeug yaml
    """
)
MOST = 2500  # of one package, so that none outweighs the others
FEWEST_WORDS, WORDS = 6, 250
_NO_DOCUMENTS = "tests?|testing|_?vendor(ed)?|examples?|benchmarks?|conftest"
SKIPPED = re.compile(rf"(^|/)({_NO_DOCUMENTS})(/|\.|_|$)")
NAMED = ("{}", "{} in Python")  # what a class is
ASKED = (  # what a function does
    "how do I {}",
    "how to {}",
    "how can I {}",
    "what is the way to {}",
    "is there a function to {}",
    "I want to {}",
    *NAMED,
    "{}",
)
VERBS = {"does": "do", "has": "have", "is": "be", "caches": "cache"}
AS_THEY_ARE = {"always", "alias", "as", "axes", "its", "perhaps", "series", "various", "was"}
_BEGINNING = 150  # characters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    demonstration = {beginning(document.text) for document in read_docstrings()}
    texts = [
        (title, text)
        for title, text in documented(Path(sysconfig.get_paths()["purelib"]))
        if beginning(text) not in demonstration
    ]
    pairs = [pair for title, text in texts if (pair := asked(title, text))]
    write(folder / "docstrings.jsonl", [{"title": t, "text": x} for t, x in texts])
    write(folder / "docstring-pairs.jsonl", [{"query": q, "positive": p} for q, p in pairs])
    print(f"{len(texts):,} docstrings, {len(pairs):,} of them as pairs, in {folder}")


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def documented(folder: Path) -> list[tuple[str, str]]:
    """Title and text of each different docstring, at most MOST of a package, in random order."""
    found, seen = [], set()
    for package in PACKAGES:
        here = []
        for path in sorted((folder / package).rglob("*.py")):
            name = path.relative_to(folder).with_suffix("")
            if SKIPPED.search(name.as_posix()):
                continue
            module = ".".join(part for part in name.parts if part != "__init__")
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError):
                continue
            for title, text in symbols(tree, module):
                if (key := (title.split("(")[0], text)) not in seen:
                    seen.add(key)
                    here.append((title, text))
        here.sort(key=digest)
        found += here[:MOST]
    return sorted(found, key=digest)


def beginning(text: str) -> str:
    """What two copies of a text share."""
    return " ".join(text.split())[:_BEGINNING]


def stem(verb: str) -> str:
    """A verb in the third person, as in "applies", without its ending; other words as they are."""
    if verb in VERBS:
        return VERBS[verb]
    if verb in AS_THEY_ARE or not verb.endswith("s") or verb.endswith(("ss", "us", "is")):
        return verb
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    return verb[:-2] if verb.endswith(("sses", "shes", "ches", "xes", "zzes")) else verb[:-1]


def digest(item: tuple[str, str]) -> bytes:
    """A sort key that shuffles, the same way every time."""
    return hashlib.sha256("\n".join(item).encode("utf-8", "replace")).digest()


def symbols(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Title and text of each public class, function and method with a docstring."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_"):
            continue
        text = inspect.cleandoc(ast.get_docstring(child) or "")
        words = text.split()
        if len(words) >= FEWEST_WORDS:
            kind = "class " if isinstance(child, ast.ClassDef) else ""
            title = f"{kind}{child.name}{parameters(child)} in {place}"
            yield title, text if len(words) <= WORDS else " ".join(words[:WORDS])
        if isinstance(child, ast.ClassDef):
            yield from symbols(child, f"{place}.{child.name}")


def parameters(node: Any) -> str:
    """The names of a function's parameters, as many as are short enough for a title."""
    if isinstance(node, ast.ClassDef):
        return ""
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    names = [name for name in names if name not in ("self", "cls")]
    while len(", ".join(names)) > 70:
        names = [*names[:-2], "…"]
    return f"({', '.join(names)})"


def asked(title: str, text: str) -> tuple[str, str] | None:
    """A question made of the first sentence, and the rest; None if either is too short."""
    first, _, rest = text.partition("\n\n")
    first = " ".join(first.split())
    sentence, _, more = first.partition(". ")
    words = sentence.rstrip(".:").split()
    rest = f"{more} {rest}".strip()
    if not 3 <= len(words) <= 20 or len(rest.split()) < FEWEST_WORDS or "*optional*" in sentence:
        return None
    is_class = title.startswith("class ")
    if not is_class and (words[0][1:].islower() or len(words[0]) == 1):
        words[0] = stem(words[0].lower())
    rng = random.Random(digest((title, text)))
    forms = NAMED if is_class else ASKED
    return rng.choice(forms).format(" ".join(words)), f"{title}\n{rest}"


if __name__ == "__main__":
    main()
