"""Every noun of foldgym: read these four pages first.

    messages   what is said, and the world that answers
    playing    who plays, and what they are shown: the log, views, memories
    episodes   what an episode leaves behind: turns, segments, trajectories, rewards
    learning   what is asked for and what is learned: requests, groups, credit, batches

Data is frozen; behaviour is a Protocol of a few methods; algorithms are functions.
Shape letters, used in names everywhere: T tokens, K turns, G group members, B rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foldgym.types.episodes import Reward, Segment, Stop, Trajectory, Turn
from foldgym.types.learning import (
    AdvantageFn,
    Batch,
    Credit,
    Credits,
    Decision,
    Group,
    Guide,
    Keep,
    Learner,
    Merge,
    Request,
    Retry,
    Sampler,
    Verdict,
)
from foldgym.types.messages import (
    Action,
    Content,
    EnvHandle,
    Evidence,
    Ids,
    Image,
    Json,
    Message,
    Observation,
    Opening,
    Picture,
    Role,
    Step,
    Task,
    Tool,
    ToolCall,
)
from foldgym.types.playing import (
    Ask,
    At,
    Boundary,
    Branching,
    Budget,
    Completion,
    Event,
    Finish,
    Item,
    Kind,
    Kit,
    Log,
    Memory,
    Policy,
    Prompt,
    Proposal,
    Ref,
    Sampling,
    Scorer,
    Session,
    Snapshot,
    Source,
    Synth,
    View,
)

if TYPE_CHECKING:
    from foldgym.types.learning import Floats as Floats
    from foldgym.types.learning import Ints as Ints

__all__ = [
    "Action",
    "AdvantageFn",
    "Ask",
    "At",
    "Batch",
    "Boundary",
    "Branching",
    "Budget",
    "Completion",
    "Content",
    "Credit",
    "Credits",
    "Decision",
    "EnvHandle",
    "Event",
    "Evidence",
    "Finish",
    "Group",
    "Guide",
    "Ids",
    "Image",
    "Item",
    "Json",
    "Keep",
    "Kind",
    "Kit",
    "Learner",
    "Log",
    "Memory",
    "Merge",
    "Message",
    "Observation",
    "Opening",
    "Picture",
    "Policy",
    "Prompt",
    "Proposal",
    "Ref",
    "Request",
    "Retry",
    "Reward",
    "Role",
    "Sampler",
    "Sampling",
    "Scorer",
    "Segment",
    "Session",
    "Snapshot",
    "Source",
    "Step",
    "Stop",
    "Synth",
    "Task",
    "Tool",
    "ToolCall",
    "Trajectory",
    "Turn",
    "Verdict",
    "View",
]
