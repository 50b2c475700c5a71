"""mini-swe-agent in our boxes: its Environment protocol over a sandbox.

from minisweagent.agents.default import DefaultAgent
with Place(task) as place:
    place.fill(start_tree(task)); place.commit()
    agent = DefaultAgent(model, BoxEnvironment(place.box, cwd=place.root), **config)
    verdict = grade(task, agent.run(task.problem_statement)["submission"])
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foldgym.containers import End, Sandbox
from foldgym.containers.sandbox import MB
from foldgym.errors import UserError

MARK = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""An output that begins with this line, of a command that succeeds, is a submission."""


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """`cwd` is empty for the box's working folder; `timeout` are seconds for one command."""

    cwd: str = ""
    timeout: float = 30.0
    env: Mapping[str, str] = field(default_factory=dict[str, str])


class BoxEnvironment:
    """Runs an agent's commands in a box, each in a shell of its own.

    Raises `SandboxError` when the box is gone, so that such an episode is never graded.
    """

    def __init__(
        self,
        box: Sandbox,
        cwd: str = "",
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.box, self.config = box, BoxConfig(cwd, timeout, dict(env or {}))

    def execute(self, action: Mapping[str, Any], cwd: str = "") -> dict[str, Any]:
        """What a command said, as the agent wants it. Raises its `Submitted` at a submission."""
        command = str(action.get("command", ""))
        done = self.box.exec(
            f"exec 2>&1\n{command}",
            timeout=self.config.timeout,
            cwd=cwd or self.config.cwd,
            environment=self.config.env,
            cap=MB,
        )
        output: dict[str, Any] = {
            "output": done.text,
            "returncode": done.code,
            "exception_info": "",
        }
        if done.end is not End.EXITED:
            output["returncode"] = -1
            output["exception_info"] = (
                f"An error occurred while executing the command: {done.end.value}"
            )
        submission = submitted(done.text) if done.ok else None
        if submission is not None:
            extra = {"exit_status": "Submitted", "submission": submission}
            raise _submitted()({"role": "exit", "content": submission, "extra": extra})
        return output

    def get_template_vars(self, **kwargs: Any) -> dict[str, Any]:
        """What its templates may name: the settings and the system's."""
        return {**asdict(self.config), **platform.uname()._asdict(), **kwargs}

    def serialize(self) -> dict[str, Any]:
        """For its trajectory file."""
        kind = f"{type(self).__module__}.{type(self).__name__}"
        config = {"environment": asdict(self.config), "environment_type": kind}
        return {"info": {"config": config}}


def submitted(output: str) -> str | None:
    """What follows the mark, if an output begins with it."""
    first, _, rest = output.lstrip().partition("\n")
    return rest if first.strip() == MARK else None


def _submitted() -> Any:
    try:
        from minisweagent.exceptions import Submitted  # pyright: ignore
    except ModuleNotFoundError as problem:
        raise UserError("this needs mini-swe-agent: pip install mini-swe-agent") from problem
    return Submitted
