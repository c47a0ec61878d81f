"""The rate and decay at which a set-up trains, beside those of the release, and why they are not the same."""

from __future__ import annotations

from typing import Any


def per_process(published: dict[str, Any]) -> str:
    """ "2 on each of the release's 4 processes", or "" where it is not known."""
    count, images = published.get("processes"), published.get("batch per process")
    if not count:
        return ""
    return f"{images} on each of the release's {count} processes" if count > 1 else "on the release's one process"


def reason(published: dict[str, Any]) -> str:
    """Why the effective figures are not the published ones; "" where they are."""
    count, divided = published.get("processes"), published.get("divided")
    if not divided:
        return ""
    if divided != "all":
        weight = published[divided]
        return (
            f"{divided}: published {weight:g}; the release divides this term by {count} processes, whose gradients are "
            f"averaged besides, so that it weighs {weight / count:g}"
        )
    return (
        f"published {published['lr']:g}, decay {published['weight_decay']:g}; the release divides its losses by "
        f"{count} processes, whose gradients are averaged besides, so that it trains at the rate and decay given here"
    )


def rates(recipe: dict[str, Any]) -> dict[str, Any]:
    """For JSON: "lr", "head_lr", "weight_decay", "batch" as they act, "published" as there, "reason" or None."""
    fit, published = recipe["fit"], recipe.get("published", {})
    own = {"lr": fit.get("lr"), "head_lr": fit["lr"] * fit.get("head", 1.0) if "lr" in fit else None}
    own |= {name: fit.get(name) for name in ("weight_decay", "batch")}
    return own | {"published": published, "reason": reason(published) or None}
