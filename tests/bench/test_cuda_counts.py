"""What can be said of the matrix kernels' speed without a GPU: what they ask of memory."""
import importlib.util
import json
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("nvidia") is None:
    pytest.skip("CUDA kernels need NVIDIA's compiler: pip install 'tinyscout[cuda]'", allow_module_level=True)

PLACE = Path(__file__).parents[2] / "docs/benchmarks"
if not PLACE.exists():
    pytest.skip("only in a checkout", allow_module_level=True)
sys.path.insert(0, str(PLACE))
import cuda_counts  # noqa: E402


@pytest.mark.parametrize("counted", [cuda_counts.linear, cuda_counts.attention])
def test_tensor_core_kernels_waste_no_pass_over_shared_or_global_memory(counted):
    """No two lanes want different words of one bank, and every sector that is fetched is used."""
    lines = counted(3)
    assert sum(counts.wavefronts for counts in lines.values()) > 0
    for place, counts in lines.items():
        assert counts.wavefronts == counts.ideal_wavefronts, f"{place}: bank conflicts"
        assert counts.sectors == counts.ideal_sectors, f"{place}: sectors half used"


def test_the_documented_counts_are_those_of_the_kernels():
    """cuda_counts.py was run after the kernels were changed; the steps that are quick to count are counted again."""
    kept = json.loads(cuda_counts.FILE.read_text())
    assert set(kept) == {f"{name}_{step}" for name in ("linear", "attention") for step in (1, 2, 3)}
    for of in (cuda_counts.linear, cuda_counts.attention):
        found = cuda_counts.total(of(3))
        assert {what: kept[f"{of.__name__}_3"][what] for what in found} == found
