"""Loops that run inside Java, composed from method handles.

Calling Java objects one by one from Python is slow: each call takes microseconds, so fetching a
thousand hits takes longer than finding them. It is also unsafe: pyjnius stores the object of a call
in the class, so two threads that call one method on two objects can be mixed up.

Java's method handles can be composed into loops without a compiler. Each loop below is then one
call on one shared object, the dispatcher, with everything else passed as arguments, and is safe
from any thread.
"""

from __future__ import annotations

import functools
from typing import Any

from dupmae_toolkit import jvm

# Java type descriptors.
_BUFFER = "Ljava/nio/ByteBuffer;"
_BUILDER = "Lorg/apache/lucene/search/BooleanQuery$Builder;"
_FLOATS = "Ljava/nio/FloatBuffer;"
_LIST = "Ljava/util/List;"
_OBJECT = "Ljava/lang/Object;"
_OCCUR = "Lorg/apache/lucene/search/BooleanClause$Occur;"
_QUERY = "Lorg/apache/lucene/search/Query;"
_SCORE_DOCS = "[Lorg/apache/lucene/search/ScoreDoc;"
_STORED = "Lorg/apache/lucene/index/StoredFields;"
_STRING = "Ljava/lang/String;"
_STRING_BUILDER = "Ljava/lang/StringBuilder;"
_TOP_DOCS = "Lorg/apache/lucene/search/TopDocs;"


class Handle:
    """A method handle, callable from any thread as a function of Java objects and integers."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._invoke, self._list = _dispatcher(), jvm.autoclass("java.util.Arrays").asList
        self._integer = jvm.autoclass("java.lang.Integer")

    def __call__(self, *arguments: Any) -> Any:
        boxed = [self._integer(each) if isinstance(each, int) else each for each in arguments]
        call = self._list(self._handle, self._list(*boxed))
        return self._invoke.invokeWithArguments(call)


@functools.cache
def search(field: str) -> Handle:
    """(IndexSearcher, List of n terms, ByteBuffer of n weights, k) -> bytes of up to k hits.

    The query is the sum of weight × frequency over the terms of ``field``; weights are big-endian
    float32 and positive. A hit is a document number (int32) and a score (float32), big-endian.
    """
    with jvm.lock:
        handles, lookup = _tools()
        find = lookup.findVirtual(
            _class("org.apache.lucene.search.IndexSearcher"),
            "search",
            _type(f"({_QUERY}I){_TOP_DOCS}"),
        )
        query = _boolean_query(field).asType(_type(f"({_LIST}{_FLOATS}){_QUERY}"))
        find = handles.collectArguments(find, 1, query)  # (IndexSearcher, List, FloatBuffer, int)
        floats = lookup.findVirtual(
            _class("java.nio.ByteBuffer"), "asFloatBuffer", _type(f"(){_FLOATS}")
        )
        find = handles.filterArguments(find, 2, floats)
        return Handle(handles.filterReturnValue(find, _hits()))


@functools.cache
def hits() -> Handle:
    """(TopDocs of n hits) -> 8n bytes: a document number (int32) and a score (float32) each."""
    with jvm.lock:
        return Handle(_hits())


def add_documents(writer: Any, document: Any, fields: tuple[Any, Any, Any]) -> Handle:
    """(List of n ids, List of n texts) -> None: adds n documents to ``writer``, in order.

    For each, the three ``fields`` of ``document`` are set: the first to the id as a string, the
    second to the id as a BytesRef, the third to the text.
    """
    with jvm.lock:
        handles, lookup = _tools()
        stored, sorted_, contents = fields
        field = _class("org.apache.lucene.document.Field")
        set_string = lookup.findVirtual(field, "setStringValue", _type(f"({_STRING})V"))
        set_bytes = lookup.findVirtual(
            field, "setBytesValue", _type("(Lorg/apache/lucene/util/BytesRef;)V")
        )
        new_bytes = lookup.findConstructor(
            _class("org.apache.lucene.util.BytesRef"), _type("(Ljava/lang/CharSequence;)V")
        ).asType(_type(f"({_STRING})Lorg/apache/lucene/util/BytesRef;"))
        add = lookup.findVirtual(
            _class("org.apache.lucene.index.IndexWriter"),
            "addDocument",
            _type("(Ljava/lang/Iterable;)J"),
        )
        step = _type(f"(I{_LIST}{_LIST})V")  # of the loop: (number, ids, texts)

        def of_ids(setter: Any) -> Any:
            return handles.permuteArguments(
                handles.collectArguments(setter, 0, _element()), step, 1, 0
            )

        set_bytes = handles.filterArguments(
            handles.insertArguments(set_bytes, 0, sorted_), 0, new_bytes
        )
        set_text = handles.collectArguments(
            handles.insertArguments(set_string, 0, contents), 0, _element()
        )
        body = handles.insertArguments(add, 0, writer, document).asType(_type("()V"))
        body = handles.dropArguments(body, 0, step.parameterList())
        for setter in (
            handles.permuteArguments(set_text, step, 2, 0),
            of_ids(set_bytes),
            of_ids(handles.insertArguments(set_string, 0, stored)),
        ):
            body = handles.foldArguments(body, setter)
        return Handle(handles.countedLoop(_size(), None, body))


@functools.cache
def stored_values(field: str) -> Handle:
    """(StoredFields, from, to) -> the values of ``field`` of these documents, one per line."""
    with jvm.lock:
        handles, lookup = _tools()
        string = jvm.autoclass("java.lang.String")
        builder = _class("java.lang.StringBuilder")
        read = lookup.findVirtual(
            _class("org.apache.lucene.index.StoredFields"),
            "document",
            _type("(ILjava/util/Set;)Lorg/apache/lucene/document/Document;"),
        )
        only = jvm.autoclass("java.util.Collections").singleton(string(field))
        get = lookup.findVirtual(
            _class("org.apache.lucene.document.Document"), "get", _type(f"({_STRING}){_STRING}")
        )
        value = handles.filterReturnValue(
            handles.insertArguments(read, 2, only), handles.insertArguments(get, 1, string(field))
        )
        append = lookup.findVirtual(builder, "append", _type(f"({_STRING}){_STRING_BUILDER}"))
        append_line = handles.filterReturnValue(
            append, handles.insertArguments(append, 1, string("\n"))
        )
        body = handles.collectArguments(append_line, 1, value)  # (builder, StoredFields, int)
        body = handles.permuteArguments(
            body, _type(f"({_STRING_BUILDER}I{_STORED}II){_STRING_BUILDER}"), 0, 2, 1
        )
        number = handles.identity(jvm.autoclass("java.lang.Integer").TYPE)
        bounds = [
            handles.permuteArguments(number, _type(f"({_STORED}II)I"), place) for place in (1, 2)
        ]
        loop = handles.countedLoop(*bounds, lookup.findConstructor(builder, _type("()V")), body)
        to_string = lookup.findVirtual(builder, "toString", _type(f"(){_STRING}"))
        return Handle(handles.filterReturnValue(loop, to_string))


def _boolean_query(field: str) -> Any:
    """(List of n terms, FloatBuffer of n weights) -> BooleanQuery of n boosted TermQueries."""
    handles, lookup = _tools()
    new_term = lookup.findConstructor(
        _class("org.apache.lucene.index.Term"), _type(f"({_STRING}{_STRING})V")
    )
    new_term_query = lookup.findConstructor(
        _class("org.apache.lucene.search.TermQuery"), _type("(Lorg/apache/lucene/index/Term;)V")
    )
    new_boost_query = lookup.findConstructor(
        _class("org.apache.lucene.search.BoostQuery"), _type(f"({_QUERY}F)V")
    )
    builder = _class("org.apache.lucene.search.BooleanQuery$Builder")
    add = lookup.findVirtual(builder, "add", _type(f"({_QUERY}{_OCCUR}){_BUILDER}"))
    should = jvm.autoclass("org.apache.lucene.search.BooleanClause$Occur").SHOULD
    weight = lookup.findVirtual(_class("java.nio.FloatBuffer"), "get", _type("(I)F"))

    term = handles.insertArguments(new_term, 0, jvm.autoclass("java.lang.String")(field))
    term_query = handles.filterReturnValue(
        handles.filterReturnValue(_element(), term), new_term_query
    ).asType(_type(f"({_LIST}I){_QUERY}"))
    clause = handles.collectArguments(new_boost_query, 0, term_query)  # (List, int, float)
    clause = handles.collectArguments(clause, 2, weight)  # (List, int, FloatBuffer, int)
    clause = clause.asType(_type(f"({_LIST}I{_FLOATS}I){_QUERY}"))
    body = handles.collectArguments(handles.insertArguments(add, 2, should), 1, clause)
    body = handles.permuteArguments(
        body, _type(f"({_BUILDER}I{_LIST}{_FLOATS}){_BUILDER}"), 0, 2, 1, 3, 1
    )
    loop = handles.countedLoop(_size(), lookup.findConstructor(builder, _type("()V")), body)
    build = lookup.findVirtual(builder, "build", _type("()Lorg/apache/lucene/search/BooleanQuery;"))
    return handles.filterReturnValue(loop, build)


def _hits() -> Any:
    """(TopDocs of n hits) -> 8n bytes."""
    handles, lookup = _tools()
    documents = _class("[Lorg.apache.lucene.search.ScoreDoc;")
    score_doc = _class("org.apache.lucene.search.ScoreDoc")
    buffer = _class("java.nio.ByteBuffer")
    integer = jvm.autoclass("java.lang.Integer")

    element = handles.arrayElementGetter(documents)
    number = handles.filterReturnValue(element, lookup.findGetter(score_doc, "doc", integer.TYPE))
    score = handles.filterReturnValue(
        element, lookup.findGetter(score_doc, "score", jvm.autoclass("java.lang.Float").TYPE)
    )
    put_number = lookup.findVirtual(buffer, "putInt", _type(f"(I){_BUFFER}"))
    put_score = lookup.findVirtual(buffer, "putFloat", _type(f"(F){_BUFFER}"))
    put_number = handles.collectArguments(put_number, 1, number)  # (ByteBuffer, ScoreDoc[], int)
    put_score = handles.collectArguments(put_score, 1, score)
    body = handles.permuteArguments(
        handles.collectArguments(put_score, 0, put_number),
        _type(f"({_BUFFER}I{_SCORE_DOCS}){_BUFFER}"),
        *(0, 2, 1, 2, 1),
    )
    length = handles.arrayLength(documents)
    eightfold = handles.insertArguments(
        lookup.findStatic(_class("java.lang.Math"), "multiplyExact", _type("(II)I")), 1, integer(8)
    )
    allocate = lookup.findStatic(buffer, "allocate", _type(f"(I){_BUFFER}"))
    start = handles.filterReturnValue(handles.filterReturnValue(length, eightfold), allocate)
    fill = handles.filterReturnValue(
        handles.countedLoop(length, start, body),
        lookup.findVirtual(buffer, "array", _type("()[B")),
    )
    top_docs = _class("org.apache.lucene.search.TopDocs")
    return handles.filterArguments(fill, 0, lookup.findGetter(top_docs, "scoreDocs", documents))


def _element() -> Any:
    """(List, int) -> String."""
    get = _tools()[1].findVirtual(_class("java.util.List"), "get", _type(f"(I){_OBJECT}"))
    return get.asType(_type(f"({_LIST}I){_STRING}"))


def _size() -> Any:
    """(List) -> int."""
    return _tools()[1].findVirtual(_class("java.util.List"), "size", _type("()I"))


@functools.cache
def _dispatcher() -> Any:
    """The handle that invokes a handle: its arguments are that handle and a list of arguments."""
    with jvm.lock:
        return _tools()[1].findVirtual(
            _class("java.lang.invoke.MethodHandle"),
            "invokeWithArguments",
            _type(f"({_LIST}){_OBJECT}"),
        )


def _tools() -> tuple[Any, Any]:
    """MethodHandles, and its public lookup."""
    handles = jvm.autoclass("java.lang.invoke.MethodHandles")
    return handles, handles.publicLookup()


def _class(name: str) -> Any:
    return jvm.autoclass("java.lang.Class").forName(name)


def _type(descriptor: str) -> Any:
    method_type = jvm.autoclass("java.lang.invoke.MethodType")
    return method_type.fromMethodDescriptorString(descriptor, None)
