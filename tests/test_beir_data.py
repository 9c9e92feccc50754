"""BEIR data sets in folders, in zips, and by their ir_datasets ids."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from dupmae_toolkit.collection.beir import drops_self_matches, open_beir, open_beir_group
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Document, Query

HEADER = "query-id\tcorpus-id\tscore\n"


def members(prefix: str = "toy/") -> dict[str, str]:
    return {
        f"{prefix}corpus.jsonl": '{"_id": "d1", "text": "x"}\n{"_id": "d2", "text": "y"}\n',
        f"{prefix}queries.jsonl": "".join(
            json.dumps({"_id": name, "text": f"about {name}"}) + "\n" for name in ("3", "1", "2")
        ),
        f"{prefix}qrels/test.tsv": HEADER + "1\td1\t1\n3\td2\t2\n",
        f"{prefix}qrels/train.tsv": HEADER + "2\td1\t1\n",
    }


def make_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def make_folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, "utf-8")
    return path


@pytest.fixture(params=["zip", "folder", "folder around it"])
def toy(request, tmp_path):
    if request.param == "zip":
        return make_zip(tmp_path / "download.zip", members())
    if request.param == "folder":
        return make_folder(tmp_path / "toy", members(""))
    return make_folder(tmp_path / "around", members())


def test_a_data_set_is_its_corpus_its_judged_topics_and_its_qrels(toy):
    dataset = open_beir(toy)
    assert dataset.name == "toy"
    assert dataset.splits() == ["test", "train"]
    assert [document.id for document in dataset.corpus] == ["d1", "d2"]
    assert dataset.qrels("test") == {"1": {"d1": 1}, "3": {"d2": 2}}
    assert dataset.queries("test") == [Query("3", "about 3"), Query("1", "about 1")]
    assert read_qrels(toy, "train") == {"2": {"d1": 1}}
    assert not dataset.drops_self_matches


@pytest.mark.parametrize("split", ["dev", "", "../test", "Test"])
def test_a_split_that_is_not_there_is_refused_and_the_others_are_named(toy, split):
    for read in (open_beir(toy).qrels, open_beir(toy).queries):
        with pytest.raises(InputError, match=r"no split .* in it; available: test, train"):
            read(split)


def test_judged_topics_without_a_text_are_refused(tmp_path):
    files = members() | {"toy/qrels/test.tsv": HEADER + "1\td1\t1\n9\td2\t1\n"}
    dataset = open_beir(make_zip(tmp_path / "z.zip", files))
    with pytest.raises(InputError, match=r"1 topic of split 'test' has .* '9' first"):
        dataset.queries("test")


def test_missing_parts_are_named(tmp_path):
    only = {"toy/corpus.jsonl": members()["toy/corpus.jsonl"]}
    dataset = open_beir(make_zip(tmp_path / "a.zip", only))
    assert dataset.splits() == []
    with pytest.raises(InputError, match="available: none"):
        dataset.qrels("test")
    files = members()
    del files["toy/queries.jsonl"]
    with pytest.raises(InputError, match=r"no queries.jsonl in it"):
        open_beir(make_zip(tmp_path / "b.zip", files)).queries("test")
    with pytest.raises(InputError, match=r"no corpus.jsonl in it"):
        open_beir(tmp_path)
    with pytest.raises(InputError, match="not a BEIR folder or zip"):
        open_beir(make_folder(tmp_path, {"x.jsonl": "{}"}) / "x.jsonl")


def test_several_data_sets_in_one_zip_are_opened_together(tmp_path):
    files = members("cqa/android/") | members("cqa/english/")
    path = make_zip(tmp_path / "cqa.zip", files)
    assert [dataset.name for dataset in open_beir_group(path)] == ["android", "english"]
    assert open_beir_group(path)[1].queries("train") == [Query("2", "about 2")]
    with pytest.raises(InputError, match="several data sets"):
        open_beir(path)


def test_names_are_fit_for_file_names(tmp_path):
    path = make_zip(tmp_path / "z.zip", members("a b;c$(x)/"))
    assert open_beir(path).name == "a-b-c-x"


@pytest.mark.parametrize(
    ("name", "drops"),
    [
        ("arguana", True),
        ("Quora", True),
        ("beir-arguana", True),
        ("beir-quora-test", True),
        ("scifact", False),
        ("quoralike", False),
        ("msmarco", False),
    ],
)
def test_self_matches_are_dropped_only_where_the_data_set_calls_for_it(name, drops):
    assert drops_self_matches(name) is drops


@pytest.fixture
def registered(tmp_path):
    """A data set known to ir_datasets, of local files."""
    import ir_datasets

    files = {
        "docs.tsv": "d1\tfirst\nd2\tsecond\n",
        "queries.tsv": "001\tabout one\nNA\tabout two\n",
        "qrels.txt": "001 0 d1 1\nNA 0 d2 2\n",
    }
    make_folder(tmp_path, files)
    dataset = ir_datasets.create_dataset(
        docs_tsv=str(tmp_path / "docs.tsv"),
        queries_tsv=str(tmp_path / "queries.tsv"),
        qrels_trec=str(tmp_path / "qrels.txt"),
    )
    docs_only = ir_datasets.create_dataset(docs_tsv=str(tmp_path / "docs.tsv"))
    names = ("toy-local", "toy-local/test")
    ir_datasets.registry.register(names[0], docs_only)
    ir_datasets.registry.register(names[1], dataset)
    yield names[0]
    for name in names:
        ir_datasets.registry._registered.pop(name)


@pytest.mark.parametrize("prefix", ["irds:", ""])
def test_data_sets_of_ir_datasets_are_opened_by_id(registered, prefix):
    corpus = open_corpus(prefix + registered)
    assert list(corpus) == [Document("d1", "", "first"), Document("d2", "", "second")]
    assert corpus.name == "toy-local"
    dataset = open_beir(prefix + registered)
    assert dataset.splits() == ["test"]
    assert dataset.queries("test") == [Query("001", "about one"), Query("NA", "about two")]
    assert dataset.qrels("test") == {"001": {"d1": 1}, "NA": {"d2": 2}}
    assert read_queries(f"irds:{registered}/test") == dataset.queries("test")
    assert read_qrels(f"irds:{registered}/test") == dataset.qrels("test")
    with pytest.raises(InputError, match="no split 'dev' in it; available: test"):
        dataset.qrels("dev")
    with pytest.raises(InputError, match="has no queries"):
        read_queries(f"irds:{registered}")


def test_what_ir_datasets_cannot_give_is_said_in_one_line(registered, tmp_path):
    (tmp_path / "docs.tsv").unlink()
    with pytest.raises(DupMAEError, match="irds:toy-local: ir_datasets cannot load it") as caught:
        list(open_corpus(f"irds:{registered}"))
    assert "\n" not in str(caught.value)


def test_no_connection_is_one_line_without_a_log(registered, tmp_path, monkeypatch, capfd):
    import ir_datasets

    def fail(*_):
        ir_datasets.log.easy().warn("Download failed: no such host")
        print("docs_iter: 0%", file=sys.stderr)
        raise OSError("HTTPSConnectionPool(host='data.example', port=443): Max retries exceeded")

    loaded = ir_datasets.load(registered)
    monkeypatch.setattr(type(loaded), "docs_iter", fail, raising=False)
    with pytest.raises(DupMAEError) as caught:
        list(open_corpus(f"irds:{registered}"))
    assert str(caught.value) == (
        "irds:toy-local: ir_datasets cannot download it (data.example cannot be reached); name a "
        "BEIR folder or zip instead"
    )
    assert capfd.readouterr().err == ""
