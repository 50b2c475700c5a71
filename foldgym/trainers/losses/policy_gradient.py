"""The plain policy gradient; with an advantage of 1 it is maximum likelihood."""

from __future__ import annotations

from foldgym.trainers.losses.tokens import TokenLoss, Tokens


def policy_gradient(tokens: Tokens) -> TokenLoss:
    """`l = -A logp`, gradient `-A`. Right only for samples of the current weights.

    Source: REINFORCE. Behaviour cloning is this loss with A = 1.
    """
    return TokenLoss(-tokens.advantage_N * tokens.logp_N, {})
