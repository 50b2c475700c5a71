"""Our own web sites: a forum, a tracker, a file manager and a calendar, each with a database."""

from foldgym.envs.web.sites.kit import LocalSite
from foldgym.envs.web.sites.score import Answered, score
from foldgym.envs.web.sites.tasks import WebTask, read_tasks
from foldgym.envs.web.sites.world import SITES, Sites

__all__ = ["SITES", "Answered", "LocalSite", "Sites", "WebTask", "read_tasks", "score"]
