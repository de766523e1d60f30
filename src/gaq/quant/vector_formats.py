"""Formats of vector features, l > 0, as frozen values: the naive one by component, and MDDQ, magnitude times direction.

What they do to features is in `vectors`, `magnitude` and `direction`; here is what can be known without any features.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gaq.quant.formats import Bits, IntFormat, UnsignedFormat


class MagnitudeFormat(BaseModel):
    """What all formats of magnitudes share: frozen, a width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def width(self) -> int:
        """Bits stored for one magnitude."""
        raise NotImplementedError


class LinearMagnitude(MagnitudeFormat):
    """Even steps from zero, Q(m) = s · round(m/s) with codes 0..2^bits - 1; the scale is the step s.

    Args:
        bits: width of a code.
    """

    kind: Literal["linear"] = "linear"
    bits: Bits = 8

    @property
    def width(self) -> int:
        return self.bits

    @property
    def format(self) -> UnsignedFormat:
        """Integer format of the codes."""
        return UnsignedFormat(bits=self.bits)


class LogMagnitude(MagnitudeFormat):
    """Even ratios below a largest magnitude, Q(m) = S · 2^(-kΔ), so that the relative error is the same everywhere.

    k = round(log2(S/m) / Δ) in 0..K-1 with K = 2^bits - 1 levels and Δ = octaves / (K-1); the last code is zero, for
    magnitudes under half of the smallest level. The scale is S.

    Args:
        bits: width of a code.
        octaves: dynamic range between the largest and the smallest level, as a power of two.
    """

    kind: Literal["log"] = "log"
    bits: Bits = 8
    octaves: Annotated[float, Field(gt=0, le=32)] = 8.0

    @property
    def width(self) -> int:
        return self.bits

    @property
    def steps(self) -> int:
        """Number of steps between the largest and the smallest level, K - 1."""
        return 2**self.bits - 2


class FloatMagnitude(MagnitudeFormat):
    """The magnitude as it is, for experiments on directions alone; the scale only says what is noise (S · 2^-16)."""

    kind: Literal["float"] = "float"

    @property
    def width(self) -> int:
        return 32


Magnitude = Annotated[LinearMagnitude | LogMagnitude | FloatMagnitude, Field(discriminator="kind")]


class DirectionFormat(BaseModel):
    """What all formats of directions share: frozen, any degree, no codebook."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    closed: ClassVar[bool] = True  # whether flipping an axis takes codes to codes

    def supports(self, degree: int) -> bool:
        """Return whether vectors of 2·degree + 1 components can be coded."""
        return degree >= 1

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        """Return the shape of the codebook, (points, 2·degree + 1), or None where there is none to keep."""
        return None

    def width(self, degree: int) -> int:
        """Return the bits stored for one direction."""
        raise NotImplementedError


class FloatDirection(DirectionFormat):
    """The direction as it is, for experiments on magnitudes alone."""

    kind: Literal["float"] = "float"

    def width(self, degree: int) -> int:
        return 32 * 2 * degree  # the sphere has one dimension less than its vectors have components


class ComponentDirection(DirectionFormat):
    """Each component rounded, then renormalized: d = c/|c|, c = round(q u), q = 2^(bits-1) - 1.

    Commutes with the 48 signed permutations of the axes. |c - q u| <= sqrt(2l+1)/2 gives sin δ <= sqrt(2l+1)/(2q).

    Args:
        bits: width of one component.

    Source: the direction quantizer of arXiv 2601.02213.
    """

    kind: Literal["component"] = "component"
    bits: Bits = 8

    @property
    def format(self) -> IntFormat:
        """Integer format of the components' codes."""
        return IntFormat(bits=self.bits)

    def supports(self, degree: int) -> bool:
        return degree >= 1 and 2 * degree + 1 < (2 * self.format.qmax) ** 2  # else c could be zero

    def width(self, degree: int) -> int:
        return self.bits * (2 * degree + 1)


class OctahedralMap(DirectionFormat):
    """The lattice |i| + |j| + |k| = q on the faces of an octahedron, d = (i,j,k)/|(i,j,k)|; degree 1 only.

    u is scaled to |x| + |y| + |z| = q and each |component| rounded; where the sum then misses q by one, the component
    with the largest rounding error gives way, which makes (i,j,k) the nearest point of the triangular lattice on the
    face. Two of the three whole numbers and a fold say which of the 4q² + 2 points it is. Commutes with the 48 signed
    permutations of the axes; sin δ <= sqrt(2)/q.

    Args:
        bits: width of one of the two coordinates; q = 2^(bits-1) - 1.
    """

    kind: Literal["octahedral_map"] = "octahedral_map"
    bits: Bits = 8

    @property
    def format(self) -> IntFormat:
        """Integer format of the coordinates' codes."""
        return IntFormat(bits=self.bits)

    def supports(self, degree: int) -> bool:
        return degree == 1

    def width(self, degree: int) -> int:
        return 2 * self.bits


class FixedCodebook(DirectionFormat):
    """A list of unit vectors in three dimensions that is known beforehand, of which the nearest is taken."""

    @property
    def size(self) -> int:
        """Number of points."""
        raise NotImplementedError

    def supports(self, degree: int) -> bool:
        return degree == 1

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        return self.size, 3

    def width(self, degree: int) -> int:
        return (self.size - 1).bit_length()


class FibonacciCodebook(FixedCodebook):
    """A spiral of any number of points: even, but without symmetry.

    Args:
        points: number of points.
    """

    kind: Literal["fibonacci"] = "fibonacci"
    closed: ClassVar[bool] = False
    points: Annotated[int, Field(ge=4, le=65536)] = 256

    @property
    def size(self) -> int:
        return self.points


class OctahedralCodebook(FixedCodebook):
    """The divided octahedron, 4·level² + 2 points: exactly equivariant under its 48 symmetries.

    Args:
        level: parts into which each edge is divided; 7 gives 198 points (8 bits), 31 gives 3846 (12 bits).
    """

    kind: Literal["octahedral"] = "octahedral"
    level: Annotated[int, Field(ge=1, le=64)] = 7

    @property
    def size(self) -> int:
        return 4 * self.level**2 + 2


class IcosahedralCodebook(FixedCodebook):
    """The divided icosahedron, 10·level² + 2 points: exactly equivariant under its 120 symmetries, and the evenest.

    Args:
        level: parts into which each edge is divided; 5 gives 252 points (8 bits), 20 gives 4002 (12 bits).
    """

    kind: Literal["icosahedral"] = "icosahedral"
    level: Annotated[int, Field(ge=1, le=64)] = 5

    @property
    def size(self) -> int:
        return 10 * self.level**2 + 2


class KMeansCodebook(DirectionFormat):
    """Points learned from the directions of calibration features by spherical k-means; any degree.

    Args:
        points: number of points.
    """

    kind: Literal["kmeans"] = "kmeans"
    closed: ClassVar[bool] = False
    points: Annotated[int, Field(ge=2, le=65536)] = 256

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        return self.points, 2 * degree + 1

    def width(self, degree: int) -> int:
        return (self.points - 1).bit_length()


Direction = Annotated[
    ComponentDirection | FibonacciCodebook | OctahedralCodebook | IcosahedralCodebook | KMeansCodebook
    | OctahedralMap | FloatDirection,
    Field(discriminator="kind"),
]


class Components(BaseModel):
    """The naive format: one linear quantizer on the raw components, Q(v) = s · round(v/s); the scale is the step s.

    Args:
        bits: width of one component.
        aligned: the leaf turns features into a local frame before, and back after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["components"] = "components"
    bits: Bits = 8
    aligned: bool = False

    @property
    def format(self) -> IntFormat:
        """Integer format of the codes."""
        return IntFormat(bits=self.bits)

    def supports(self, degree: int) -> bool:
        """Return whether features of this degree can be quantized: all can."""
        return degree >= 1

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        """Return None: there is no codebook."""
        return None

    def bits_per_vector(self, degree: int) -> float:
        """Return the bits stored for one vector."""
        return float(self.bits * (2 * degree + 1))


class MDDQ(BaseModel):
    """Magnitude-direction decoupled quantization, Q(v) = Q_m(|v|) · Q_d(v/|v|).

    |Q(Rv) - R Q(v)| <= 2 Q_m(|v|) sin δ for every rotation R, with δ the largest angle between a direction and its code.
    A vector whose magnitude rounds to zero has no direction: it becomes zero, straight-through, as the zero code of a
    linear quantizer. So derivatives of every order stay bounded in units of the scale.

    Args:
        magnitude: format of |v|; it gives the scale its meaning.
        direction: format of v/|v|.
        aligned: the leaf turns features into a local frame before, and back after.
        gradient: through the direction: projected on the tangent ("geometric"), not projected ("plain"), or none.

    Source: arXiv 2603.05343.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["mddq"] = "mddq"
    magnitude: Magnitude = LinearMagnitude()
    direction: Direction = ComponentDirection()
    aligned: bool = False
    gradient: Literal["geometric", "plain", "none"] = "geometric"

    @model_validator(mode="after")
    def _closed_under_flips(self) -> "MDDQ":
        if self.aligned and not self.direction.closed:
            raise ValueError(f"the {self.direction.kind} codebook is not closed under flips of the axes, whose signs a "
                             "local frame leaves open; take 'component', 'octahedral_map', 'octahedral' or 'icosahedral'")
        return self

    def supports(self, degree: int) -> bool:
        """Return whether features of this degree can be quantized."""
        return self.direction.supports(degree)

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        """Return the shape of the codebook for this degree, or None where there is none to keep."""
        return self.direction.points_shape(degree)

    def bits_per_vector(self, degree: int) -> float:
        """Return the bits stored for one vector: those of its magnitude and of its direction."""
        return float(self.magnitude.width + self.direction.width(degree))


VectorFormat = Annotated[Components | MDDQ, Field(discriminator="kind")]
