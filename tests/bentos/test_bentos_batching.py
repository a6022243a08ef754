"""What waits is scored at once and together; nobody spoils another's answer, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import orjson
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from bentos.service.batcher import Batcher, Limits
from bentos.service.board import Board
from bentos.service.doors import Call, Enquiry, Reply
from bentos.service.errors import BadRequest, ModelFailed, Overloaded, TooLate
from bentos.service.estimate import Estimate
from bentos.service.oip import Oip
from bentos.service.prediction import Direct, Predictor
from bentos.service.schema import Schema as Compiled
from bentos.service.scorer import Scorer
from bentos.service.signature import signature_of
from bentos.service.visits import Deadline
from bentos.service.worker import Worker

SIGNATURE = signature_of(ModelSignature(inputs=Schema([ColSpec("double", "a"), ColSpec("double", "b")])))
PATIENT = Deadline(30.0, 30.0)
USUAL = Limits()
Ask = Callable[[Any], Any]


class Asked:
    """A model that notes what it was asked, raises on a negative number, and waits where it is told to."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()

    def __call__(self, block: Any) -> Any:
        self.calls.append(len(block))
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        assert self.go.wait(10)
        if (block < 0).any():
            raise ValueError("negative")
        return block.sum(axis=1)


def body(a: float, b: float = 1.0) -> bytes:
    given = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in (("a", a), ("b", b))]
    return orjson.dumps({"inputs": given})


def asking(given: bytes) -> Enquiry:
    return Enquiry(Oip(), Call(given, {}))


def value(answer: Reply) -> float:
    return float(orjson.loads(answer.body)["outputs"][0]["data"][0])


def batcher(ask: Ask, limits: Limits = USUAL, **kind: bool) -> Batcher:
    predictor: Predictor = Direct("test", ask, **kind)
    scorer = Scorer("m", "1", SIGNATURE, None, predictor, Compiled(SIGNATURE, stacked=True))
    return Batcher(scorer, Worker(4), limits, Board())


async def answered(batch: Batcher, *bodies: bytes, deadline: Deadline = PATIENT) -> list[Any]:
    found = await asyncio.gather(*(batch.answer(asking(each), deadline) for each in bodies), return_exceptions=True)
    return [each if isinstance(each, BaseException) else each[0] for each in found]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_requests_of_one_turn_go_into_one_call_and_each_gets_its_own_rows() -> None:
    ask = Asked()

    async def story() -> list[Any]:
        return await answered(batcher(ask), *(body(number) for number in range(20)))

    assert [value(answer) for answer in run(story())] == [number + 1.0 for number in range(20)]
    assert ask.calls == [20]


def test_a_request_alone_is_scored_at_once() -> None:
    """There is no timer to wait for: the call is made within the next two turns of the loop."""
    ask = Asked()

    async def story() -> None:
        batch = batcher(ask)
        await answered(batch, body(1.0))
        task = asyncio.ensure_future(batch.answer(asking(body(2.0)), PATIENT))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(ask.calls) == 2
        await task

    run(story())


def test_who_is_known_to_be_alone_is_scored_before_the_loop_goes_on_and_not_ahead_of_who_waits() -> None:
    ask = Asked()

    async def story() -> None:
        batch = batcher(ask)
        await answered(batch, body(1.0))
        step = batch.answer(asking(body(2.0)), PATIENT, alone=True)
        with pytest.raises(StopIteration) as done:
            step.send(None)
        assert value(done.value.value[0]) == 3.0
        await asyncio.gather(batch.answer(asking(body(3.0)), PATIENT), batch.answer(asking(body(4.0)), PATIENT, alone=True))

    run(story())
    assert ask.calls == [1, 1, 2]


def test_what_arrives_while_a_call_runs_goes_together_into_the_next_one() -> None:
    ask = Asked()
    ask.go.clear()

    async def story() -> list[Any]:
        batch = batcher(ask)
        first = asyncio.ensure_future(answered(batch, body(1.0)))
        await asyncio.get_running_loop().run_in_executor(None, ask.begun.wait, 10)
        rest = asyncio.ensure_future(answered(batch, *(body(number) for number in range(5))))
        while batch.depth < 6:
            await asyncio.sleep(0)
        ask.go.set()
        return [*(await first), *(await rest)]

    assert [value(answer) for answer in run(story())] == [2.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert ask.calls == [1, 5]
    assert "predictions" in ask.threads, "the loop was free meanwhile"


def test_one_bad_request_of_a_call_spoils_no_other() -> None:
    ask = Asked()

    async def story() -> list[Any]:
        return await answered(batcher(ask), body(1.0), body(-1.0), body(3.0), b"{}")

    good, failed, another, wrong = run(story())
    assert (value(good), value(another)) == (2.0, 4.0)
    assert isinstance(failed, ModelFailed)
    assert isinstance(wrong, BadRequest)
    assert ask.calls == [3, 1, 1, 1]


def test_an_unwanted_output_is_its_askers_mistake_only() -> None:
    wrong = orjson.dumps({**orjson.loads(body(2.0)), "outputs": [{"name": "other"}]})

    async def story() -> list[Any]:
        return await answered(batcher(Asked()), body(1.0), wrong)

    good, refused = run(story())
    assert value(good) == 2.0
    assert isinstance(refused, BadRequest)


def test_a_model_whose_rows_mind_each_other_is_asked_for_each_request_alone() -> None:
    ask = Asked()

    async def story() -> list[Any]:
        return await answered(batcher(ask, together=False), body(1.0), body(2.0))

    assert [value(answer) for answer in run(story())] == [2.0, 3.0]
    assert ask.calls == [1, 1]


def test_a_model_that_answers_together_with_too_few_rows_is_asked_for_each_request_alone() -> None:
    async def story() -> list[Any]:
        return await answered(batcher(lambda block: block.sum(axis=1)[:1]), body(1.0), body(2.0))

    assert [value(answer) for answer in run(story())] == [2.0, 3.0]


def test_no_call_has_more_rows_than_are_allowed() -> None:
    ask = Asked()

    async def story() -> list[Any]:
        return await answered(batcher(ask, Limits(rows=8)), *(body(number) for number in range(20)))

    assert len(run(story())) == 20
    assert ask.calls == [8, 8, 4]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(requests=3), "3 requests are waiting already"), (Limits(size=3 * len(body(1.0)) + 9), "bytes are waiting already")],
)
def test_what_waits_is_bounded_and_the_rest_is_refused_at_once(limits: Limits, reason: str) -> None:
    ask = Asked()
    ask.go.clear()

    async def story() -> list[Any]:
        batch = batcher(ask, limits)
        tasks = [asyncio.ensure_future(answered(batch, body(number))) for number in range(5)]
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0)
        ask.go.set()
        return [(await task)[0] for task in tasks]

    found = run(story())
    refused = [each for each in found if isinstance(each, Overloaded)]
    assert len(refused) == 2
    assert reason in str(refused[0])
    assert [value(answer) for answer in found if isinstance(answer, Reply)] == [1.0, 2.0, 3.0]


def test_whose_time_is_up_hears_so_while_the_call_still_runs() -> None:
    ask = Asked()
    ask.go.clear()

    async def story() -> Any:
        batch = batcher(ask)
        running = asyncio.ensure_future(answered(batch, body(1.0)))
        await asyncio.get_running_loop().run_in_executor(None, ask.begun.wait, 10)
        waiting = await answered(batch, body(2.0), deadline=Deadline(30.0, 0.02))
        ask.go.set()
        await running
        return waiting[0], await answered(batch, body(3.0))

    late, after = run(story())
    assert isinstance(late, TooLate)
    assert value(after[0]) == 4.0
    assert sum(ask.calls) == 2, "what nobody waits for is not scored"


def test_what_cannot_be_done_in_its_time_is_refused_before_it_waits() -> None:
    ask = Asked()
    ask.go.clear()

    async def story() -> Any:
        batch = batcher(ask)
        running = asyncio.ensure_future(answered(batch, body(1.0)))
        await asyncio.get_running_loop().run_in_executor(None, ask.begun.wait, 10)
        batch._estimate.learn(1, 50.0)
        refused = await answered(batch, body(2.0), deadline=Deadline(0.5, 0.5))
        patient = asyncio.ensure_future(answered(batch, body(2.0), deadline=Deadline(200.0, 200.0)))
        while batch.depth < 2:
            await asyncio.sleep(0)
        ask.go.set()
        await running
        return refused[0], (await patient)[0]

    refused, patient = run(story())
    assert isinstance(refused, Overloaded)
    assert refused.wait > 1
    assert value(patient) == 3.0


def test_a_call_that_is_known_to_be_short_is_made_in_the_loop_and_a_long_one_never() -> None:
    ask = Asked()

    async def story() -> None:
        batch = batcher(ask)
        await answered(batch, body(1.0))
        assert ask.threads == {"predictions"}, "nothing is known of the first"
        batch._estimate.learn(1, 0.00001)
        while batch._estimate.seconds(1) > 0.001:
            batch._estimate.learn(1, 0.00001)
        ask.threads.clear()
        await answered(batch, body(1.0))
        assert ask.threads == {"MainThread"}
        for _ in range(30):
            batch._estimate.learn(1, 1.0)
        ask.threads.clear()
        await answered(batch, body(1.0))
        assert ask.threads == {"predictions"}

    run(story())


def test_a_large_body_is_read_in_the_thread_and_answered_alone() -> None:
    ask = Asked()
    rows = 4000
    given = [{"name": name, "datatype": "FP64", "shape": [rows], "data": [0.123456789] * rows} for name in ("a", "b")]

    async def story() -> list[Any]:
        return await answered(batcher(ask), orjson.dumps({"inputs": given}), body(1.0), b"[" + b" " * (70 << 10))

    large, small, wrong = run(story())
    assert len(orjson.loads(large.body)["outputs"][0]["data"]) == rows
    assert value(small) == 2.0
    assert isinstance(wrong, BadRequest)


def test_the_time_of_a_call_is_as_it_was_seen_else_in_proportion_to_fewer_rows() -> None:
    estimate = Estimate()
    estimate.learn(1, 0.01)
    assert estimate.seconds(1) == 0.01
    assert estimate.seconds(64) == pytest.approx(0.64)
    estimate.learn(64, 0.02)
    assert estimate.seconds(64) == 0.02
    assert estimate.seconds(100) == 0.02
    assert estimate.seconds(200) == pytest.approx(0.04)


def test_blocks_of_another_type_are_never_joined() -> None:
    schema = Compiled(SIGNATURE, stacked=True)
    one = schema.rows(orjson.loads(body(1.0))["inputs"])

    assert one.block is not None
    assert one.block.dtype == np.float64
    assert one.shape == (2,)
