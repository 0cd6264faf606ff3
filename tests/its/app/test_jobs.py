"""The queue of jobs."""

import threading
import time

import pytest

from its.app import jobs
from its.app.jobs import Job, JobQueue
from its.errors import UserError


@pytest.fixture
def queue():
    queue = JobQueue()
    queue.start()
    yield queue
    queue.stop(patience=5)


def wait(job):
    end = time.monotonic() + 5
    while job.status in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.002)
    return job.status


def looping(started):
    def work(job):
        started.set()
        while True:
            job.check()
            time.sleep(0.001)

    return work


def test_jobs_run_one_after_the_other_in_their_order(queue):
    order, running = [], []

    def work(job):
        running.append(job.title)
        assert running == [job.title]
        time.sleep(0.01)
        running.remove(job.title)
        order.append(job.title)

    made = [queue.submit(Job(str(number), work)) for number in range(5)]
    assert [wait(job) for job in made] == ["done"] * 5
    assert order == ["0", "1", "2", "3", "4"]
    assert [job.title for job in queue.finished] == ["4", "3", "2", "1", "0"]


def test_a_failed_job_does_not_stop_the_next(queue):
    def fail(job):
        raise ValueError("broken\nsecond line")

    def refuse(job):
        raise UserError("the prompt is empty")

    first, second, third = (queue.submit(Job("a", work)) for work in (fail, refuse, lambda job: None))
    assert [wait(job) for job in (first, second, third)] == ["failed", "failed", "done"]
    assert first.error == "ValueError: broken"
    assert second.error == "the prompt is empty"


def test_cancel_ends_the_running_job_and_stop_all(queue):
    started = threading.Event()
    first = queue.submit(Job("first", looping(started)))
    second = queue.submit(Job("second", looping(started)))
    assert started.wait(5)
    queue.cancel()
    assert wait(first) == "cancelled"
    assert second.status in ("waiting", "running")
    third = queue.submit(Job("third", looping(started)))
    queue.stop(patience=5)
    assert {second.status, third.status} == {"cancelled"}


def test_too_many_waiting_jobs_are_refused(monkeypatch):
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    queue = JobQueue()
    for _ in range(2):
        queue.submit(Job("a", lambda job: None))
    with pytest.raises(UserError, match="2 jobs wait"):
        queue.submit(Job("a", lambda job: None))
    queue.cancel()
    assert len(queue.waiting) == 1
