"""The benchmark of token drift, small: what it counts can be said in advance."""

from __future__ import annotations

import pytest

pytest.importorskip("trl", reason="the published templates come with trl")

from benchmarks.suites import drift
from foldgym.testing.families import FAMILIES


@pytest.mark.parametrize(
    ("name", "kind", "text", "template"),
    [
        ("qwen3", "random", True, 1.0),
        ("qwen3", "tight", False, 1.0),  # the template writes a space behind the colon
        ("qwen3", "spaced", False, 0.0),
        ("qwen3-off", "spaced", False, 1.0),  # the template takes the header's empty thought back
        ("glm4-off", "spaced", False, 0.0),
        ("llama3.1", "spaced", False, 1.0),  # the template leaves out what stands beside a call
        ("gemma", "spaced", False, None),  # the template refuses results of tools
    ],
)
def test_ours_is_zero_and_the_others_are_what_templates_make_of_it(
    name: str, kind: str, text: bool, template: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "EPISODES", 3)
    found = drift.measure(FAMILIES[name], kind)
    assert found["ours"] == 0
    assert found["turns"] == 12 or kind != "random"
    assert (found["text"] or 0) > 0.9 if text else found["text"] == 0
    assert found["template"] == template
