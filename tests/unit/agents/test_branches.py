"""Branches of a trunk score as if each were read by itself."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from engine_talk import VOCAB, engine, gpt2, mistral, qwen, windowed
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.agents.engines.branches import Branch, BranchScorer, Tree
from foldgym.errors import EngineError
from foldgym.types import Ids


def alone(model: Any, trunk: Ids, branch: Branch) -> list[float]:
    """Log-probs from one plain forward pass over everything up to the branch's end."""
    ids = trunk[: branch.at] + branch.ids
    with torch.no_grad():
        logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
    places = range(branch.at + branch.first, len(ids))
    return [float(logprobs[place - 1, ids[place]]) for place in places]


def random_tree(seed: int, most: int = 40) -> Tree:
    rng = random.Random(seed)
    trunk = tuple(rng.randrange(VOCAB) for _ in range(rng.randint(1, most)))
    branches: list[Branch] = []
    for _ in range(rng.randint(0, 6)):
        ids = tuple(rng.randrange(3) for _ in range(rng.randint(1, 6)))  # few ids: shared starts
        first = rng.randrange(len(ids))
        at = rng.randint(0 if first else 1, len(trunk))
        branches.append(Branch(at, ids, first))
    return Tree(trunk, tuple(branches))


@pytest.fixture(scope="module", params=[qwen, windowed, mistral, gpt2])
def model(request: pytest.FixtureRequest) -> Any:
    torch.set_num_threads(1)
    return request.param().eval()


def test_every_branch_scores_as_if_alone(model: Any) -> None:
    trees = [random_tree(seed) for seed in range(25)]
    found = BranchScorer(model, 0)(trees)
    for tree, scores in zip(trees, found, strict=True):
        assert len(scores) == len(tree.branches)
        for branch, score in zip(tree.branches, scores, strict=True):
            assert score == pytest.approx(alone(model, tree.trunk, branch), abs=2e-4)


def test_only_models_that_take_our_masks_share_the_trunk() -> None:
    assert BranchScorer(qwen(), 0).shares
    assert BranchScorer(windowed(), 0).shares
    assert not BranchScorer(mistral(), 0).shares  # its config does not say which layers are local


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_company_changes_nothing(seed: int) -> None:
    scorer = BranchScorer(SHARED, 0)
    trees = [random_tree(seed + k, 12) for k in range(3)]
    together = scorer(trees)
    for tree, scores in zip(trees, together, strict=True):
        for branch, score in zip(tree.branches, scores, strict=True):
            assert score == pytest.approx(scorer([Tree(tree.trunk, (branch,))])[0][0], abs=2e-5)


SHARED = qwen()


def test_what_does_not_fit_is_refused() -> None:
    for branch in (Branch(0, (1,)), Branch(4, (1,)), Branch(1, (1,), 1), Branch(1, ())):
        with pytest.raises(ValueError, match="does not fit a trunk of 3 ids"):
            Tree((1, 2, 3), (branch,))
    policy = engine(qwen(max_positions=8))
    assert len(policy.score_trees([Tree((1, 2), (Branch(2, (3,) * 6, 1),))])[0][0]) == 5
    with pytest.raises(EngineError, match="9 ids to score, but the model has 8 positions"):
        policy.score_trees([Tree((1, 2), (Branch(2, (3,) * 7, 1),))])


def test_a_policy_reads_its_newest_weights() -> None:
    policy = engine(qwen())
    tree = Tree((5, 6, 7), (Branch(3, (8, 9)),))
    before = policy.score_trees([tree])
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(0.5)
    policy.advance()
    after = policy.score_trees([tree])
    assert after != before
    assert after[0][0] == pytest.approx(alone(policy.model, tree.trunk, tree.branches[0]), abs=2e-4)
