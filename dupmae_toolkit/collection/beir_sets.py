"""BEIR's data sets, and where each comes from."""

from __future__ import annotations

from typing import NamedTuple


class BeirSet(NamedTuple):
    """A data set of BEIR's paper. id: that of ir_datasets; "" if it cannot be downloaded.

    splits: those with judgements; the paper reports ``test``, for MS MARCO ``dev``.
    """

    name: str
    id: str
    splits: tuple[str, ...]


#: The 18 data sets of BEIR (Thakur and others, 2021) and MS MARCO. Four must not be redistributed.
#: Version 2 of Touché 2020 has the later judgements.
BEIR_SETS = (
    BeirSet("MS MARCO", "beir/msmarco", ("dev", "test", "train")),
    BeirSet("TREC-COVID", "beir/trec-covid", ("test",)),
    BeirSet("NFCorpus", "beir/nfcorpus", ("dev", "test", "train")),
    BeirSet("BioASQ", "", ("test",)),
    BeirSet("NQ", "beir/nq", ("test",)),
    BeirSet("HotpotQA", "beir/hotpotqa", ("dev", "test", "train")),
    BeirSet("FiQA-2018", "beir/fiqa", ("dev", "test", "train")),
    BeirSet("Signal-1M", "", ("test",)),
    BeirSet("TREC-NEWS", "", ("test",)),
    BeirSet("Robust04", "", ("test",)),
    BeirSet("ArguAna", "beir/arguana", ("test",)),
    BeirSet("Touché-2020", "beir/webis-touche2020/v2", ("test",)),
    BeirSet("CQADupStack", "beir/cqadupstack", ("test",)),
    BeirSet("Quora", "beir/quora", ("dev", "test")),
    BeirSet("DBPedia", "beir/dbpedia-entity", ("dev", "test")),
    BeirSet("SCIDOCS", "beir/scidocs", ("test",)),
    BeirSet("FEVER", "beir/fever", ("dev", "test", "train")),
    BeirSet("Climate-FEVER", "beir/climate-fever", ("test",)),
    BeirSet("SciFact", "beir/scifact", ("test", "train")),
)
