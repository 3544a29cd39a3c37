"""Values with their intervals, as results hold them."""


def ends(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}
