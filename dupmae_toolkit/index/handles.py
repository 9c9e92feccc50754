"""Loops that run inside Java, composed from method handles.

A call through pyjnius costs microseconds, so a thousand hits fetched one by one cost more than the
search. Java's method handles compose without a compiler: the loops below build a query from lists
and pour hits into bytes, a call each.
"""

from __future__ import annotations

import functools
from typing import Any

from dupmae_toolkit import jvm

_SCORE_DOCS = "[Lorg/apache/lucene/search/ScoreDoc;"
_BUFFER = "Ljava/nio/ByteBuffer;"
_FLOATS = "Ljava/nio/FloatBuffer;"
_LIST = "Ljava/util/List;"
_BUILDER = "Lorg/apache/lucene/search/BooleanQuery$Builder;"
_OCCUR = "Lorg/apache/lucene/search/BooleanClause$Occur;"
_STORED = "Lorg/apache/lucene/index/StoredFields;"
_STRING_BUILDER = "Ljava/lang/StringBuilder;"
_QUERY = "Lorg/apache/lucene/search/Query;"


class Handle:
    """A Java method handle that is called like a function of Java objects and integers."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._pack = jvm.autoclass("java.util.Arrays").asList
        self._integer = jvm.autoclass("java.lang.Integer")

    def __call__(self, *arguments: Any) -> Any:
        boxed = [self._integer(each) if isinstance(each, int) else each for each in arguments]
        return self._handle.invokeWithArguments(self._pack(*boxed))


@functools.cache
def boolean_query(field: str) -> Handle:
    """(List of n strings, FloatBuffer of n weights) -> BooleanQuery: the sum of weight × frequency.

    Each clause is a boosted TermQuery on ``field`` that should occur. Weights must be positive.
    """
    handles, look = _handles(), _lookup()
    string = _class("java.lang.String")
    new_term = look.findConstructor(
        _class("org.apache.lucene.index.Term"), _type("(Ljava/lang/String;Ljava/lang/String;)V")
    )
    new_term_query = look.findConstructor(
        _class("org.apache.lucene.search.TermQuery"), _type("(Lorg/apache/lucene/index/Term;)V")
    )
    new_boost_query = look.findConstructor(
        _class("org.apache.lucene.search.BoostQuery"), _type(f"({_QUERY}F)V")
    )
    builder = _class("org.apache.lucene.search.BooleanQuery$Builder")
    add = look.findVirtual(builder, "add", _type(f"({_QUERY}{_OCCUR}){_BUILDER}"))
    should = jvm.autoclass("org.apache.lucene.search.BooleanClause$Occur").SHOULD
    get = look.findVirtual(_class("java.util.List"), "get", _type("(I)Ljava/lang/Object;"))
    weight = look.findVirtual(_class("java.nio.FloatBuffer"), "get", _type("(I)F"))

    term = handles.filterReturnValue(
        handles.insertArguments(new_term, 0, jvm.autoclass("java.lang.String")(field)),
        new_term_query,
    )
    get = get.asType(get.type().changeReturnType(string))
    clause_term = handles.filterReturnValue(get, term)  # (List, int) -> TermQuery
    clause_term = clause_term.asType(_type(f"({_LIST}I){_QUERY}"))
    clause = handles.collectArguments(new_boost_query, 0, clause_term)  # (List, int, float)
    clause = handles.collectArguments(clause, 2, weight)  # (List, int, FloatBuffer, int)
    clause = clause.asType(_type(f"({_LIST}I{_FLOATS}I){_QUERY}"))
    add_should = handles.insertArguments(add, 2, should)  # (Builder, Query)
    body = handles.collectArguments(add_should, 1, clause)
    body = handles.permuteArguments(
        body, _type(f"({_BUILDER}I{_LIST}{_FLOATS}){_BUILDER}"), 0, 2, 1, 3, 1
    )
    size = look.findVirtual(_class("java.util.List"), "size", _type("()I"))
    loop = handles.countedLoop(size, look.findConstructor(builder, _type("()V")), body)
    build = look.findVirtual(builder, "build", _type("()Lorg/apache/lucene/search/BooleanQuery;"))
    return Handle(handles.filterReturnValue(loop, build))


@functools.cache
def hits() -> Handle:
    """(TopDocs of n hits) -> 8n bytes: document number (int32) and score (float32), big-endian."""
    handles, look = _handles(), _lookup()
    documents = _class("[Lorg.apache.lucene.search.ScoreDoc;")
    score_doc = _class("org.apache.lucene.search.ScoreDoc")
    buffer = _class("java.nio.ByteBuffer")
    integer = jvm.autoclass("java.lang.Integer")

    element = handles.arrayElementGetter(documents)
    number = handles.filterReturnValue(element, look.findGetter(score_doc, "doc", integer.TYPE))
    score = handles.filterReturnValue(
        element, look.findGetter(score_doc, "score", jvm.autoclass("java.lang.Float").TYPE)
    )
    put_int = look.findVirtual(buffer, "putInt", _type(f"(I){_BUFFER}"))
    put_float = look.findVirtual(buffer, "putFloat", _type(f"(F){_BUFFER}"))
    put_number = handles.collectArguments(put_int, 1, number)  # (ByteBuffer, ScoreDoc[], int)
    put_score = handles.collectArguments(put_float, 1, score)
    put_both = handles.collectArguments(put_score, 0, put_number)
    body = handles.permuteArguments(
        put_both, _type(f"({_BUFFER}I{_SCORE_DOCS}){_BUFFER}"), 0, 2, 1, 2, 1
    )
    length = handles.arrayLength(documents)
    eightfold = handles.insertArguments(
        look.findStatic(_class("java.lang.Math"), "multiplyExact", _type("(II)I")), 1, integer(8)
    )
    allocate = look.findStatic(buffer, "allocate", _type(f"(I){_BUFFER}"))
    start = handles.filterReturnValue(handles.filterReturnValue(length, eightfold), allocate)
    loop = handles.countedLoop(length, start, body)
    pour = handles.filterReturnValue(loop, look.findVirtual(buffer, "array", _type("()[B")))
    top_docs = _class("org.apache.lucene.search.TopDocs")
    return Handle(
        handles.filterArguments(pour, 0, look.findGetter(top_docs, "scoreDocs", documents))
    )


@functools.cache
def stored_values(field: str) -> Handle:
    """(StoredFields, from, to) -> the values of ``field`` of these documents, a line each."""
    handles, look = _handles(), _lookup()
    stored = _class("org.apache.lucene.index.StoredFields")
    document = _class("org.apache.lucene.document.Document")
    builder = _class("java.lang.StringBuilder")
    string = jvm.autoclass("java.lang.String")

    read = look.findVirtual(
        stored, "document", _type("(ILjava/util/Set;)Lorg/apache/lucene/document/Document;")
    )
    only = jvm.autoclass("java.util.Collections").singleton(string(field))
    read = handles.insertArguments(read, 2, only)
    get = look.findVirtual(document, "get", _type("(Ljava/lang/String;)Ljava/lang/String;"))
    value = handles.filterReturnValue(read, handles.insertArguments(get, 1, string(field)))
    append = look.findVirtual(builder, "append", _type(f"(Ljava/lang/String;){_STRING_BUILDER}"))
    append_line = handles.filterReturnValue(
        append, handles.insertArguments(append, 1, string("\n"))
    )
    body = handles.collectArguments(append_line, 1, value)  # (StringBuilder, StoredFields, int)
    body = handles.permuteArguments(
        body, _type(f"({_STRING_BUILDER}I{_STORED}II){_STRING_BUILDER}"), 0, 2, 1
    )
    number = handles.identity(jvm.autoclass("java.lang.Integer").TYPE)
    start = handles.permuteArguments(number, _type(f"({_STORED}II)I"), 1)
    end = handles.permuteArguments(number, _type(f"({_STORED}II)I"), 2)
    new_builder = look.findConstructor(builder, _type("()V"))
    loop = handles.countedLoop(start, end, new_builder, body)
    to_string = look.findVirtual(builder, "toString", _type("()Ljava/lang/String;"))
    return Handle(handles.filterReturnValue(loop, to_string))


def _handles() -> Any:
    return jvm.autoclass("java.lang.invoke.MethodHandles")


def _lookup() -> Any:
    return _handles().publicLookup()


def _class(name: str) -> Any:
    return jvm.autoclass("java.lang.Class").forName(name)


def _type(descriptor: str) -> Any:
    method_type = jvm.autoclass("java.lang.invoke.MethodType")
    return method_type.fromMethodDescriptorString(descriptor, None)
