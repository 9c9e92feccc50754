"""Batches side by side: every result, in order, whatever the threads do, and nothing left over."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest
import torch

from dupmae_toolkit.model import text_encoder, tokens, workers
from dupmae_toolkit.model.workers import side_by_side
from tests.test_encoder import TEXTS, make_encoder


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
    workers._pool.cache_clear()


def test_results_come_in_the_order_of_the_jobs(threads):
    def work(job):
        time.sleep(0.001 * (job % 3))
        return job * job

    assert list(side_by_side(work, range(40))) == [job * job for job in range(40)]
    assert list(side_by_side(work, [])) == []
    assert list(side_by_side(work, [7])) == [49]


def test_the_threads_are_shared_out_and_the_callers_number_stays(threads):
    seen = set(side_by_side(lambda _: (torch.get_num_threads(), time.sleep(0.01))[0], range(12)))
    assert seen == {1}
    assert torch.get_num_threads() == threads
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads]


def test_an_error_ends_the_work_and_nothing_runs_on(threads):
    done = []

    def work(job):
        if job == 3:
            raise ValueError("job 3")
        time.sleep(0.002)
        done.append(job)

    with pytest.raises(ValueError, match="job 3"):
        list(side_by_side(work, range(200)))
    count = len(done)
    time.sleep(0.02)
    assert len(done) == count < 20


def test_a_caller_who_stops_drops_the_rest(threads):
    done = []
    results = side_by_side(lambda job: done.append(job), range(1000))
    next(results)
    results.close()
    count = len(done)
    time.sleep(0.02)
    assert len(done) == count


def _in_a_child(queue):
    queue.put(list(side_by_side(lambda job: job + 1, range(8))))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own_workers():
    list(side_by_side(lambda job: job, range(8)))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == list(range(1, 9))
    child.join(60)
    assert child.exitcode == 0


def test_vectors_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(tokens, "TOKENS_PER_BATCH", 40)
    encoder = make_encoder()
    given = encoder.encode_documents(TEXTS)
    monkeypatch.setattr(text_encoder, "side_by_side", lambda work, jobs: map(work, jobs))
    plain = encoder.encode_documents(TEXTS)
    assert abs(given.dense - plain.dense).max() < 1e-6
    assert abs(given.lexical - plain.lexical).max() < 1e-6
