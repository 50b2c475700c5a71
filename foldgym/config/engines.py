"""The `[engine]` section: who samples the rollouts of a run."""

from __future__ import annotations

from foldgym.config.models import Name, Use

SAMPLES_ELSEWHERE = frozenset({"vllm"})


class EngineSection(Use):
    """Who samples for `foldgym train`; every other key is an option of that engine.

    "torch" is the policy of this process, which learns too, "vllm" a server that is sent its
    weights, "scripted" a script whose words the policy learns from; or "module:attr".
    """

    use: Name = "torch"

    @property
    def samples_elsewhere(self) -> bool:
        """Whether the policy of this process never samples: it learns, or checks."""
        return self.use in SAMPLES_ELSEWHERE
