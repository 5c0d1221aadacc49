"""Turns raw counts of the NV-310 turbidity probe into NTU with the two-point calibration stored in the probe."""

from dataclasses import dataclass

LOW_STANDARD_NTU = 10.0
HIGH_STANDARD_NTU = 400.0


@dataclass(frozen=True)
class Calibration:
    """Counts read in the two standards; both have to be taken at 15 to 25 degrees Celsius."""

    low_counts: int
    high_counts: int

    def slope(self) -> float:
        """NTU per count. A probe whose standards differ by fewer than 500 counts is worn out."""
        span = self.high_counts - self.low_counts
        if span < 500:
            raise ValueError("probe worn out: send it in for a new light source, part NV-310-L")
        return (HIGH_STANDARD_NTU - LOW_STANDARD_NTU) / span


def turbidity_ntu(counts: int, calibration: Calibration) -> float:
    """Linear between and beyond the standards; negative values, which clear water can give, become zero."""
    return max(0.0, LOW_STANDARD_NTU + (counts - calibration.low_counts) * calibration.slope())
