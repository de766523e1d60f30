"""Shape of a transformer."""

from typing import Literal, Self

from pydantic import Field, model_validator

from gaq.models.contract import Config, Shape
from gaq.so3 import MAX_DEGREE

MAX_TEMPERATURE = 8.0  # T_h of the robust attention


class ModelShape(Shape):
    """Shape of a transformer but for its species, which come from the data.

    Args:
        cutoff: Å.
        scalars: F, channels of degree 0.
        vectors: C, channels of each degree 1..max_degree.
        max_degree: L.
        heads: H, attention heads; divides F. Vector channels are shared out among them in order.
        layers: T.
        radial_functions: K.
        filter_width: hidden width of the radial filter network.
    """

    kind: Literal["transformer"] = "transformer"
    cutoff: float = Field(default=5.0, ge=1, le=100)
    scalars: int = Field(default=64, ge=1, le=4096)
    vectors: int = Field(default=32, ge=1, le=4096)
    max_degree: int = Field(default=2, ge=1, le=MAX_DEGREE)
    heads: int = Field(default=4, ge=1, le=64)
    layers: int = Field(default=3, ge=1, le=64)
    radial_functions: int = Field(default=16, ge=2, le=512)
    filter_width: int = Field(default=32, ge=1, le=4096)
    basis: Literal["bessel", "gaussian", "bernstein"] = "bessel"
    envelope: Literal["polynomial", "cosine"] = "polynomial"
    attention: Literal["robust", "so3krates"] = "robust"

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.scalars % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide scalars ({self.scalars})")
        return self

    def with_species(self, species: tuple[int, ...]) -> "ModelConfig":
        """Return the configuration of a model of this shape."""
        return ModelConfig(species=species, **self.model_dump())

    @property
    def gates(self) -> int:
        """Vector channels of all degrees, L C."""
        return self.vectors * self.max_degree

    @property
    def width(self) -> int:
        """Channels of an edge filter, F + 2 L C and those of the attention."""
        return self.scalars + 2 * self.gates + (self.heads if self.attention == "robust" else self.scalars)


class ModelConfig(ModelShape, Config):
    """Shape of a transformer; frozen, stored in the model file.

    Args:
        species: atomic numbers the model knows, ascending.
    """

    def described(self) -> dict[str, str]:
        """Return layers and channels, and the radial functions."""
        return {"model": f"{self.layers} layers, {self.scalars} scalar channels, {self.vectors} vector channels for each "
                         f"degree up to {self.max_degree}, {self.heads} heads, {self.attention} attention",
                "radial": f"{self.radial_functions} {self.basis} functions, {self.envelope} cutoff"}
