"""The names of measures: they are parsed and checked; for an unknown one, another is suggested."""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dupmae_toolkit.collection.grades import MAX_GRADE
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.diversity import check_cutoff, is_diversity
from dupmae_toolkit.evaluation.gains import HIGHEST_EXPONENT, computed_here

#: What people call some measures, in lower case.
_OTHER_NAMES = {"hit": "Success", "hits": "Success", "hitrate": "Success", "prec": "P", "rec": "R"}
_MAX_CUTOFF = 1_000_000
_EXAMPLES = "write them as ir_measures does: nDCG@10, R@100, RR@10, AP@1000, P(rel=2)@5"
#: The lowest and highest values of parameters, and whether these two are allowed themselves.
_BETWEEN = {"alpha": (0, 1, True), "beta": (0, 1, False), "p": (0, 1, False)}


def split_measures(text: str) -> list[str]:
    """Split names in one string, ``"nDCG@10, P(rel=2)@5"``, but not inside parentheses."""
    return re.findall(r"(?:\([^)]*\)?|[^\s,(])+", text)


def parse_measures(measures: Sequence[str], *, subtopics: bool = False) -> list[Any]:
    """ir_measures' objects, without duplicates, in order.

    subtopics: whether there are judgements by subtopic, which measures of diversity need. Raises
    InputError for unknown names, and for measures of diversity without ``subtopics``.
    """
    parsed: dict[str, Any] = {}
    for name in measures:
        for measure in _parse(name):
            if is_diversity(measure) and not subtopics:
                raise InputError(
                    f"measure {str(measure)!r} needs judgements by subtopic: use `dupmae eval` or "
                    "evaluate_subtopics, with qrels that have subtopics in their second column"
                )
            parsed.setdefault(str(measure), measure)
    if not parsed:
        raise InputError(f"no measure named; {_EXAMPLES}")
    return list(parsed.values())


def _parse(name: str) -> list[Any]:
    import ir_measures

    # Both parsers can raise almost any exception: SyntaxError, NameError, AssertionError …
    try:
        # For trec_eval's groups of measures, it prints on stdout which of them it leaves out.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                found = [ir_measures.parse_measure(name)]
            except (NameError, ValueError, SyntaxError):
                found = ir_measures.parse_trec_measure(name)
        refused = [measure for measure in found if not _is_supported(measure)]
    except Exception as error:
        raise InputError(f"measure {name!r} is not known; {_suggestion(name)}") from error
    for measure in refused:
        if ir_measures.cwl_eval.supports(measure):
            raise InputError(
                f"measure {name!r} needs the package cwl-eval, which is not installed; "
                "`pip install cwl-eval`"
            )
        raise InputError(f"measure {name!r} is not supported; {_EXAMPLES}")
    for measure in found:
        _check_parameters(name, measure)
        if is_diversity(measure):
            check_cutoff(measure)
    return found


def _is_supported(measure: Any) -> bool:
    """Whether a measure can be computed here. Raises AssertionError for parameters it lacks."""
    measure.validate_params()
    own = is_diversity(measure) or computed_here(measure)
    return own or bool(providers().supports(measure))


def _suggestion(name: str) -> str:
    """What an unknown name may have meant, or how measures are written."""
    import ir_measures

    head = re.match(r"[^\W\d]+", name)
    if head is None:
        return _EXAMPLES
    known = {each.casefold(): each for each in ir_measures.measures.registry} | _OTHER_NAMES
    given = head[0].casefold().strip("_")
    for close in [given] if given in known else difflib.get_close_matches(given, known):
        number = re.search(r"\d+$", name)
        rest = name[head.end() :]
        for tail in (rest, f"@{number[0]}" if number else ""):
            meant = known[close] + tail
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                measure = ir_measures.parse_measure(meant)
                if _is_supported(measure):
                    return f"did you mean {measure}?"
    return _EXAMPLES


def _check_parameters(name: str, measure: Any) -> None:
    """Refuse parameters that have no meaning, or with which trec_eval would end the process."""
    bounds = {"cutoff": (1, _MAX_CUTOFF), "rel": (1, MAX_GRADE)}
    for key, value in measure.params.items():
        if key in bounds:
            low, high = bounds[key]
            if not (isinstance(value, int) and low <= value <= high):
                raise InputError(
                    f"measure {name!r}: {key} must be a whole number from {low} to {high:,}"
                )
        elif key in _BETWEEN:
            low, high, closed = _BETWEEN[key]
            if not (low <= value <= high if closed else low < value < high):
                ends = "from 0 to 1" if closed else "between 0 and 1"
                raise InputError(f"measure {name!r}: {key} must be {ends}")
        elif key == "gains":
            exponents = measure.params.get("dcg") == "exp-log2"
            _check_gains(name, value, HIGHEST_EXPONENT if exponents else MAX_GRADE)


def _check_gains(name: str, gains: Mapping[Any, Any], highest: int) -> None:
    """trec_eval takes no gains below 0: pytrec_eval writes outside its memory for them.

    highest: the largest gain, of which a power of 2 is taken with ``dcg='exp-log2'``.
    """
    grades = all(isinstance(grade, int) and abs(grade) <= MAX_GRADE for grade in gains)
    numbers = all(
        isinstance(gain, int | float) and not isinstance(gain, bool) and 0 <= gain <= highest
        for gain in gains.values()
    )
    if not grades or not numbers:
        raise InputError(
            f"measure {name!r}: gains must be numbers from 0 to {highest:,}, by grade, as in "
            "nDCG(gains={1: 0.5, 2: 1})@10"
        )


@lru_cache(maxsize=1)
def providers() -> Any:
    """The providers of ir_measures that need only Python, trec_eval's code, or cwl-eval.

    Excludes ir_measures' Accuracy, which divides by zero for a topic whose ranking has no relevant
    documents, or only relevant ones. Also excludes gdeval, pyndeval and ranx, whose measures are
    computed here with the same values. So no value depends on what is installed.
    """
    import ir_measures as ir

    return ir.providers.FallbackProvider(
        [ir.pytrec_eval, ir.judged, ir.msmarco, ir.compat, ir.cwl_eval]
    )
