"""What is played: environments, their registry, and the workers that keep them in their place.

Importing this package makes every environment known to Gymnasium, at once or as soon as Gymnasium
is imported; it imports neither Gymnasium nor anything else that is heavy.
"""

from __future__ import annotations

from foldgym.envs.registry import register_with_gymnasium

register_with_gymnasium()
