"""What `[engine] use = "vllm"` may say, and the server that it describes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from uniform import Uniform, engine_of

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.vllm import vllm
from foldgym.agents.engines.vllm_options import Options
from foldgym.agents.engines.vllm_push import FOLDER
from foldgym.agents.renderers import CompactRenderer
from foldgym.errors import ConfigError
from foldgym.testing.doubles import ByteTokenizer


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "http://x", "python": "p"}, r"engine\.python: has no effect: engine\.url names"),
        ({"url": []}, r"engine\.url: an empty list"),
        ({"gpus": "0"}, r'engine\.gpus: has no effect: policy\.device is "cpu"'),
        ({"gpu_memory_utilization": 0.4}, r"engine\.gpu_memory_utilization: has no effect"),
        ({"restarts": -1}, r"engine\.restarts: -1 must be at least 0"),
        pytest.param(
            {"colocated": True},
            r"engine\.colocated: vLLM must be installed beside foldgym",
            marks=pytest.mark.skipif(find_spec("vllm") is not None, reason="it is"),
        ),
        ({"colocated": True, "url": "u"}, r"engine\.url: has no effect: engine\.colocated is true"),
        ({"transfer": "nccl"}, r"engine\.transfer: 'nccl' sends from GPU to GPU, and .* \"cpu\""),
        ({"transfer": "memory"}, r"engine\.transfer: 'memory' is for vLLM in this process"),
        ({"transfer": "gloo", "url": "u"}, r"engine\.transfer: 'gloo' needs a server that was st"),
        ({"python": "/nowhere/python"}, r"engine\.python: /nowhere/python is no program"),
    ],
)
def test_options_without_effect_or_out_of_range_are_refused(tmp_path, options, says):
    with pytest.raises(ConfigError, match=says):
        engine_of(Uniform(), tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_flags_say_what_the_run_file_says(tmp_path):
    python = sys.executable
    trained = Uniform()
    trainee = Trainee(trained, CompactRenderer(ByteTokenizer()), trained.write, tmp_path, 1.0)
    server = vllm(trainee, python=python, max_model_len=64, args=["--seed", "3"]).server
    words = " ".join(server.flags)
    assert "--dtype float32" in words
    assert "--logprobs-mode processed_logprobs" in words
    assert "--max-model-len 64" in words
    assert words.endswith("--enforce-eager --no-enable-chunked-prefill --seed 3")
    assert server.variables["VLLM_TARGET_DEVICE"] == "cpu"
    gpu = Trainee(
        trained, trainee.renderer, trained.write, tmp_path, 1.0, dtype="bfloat16", device="cuda"
    )
    path = {"PYTHONPATH": str(FOLDER)}
    server = vllm(gpu, python=python, gpus=1).server
    assert server.variables == {"CUDA_VISIBLE_DEVICES": "1", **path}
    options = {"gpus": "1,2", "tensor_parallel": 2, "gpu_memory_utilization": 0.5, "sleep": True}
    server = vllm(gpu, python=python, **options).server
    words = " ".join(server.flags)
    assert "--dtype bfloat16" in words
    assert "--gpu-memory-utilization 0.5 --tensor-parallel-size 2" in words
    assert "--enable-sleep-mode" in words
    assert "--enforce-eager" not in words
    assert "chunked" not in words
    said = [Options().settings(each, tmp_path)[0] for each in (trainee, gpu)]
    assert [each.get("enable_chunked_prefill") for each in said] == [False, None]
    assert server.variables == {"CUDA_VISIBLE_DEVICES": "1,2", **path}
    server = vllm(gpu, python=python, env={"PYTHONPATH": "/plugins"}).server
    assert server.variables == {"PYTHONPATH": os.pathsep.join([str(FOLDER), "/plugins"])}


@pytest.mark.parametrize("cpu", [True, False])
def test_processes_of_vllm_sleep_to_wait_on_a_cpu(cpu):
    """By the plugin that they find on their path, in a vLLM of two modules."""
    script = f"""
import sys
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace
platforms, utils = ModuleType("vllm.platforms"), ModuleType("vllm.distributed.utils")
platforms.current_platform = SimpleNamespace(is_cpu=lambda: {cpu})
utils.USE_SCHED_YIELD = True
sys.modules |= {{each.__name__: each for each in (platforms, utils)}}
[plugin] = entry_points(group="vllm.general_plugins", name="foldgym")
plugin.load()()
print(utils.USE_SCHED_YIELD)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
    )
    assert done.stdout.strip() == str(not cpu), done.stderr
