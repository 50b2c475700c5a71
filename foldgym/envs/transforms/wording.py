"""Words for what transforms make up: sentences that say nothing, tools that do nothing."""

from __future__ import annotations

import random

VERBS = (
    *("archive", "assign", "audit", "book", "cancel", "compare", "convert", "copy", "count"),
    *("create", "delete", "describe", "detect", "draft", "estimate", "export", "fetch", "filter"),
    *("format", "forward", "import", "inspect", "label", "list", "lock", "measure", "merge"),
    *("monitor", "move", "notify", "parse", "plot", "post", "print", "publish", "rank", "record"),
    *("rename", "render", "reserve", "restore", "review", "schedule", "send", "share", "sort"),
    *("split", "submit", "summarize", "sync", "tag", "track", "translate", "update", "upload"),
    *("validate", "verify"),
)
NOUNS = (
    *("account", "album", "appointment", "article", "backup", "bill", "calendar", "camera"),
    *("chart", "column", "comment", "contact", "contract", "coupon", "currency", "database"),
    *("delivery", "device", "dialog", "directory", "email", "event", "expense", "flight"),
    *("folder", "form", "forecast", "image", "inventory", "invoice", "issue", "journal"),
    *("language", "ledger", "license", "message", "meeting", "network", "newsletter", "order"),
    *("package", "page", "password", "payment", "playlist", "podcast", "policy", "printer"),
    *("profile", "project", "receipt", "recipe", "refund", "repository", "reservation", "room"),
    *("route", "sensor", "server", "session", "shipment", "slide", "snapshot", "survey"),
    *("table", "task", "tax_return", "template", "ticket", "timesheet", "trip", "vehicle"),
    *("video", "voucher", "warehouse", "website", "workflow"),
)
_QUALITIES = ("annual", "blue", "early", "foreign", "narrow", "old", "quiet", "second", "steady")
_DOINGS = ("was moved to", "lies beside", "waits for", "reminds nobody of", "came before")


def sentence(rng: random.Random) -> str:
    """A sentence that answers nothing."""

    def thing() -> str:
        return f"the {rng.choice(_QUALITIES)} {rng.choice(NOUNS).replace('_', ' ')}"

    return f"{thing()} {rng.choice(_DOINGS)} {thing()} ."
