"""WebShop's own interface: sessions by number or at random, histories in the observation.

For programs written against `WebAgentTextEnv`, for comparisons with it, and for replaying what
people did in it. To train and judge agents take the environment `foldgym/Shop-v0`.
"""

from __future__ import annotations

import string
from collections import deque
from typing import Any

from foldgym.envs.shop.catalogue import Catalogue
from foldgym.envs.shop.goals import Goal, Goals
from foldgym.envs.shop.pages import SEPARATOR
from foldgym.envs.shop.scoring import Tagger, nouns
from foldgym.envs.shop.session import Mode, Session
from foldgym.seeding import generator

LETTERS = 10


class WebShop:
    """Many sessions over one catalogue.

        shop = WebShop(catalogue, catalogue.goals("human", 0), "text_rich")
        observation, _ = shop.reset(session=3)      # the goal at place 3
        observation, reward, done, _ = shop.step("search[red mug]")
        shop.get_available_actions()                # {"has_search_bar": False, "clickables": [...]}

    A session that was begun before keeps its goal. `reset()` opens one with ten letters and a goal
    drawn by weight; `seed` decides both, as it does what `<r>` finds. There is no limit on steps,
    and after the end the shop goes on.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        goals: Goals,
        observation_mode: Mode = "html",
        *,
        session_prefix: str = "",
        show_attrs: bool = False,
        num_prev_obs: int = 0,
        num_prev_actions: int = 0,
        seed: int = 0,
        tagger: Tagger = nouns,
    ) -> None:
        self.catalogue, self.goals = catalogue, goals
        self.observation_mode: Mode = observation_mode
        self._prefix, self._show_attrs, self._tagger = session_prefix, show_attrs, tagger
        self._kept = num_prev_obs, num_prev_actions
        self._rng = generator(seed, "webshop")
        self._goals: dict[str, Goal] = {}
        self.reset()

    def reset(
        self, session: int | str | None = None, instruction_text: str | None = None
    ) -> tuple[str, None]:
        """Begin, or begin again; a whole number is also the place of the goal."""
        name = "".join(self._rng.choices(string.ascii_lowercase, k=LETTERS))
        name = self._prefix + (name if session is None else str(session))
        if name not in self._goals:
            place = session if isinstance(session, int) else self.goals.draw(self._rng)
            self._goals[name] = self.goals[place]
        self.session = Session(
            self.catalogue,
            self._goals[name],
            name,
            self._rng,
            self.goals.seed,
            self._show_attrs,
            self._tagger,
        )
        said = f"Instruction: {self._goals[name].instruction}"
        self.instruction_text = said if instruction_text is None else instruction_text
        observation = self.observation
        observations, actions = self._kept
        self._seen = deque([observation], maxlen=observations)
        self._done = deque[str](maxlen=actions)
        return observation, None

    @property
    def observation(self) -> str:
        """The page as it is, without a history."""
        return self.session.observation(self.observation_mode)

    def get_available_actions(self) -> dict[str, Any]:
        """Whether there is a field to search in, and what can be clicked."""
        page = self.session.page
        return {"has_search_bar": page.has_search_bar, "clickables": list(self.session.clickables)}

    def step(self, action: str) -> tuple[str, float, bool, None]:
        """The observation after its history (oldest first), the reward, and whether one bought."""
        reward, done, _ = self.session.act(action)
        observation = self.observation
        self._done.append(action)
        observations, actions = self._kept
        parts = [observation]
        for back in range(1, 1 + max(observations, actions)):
            if back <= min(actions, len(self._done)):
                parts.append(self._done[-back])
            if back <= min(observations, len(self._seen)):
                parts.append(self._seen[-back])
        self._seen.append(observation)
        return SEPARATOR.join(parts[::-1]), reward, done, None
