"""What a kernel does, counted for every line of its source: warps, lanes, memory moved and memory needed."""
from dataclasses import dataclass

import numpy as np

SECTOR = 32                     # bytes that global memory moves at once
BANKS, WORD = 32, 4             # shared memory: banks, and bytes of one


@dataclass
class LineCounts:
    """Of one line.  Ideal is what the same bytes would take if they lay side by side."""

    instructions: int = 0       # by a warp
    lanes: int = 0              # that took part in them
    requests: int = 0           # to memory, by a warp
    sectors: int = 0            # of global memory
    ideal_sectors: int = 0
    wavefronts: int = 0         # of shared memory: passes over its banks
    ideal_wavefronts: int = 0


class Profile:
    """Counts by line: {"norm.cu:17": Counts}"""

    def __init__(self):
        self.lines: dict = {}

    def counts_at(self, location):
        return self.lines.setdefault(location, LineCounts())

    def count_step(self, step, instruction):
        """The step of an instruction, counted."""
        def counting(m):
            counts, group = self.counts_at(instruction.location), m.group
            counts.instructions += int(group.mask.reshape(-1, 32).any(1).sum())
            counts.lanes += group.count
            return step(m)
        return counting

    def count_access(self, access, region, threads, position):
        """An access by threads at positions in a region's data."""
        counts = self.counts_at(access.instruction.location)
        warps, lanes = threads // 32, threads % 32
        counts.requests += len(np.unique(warps))
        words = position[:, None] // WORD + np.arange(max(1, access.width // WORD))
        if access.space == "shared" or region.name.startswith("shared"):
            together = 32 * WORD // max(WORD, access.width)                 # lanes that one pass can serve
            phase = warps * 32 + lanes // together
            done, ideal = count_wavefronts(np.repeat(phase, words.shape[1]), words.ravel())
            counts.wavefronts += done
            counts.ideal_wavefronts += ideal
        elif not region.name.startswith("local"):
            owner = np.repeat(warps, words.shape[1])
            distinct = np.unique(np.stack([owner, words.ravel()]), axis=1)
            counts.sectors += np.unique(np.stack([distinct[0], distinct[1] * WORD // SECTOR]), axis=1).shape[1]
            counts.ideal_sectors += int((-(-np.bincount(distinct[0]) * WORD // SECTOR)).sum())


def count_wavefronts(phase, words):
    """How often the banks are passed over: for each phase as often as its busiest bank has different words."""
    distinct = np.unique(np.stack([phase, words]), axis=1)
    busy, count = np.unique(distinct[0] * BANKS + distinct[1] % BANKS, return_counts=True)
    passes = np.zeros(int(distinct[0].max()) + 1, int)
    np.maximum.at(passes, busy // BANKS, count)
    return int(passes.sum()), len(np.unique(phase))
