"""`foldgym envs list|show|check|play|validate`: environments, yours too."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli import chat_player
from foldgym.cli.options import (
    add_json,
    add_set,
    add_transform,
    at_least,
    settings,
    temperature,
    transforms,
    write_json,
)
from foldgym.cli.players import add_scaffold
from foldgym.errors import ConfigError, UserError

if TYPE_CHECKING:
    from foldgym.envs.base import Env
    from foldgym.envs.registry import EnvSpec, Maker
    from foldgym.testing.validate import Standing

NAMES = 'a registered name, "module:Class" or "path/to/file.py:Class"'


def run_envs(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        return made

    add_json(command("list", _list, "list the environments that are registered"))
    what = "list what makes an environment longer or harder, with each one's knob"
    add_json(command("transforms", _transforms, what))
    show = command("show", _show, "show an environment's tools, experts and a first question")
    check = command("check", _check, "run Gymnasium's checker and ours; exit code 1 on problems")
    play = command("play", _play, "play an episode step by step, yourself or with a policy")
    what = "score an oracle, a random and a do-nothing player; exit code 1 unless they are apart"
    validate = command("validate", _validate, what)
    for each in (show, play):
        each.add_argument("env", metavar="ENV", help=NAMES)
    for each in (check, validate):
        each.add_argument("env", metavar="ENV", nargs="*", help=f"{NAMES}; all registered ones")
    for each in (show, check, play, validate):
        add_set(each)
        add_transform(each)
        add_json(each)
    for each in (show, check, play):
        each.add_argument("--seed", type=at_least(0), default=0, help="of the episode (0)")
    validate.add_argument("--all", action="store_true", help="all registered ones, as without ENV")
    validate.add_argument("--episodes", type=at_least(1), default=32, help="of each player (32)")
    again = "episodes of each player to play again in a new process, byte for byte (3; 0: none)"
    validate.add_argument("--again", type=at_least(0), default=3, metavar="N", help=again)
    validate.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    play.add_argument(
        "--policy", metavar="P", help="a checkpoint folder, expert:STYLE, chat:MODEL, ..."
    )
    play.add_argument("--pause", action="store_true", help="wait for Enter before every step")
    play.add_argument("--temperature", type=temperature, default=0.0, help="of a checkpoint (0)")
    what = "save the pictures of the observations in a folder; browsers then show some"
    play.add_argument("--screenshots", metavar="DIR", help=what)
    add_scaffold(play)
    chat_player.add_chat(play)
    as_trained = {"max_tokens": None, "max_turns": None, "max_context": None, "memory": None}
    play.set_defaults(**as_trained, retries=0, concurrency=1, device="cpu", threads=0)
    args = parser.parse_args(words)
    return args.run(args)


def _list(args: argparse.Namespace) -> int:
    from foldgym.envs.registry import specs

    found = specs()
    if write_json(args.json, [_sheet(spec) for spec in found]):
        rows = [(spec.name, spec.max_turns or None, spec.description) for spec in found]
        console.table("", ("environment", "turns", "what it is"), rows)
    return 0


def _transforms(args: argparse.Namespace) -> int:
    from foldgym.envs.transforms import TRANSFORMS, class_of

    found = {name: class_of(name) for name in TRANSFORMS}
    table = {
        name: {
            "what": (each.__doc__ or "").strip().split("\n\n")[0],
            "knob": asdict(each.knob),
            "trains": each.trains,
        }
        for name, each in found.items()
    }
    if write_json(args.json, table):
        rows = [
            (name, each.knob.option, ", ".join(f"{x:g}" for x in each.knob.levels), each.knob.claim)
            for name, each in found.items()
        ]
        console.table("", ("transform", "knob", "levels", "why it is harder or easier"), rows)
    return 0


def _show(args: argparse.Namespace) -> int:
    from foldgym.envs.registry import maker
    from foldgym.tools import usage

    make = maker(args.env, **{"transforms": transforms(args.transform), **settings(args.set)})
    turns = make.turns(0)
    env = make()
    try:
        env.reset(seed=args.seed)
        sheet = _sheet(make.spec) | {
            "max_turns": turns,
            "experts": list(env.experts),
            "tools": [
                {
                    "name": tool.name,
                    "usage": usage(tool),
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                }
                for tool in env.tools
            ],
            "seed": args.seed,
            "prompt": [{"role": m.role, "content": m.text} for m in env.task.prompt],
        }
    finally:
        env.close()
    if write_json(args.json, sheet):
        _show_sheet(sheet)
    return 0


def _show_sheet(sheet: dict[str, Any]) -> None:
    console.rule(sheet["name"])
    if sheet["description"]:
        console.say(sheet["description"])
    console.say(f"entry: {sheet['entry']}")
    limit = sheet["max_turns"] or "its own limit"
    console.say(f"each call: {sheet['isolation']}, {sheet['budget']:g} s; turns: {limit}")
    console.say(f"splits: {', '.join(sheet['splits'])}")
    console.say(f"experts: {', '.join(sheet['experts']) or 'none'}")
    for tool in sheet["tools"]:
        first = tool["description"].strip().splitlines()[:1]
        console.say(f"tool: {tool['usage']}" + "".join(f" - {line}" for line in first))
    console.rule(f"first question of seed {sheet['seed']}")
    for message in sheet["prompt"]:
        console.say(f"[{message['role']}] {message['content']}")


def _sheet(spec: EnvSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "entry": spec.entry if isinstance(spec.entry, str) else repr(spec.entry),
        "kwargs": dict(spec.kwargs),
        "isolation": spec.isolation,
        "budget": spec.budget,
        "max_turns": spec.max_turns,
        "splits": list(spec.splits),
        "extra": spec.extra,
    }


def _play(args: argparse.Namespace) -> int:
    from foldgym.cli import play

    if args.screenshots:
        from foldgym.envs.registry import spec

        if args.json is not None:
            raise ConfigError("--screenshots: has no effect with --json, which prints the pictures")
        if spec(args.env).browser and "image" not in settings(args.set):
            args.set = [*(args.set or []), "image=raw"]
    if not args.policy and (args.scaffold or args.aux or args.chat or args.base_url):
        raise ConfigError(
            "--scaffold, --aux, --chat: have no effect without --policy: you play yourself"
        )
    return play.by_policy(args) if args.policy else play.by_person(args, _env(args))


def _env(args: argparse.Namespace) -> Env:
    from foldgym.envs.registry import make

    return make(args.env, **{"transforms": transforms(args.transform), **settings(args.set)})


def _names(args: argparse.Namespace, boxes: bool = True) -> list[str]:
    """Those that were named, or all; without `boxes` no sandboxes and no browsers."""
    from foldgym.envs.registry import specs

    if args.env:
        return args.env
    ready = [spec.name for spec in specs(ready=True) if boxes or not (spec.sandbox or spec.browser)]
    for spec in specs():
        if (spec.sandbox or spec.browser) and not boxes:
            takes = "sandbox" if spec.sandbox else "browser"
            console.note(f"{spec.name} is left out: name it, for every episode takes a {takes}")
        elif spec.name not in ready:
            needs = "a sandbox (foldgym sandbox doctor)" if spec.sandbox else ""
            needs = needs or f"pip install 'foldgym[{spec.extra}]'"
            needs += " and a Chromium" if spec.browser else ""
            console.note(f"{spec.name} is left out: it needs {needs}")
    return ready


def _check(args: argparse.Namespace) -> int:
    from foldgym.envs.registry import maker
    from foldgym.testing.contracts import check_env

    kwargs = {"transforms": transforms(args.transform), **settings(args.set)}
    seeds = (args.seed, args.seed + 1, args.seed + 2)
    found = {name: check_env(maker(name, **kwargs), seeds) for name in _names(args)}
    table = {
        name: [{"check": each.check, "problem": each.problem} for each in findings]
        for name, findings in found.items()
    }
    if write_json(args.json, table):
        for name, findings in found.items():
            console.say(f"{name}: {len(findings)} problems" if findings else f"{name}: ok")
            for each in findings:
                console.say(f"  {each}")
    return int(any(found.values()))


def _validate(args: argparse.Namespace) -> int:
    from foldgym.testing.validate import digests_elsewhere, validate

    if args.all and args.env:
        raise ConfigError(f"--all names every environment; leave out {args.env[0]}")
    makers = _makers(args)
    again = min(args.again, args.episodes)
    found: dict[str, list[Standing]] = {}
    with console.progress(len(makers), "validating") as advance:
        for name, make in makers.items():
            found[name] = validate(make, args.episodes, digested=again)
            advance(note=name)
    elsewhere = digests_elsewhere(makers, again) if again else {}
    problems = {name: _apart(standings) for name, standings in found.items()}
    repeats: dict[str, bool | None] = dict.fromkeys(found)
    for name, digests in elsewhere.items():
        repeats[name] = digests == [each.digest for each in found[name]]
        if not repeats[name]:
            problems[name].append(
                "the same seeds gave other episodes in a new process: something depends on hash(), "
                "on a set's order or on a generator that the seed does not reach"
            )
    table = {
        name: {
            "players": [asdict(each) for each in standings],
            "repeats": repeats[name],
            "problems": problems[name],
        }
        for name, standings in found.items()
    }
    if write_json(args.json, table):
        title = f"{args.episodes} episodes of each player: success (score where it differs)"
        rows = [_standings(name, found[name], repeats[name]) for name in found]
        if args.markdown:
            console.markdown(_COLUMNS, rows)
        else:
            console.table(title, _COLUMNS, rows)
        for name, lines in problems.items():
            for line in lines:
                console.say(f"{name}: {line}")
    return int(any(problems.values()))


def _makers(args: argparse.Namespace) -> dict[str, Maker]:
    """Those that were named; of all registered ones, those that can be made without options."""
    from foldgym.envs.registry import maker

    kwargs = {"transforms": transforms(args.transform), **settings(args.set)}
    made = {name: maker(name, **kwargs) for name in _names(args, boxes=False)}
    for name, make in list(made.items()) if not args.env else ():
        try:
            make().close()
        except UserError as problem:
            if len(made) == 1:
                raise
            console.note(f"{name} is left out: {problem}")
            del made[name]
    return made


_COLUMNS = ("environment", "best expert", "other experts", "random", "nobody", "turns", "repeats")


def _standings(name: str, standings: list[Standing], repeats: bool | None) -> tuple[object, ...]:
    """One row: the best expert, and beside it everyone else."""
    *experts, chance, nobody = standings
    others = ", ".join(f"{each.player} {_rate(each)}" for each in experts[1:])
    best = f"{experts[0].player} {_rate(experts[0])}" if experts else None
    turns = f"{experts[0].turns:.1f}" if experts else None
    return (name, best, others, _rate(chance), _rate(nobody), turns, repeats)


def _rate(standing: Standing) -> str:
    success, score = f"{standing.success:.3f}", f"{standing.score:.3f}"
    return success if success == score else f"{success} ({score})"


def _apart(standings: list[Standing]) -> list[str]:
    """What makes an environment a poor teacher, in sentences."""
    *experts, chance, nobody = standings
    problems: list[str] = []
    if nobody.success > 0:
        problems.append(f"doing nothing succeeds in {nobody.success:.0%} of the episodes")
    floor = max(chance.score, nobody.score)
    if experts and experts[0].score <= floor:
        problems.append(
            f"the expert {experts[0].player!r} scores {experts[0].score:.3f}, no more than "
            f"{floor:.3f} by chance or by doing nothing"
        )
    elif experts and experts[0].success < 1:
        problems.append(
            f"the expert {experts[0].player!r} fails in {1 - experts[0].success:.0%} of the "
            "episodes, so some may have no solution"
        )
    return problems
