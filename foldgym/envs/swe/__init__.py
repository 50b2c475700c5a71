"""Software engineering: repair a project in a sandbox, and be graded in another one."""

from __future__ import annotations

from foldgym.envs.swe.task import SweTask, load_tasks, save_tasks

__all__ = ["SweTask", "load_tasks", "save_tasks"]
