"""`dupmae teach`: put a teacher's scores into training examples."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    CrossEncoderLengthOption,
    DeviceOption,
    JsonOption,
    LabelOption,
    MarginOption,
    MarginRatioOption,
    Method,
    NormOption,
    Precision,
    PrecisionOption,
    RrfOption,
    RunWeightsOption,
)

if TYPE_CHECKING:
    from dupmae_toolkit.mining.teaching import Teacher


class Part(StrEnum):
    JOINT = "joint"
    DENSE = "dense"
    LEXICAL = "lexical"


class Unlisted(StrEnum):
    MIN = "min"
    DROP = "drop"


def teach(
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="EXAMPLES", help="What `dupmae mine` wrote: JSON lines, plain or compressed."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write; may be EXAMPLES."),
    ],
    cross_encoder: Annotated[
        str | None,
        typer.Option(
            help="The teacher: a sequence classifier of transformers, as a folder or a hub id."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="<path>",
            help="The teacher: a TREC run. Can be repeated; several runs are fused.",
        ),
    ] = None,
    bm25: Annotated[
        str | None, typer.Option(help="The teacher: BM25 with the statistics of this corpus.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The teacher: an encoder of this toolkit: builtin, a folder or a hub id."
        ),
    ] = None,
    label: LabelOption = None,
    max_length: CrossEncoderLengthOption = None,
    part: Annotated[Part, typer.Option(help="Which score of --encoder to take.")] = Part.JOINT,
    method: Annotated[
        Method | None, typer.Option(help="How several runs are fused.", show_default="linear")
    ] = None,
    weights: RunWeightsOption = None,
    norm: NormOption = None,
    rrf_k: RrfOption = 60.0,
    missing: Annotated[
        Unlisted,
        typer.Option(
            help="For a text that a run does not list: min gives it the run's smallest score for "
            "the query, drop leaves it out."
        ),
    ] = Unlisted.MIN,
    bm25_index: Annotated[
        Path | None, typer.Option(help="A folder to keep the index of --bm25 in, for reuse.")
    ] = None,
    margin: MarginOption = None,
    margin_ratio: MarginRatioOption = None,
    keep_bare: Annotated[
        bool, typer.Option("--keep-bare", help="Keep queries whose negatives are all left out.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Discard the scores that an interrupted run with another teacher or other "
            "EXAMPLES left.",
        ),
    ] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Put a teacher's scores into mined examples, for distillation.

    The teacher is one of --cross-encoder, --run, --bm25 and --encoder. OUTPUT gets
    the examples with its scores in place of those in EXAMPLES, and OUTPUT.json a
    description of the teacher. Train on OUTPUT with `dupmae finetune`, as the
    recipe finetune-stage3 does. If interrupted, run the same command to
    continue.

    [bold]Examples:[/bold]

      dupmae teach mined.jsonl --output taught.jsonl --cross-encoder my-cross-encoder

      dupmae teach mined.jsonl --output taught.jsonl --run bm25.trec --run dense.trec --weights 1,2

      dupmae teach mined.jsonl --output taught.jsonl --bm25 scifact.zip --margin 0

      dupmae teach mined.jsonl.gz --output taught.jsonl.gz --encoder builtin --part dense
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.mining.examples import check_output
    from dupmae_toolkit.mining.teaching import TeachingOptions
    from dupmae_toolkit.mining.teaching import teach as work

    given = {"--cross-encoder": cross_encoder, "--run": run, "--bm25": bm25, "--encoder": encoder}
    chosen = [name for name, value in given.items() if value]
    if len(chosen) != 1:
        what = " and ".join(chosen) if chosen else "none is given"
        raise InputError(f"name one teacher: one of {', '.join(given)} ({what})")
    _check_options(
        chosen[0],
        {
            "--label": ("--cross-encoder", label),
            "--max-length": ("--cross-encoder", max_length),
            "--part": ("--encoder", part != Part.JOINT),
            "--method": ("--run", method),
            "--weights": ("--run", weights),
            "--norm": ("--run", norm),
            "--missing": ("--run", missing != Unlisted.MIN),
            "--bm25-index": ("--bm25", bm25_index),
        },
    )
    check_output(output)
    options = TeachingOptions(margin, margin_ratio, keep_bare)
    if not examples.is_file():
        raise InputError.at(examples, None, "no such file")
    console.if_interrupted(lambda: console.kept(output.with_name(f"{output.name}.part")))
    loading: dict[str, Any] = {"device": device, "precision": precision.value}
    with contextlib.ExitStack() as stack:
        teacher: Teacher
        if cross_encoder:
            from dupmae_toolkit.mining.teachers.cross_encoder import CrossEncoder

            teacher = CrossEncoder(cross_encoder, label=label, max_length=max_length, **loading)
        elif run:
            from dupmae_toolkit.mining.teachers.runs import RunsTeacher

            teacher = RunsTeacher(run, _fusion(len(run), method, weights, norm, rrf_k), missing)
        elif bm25:
            from dupmae_toolkit.collection.opening import open_corpus
            from dupmae_toolkit.mining.teachers.bm25 import LuceneBm25

            teacher = LuceneBm25(open_corpus(bm25), bm25_index, console.bar)
            stack.callback(teacher.close)
        else:
            assert encoder is not None
            from dupmae_toolkit.mining.teachers.encoder import EncoderTeacher
            from dupmae_toolkit.model.encoder import DupMAEEncoder

            teacher = EncoderTeacher(DupMAEEncoder.from_pretrained(encoder, **loading), part.value)
        about = work(examples, output, teacher, options, restart=restart, progress=console.bar)
        cut = getattr(teacher, "cut", 0)
    if json:
        console.print_json(about)
        return
    if cut:
        console.say(f"{cut:,} pairs were longer than {about['teacher']['max_length']} tokens")
    console.say(_summary(output, about["report"]))


def _check_options(chosen: str, options: dict[str, tuple[str, Any]]) -> None:
    """Refuse options that belong to another teacher."""
    from dupmae_toolkit.errors import InputError

    for name, (owner, value) in options.items():
        if value and owner != chosen:
            raise InputError(f"{name} goes with {owner}; leave it out with {chosen}")


def _fusion(runs: int, method: Method | None, weights: str | None, norm: Any, rrf_k: float) -> Any:
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    default = Method.LINEAR if runs > 1 or norm else Method.SUM
    return Fusion(
        (method or default).value,
        parse_weights(weights),
        norm.value if norm else None,
        "min",
        rrf_k,
    )


def _summary(output: Path, report: dict[str, Any]) -> str:
    parts = [f"{output}: {report['written']:,} of {report['examples']:,} queries"]
    parts.append(f"{report['positives']:,} positives, {report['negatives']:,} negatives")
    if report["texts_unknown_to_teacher"]:
        parts.append(f"{report['texts_unknown_to_teacher']:,} texts unknown to the teacher")
    if report["negatives_too_near"]:
        parts.append(f"{report['negatives_too_near']:,} negatives too near to the positive")
    above = report["negatives_above_positive"]
    parts.append(f"{above:,} negatives above the best positive")
    if report["margins"]:
        parts.append(f"median margin {report['margins']['median']:.4g}")
    return "; ".join(parts)
