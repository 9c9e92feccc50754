"""`dupmae tune`: the best weights of a weighted sum, of runs or of an index's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    TOPICS,
    DeviceOption,
    DropSelfOption,
    IndexModelOption,
    JsonOption,
    Norm,
    OptionalIndexOption,
    OptionalRunsArgument,
    Precision,
    PrecisionOption,
    QrelsOption,
    QueryLengthOption,
    TunedMethod,
    WaitOption,
    split_option,
)
from dupmae_cli.runs import say_other_ids, say_unjudged
from dupmae_toolkit.errors import counted

#: Seconds to wait by default for another process that changes the index.
_WAIT = 60.0


def tune(
    qrels: QrelsOption,
    runs: OptionalRunsArgument = None,
    index: OptionalIndexOption = None,
    queries: Annotated[str | None, typer.Option(help=TOPICS, show_default="none: RUNs")] = None,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    measure: Annotated[
        str, typer.Option(help="nDCG@k, R@k, P@k, RR@k, AP@k, Success@k or RBP(rel=1)@k.")
    ] = "nDCG@10",
    fusion: Annotated[
        TunedMethod | None,
        typer.Option(
            "--fusion",
            help="What is weighted: scores as they are, scores after a --norm, or rrf's "
            "reciprocal ranks.",
            show_default="sum for an index, linear for RUNs",
        ),
    ] = None,
    norm: Annotated[
        Norm | None,
        typer.Option(
            "--norm",
            help="How each list's scores are normalised.",
            show_default="the best is chosen",
        ),
    ] = None,
    rrf_ks: Annotated[
        str | None,
        typer.Option(
            "--rrf-ks",
            metavar="<numbers>",
            help="The values of rrf's k from which the best is chosen, as in 10,60.",
            show_default="1,2,5,10,20,40,60,100,200,500",
        ),
    ] = None,
    idf_powers: Annotated[
        str | None,
        typer.Option(
            "--idf-powers",
            metavar="<numbers>",
            help="The values of the index's --idf-power from which the best is chosen, as in "
            "0,0.5,1.",
            show_default="the index's",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=1,
            help="How many documents of each part's list are candidates.",
            show_default="1000",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds in the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed for dealing topics to the folds.")] = 1,
    training_figure: Annotated[
        bool,
        typer.Option(
            "--training-figure",
            help="Also print the value on the topics tuned on, which tends to be too high.",
        ),
    ] = False,
    per_query: Annotated[
        bool,
        typer.Option(
            "--per-query",
            help="Also measure what a dense weight for each query would gain, predicted from its "
            "words and lists.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Also draw the measure by each weight into this SVG file, as the difference from "
            "the best; with --training-figure, the value.",
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Write the weights into the index, whose searches use them."),
    ] = False,
    drop_self: DropSelfOption = None,
    model: IndexModelOption = None,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    wait: WaitOption = _WAIT,
    json: JsonOption = False,
) -> None:
    """Find the best weights of a weighted sum, of runs or of an index's parts.

    No grid is searched: every weight at which a relevant document changes its rank is
    computed. Of two weights, none are better. With three or more, one weight after
    another is moved to its best value until no move gains anything, from several starting
    points; the result need not be the best of all. If a range of weights is equally good,
    it is printed, and its middle is taken, in few digits.

    The value is measured on topics held out: each is ranked with the weights, and the norm,
    rrf's k and idf power, that were tuned on the topics of the other folds. Its interval is
    a 95% bootstrap interval over topics.

    With --index, the weights are those of dense, lexical and bm25. The candidates of a
    topic are the first --depth documents of each part, with all scores computed. The
    weights are then searched with; if a document outside the lists changes a value, they
    are made longer.

    With RUNs, a document that a run lacks scores 0 in it, after --norm, as in `dupmae fuse
    --method linear`; give the weights to that command, with the same --norm. Equal sums
    are ordered by document id, descending, as there and in trec_eval.

    [bold]Examples:[/bold]

      dupmae tune --index indexes/scifact --queries scifact.zip --qrels scifact.zip --split train

      dupmae tune --index indexes/notes --queries q.tsv --qrels q.qrels --idf-powers 0,1 --save

      dupmae tune dense.trec lexical.trec --qrels qrels.txt --plot weights.svg

      dupmae tune a.trec b.trec c.trec --qrels scifact.zip --split train --measure R@100 --json

      dupmae tune a.trec b.trec --qrels qrels.txt --fusion rrf --rrf-ks 10,60
    """
    from dupmae_cli.tuning import check_plot, numbers, report_index, report_runs
    from dupmae_cli.updating import tell_if_interrupted
    from dupmae_toolkit.collection.beir import calls_to_drop_self
    from dupmae_toolkit.collection.opening import read_qrels
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.development import is_test
    from dupmae_toolkit.evaluation.tuned import RRF_KS

    of_index = {
        "--queries": queries,
        "--idf-powers": idf_powers,
        "--depth": depth,
        "--per-query": per_query,
        "--save": save,
        "--model": model,
        "--query-length": query_length,
        "--device": device,
        "--precision": precision != Precision.AUTO,
        "--wait": wait != _WAIT,
    }
    if rrf_ks is not None and fusion != TunedMethod.RRF:
        raise InputError("--rrf-ks goes with --fusion rrf")
    if wait != _WAIT and not save and index is not None:
        raise InputError("--wait goes with --save, which changes the index")
    if split is not None and is_test(split):
        console.say(f"split {split}: what is tuned on these topics cannot be tested on them")
    ks = RRF_KS if rrf_ks is None else numbers("--rrf-ks", rrf_ks)
    if plot is not None:
        check_plot(plot)
    drops = drop_self
    if drops is None:
        drops = any(calls_to_drop_self(name) for name in (qrels, queries) if name is not None)
    if drops:
        console.say("hits with their topic's own id are left out")
    if index is None:
        if not runs:
            raise InputError("name two or more RUNs, or an --index with its --queries")
        if len(runs) < 2:
            raise InputError("one run given; tuning takes two or more")
        given = [name for name, value in of_index.items() if value]
        if given or fusion == TunedMethod.SUM:
            option = given[0] if given else "--fusion sum"
            raise InputError(f"{option} goes with --index; runs are weighted by linear or rrf")
        labels = [str(path) for path in runs]
        if len(set(labels)) < len(labels):
            raise InputError("a run is given twice; name each once")
        from dupmae_toolkit.collection.trec import read_run
        from dupmae_toolkit.evaluation.missed import missed_by, why_none_is_judged
        from dupmae_toolkit.evaluation.self_matches import without_self_matches
        from dupmae_toolkit.evaluation.tuned import tune

        judged = read_qrels(qrels, split)
        found = [read_run(path) for path in runs]
        if drops:
            found = [without_self_matches(run) for run in found]
        if not any(topic in judged for run in found for topic in run.topics):
            why = why_none_is_judged(judged, found)
            raise InputError(f"{qrels}: judges no topic of these runs; {why}")
        method = (fusion or TunedMethod.LINEAR).value
        chosen = norm.value if norm else None
        tuned = tune(judged, found, measure, chosen, folds, seed, method, ks, progress=console.bar)
        for label, run in zip(labels, found, strict=True):
            if lacking := sum(topic not in run.topics for topic in judged):
                console.say(f"{label}: lacks {counted(lacking, 'judged topic')}, with scores of 0")
            say_unjudged(label, sum(topic not in judged for topic in run.topics))
            say_other_ids(label, missed_by(judged, run))
        report_runs(labels, tuned, training_figure, plot, json)
        return
    if runs:
        raise InputError("RUNs and --index do not go together; give one of them")
    if queries is None:
        raise InputError("--index takes its topics from --queries")
    method = (fusion or TunedMethod.SUM).value
    if save and method != "sum":
        raise InputError(f"--save keeps the weights of the index's sum, not those of {method}")
    from dupmae_toolkit.collection.opening import read_queries
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.evaluation.index_tuning import tune_index
    from dupmae_toolkit.index.reweighing import own_scoring, save_weights
    from dupmae_toolkit.index.scoring import Origin
    from dupmae_toolkit.search.hybrid_index import HybridIndex

    encoded = EncodedCorpus.is_one(queries)
    if encoded and query_length is not None:
        raise InputError(
            f"{queries}: holds encoded queries; leave out --query-length, or encode them again "
            "with another --max-length"
        )
    judged = read_qrels(qrels, split)
    own_split = split if queries == qrels else None
    topics: Any = EncodedCorpus.open(queries) if encoded else read_queries(queries, own_split)
    with HybridIndex.open(
        index, model, device=device, precision=precision.value, query_max_length=query_length
    ) as opened:
        if save:
            own_scoring(index, opened.manifest)  # before the work
            tell_if_interrupted(index)
        best = tune_index(
            opened,
            topics,
            judged,
            measure,
            fusion=method,
            norm=norm.value if norm else None,
            rrf_ks=ks,
            idf_powers=None if idf_powers is None else numbers("--idf-powers", idf_powers),
            depth=depth or 1000,
            folds=folds,
            seed=seed,
            drop_self=drops,
            per_query=per_query,
            progress=console.bar,
        )
        encoder = opened.manifest.encoder
    saved = None
    if save:
        origin = Origin(measure, f"{queries} ({split})" if split else queries, len(best.topics))
        saved = save_weights(index, best.weights, best.idf_power, origin, encoder, wait=wait)
    report_index(index, best, saved, training_figure, plot, json)
