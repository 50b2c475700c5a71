"""SWE-bench's log parsers by its names: logs read exactly as the expected names were written.

They differ from `parsers.PARSERS` in that the last line about a test counts, not the worst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from foldgym.envs.swe.logs import builds, javascript, lines, python
from foldgym.envs.swe.parsers import Parser
from foldgym.errors import UnknownName

_PARSERS: Mapping[str, Parser] = {
    "pytest": python.pytest,
    "pytest_options": python.pytest_options,
    "pytest_v2": python.pytest_v2,
    "django": python.django,
    "seaborn": python.seaborn,
    "sympy": python.sympy,
    "matplotlib": python.matplotlib,
    **dict.fromkeys(
        ("astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff", "xarray"),
        python.pytest,
    ),
    **dict.fromkeys(("pydicom", "requests", "pylint"), python.pytest_options),
    **dict.fromkeys(("astropy", "scikit", "sphinx"), python.pytest_v2),
    "gotest": lines.gotest,
    "cargo": lines.cargo,
    "tap": lines.tap,
    "jq": lines.jq,
    "googletest": lines.googletest,
    "redis": lines.redis,
    "micropython_test": lines.micropython,
    "ant": lines.ant,
    "jest": lines.jest,
    "jest_json": lines.jest_json,
    "vitest": lines.vitest,
    "minitest": lines.minitest,
    "cucumber": lines.cucumber,
    "ruby_unit": lines.ruby_unit,
    "rspec_transformed_json": lines.rspec_transformed_json,
    "maven": builds.maven,
    "gradle_custom": builds.gradle_custom,
    "phpunit": builds.phpunit,
    "karma": builds.karma,
    "doctest": builds.doctest,
    "carbon": javascript.carbon,
    "react_pdf": javascript.carbon,
    "grommet": javascript.grommet,
    "marked": javascript.marked,
    "eslint": javascript.eslint,
    "bpmn_js": javascript.bpmn_js,
    "chart_js": javascript.chart_js,
    "openlayers": javascript.openlayers,
    "highlightjs": javascript.highlightjs,
    "prismjs": javascript.prismjs,
    "calypso": javascript.calypso,
}
LOG_PARSERS: Mapping[str, Parser] = {
    f"parse_log_{name}": parser for name, parser in _PARSERS.items()
}

_BY_PULL: Mapping[str, Mapping[str, str]] = {
    # These names stand for another parser, by the number at the end of the task's id.
    "parse_log_jekyll": {
        **dict.fromkeys(("9141", "8047", "8167"), "parse_log_minitest"),
        **dict.fromkeys(("8761", "8771"), "parse_log_cucumber"),
    },
    "parse_log_immutable_js": {"2006": "parse_log_jest", "2005": "parse_log_jest_json"},
}


def parser_name(name: str, instance: str) -> str:
    """The parser that a name means for the task of that id; most names mean themselves."""
    number = re.search(r"-(\d+)$", instance)
    return _BY_PULL.get(name, {}).get(number[1] if number else "", name)


def log_parser(name: str) -> Parser:
    """The parser of that name. Raises `UnknownName`."""
    if name not in LOG_PARSERS:
        raise UnknownName("log parser", name, LOG_PARSERS)
    return LOG_PARSERS[name]
