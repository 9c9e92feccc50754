"""Two encoders as one, and encoders of other packages."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, load_encoder
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.model import plugins
from tests.cli_support import run
from tests.sentence_support import TEXTS, save_sentence, save_splade
from tests.support import HashingEncoder
from tests.tiny import save_tiny


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    dense, lexical = tmp_path / "a+b", tmp_path / "sparse"
    overall = {"prompts": {"query": "w40 "}, "similarity_fn_name": "cosine"}
    save_sentence(dense, "mean", max_length=12, overall=overall)
    save_splade(lexical, seed=5)
    return dense, lexical


def test_a_pair_has_the_vectors_of_both(folders):
    dense, lexical = folders  # the sign in a folder's name does not divide it
    pair = load_encoder(f"{dense}+{lexical}", precision="fp32")
    alone = [load_encoder(folder, precision="fp32") for folder in folders]
    for name in ("encode_documents", "encode_queries"):
        found = getattr(pair, name)(TEXTS)
        wanted = [getattr(encoder, name)(TEXTS) for encoder in alone]
        np.testing.assert_array_equal(found.dense, wanted[0].dense)
        np.testing.assert_array_equal(found.lexical.toarray(), wanted[1].lexical.toarray())
        assert found.truncated == 1
    info = pair.info
    assert info.name == f"{dense}+{lexical}"
    assert info.sides == ("dense", "lexical")
    assert (info.query_prefix, info.max_length, info.pooling) == ("w40 ", 20, "mean")
    assert pair.vocabulary == alone[1].vocabulary
    assert load_encoder(info.name, max_length=info.max_length).info == info
    shorter = load_encoder(info.name, max_length=7)
    assert (shorter.dense.config.max_length, shorter.lexical.config.max_length) == (7, 7)
    assert "weights_sha256" in info.differences(shorter.info)


def test_an_index_finds_its_pair_again(folders, tmp_path: Path, capsys):
    corpus, place = tmp_path / "c.jsonl", tmp_path / "index"
    corpus.write_text('{"id":"a","text":"w1 w2"}\n{"id":"b","text":"w3 w4"}\n')
    name = "+".join(map(str, folders))
    code, _, err = run(capsys, "index", corpus, "--index", place, "--model", name)
    assert code == 0, err
    with HybridIndex.open(place) as index:
        hit = index.search("w3 w4")[0]
        assert hit.score == pytest.approx(hit.dense + hit.lexical + hit.bm25, abs=1e-5)
        index.add([{"id": "c", "text": "w5"}])
    _, out, _ = run(capsys, "info", "--index", place, "--json")
    assert json.loads(out)["parts"] == ["dense", "lexical", "bm25"]
    save_splade(folders[1], seed=6)
    with HybridIndex.open(place) as index, pytest.raises(EncoderMismatchError):
        index.search("w3")


def test_halves_that_give_nothing_are_refused(folders, tmp_path: Path):
    dense, lexical = folders
    for name in (f"{lexical}+{lexical}", f"{dense}+{dense}", f"{dense}+{tmp_path}/gone"):
        with pytest.raises(InputError) as caught:
            load_encoder(name)
        assert "\n" not in str(caught.value)
    whole = tmp_path / "whole"
    save_tiny(whole)
    both = load_encoder(f"{whole}+{whole}")  # of both vectors, one is taken of each
    assert both.dense.info.sides == ("dense",)
    assert both.lexical.info.sides == ("lexical",)


def make(rest: str, **settings: object) -> object:
    if rest == "broken":
        raise RuntimeError("no weights\nhere")
    return HashingEncoder(name=f"acme:{rest}") if rest == "hash" else settings


@pytest.fixture
def acme(monkeypatch):
    point = EntryPoint("acme", "tests.test_pairs:make", plugins.GROUP)
    monkeypatch.setattr(
        plugins, "entry_points", lambda group, name: [point] if name == "acme" else []
    )


@pytest.mark.usefixtures("acme")
def test_a_registered_encoder_is_called_by_its_name(tmp_path: Path):
    encoder = load_encoder("acme:hash")
    HybridIndex.build(tmp_path / "i", [{"id": "a", "text": "blue sea"}], encoder).close()
    with HybridIndex.open(tmp_path / "i") as index:  # its manifest names it
        assert index.search("sea")[0].id == "a"


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("name", ["acme:broken", "acme:other", "json:loads", "tests.support:X"])
def test_what_makes_no_encoder_is_one_line_and_no_module_is_imported_by_name(name: str):
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch, capsys):
    page = Path(__file__).parents[1] / "docs" / "encoders.md"
    code = page.read_text("utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.splitlines()[-1] == "a"
