"""The options that several commands share, each declared once, with one help text.

Names that end in ``Option`` or ``Argument`` are parameter types, as in
``device: DeviceOption = None``. If the default means something different in each command, a
function makes the option; its argument is what the help shows as the default.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dupmae_toolkit.search.feedback import Feedback


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Dense(StrEnum):
    CLS = "cls"
    NONE = "none"


class Mode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"
    BM25 = "bm25"


class QueryEncoder(StrEnum):
    NETWORK = "network"
    LOOKUP = "lookup"
    LOOKUP_TERMS = "lookup-terms"


class Method(StrEnum):
    SUM = "sum"
    LINEAR = "linear"
    RRF = "rrf"
    COMBSUM = "combsum"
    COMBMNZ = "combmnz"


class TunedMethod(StrEnum):
    SUM = "sum"
    LINEAR = "linear"
    RRF = "rrf"


class Aggregate(StrEnum):
    MAX = "max"
    SUM3 = "sum3"


class FeedbackMethod(StrEnum):
    RM3 = "rm3"
    ROCCHIO = "rocchio"
    AVERAGE = "average"


class Norm(StrEnum):
    NONE = "none"
    MIN_MAX = "min-max"
    Z_SCORE = "z-score"


class Missing(StrEnum):
    ZERO = "zero"
    MIN = "min"
    LEAVE_OUT = "leave-out"


# Input.

VectorsOption = Annotated[
    Path | None,
    typer.Option(
        "--vectors",
        help="Vectors of the documents, by id: NAME.npy with NAME.ids, Parquet (id, dense, "
        "terms, weights), or JSON lines (id, vector).",
    ),
]
CORPORA = (
    "JSON, CSV, TSV, text (a document per line) or Parquet, also compressed (.gz, .bz2, .xz, "
    ".zst); a folder of such files, or of .txt and .md files; a BEIR folder or zip; an "
    "ir_datasets id; hf:NAME; - for standard input"
)
CorpusArgument = Annotated[str, typer.Argument(metavar="CORPUS", help=f"{CORPORA}.")]
TextsArgument = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS|ENCODED",
        help=f"{CORPORA}; or a folder written by `dupmae encode`.",
    ),
]
IdFieldOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="<field>",
        help="The field with the ids.",
        show_default="id, docno or another usual name, else rows are numbered from 0",
    ),
]
TitleFieldOption = Annotated[
    str | None,
    typer.Option(
        "--title",
        metavar="<field>",
        help="The field with the titles.",
        show_default="title, headline or name, if there is one",
    ),
]
TextFieldOption = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="<field>",
        help="The field with the texts.",
        show_default="text, contents, body or another usual name",
    ),
]
HeaderOption = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of a CSV or TSV names its columns.",
        show_default="if it looks like names",
    ),
]


class Duplicates(StrEnum):
    ERROR = "error"
    FIRST = "first"
    LAST = "last"


DuplicatesOption = Annotated[
    Duplicates,
    typer.Option(
        "--duplicates", help="Of documents with one id: refuse them, or keep the first or last."
    ),
]


def reading_of(
    id_field: str | None = None,
    title: str | None = None,
    text: str | None = None,
    header: bool | None = None,
    duplicates: Duplicates = Duplicates.ERROR,
    skip_invalid: bool = False,
) -> dict[str, Any]:
    """The arguments of ``open_corpus`` that the options give."""
    from dupmae_toolkit.collection.fields import Columns

    return {
        "columns": Columns(id_field, title, text, header),
        "duplicates": duplicates.value,
        "skip_invalid": skip_invalid,
    }


SkipInvalidOption = Annotated[
    bool,
    typer.Option(
        "--skip-invalid",
        help="Skip lines that are not valid documents, such as those without text, and report "
        "them.",
    ),
]
_INDEX = "The folder of the index."
IndexOption = Annotated[Path, typer.Option("--index", "-i", help=_INDEX)]
OptionalIndexOption = Annotated[Path | None, typer.Option("--index", "-i", help=_INDEX)]
TOPICS = (
    "The topics: a BEIR folder or zip with --split, a file of queries, or a folder that `dupmae "
    "encode --queries` wrote."
)
_SPLIT = "The split of a BEIR data set, such as test."
SplitOption = Annotated[str, typer.Option("--split", help=_SPLIT)]
SplitsOption = Annotated[
    list[str] | None, typer.Option("--split", help=_SPLIT, show_default="test")
]


def split_option(default: str) -> Any:
    """``--split``; ``default``: the text that the help shows as the default."""
    return typer.Option("--split", help=_SPLIT, show_default=default)


# The encoder, and where it runs.

_MODEL = (
    "The encoder: builtin, a folder or a Hugging Face hub id (also of sentence-transformers or "
    "SPLADE); DENSE+LEXICAL for a pair."
)
ModelOption = Annotated[str, typer.Option("--model", "-m", help=_MODEL)]


def model_option(default: str) -> Any:
    """``--model`` where the default may be another encoder than the built-in one."""
    return typer.Option("--model", "-m", help=_MODEL, show_default=default)


DenseOption = Annotated[
    Dense | None,
    typer.Option(
        "--dense",
        help="For a masked LM whose files name no dense vector: cls takes [CLS]; none takes the "
        "lexical vectors alone.",
        show_default="as the model's files say, else none",
    ),
]
IndexModelOption = Annotated[str | None, model_option("the one that the index names")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where the model runs: cpu, cuda, cuda:1, mps …",
        show_default="a CUDA GPU if there is one, else cpu",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="auto: bf16 where it is faster on this hardware, else fp32; queries always in fp32. "
        "In bf16 a text's vectors depend a little on the texts encoded with it.",
    ),
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        help="Tokens to keep of each text, special tokens included; the rest is cut off.",
        show_default="the model's",
    ),
]
QueryLengthOption = Annotated[
    int | None,
    typer.Option(
        "--query-length",
        help="Tokens to keep of each query, special tokens included; the rest is cut off. Every "
        "index takes any length.",
        show_default="the index's or model's",
    ),
]

# The index.

_FAISS = "A FAISS factory string: Flat (exact), HNSW32, IVF1024,Flat, PQ64 …"
FaissOption = Annotated[str, typer.Option("--faiss", help=_FAISS)]


def faiss_option(default: str) -> Any:
    """``--faiss``; ``default``: what the help shows as the default."""
    return typer.Option("--faiss", help=_FAISS, show_default=default)


PassagesOption = Annotated[
    int | None,
    typer.Option(
        "--passages",
        metavar="<int>",
        help="Cut texts into passages of at most this many of the model's tokens, at the end of a "
        "sentence if one is near; a search then ranks documents by their passages.",
        show_default="no passages",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        metavar="<int>",
        help="The most tokens that a passage may share with the next.",
        show_default="a quarter of --passages",
    ),
]
WaitOption = Annotated[
    float,
    typer.Option("--wait", help="Seconds to wait if another process is changing the index."),
]

# Searching and fusing.

_HITS = "Hits to return for each query."
KOption = Annotated[int, typer.Option("-k", "--k", help=_HITS)]


def k_option(default: str) -> Any:
    """``-k`` where the default depends on the other options."""
    return typer.Option("-k", "--k", help=_HITS, show_default=default)


FusionOption = Annotated[
    Method,
    typer.Option("--fusion", help="How the parts of a hybrid score are combined."),
]
HybridWeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Weights of dense, lexical and bm25, as in 40,1,1.5; with --plain or an index without "
        "BM25, of the first two.",
        show_default="the index's for sum, else equal",
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="The score that the model was trained for: dense + lexical, without BM25 and "
        "frequency factors.",
    ),
]
IdfPowerOption = Annotated[
    float | None,
    typer.Option(
        "--idf-power",
        help="Multiply the weights of a query's tokens by (idf / mean idf) to this power; 0 leaves "
        "them as they are.",
        show_default="the index's, 1 unless --plain",
    ),
]
NoBm25Option = Annotated[
    bool,
    typer.Option("--no-bm25", help="Leave out the words of the texts, which BM25 scores."),
]
RunWeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="A weight for each run, as in 0.3,0.7.", show_default="equal"),
]
NORM = typer.Option(
    "--norm", help="How each list's scores are normalised.", show_default="the method's"
)
NormOption = Annotated[Norm | None, NORM]
RrfOption = Annotated[float, typer.Option("--rrf-k", help="The k in rrf's 1 / (k + rank).")]
ExactOption = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Search deeper until each ranking is proven to be the one that scoring every document "
        "would give.",
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help="A condition on the documents' metadata, as in \"year >= 2020 and dept in ('sales', "
        "'legal')\". Scores stay as they are; exact then means: of the documents that match.",
    ),
]
AmongOption = Annotated[
    Path | None,
    typer.Option(
        "--among", help="A file of ids, one per line, of the documents to search; - for stdin."
    ),
]
OffsetOption = Annotated[
    int | None,
    typer.Option(
        "--offset",
        help="How many of the best hits to leave out. Pages, put together, are one long ranking, "
        "whatever -k: sums are proven exact, other fusions read the same --depth (1000) each time.",
        show_default="no pages",
    ),
]
AggregateOption = Annotated[
    Aggregate | None,
    typer.Option(
        "--aggregate",
        help="For an index of passages: a document's score is that of its best passage (max), or "
        "the sum of its three best (sum3).",
        show_default="max",
    ),
]
FeedbackOption = Annotated[
    FeedbackMethod | None,
    typer.Option(
        "--feedback",
        help="Search again with a query that the first documents make: RM3 (dense vectors by "
        "Rocchio's formula), Rocchio's for all, or an average that counts the query as one more "
        "document.",
        show_default="no feedback",
    ),
]
FeedbackDocumentsOption = Annotated[
    int | None,
    typer.Option("--fb-docs", help="Documents that --feedback reads.", show_default="10"),
]
FeedbackTermsOption = Annotated[
    int | None,
    typer.Option(
        "--fb-terms",
        help="Terms that --feedback takes from these documents, of tokens and of words each.",
        show_default="10",
    ),
]
FeedbackWeightOption = Annotated[
    float | None,
    typer.Option(
        "--fb-weight",
        help="The share of the first query in the second, from 0 to 1.",
        show_default="0.5; for average, 1 / (documents + 1)",
    ),
]
QueryTermsOption = Annotated[
    int | None,
    typer.Option(
        "--query-terms",
        help="Search only so many tokens, and so many words, of a query: those of the largest "
        "weight after frequencies.",
        show_default="all",
    ),
]


def feedback_of(
    method: FeedbackMethod | None, documents: int | None, terms: int | None, weight: float | None
) -> Feedback | None:
    """The feedback that the options give; InputError if there is no method for the others."""
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.feedback import Feedback

    options = {"--fb-docs": documents, "--fb-terms": terms, "--fb-weight": weight}
    given = {name: value for name, value in options.items() if value is not None}
    if method is None:
        if given:
            raise InputError(f"{', '.join(given)}: goes with --feedback; name its method")
        return None
    counts = {"documents": documents, "terms": terms}
    own = {name: value for name, value in counts.items() if value is not None}
    return Feedback(method.value, weight=weight, **own)


TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag",
        help="The name of the run, written in its last column.",
        show_default="named after the mode or method",
    ),
]

# Training examples.

MarginOption = Annotated[
    float | None,
    typer.Option(
        "--margin",
        help="Leave out negatives that score above the best positive's score minus this.",
    ),
]
MarginRatioOption = Annotated[
    float | None,
    typer.Option(
        "--margin-ratio", help="The margin as a fraction of the best positive's score, as in 0.05."
    ),
]

# Cross-encoders.

CrossEncoderLengthOption = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        help="Tokens to keep of query and text together, for --cross-encoder.",
        show_default="the model's",
    ),
]
LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="If the cross-encoder has several labels, the one that means relevant.",
    ),
]

# Results.

_QRELS = (
    "Judgements: a file with BEIR's three or TREC's four columns; with --split, a BEIR folder or "
    "zip; or irds:NAME, a data set of ir_datasets."
)
QrelsOption = Annotated[str, typer.Option("--qrels", help=_QRELS)]


def qrels_option(default: str) -> Any:
    """``--qrels`` where it may be left out; ``default``: what the help shows as the default."""
    return typer.Option("--qrels", help=_QRELS, show_default=default)


_RUNS = "TREC runs, plain or compressed (.gz, .bz2, .xz, .zst); - for standard input."
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN", help=_RUNS)]
SeveralRunsArgument = Annotated[
    list[Path], typer.Argument(metavar="RUN", help=f"Two or more {_RUNS}")
]
OptionalRunsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="RUN", help=f"Two or more {_RUNS}")
]
MEASURES = "nDCG@10 R@100 RR@10 AP@1000"
MeasuresOption = Annotated[
    list[str] | None,
    typer.Option(
        "--measures",
        help="Measures, named as in ir_measures or trec_eval. For several, quote them in one "
        "string or repeat the option.",
        show_default=MEASURES,
    ),
]
DropSelfOption = Annotated[
    bool | None,
    typer.Option(
        "--drop-self/--keep-self",
        help="Leave out, or keep, the hit that has the topic's own id. Leave it out where topics "
        "are documents themselves.",
        show_default="leave out in ArguAna and Quora",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
]


def measure_names(measures: list[str] | None) -> list[str]:
    """The names that ``--measures`` gives, however often it is repeated; None: ``MEASURES``."""
    from dupmae_toolkit.evaluation.measures import split_measures

    return split_measures(" ".join(measures or [MEASURES]))
