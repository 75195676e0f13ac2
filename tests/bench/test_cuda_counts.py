"""The speed of the matrix kernels as far as it is known without a GPU: their memory accesses."""
import importlib.util
import json
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("nvidia") is None:
    pytest.skip("CUDA kernels need NVIDIA's compiler: pip install '.[cuda]'", allow_module_level=True)

FOLDER = Path(__file__).parents[2] / "docs/benchmarks"
if not FOLDER.exists():
    pytest.skip("only in a checkout", allow_module_level=True)
sys.path.insert(0, str(FOLDER))
import cuda_counts  # noqa: E402


@pytest.mark.parametrize("profile", cuda_counts.PROFILES.values(), ids=cuda_counts.PROFILES)
def test_tensor_core_kernels_waste_no_pass_over_shared_or_global_memory(profile):
    """No two lanes want different words of one bank, and every sector that is fetched is used."""
    lines = profile(3)
    assert sum(counts.wavefronts for counts in lines.values()) > 0
    for location, counts in lines.items():
        assert counts.wavefronts == counts.ideal_wavefronts, f"{location}: bank conflicts"
        assert counts.sectors == counts.ideal_sectors, f"{location}: sectors half used"


def test_the_documented_counts_are_those_of_the_kernels():
    """cuda_counts.py was run after the kernels were changed; the steps that are quick to count are counted again."""
    table = json.loads(cuda_counts.FILE.read_text())
    assert set(table) == {f"{name}_{step}" for name in cuda_counts.PROFILES for step in (1, 2, 3)}
    for name, profile in cuda_counts.PROFILES.items():
        counts = cuda_counts.total_counts(profile(3))
        assert {counter: table[f"{name}_3"][counter] for counter in counts} == counts
