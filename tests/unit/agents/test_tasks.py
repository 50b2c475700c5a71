"""What runs to its end gives its result, its error, and no words about either."""

from __future__ import annotations

import asyncio

import pytest

from foldgym.agents.tasks import run_to_end


class Large:
    """Something that takes long to write out."""

    written = 0

    def __repr__(self) -> str:
        Large.written += 1
        return "large"


def test_the_result_comes_back_and_is_not_written_out() -> None:
    large = Large()

    async def work() -> list[Large]:
        await asyncio.sleep(0)
        return [large]

    Large.written = 0
    assert run_to_end(work()) == [large]
    assert Large.written == 0


def test_an_error_comes_out_as_it_is() -> None:
    async def work() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        run_to_end(work())
