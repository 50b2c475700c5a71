"""Names: registering, making, files, plug-ins, and the way through Gymnasium."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import foldgym
from foldgym.config import EnvSection
from foldgym.envs import registry
from foldgym.envs.games import GuessNumber
from foldgym.envs.registry import EnvSpec, load_module, make, maker, register, spec, specs
from foldgym.errors import DataError, MissingExtra, UnknownName, UserError
from foldgym.trainers.wiring import worlds

WORLD = """
from foldgym import ToolEnv, tool

class Twice(ToolEnv):
    max_turns = 3

    def __init__(self, high=9):
        self.high = high

    def setup(self, rng):
        self.number = rng.randint(1, self.high)
        return f"Twice {self.number}?"

    @tool
    def answer(self, value: int) -> str:
        '''Answer.'''
        self.finish(float(value == 2 * self.number))
        return "Thanks."
"""


@pytest.fixture
def world(tmp_path: Path) -> str:
    (tmp_path / "world.py").write_text(WORLD)
    return f"{tmp_path}/world.py:Twice"


@pytest.fixture
def clean() -> Iterator[None]:
    before = dict(registry._specs)
    yield
    registry._specs.clear()
    registry._specs.update(before)


def python(code: str, *, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestMaking:
    def test_by_name(self) -> None:
        env = make("foldgym/GuessNumber-v0", high=7)
        assert isinstance(env, GuessNumber)
        assert env.high == 7
        assert foldgym.make is make

    def test_from_a_file(self, world: str) -> None:
        env = make(world, high=1)
        assert env.reset(seed=0)[0][0].text == "Twice 1?"
        assert type(make(world)) is type(env)  # the file ran once

    def test_from_a_module(self) -> None:
        assert isinstance(make("foldgym.envs.games:GuessNumber"), GuessNumber)

    def test_relative_paths_stay_true_elsewhere(
        self, world: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        made = maker("world.py:Twice")
        monkeypatch.chdir("/")
        assert made().reset(seed=0)

    def test_makers_travel(self, world: str) -> None:
        env = pickle.loads(pickle.dumps(maker(world, high=1)))()
        assert env.reset(seed=0)[0][0].text == "Twice 1?"

    @pytest.mark.parametrize(
        ("name", "kwargs", "error", "said"),
        [
            ("foldgym/GuesNumber-v0", {}, UnknownName, "did you mean 'foldgym/GuessNumber-v0'?"),
            ("foldgym/GuessNumber-v0", {"hihg": 3}, UnknownName, "did you mean 'high'?"),
            ("foldgym/GuessNumber-v0", {"hihg": 3}, UnknownName, "known: high, low, split"),
            ("foldgym/GuessNumber-v0", {"split": "dev"}, UnknownName, "test, train, val"),
            ("foldgym.envs.games:GuesNumber", {}, UnknownName, "did you mean 'GuessNumber'?"),
            ("foldgym.envs.gamez:GuessNumber", {}, DataError, "no module 'foldgym.envs.gamez'"),
            ("no_such_package.x:Y", {}, DataError, "no module 'no_such_package.x'"),
            ("nowhere.py:Y", {}, DataError, "there is no file"),
        ],
    )
    def test_mistakes(
        self, name: str, kwargs: dict[str, object], error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error) as caught:
            make(name, **kwargs)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_kwargs_of_a_base_are_accepted_through_kwargs(self) -> None:
        class Wide(GuessNumber):
            def __init__(self, step: int = 1, **kwargs: object) -> None:
                super().__init__(**kwargs)  # type: ignore[arg-type]
                self.step_size = step

        made = EnvSpec("me/Wide-v0", Wide)
        env = registry._build(made, {"high": 5, "step": 2})
        assert (env.high, env.step_size) == (5, 2)  # type: ignore[attr-defined]
        with pytest.raises(UnknownName, match="'hi'"):
            registry._build(made, {"hi": 5})

    def test_a_missing_dependency_names_its_extra(self, tmp_path: Path, clean: None) -> None:
        (tmp_path / "needy.py").write_text("import no_such_dependency\n")
        register("me/Needy-v0", f"{tmp_path}/needy.py:X", extra="needy")
        with pytest.raises(MissingExtra, match=r"pip install 'foldgym\[needy\]'"):
            make("me/Needy-v0")
        with pytest.raises(ModuleNotFoundError):
            make(f"{tmp_path}/needy.py:X")

    def test_a_file_loads_once_in_many_threads(self, tmp_path: Path) -> None:
        file = tmp_path / "slow.py"
        file.write_text("import time\nstate = 1\ntime.sleep(0.2)\nstate = 2\n")
        seen: list[int] = []
        threads = [
            threading.Thread(target=lambda: seen.append(load_module(str(file)).state))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [2, 2, 2, 2]

    def test_a_broken_file_can_be_mended(self, tmp_path: Path) -> None:
        file = tmp_path / "broken.py"
        file.write_text("raise RuntimeError('not yet')")
        with pytest.raises(RuntimeError, match="not yet"):
            load_module(str(file))
        file.write_text("fine = True  # and longer than before, for the bytecode cache")
        assert load_module(str(file)).fine


class TestRegistering:
    def test_spec_and_fields(self, clean: None) -> None:
        made = register("me/Guess-v0", GuessNumber, kwargs={"high": 3}, max_turns=2)
        assert made == EnvSpec(
            "me/Guess-v0", "foldgym.envs.games:GuessNumber", {"high": 3}, max_turns=2
        )
        assert spec("me/Guess-v0") is not None
        assert made in specs()
        assert make("me/Guess-v0").high == 3  # type: ignore[attr-defined]
        assert make("me/Guess-v0", high=4).high == 4  # type: ignore[attr-defined]

    def test_the_same_again_and_another(self, clean: None) -> None:
        register("me/Guess-v0", GuessNumber)
        register(EnvSpec("me/Guess-v0", "foldgym.envs.games:GuessNumber"))
        with pytest.raises(UserError, match="already registered, with another definition"):
            register("me/Guess-v0", GuessNumber, max_turns=3)

    @pytest.mark.parametrize("name", ["Guess-v0", "me/", "/x", "a b/c", "a/b:c", "a/b/c", "x.py"])
    def test_names(self, name: str) -> None:
        with pytest.raises(UserError, match="must look like"):
            register(name, GuessNumber)

    def test_unknown_fields(self) -> None:
        with pytest.raises(UnknownName, match="did you mean 'budget'"):
            register("me/Guess-v0", GuessNumber, budgte=3)
        with pytest.raises(UserError, match="an EnvSpec alone"):
            register(EnvSpec("me/X-v0", "m:X"), GuessNumber)
        with pytest.raises(UserError, match="needs the class"):
            register("me/X-v0")

    def test_built_in(self) -> None:
        names = [each.name for each in specs()]
        assert names == sorted(names)
        assert {"foldgym/GuessNumber-v0", "foldgym/KeyDoor-v0", "foldgym/Arithmetic-v0"} <= set(
            names
        )


class TestPlugins:
    def test_good_and_broken(self, tmp_path: Path) -> None:
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[foldgym.envs]\nbroken = acme_worlds:Missing\ngood = acme_worlds:SPEC\n"
            "more = acme_worlds:more\nwrong = acme_worlds:number\n"
        )
        (tmp_path / "acme_worlds.py").write_text(
            WORLD
            + "\nimport foldgym\nSPEC = foldgym.EnvSpec('acme/Twice-v0', 'acme_worlds:Twice')\n"
            "number = 5\ndef more(): foldgym.register('acme/More-v0', Twice, kwargs={'high': 2})\n"
        )
        said = python(
            f"""
            import sys, warnings
            sys.path.insert(0, {str(tmp_path)!r})
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                import foldgym, gymnasium
                import foldgym.envs
                env = foldgym.make("acme/Twice-v0")
                gymnasium.make("acme/More-v0").reset(seed=0)
            for each in caught:
                print(each.message)
            """
        )
        lines = said.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("plug-in 'broken' (acme_worlds:Missing) was left out: Attribute")
        assert lines[1].startswith("plug-in 'wrong' (acme_worlds:number) was left out: TypeError")


class TestGymnasium:
    @pytest.mark.parametrize(
        "imports",
        ["import gymnasium, foldgym.envs", "import foldgym.envs, gymnasium", "import gymnasium"],
    )
    def test_in_any_order(self, imports: str) -> None:
        said = python(
            f"""
            {imports}
            env = gymnasium.make("foldgym.envs:foldgym/GuessNumber-v0", high=7)
            print(env.reset(seed=0)[0][0].content)
            """
        )
        assert said == "Guess my number from 1 to 7 with the tool guess."

    def test_importing_the_registry_is_light(self) -> None:
        said = python(
            """
            import sys, foldgym.envs.registry
            print({"gymnasium", "numpy", "pydantic", "torch"} & set(sys.modules))
            """
        )
        assert said == "set()"

    def test_later_registrations_and_files(self, world: str, clean: None) -> None:
        import gymnasium

        register("me/Twice-v0", world, max_turns=3)
        try:
            env = gymnasium.make("me/Twice-v0", high=1, render_mode="ansi")
            assert env.reset(seed=0)[0][0].text == "Twice 1?"
            assert env.render() == "[user] Twice 1?"
            assert env.step("answer 2")[1:4] == (1.0, True, False)
            assert env.get_wrapper_attr("measure")()["success"] is True
            with pytest.raises(UnknownName, match="did you mean 'high'"):
                gymnasium.make("me/Twice-v0", hihg=1)
            assert gymnasium.spec("me/Twice-v0").max_episode_steps == 3
        finally:
            del gymnasium.registry["me/Twice-v0"]


@pytest.mark.browser
def test_a_browser_plays_no_more_at_once_than_it_has_contexts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOLDGYM_BROWSER_CONTEXTS", "3")
    pages, words = registry.spec("foldgym/MiniWoB-v0"), registry.spec("foldgym/GuessNumber-v0")
    assert [registry.at_once(asked, [words, pages]) for asked in (1, 3, 64)] == [1, 3, 3]
    assert registry.at_once(64, [words]) == 64
    assert (
        worlds([EnvSection(name="foldgym/MiniWoB-v0")]).at_once(64) == 3
    )  # what train and sft ask
