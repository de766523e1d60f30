"""How much of each thing the results page measures."""

from dataclasses import dataclass

SECTIONS = ("accuracy", "conservation", "coders", "ablation", "training")
COMMAND = "python -m benchmarks.results"


@dataclass(frozen=True)
class Settings:
    """Counts and lengths; what is printed on the page beside the tables.

    Args:
        frames: test frames for accuracy, from the start of the source.
        lee_frames, rotations: of the equivariance error of a model.
        rival_share: of these frames, for rivals, which the engine does not compute.
        derivative_frames, loops: of finite differences, Jacobians and closed loops.
        replicas, picoseconds, temperature_K: of NVE simulations at the judged time step.
        other_share: length of the simulations at the other time steps, relative to `picoseconds`.
        reference_share, staircase_share: the same, of FP32, which is the measure, and of W4A8, whose λ settles its grade.
        timesteps_fs: the first one is judged.
        coder_frames, coder_lee_frames, coder_rotations: the same for the comparison of vector coders.
        batch_size: structures in one prediction.
        seed: of rotations, loops and velocities.
    """

    frames: int = 1000
    lee_frames: int = 100
    rotations: int = 64
    rival_share: float = 0.25
    derivative_frames: int = 4
    loops: int = 4
    replicas: int = 16
    picoseconds: float = 20.0
    temperature_K: float = 300.0
    other_share: float = 0.05
    reference_share: float = 0.5
    staircase_share: float = 0.25
    timesteps_fs: tuple[float, ...] = (0.5, 1.0, 0.25)
    coder_frames: int = 100
    coder_lee_frames: int = 16
    coder_rotations: int = 16
    batch_size: int = 32
    seed: int = 0

    def length(self, timestep_fs: float) -> float:
        """Return the length in ps of the simulations at a time step."""
        return self.picoseconds * (1.0 if timestep_fs == self.timesteps_fs[0] else self.other_share)


QUICK = Settings(frames=16, lee_frames=2, rotations=4, derivative_frames=1, loops=1, replicas=2, picoseconds=0.01,
                 other_share=0.5, coder_frames=8, coder_lee_frames=2, coder_rotations=2)
