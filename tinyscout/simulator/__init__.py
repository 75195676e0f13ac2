"""A GPU in NumPy: executes the PTX that NVIDIA's compiler makes of a kernel, and reports its errors."""
from tinyscout.simulator.launch import run
from tinyscout.simulator.profile import Profile
from tinyscout.simulator.ptx import Fault

__all__ = ["Fault", "Profile", "run"]
