"""What every sandbox promises, checked: run it on a backend of yours before you trust it."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from foldgym.containers import BoxSpec, End, Limits, Sandbox, find, pack
from foldgym.containers.processes import send
from foldgym.containers.sandbox import MB
from foldgym.errors import SandboxError
from foldgym.testing.contracts import Finding

MakeBox = Callable[[BoxSpec], Sandbox]
Check = Callable[[Sandbox], Iterator[str]]

_SPEC = BoxSpec(
    files=pack({"src/a.py": b"print('a')\n", "README": b"hello\n"}),
    environment={"PROJECT": "fold gym"},
    limits=Limits(memory=150 * MB, disk=30 * MB, file=20 * MB, pids=48),
    untrusted=False,
    run="check_sandbox",
)


def check_sandbox(make: MakeBox, isolates: bool = True) -> list[Finding]:
    """Every promise that a backend's boxes break; an empty list means that they keep them all.

    `make` opens a box for a spec. `isolates` False leaves out what a box that isolates nothing
    cannot promise. What a check raises becomes a finding.
    """
    findings: list[Finding] = []
    checks = {**CHECKS, **(ISOLATION if isolates else {})}
    with make(_SPEC) as box:
        for name, check in checks.items():
            try:
                box.restore(_SPEC.files)
                problems = list(check(box))
            except Exception as problem:
                problems = [f"raised {type(problem).__name__}: {' '.join(str(problem).split())}"]
            findings += [Finding(name, problem) for problem in problems]
    for name, whole in WHOLE.items():
        try:
            problems = list(whole(make))
        except Exception as problem:
            problems = [f"raised {type(problem).__name__}: {' '.join(str(problem).split())}"]
        findings += [Finding(name, problem) for problem in problems]
    return findings


def _says(box: Sandbox, command: str, stdout: str, code: int = 0, **options: Any) -> str:
    """The complaint if a command does not print exactly this and end with this code."""
    result = box.exec(command, **options)
    if result.stdout == stdout.encode() and result.code == code and result.end is End.EXITED:
        return ""
    return f"{command!r:.80} gave {result!r:.300}, not {stdout!r:.80} and {code}"


def _table(*rows: tuple[str, str] | tuple[str, str, int]) -> Check:
    """A check made of commands and what they print."""

    def check(box: Sandbox) -> Iterator[str]:
        for command, stdout, *code in rows:
            if problem := _says(box, command, stdout, *code):
                yield problem

    return check


# ---------------------------------------------------------------- commands


def _streams(box: Sandbox) -> Iterator[str]:
    result = box.exec("echo out; echo err >&2; exit 3")
    if (result.stdout, result.stderr, result.code) != (b"out\n", b"err\n", 3):
        yield f"the streams or the code are mixed up: {result!r:.200}"
    if result.ok or not box.exec("true").ok:
        yield "ok does not follow the exit code"


def _binary(box: Sandbox) -> Iterator[str]:
    data = bytes(range(256)) * 300
    if box.exec("cat", stdin=data).stdout != data:
        yield "bytes do not come back as they went in"


def _large_stdin(box: Sandbox) -> Iterator[str]:
    yield from filter(None, [_says(box, "wc -c", "3000000\n", stdin=b"x" * 3_000_000)])


def _unread_stdin(box: Sandbox) -> Iterator[str]:
    yield from filter(None, [_says(box, "echo fine", "fine\n", stdin=b"x" * 300_000)])


def _huge_output(box: Sandbox) -> Iterator[str]:
    result = box.exec("seq 1 600000", cap=1000)  # 4,088,895 bytes
    if result.dropped != 4_087_895 or not result.ok:
        yield f"{result.dropped} bytes dropped, not 4087895"
    if not result.stdout.startswith(b"1\n2\n") or not result.stdout.endswith(b"\n600000\n"):
        yield "the head or the tail of a huge output is missing"
    if len(result.stdout) > 1100 or b"[... 4087895 bytes left out ...]" not in result.stdout:
        yield f"{len(result.stdout)} bytes were kept under a cap of 1000"


def _endless_output(box: Sandbox) -> Iterator[str]:
    result = box.exec("yes & yes >&2", timeout=0.5, cap=100)
    if result.end is not End.TIMEOUT or len(result.stdout) > 200 or len(result.stderr) > 200:
        yield f"endless output ended as {result.end.name} with {len(result.stdout)} bytes"


def _long_command(box: Sandbox) -> Iterator[str]:
    text = "x" * 300_000
    yield from filter(None, [_says(box, f"printf %s {text} | wc -c", "300000\n")])


def _cwd(box: Sandbox) -> Iterator[str]:
    home = box.exec("pwd").stdout.decode().strip()
    box.exec("mkdir -p 'a b/ü'")
    rows = [("", home), ("a b/ü", f"{home}/a b/ü"), ("/", "/"), (f"{home}/src", f"{home}/src")]
    for cwd, place in rows:
        yield from filter(None, [_says(box, "pwd", place + "\n", cwd=cwd)])
    lost = box.exec("echo ran", cwd="missing")
    if lost.ok or lost.stdout or b"missing" not in lost.stderr:
        yield f"a folder that is not there gave {lost!r:.200}"


def _environment(box: Sandbox) -> Iterator[str]:
    given = {"A_B": 'it\'s "x"\n$HOME `id`', "PROJECT": "other"}
    command = 'printf "%s|%s" "$A_B" "$PROJECT"'
    said = f"{given['A_B']}|other"
    yield from filter(None, [_says(box, command, said, environment=given)])
    yield from filter(None, [_says(box, command, "|fold gym")])


def _timeout(box: Sandbox) -> Iterator[str]:
    for seconds in (0.3, 3.0, 30.0):  # a busy machine may take long to let a command begin
        began = time.monotonic()
        result = box.exec("echo before; sleep 600; echo after", timeout=seconds)
        if result.end is not End.TIMEOUT or result.code != 137 or result.ok:
            yield f"a command beyond its time gave {result!r:.200}"
        if time.monotonic() - began > seconds + 60:
            yield "the timeout was not enforced"
        if result.stdout:
            break
    if result.stdout != b"before\n":
        yield f"what it had said is lost: {result.stdout!r}"


def _tree(box: Sandbox) -> Iterator[str]:
    """Grandchildren, other sessions, ignored signals, cleared environments: all of it goes."""
    hard = "trap '' TERM INT HUP; while :; do sleep 600.25; done"
    box.exec(
        f'bash -c "{hard}" & setsid sleep 600.25 & (env -i setsid sleep 600.25 &) ; sleep 600.25',
        timeout=0.5,
    )
    yield from filter(None, [_says(box, _COUNT, "0\n")])


_COUNT = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'sleep 600[.]25' | wc -l"


def _stopped(box: Sandbox) -> Iterator[str]:
    result = box.exec("kill -STOP $$; echo on", timeout=0.4)
    if result.end is not End.TIMEOUT or not box.exec("true").ok:
        yield f"a command that stopped itself gave {result!r:.200}"


def _background(box: Sandbox) -> Iterator[str]:
    began = time.monotonic()
    yield from filter(None, [_says(box, "sleep 600 & echo started", "started\n", timeout=300)])
    if time.monotonic() - began > 100:
        yield "a background process kept its command waiting"
    box.exec("(while sleep 0.02; do echo noise; done) & echo $! > pid")
    yield from filter(None, [_says(box, "sleep 0.2; echo mine", "mine\n")])
    box.exec("sleep 600 & echo $! > pid")
    yield from filter(None, [_says(box, "kill -0 $(cat pid) && echo there", "there\n")])


def _concurrent(box: Sandbox) -> Iterator[str]:
    def one(number: int) -> str:
        command = f"for i in $(seq 200); do echo {number} $i; done; exit {number}"
        said = "".join(f"{number} {i}\n" for i in range(1, 201))
        return _says(box, command, said, number)

    with ThreadPoolExecutor(6) as threads:
        yield from filter(None, threads.map(one, range(6)))


def _apart(box: Sandbox) -> Iterator[str]:
    """A timeout of one command leaves another, which runs at the same time, alone."""
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(_says, box, "sleep 0.8; echo done", "done\n")
        time.sleep(0.2)
        box.exec("sleep 600", timeout=0.3)
        yield from filter(None, [other.result()])


def _orderly(box: Sandbox) -> Iterator[str]:
    """Answers belong to their questions, also after one that was cut off."""
    for number in range(40):
        yield from filter(
            None, [_says(box, f"echo {number}; exit {number}", f"{number}\n", number)]
        )
        if number == 20:
            box.exec("echo late; sleep 600; echo later", timeout=0.2)


def _last_words(box: Sandbox) -> Iterator[str]:
    """All that was written before the end is there, from pipes and children too."""
    said = "".join(f"{number}\n" for number in range(1, 20_001))
    yield from filter(None, [_says(box, "seq 1 20000 | cat; exit 7", said, 7)])
    yield from filter(None, [_says(box, "(sleep 0.1; echo slow) & wait; echo end", "slow\nend\n")])


def _no_leak(box: Sandbox) -> Iterator[str]:
    box.exec("cd src; export LEAK=1; leak() { :; }; umask 077")
    said = box.exec("pwd; echo $LEAK; type leak; umask").stdout.decode().split()
    if said[0].endswith("src") or said[1:] != ["0022"]:
        yield f"a shell's state carried over: {said}"


# ---------------------------------------------------------------- files


def _files(box: Sandbox) -> Iterator[str]:
    data = bytes(range(256)) * 5000
    for path in ("new.bin", "deep/er/ü 'quoted' \"name\" $x\n.bin", "-dash"):
        box.write(path, data)
        if box.read(path) != data:
            yield f"{path!r} does not come back as it was written"
    box.write("new.bin", b"")
    if box.read("new.bin") != b"":
        yield "writing does not replace a file"
    yield from filter(None, [_says(box, "cat src/a.py", "print('a')\n")])


def _file_errors(box: Sandbox) -> Iterator[str]:
    box.exec("touch closed; chmod 000 closed; ln -s loop loop; seq 1000 > long")
    rows: list[tuple[str, Callable[[], object], type[OSError]]] = [
        ("reading what is missing", lambda: box.read("missing"), FileNotFoundError),
        ("reading a folder", lambda: box.read("src"), IsADirectoryError),
        ("reading a loop of links", lambda: box.read("loop"), FileNotFoundError),
        ("writing a folder", lambda: box.write("src", b""), IsADirectoryError),
        ("writing below a file", lambda: box.write("README/x", b""), OSError),
        ("reading beyond the cap", lambda: box.read("long", cap=10), OSError),
        ("an empty name", lambda: box.read(""), FileNotFoundError),
    ]
    for what, do, wanted in rows:
        try:
            do()
        except wanted:
            continue
        except OSError as problem:
            yield f"{what} raised {problem!r}, not {wanted.__name__}"
        else:
            yield f"{what} raised nothing"


def _snapshot(box: Sandbox) -> Iterator[str]:
    box.exec("mkdir empty; chmod 750 empty; ln -s ../README src/link; echo x > run; chmod +x run")
    listing = "find . -printf '%p %m %y %l\\n' | sort"
    before = box.exec(listing).stdout
    snapshot = box.snapshot()
    box.exec("rm -rf src run; touch extra; mkdir -p deep/.hidden; echo changed > README")
    box.exec("sleep 600.25 & chmod 000 deep")
    box.restore(snapshot)
    if box.exec(listing).stdout != before or box.read("README") != b"hello\n":
        yield f"restored to {box.exec(listing).text!r:.300}, not {before!r:.300}"
    yield from filter(None, [_says(box, _COUNT, "0\n")])
    box.restore(None)
    yield from filter(None, [_says(box, "ls -A", "")])


# ---------------------------------------------------------------- isolation and limits


def _network(box: Sandbox) -> Iterator[str]:
    yield from filter(None, [_says(box, "grep -c : /proc/net/dev", "1\n")])
    if box.exec("echo > /dev/tcp/127.0.0.1/1", timeout=10).ok:
        yield "a connection was made"


def _host(box: Sandbox) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as secret:
        secret.write("ours")
        secret.flush()
        places = f"/etc/shadow {secret.name} /proc/1/root{secret.name}"
        looks = f"cat {places}; ls /root/.ssh; tr '\\0' '\\n' </proc/1/environ"
        said = box.exec(looks).stdout
    told = [line for line in said.decode(errors="replace").splitlines() if line]
    image = ("LANG=C.UTF-8", "TZ=UTC", "PYTHONHASHSEED=0")  # of our base image, not of the host
    if any(
        not line.startswith(("PATH=", "PWD=", "HOME=", "HOSTNAME=box", *image)) for line in told
    ):
        yield f"the host shows through: {told!r:.200}"
    mine = box.exec("ls /proc | grep -c '^[0-9]'").stdout.strip()
    if int(mine) > 8:
        yield f"{mine.decode()} processes can be seen"


def _rights(box: Sandbox) -> Iterator[str]:
    if box.exec("id -u").stdout.strip() == b"0":
        yield "commands run as root"
    held = box.exec("grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status | grep -vc '0000000000000000'")
    if held.stdout != b"0\n":
        yield "capabilities are left"
    for place in ("/usr/x", "/etc/x", "/x", "/run/foldgym/x", "/lib/x"):
        if box.exec(f"touch {place}").ok:
            yield f"{place} can be written"
    if box.exec("unshare -U true || unshare -r true").ok:
        yield "new namespaces can be made"


def _massacre(box: Sandbox) -> Iterator[str]:
    result = box.exec("kill -9 -1; sleep 600")  # which spares the one that asks
    if result.end is not End.EXITED or result.code != 137:
        yield f"killing everyone gave {result!r:.200}"
    box.exec("for p in /proc/[0-9]*; do kill -9 ${p#/proc/}; done")
    yield from filter(None, [_says(box, "echo back", "back\n")])


def _fork_bomb(box: Sandbox) -> Iterator[str]:
    result = box.exec("bomb() { bomb | bomb & }; bomb; sleep 600", timeout=1.0, cap=1000)
    if result.ok:
        yield "a fork bomb ended well"
    yield from filter(None, [_says(box, "echo back", "back\n", timeout=120)])


def _memory(box: Sandbox) -> Iterator[str]:
    hog = "head -c {} /dev/zero | tail -c {} | wc -c"
    if box.exec(hog.format(400 * MB, 400 * MB)).stdout == b"400000000\n":
        yield "one process held 400 MB of 150"
    small = hog.format(90 * MB, 90 * MB).replace("| wc -c", "| (sleep 600; cat)")
    result = box.exec(f"({small}) & ({small}) & ({small}) & wait", timeout=60)
    if result.end is not End.MEMORY:
        yield f"three processes held 270 MB of 150: {result!r:.200}"
    yield from filter(None, [_says(box, "echo back", "back\n")])


def _disk(box: Sandbox) -> Iterator[str]:
    if box.exec("head -c 25000000 /dev/zero > big").ok:
        yield "one file grew to 25 MB of 20"
    box.exec("rm -f big")
    if box.exec("head -c 18000000 /dev/zero > a; head -c 18000000 /dev/zero > b").ok:
        yield "two files took 36 MB of 30"
    box.exec("rm -f a b")
    if box.exec(
        "for p in /tmp /dev/shm $HOME; do head -c 40000000 /dev/zero > $p/x && exit; done; false"
    ).ok:
        yield "another folder took 40 MB of 30"


# ---------------------------------------------------------------- the life of a box


def _closed(make: MakeBox) -> Iterator[str]:
    box = make(_SPEC)
    box.close()
    box.close()
    for what, call in _verbs(box):
        try:
            call()
        except SandboxError:
            continue
        yield f"{what} on a closed box raised no SandboxError"


def _verbs(box: Sandbox) -> list[tuple[str, Callable[[], object]]]:
    return [
        ("exec", lambda: box.exec("true")),
        ("read", lambda: box.read("README")),
        ("write", lambda: box.write("x", b"")),
        ("snapshot", box.snapshot),
        ("restore", lambda: box.restore(None)),
    ]


def _death(make: MakeBox) -> Iterator[str]:
    """A box that goes while a command runs is an error of ours and no output."""
    with make(_SPEC) as box:
        threading.Timer(0.2, box.close).start()
        try:
            result = box.exec("echo partial; sleep 600", timeout=60)
        except SandboxError:
            return
        yield f"the box went, and the command gave {result!r:.200}"


def _killed(make: MakeBox) -> Iterator[str]:
    """A box whose holder is killed from outside is gone for every verb, and closes all the same."""
    with make(_SPEC) as box:
        found = next((each for each in find() if each.label.id == box.id), None)
        if found is None:  # a backend that keeps its own books
            return
        threading.Timer(
            0.2, send, [found.label.inner or found.label.keeper, signal.SIGKILL]
        ).start()
        try:
            result = box.exec("echo partial; exec sleep 30", timeout=60)
            yield f"the box was killed, and the command gave {result!r:.200}"
        except SandboxError:
            pass
        for what, call in _verbs(box):
            try:
                call()
            except SandboxError:
                continue
            yield f"{what} on a box that was killed raised no SandboxError"
    if any(each.label.id == box.id for each in find()):
        yield "a box that was killed is still listed after its close"


def _lifetime(make: MakeBox) -> Iterator[str]:
    with make(BoxSpec(limits=Limits(seconds=0.5), untrusted=False)) as box:
        try:
            for _ in range(100):
                box.exec("sleep 600", timeout=1.0)
        except SandboxError:
            return
        yield "the box outlived its wall clock"


def _strangers(make: MakeBox) -> Iterator[str]:
    with make(_SPEC) as first, make(_SPEC) as second:
        first.write("README", b"first's")
        first.exec("sleep 600.25 &")
        if second.read("README") != b"hello\n" or first.id == second.id:
            yield "two boxes share their files"
        second.restore(None)
        if first.exec("pgrep -f 'sleep 600[.]25' || true").stdout == b"":
            yield "one box ends the processes of another"
        second.restore(first.snapshot())
        if second.read("README") != b"first's":
            yield "a snapshot cannot go to another box"


CHECKS: dict[str, Check] = {
    "streams": _streams,
    "codes": _table(("exit 0", ""), ("exit 255", "", 255), ("false", "", 1), ("nosuch", "", 127)),
    "signals": _table(
        ("kill -9 $$", "", 137), ("kill -TERM $$", "", 143), ("kill -INT $$", "", 130)
    ),
    "bash": _table(
        ("[[ abc == a* ]] && echo ${PWD:+yes}", "yes\n"),
        ("diff <(echo 1) <(echo 1) && echo same", "same\n"),
        ("echo a |\n  tr a b\n", "b\n"),
        ("cat <<'X'\n$HOME\nX", "$HOME\n"),
        ("set -euo pipefail; false | true; echo on", "", 1),
    ),
    "syntax": _table(("if", "", 2), ("", ""), ("# nothing", "")),
    "sentinels": _table(
        ("echo started; echo 0", "started\n0\n"), ("printf 'no newline'", "no newline")
    ),
    "closed streams": _table(("exec >&- 2>&-; sleep 0.1; exit 4", "", 4)),
    "unicode": _table(("printf 'ü漢🙂'", "ü漢🙂"), ("echo 'ü' > 'ü'; cat ü", "ü\n")),
    "binary": _binary,
    "no stdin": _table(("cat; echo end", "end\n")),
    "large stdin": _large_stdin,
    "stdin that nobody reads": _unread_stdin,
    "huge output": _huge_output,
    "endless output": _endless_output,
    "long command": _long_command,
    "cwd": _cwd,
    "environment": _environment,
    "state does not leak": _no_leak,
    "timeout": _timeout,
    "timeout ends the tree": _tree,
    "stopped": _stopped,
    "background": _background,
    "concurrent": _concurrent,
    "timeouts are apart": _apart,
    "orderly": _orderly,
    "last words": _last_words,
    "files": _files,
    "file errors": _file_errors,
    "snapshot": _snapshot,
}
ISOLATION: dict[str, Check] = {
    "network": _network,
    "host": _host,
    "rights": _rights,
    "kill everyone": _massacre,
    "fork bomb": _fork_bomb,
    "memory": _memory,
    "disk": _disk,
}
WHOLE: dict[str, Callable[[MakeBox], Iterator[str]]] = {
    "closed": _closed,
    "death": _death,
    "killed": _killed,
    "lifetime": _lifetime,
    "strangers": _strangers,
}
