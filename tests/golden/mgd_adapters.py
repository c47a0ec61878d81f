"""MGD against a recording of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of

from s4kit.methods.cotraining import mgd
from s4kit.methods.parts.losses import ce, pixel_ce
from s4kit.nets import Decoded, Features
from s4kit.views import Batch, paste


class Featured(Recorded):
    """A `Recorded` whose answers may be whole `Decoded`s, with features of their own."""

    def decode(self, features: Features, size: Any = None) -> Decoded:
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Decoded) else Decoded(answer, answer, answer)


@adapter("mgd", "losses")
def losses(r: Recording) -> dict[str, Any]:
    """The release's total has the teachers' own terms as well, which are constants."""
    h, label, m = r.hyper, r.label("label"), r.tensor("mask")[:, 0] == 1
    leaves = {f"student_{part}": r.tensor(f"student_{part}", grad=True) for part in ("mix", "sup", "feat")}
    z = {name: [r.tensor(f"{name}_{part}") for part in ("u0", "u1", "mix", "sup")]
         for name in ("student", "deep_teacher", "wide_teacher")}  # fmt: skip
    (a, b, mix, sup), deep, wide = z.values()
    mix, sup, f = leaves.values()
    nets = iter(map(Featured, (
        [a, b, Decoded(mix, f, f), sup], deep,
        [*wide[:2], Decoded(wide[2], r.tensor("wide_teacher_feat"), r.tensor("wide_teacher_feat")), wide[3]],
    )))  # fmt: skip
    method = mgd.MGD(
        task_of(h["classes"]), net=lambda **_: next(nets), image=h["lambda_1"] * len(m), region=h["lambda_2"],
        cells=h["pool"],
    )  # fmt: skip
    blank = torch.zeros(len(m), 3, *m.shape[1:])
    x = views(torch.zeros(len(label), 3, *label.shape[1:]), torch.ones(label.shape), label)
    u, v = (views(blank, torch.ones(m.shape), masks=[m]) for _ in range(2))
    found = method.losses(Batch(x=x, u=u, v=v), START)
    found.total.backward()
    assert method.student.modes == method.deep.modes == method.wide.modes == [1, 1, 1, 1]
    by_student, of_x = paste(m, b, a).argmax(1), sup.argmax(1)
    constant = sum(pixel_ce(t[2], by_student, over="all") + pixel_ce(t[3], of_x, over="all") for t in (deep, wide))
    consist = found["pixel"][0] + constant
    return {
        "out_loss_sup_student": found["x"][0],
        "out_consist": consist,
        "out_semantic": found["image"][0] * found["image"][1],
        "out_content": found["region"][0] * found["region"][1],
        "out_loss": found.total + constant + sum(ce(t[3], label) for t in (deep, wide)),
        **{f"out_grad_{name}": grad_of(leaf) for name, leaf in leaves.items()},
    }
