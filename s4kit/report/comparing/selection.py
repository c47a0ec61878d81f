"""Which methods a comparison has, and what it must say of those that its one network does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...errors import S4Error, closest
from ..setup import Setup


def families() -> dict[str, list[str]]:
    """Names of the methods by family; `baselines` first, the others in the order of the alphabet."""
    from ...methods import get, names

    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(get(name).card.family, []).append(name)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "baselines", item[0])))


def choose(named: Sequence[str], of: Sequence[str] = ()) -> list[str]:
    """The methods named and those of the families `of`, each once, families in order of publication.

    Raises:
        S4Error: there is no such family, or nothing was chosen.
    """
    from ...methods import get

    found = list(named)
    known = families()
    for family in of:
        if family not in known:
            raise S4Error(f"There is no family {family!r}. {closest(family, list(known))}")
        found += sorted(known[family], key=lambda name: (get(name).card.year, name))
    if not found:
        raise S4Error("Say which methods: their names, or --family NAME (`s4kit methods` lists both).")
    return list(dict.fromkeys(found))


def buildable(chosen: Setup, task: Any, named: bool) -> tuple[Setup, Any]:
    """Build a set-up's method on a task, without the network's auxiliary head where the method trains none.

    Returns:
        The set-up as it can be trained, and the method; or, for one that was not asked for by its name, why it cannot.

    Raises:
        S4Error: it was asked for by its name and cannot be built.
    """
    from ...methods import create

    plain = without_aux(chosen.options.get("net"))
    setups = [chosen] if plain is None else [chosen, replace(chosen, options=chosen.options | {"net": plain})]
    for number, tried in enumerate(setups, 1):
        try:
            return tried, create(tried.method, task, **tried.options)
        except Exception as error:
            if number == len(setups) and named:
                raise
            reason = str(error) if isinstance(error, S4Error) else f"{type(error).__name__}: {error}"
    return chosen, reason


def without_aux(net: str | Callable | None) -> str | None:
    """A network spec less its auxiliary head; None where it has none."""
    from ...nets import parse

    if not isinstance(net, str):
        return None
    name, options = parse(net)
    if not options.pop("aux", False):
        return None
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})" if options else name


def remarks(asked: Setup, chosen: Setup, method: Any) -> list[str]:
    """In what a method differs from the protocol that the comparison shares, or from what its paper trained.

    Args:
        asked: the set-up under the protocol. set-up: as it is trained. method: built from it.
    """
    name, said = chosen.method, []
    if chosen.options != asked.options:
        said.append(f"{name}: trains no auxiliary head, so its network has none.")
    times = max((s.batch for s in method.views.values() if s.source == "labelled"), default=1)
    if times > 1:
        said.append(f"{name}: draws {times:g} times as many labelled images a step as the others.")
    paper, own = _paper_net(name), _decoder(chosen.options.get("net", "efficientnet_lite0"))
    if paper and own and _decoder(paper) != own:
        said.append(f"{name}: published with {paper}; here it has the comparison's network.")
    return said


def _paper_net(name: str) -> str | None:
    """The network of a method's own recipe for a published data set."""
    from ...methods import get

    own = getattr(get(name), "recipes", {})
    return next(
        (own[d]["method"]["net"] for d in ("voc", "cityscapes") if "net" in own.get(d, {}).get("method", {})), None
    )


def _decoder(net: Any) -> str:
    """The decoder of a spec; "" of what is no network of images."""
    from ...nets import parse
    from ...nets.backbones import KINDS

    if not isinstance(net, str):
        return ""
    name, options = parse(net)
    return options.get("decoder", KINDS[name].head) if name in KINDS else ""
