"""Profile a kernel by source line: warp instructions, active lanes, memory traffic and its ideal."""
from dataclasses import dataclass

import numpy as np

SECTOR = 32                     # bytes of one transfer from or to global memory
BANKS, WORD = 32, 4             # shared memory: banks, and bytes of a word, which a bank delivers per pass


@dataclass
class LineCounts:
    """Counts of one line.  The ideal counts are those of the same bytes in contiguous memory."""

    instructions: int = 0       # by a warp
    lanes: int = 0              # active lanes of these instructions
    requests: int = 0           # to memory, by a warp
    sectors: int = 0            # of global memory
    ideal_sectors: int = 0
    wavefronts: int = 0         # of shared memory: passes over its banks
    ideal_wavefronts: int = 0


class Profile:
    """Counts by line: {"norm.cu:17": LineCounts}"""

    lines: dict[str, LineCounts]

    def __init__(self) -> None:
        self.lines = {}

    def counts_at(self, location):
        return self.lines.setdefault(location, LineCounts())

    def count_step(self, step, instruction):
        """Return a step that counts an instruction, then runs its step."""
        def counting_step(m):
            counts, group = self.counts_at(instruction.location), m.group
            counts.instructions += int(group.mask.reshape(-1, 32).any(1).sum())
            counts.lanes += group.count
            return step(m)
        return counting_step

    def count_access(self, access, region, threads, position):
        """Count an access by threads at positions in a region's data."""
        counts = self.counts_at(access.instruction.location)
        warps, lanes = threads // 32, threads % 32
        counts.requests += len(np.unique(warps))
        words = position[:, None] // WORD + np.arange(max(1, access.width // WORD))
        if access.space == "shared" or region.name.startswith("shared"):
            lanes_per_pass = 32 * WORD // max(WORD, access.width)
            phases = warps * 32 + lanes // lanes_per_pass
            wavefronts, ideal = count_wavefronts(np.repeat(phases, words.shape[1]), words.ravel())
            counts.wavefronts += wavefronts
            counts.ideal_wavefronts += ideal
        elif not region.name.startswith("local"):
            warp_of_word = np.repeat(warps, words.shape[1])
            distinct = np.unique(np.stack([warp_of_word, words.ravel()]), axis=1)
            counts.sectors += np.unique(np.stack([distinct[0], distinct[1] * WORD // SECTOR]), axis=1).shape[1]
            counts.ideal_sectors += int((-(-np.bincount(distinct[0]) * WORD // SECTOR)).sum())


def count_wavefronts(phases, words):
    """Passes over the banks: a phase takes one for each distinct word of its busiest bank  ->  passes, ideal."""
    distinct = np.unique(np.stack([phases, words]), axis=1)
    phase_banks, word_counts = np.unique(distinct[0] * BANKS + distinct[1] % BANKS, return_counts=True)
    passes = np.zeros(int(distinct[0].max()) + 1, int)
    np.maximum.at(passes, phase_banks // BANKS, word_counts)
    return int(passes.sum()), len(np.unique(phases))
