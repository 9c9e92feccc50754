"""Anserini's analyser, through Java: the independent answer for dupmae_toolkit.analysis."""

from __future__ import annotations

import functools
from typing import Any

from dupmae_toolkit import jvm
from dupmae_toolkit.index import handles


def anserini(text: str) -> list[str]:
    """The words that Anserini's DefaultEnglishAnalyzer finds. Java reads U+FFFD for a surrogate."""
    analyzer, string, utils, joined = _java()
    data = text.encode("utf-8", "surrogatepass")
    with jvm.lock:
        found = joined(string("\n"), utils.analyze(analyzer, string(data, "UTF-8")))
    return found.tostring().decode().split("\n") if len(found) else []


@functools.cache
def _java() -> tuple[Any, Any, Any, Any]:
    """The analyser, String, AnalyzerUtils, and (String, List of Strings) -> joined, in UTF-8.

    pyjnius would read characters above U+FFFF as two surrogates, so it gets bytes.
    """
    jvm.start()
    with jvm.lock:
        lookup = jvm.autoclass("java.lang.invoke.MethodHandles").publicLookup()
        method_type = jvm.autoclass("java.lang.invoke.MethodType").fromMethodDescriptorString
        string_class = jvm.autoclass("java.lang.Class").forName("java.lang.String")
        join = "(Ljava/lang/CharSequence;Ljava/lang/Iterable;)Ljava/lang/String;"
        encode = "(Ljava/nio/charset/Charset;)[B"
        methods = jvm.autoclass("java.lang.invoke.MethodHandles")
        utf_8 = jvm.autoclass("java.nio.charset.StandardCharsets").UTF_8
        joined = methods.filterReturnValue(
            lookup.findStatic(string_class, "join", method_type(join, None)),
            methods.insertArguments(
                lookup.findVirtual(string_class, "getBytes", method_type(encode, None)), 1, utf_8
            ),
        )
        analyzer = jvm.autoclass("io.anserini.analysis.DefaultEnglishAnalyzer")
        return (
            analyzer.newDefaultInstance(),
            jvm.autoclass("java.lang.String"),
            jvm.autoclass("io.anserini.analysis.AnalyzerUtils"),
            handles.Handle(joined),
        )


def anserini_offsets(text: str) -> list[tuple[str, int, int]]:
    """The words, each with its start and end in UTF-16 units, as Lucene's OffsetAttribute has it.

    Only words without characters above U+FFFF, which pyjnius cannot read one by one.
    """
    analyzer, string, *_ = _java()
    from jnius import cast

    data = text.encode("utf-8", "surrogatepass")
    attributes = "org.apache.lucene.analysis.tokenattributes."
    found = []
    with jvm.lock:
        for_name = jvm.autoclass("java.lang.Class").forName
        stream = analyzer.tokenStream("contents", string(data, "UTF-8"))
        names = [f"{attributes}{kind}Attribute" for kind in ("CharTerm", "Offset")]
        term, offset = (cast(name, stream.addAttribute(for_name(name))) for name in names)
        stream.reset()
        try:
            while stream.incrementToken():
                found.append((term.toString(), offset.startOffset(), offset.endOffset()))
            stream.end()
        finally:
            stream.close()
    return found
