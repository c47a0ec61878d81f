"""Our own recordings of networks that teach each other; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import torch
from other_recordings import Draw, ce_of, exact, gradients, mean_ce, mixed, variant, whole
from torch import Tensor


def regions(f: Tensor, cells: int) -> list[Tensor]:
    """The means of the cells of a map (D, h, w), row by row; neighbouring cells may share pixels."""
    height, width = f.shape[1:]
    return [
        f[:, i * height // cells : -(-(i + 1) * height // cells), j * width // cells : -(-(j + 1) * width // cells)]
        .flatten(1).mean(1)
        for i in range(cells) for j in range(cells)
    ]  # fmt: skip


@variant("mgd_losses")
def mgd_losses(d: Draw) -> dict[str, Any]:
    """Three images, teachers' features of another width and size than the student's, odd regions."""
    batch, classes, size, lambda_1, lambda_2, cells = 3, 5, (9, 14), 0.03, 7.0, 3
    parts = ("u0", "u1", "mix", "sup")
    given = {
        f"in_{net}_{part}": d.logits(batch, classes, *size)
        for net in ("student", "wide_teacher", "deep_teacher") for part in parts
    }  # fmt: skip
    given |= {"in_label": d.label(classes, batch, *size, void=255), "in_mask": d.box(batch, *size)[:, None]}
    given |= {"in_student_feat": d.normal(batch, 6, 8, 11), "in_wide_teacher_feat": d.normal(batch, 4, 10, 7)}
    of = {key.removeprefix("in_"): exact(value)[0] for key, value in given.items()}
    label, m = whole(given["in_label"])[0], of["mask"]
    y = {
        net: mixed(m, of[f"{net}_u1"], of[f"{net}_u0"]).argmax(1) for net in ("student", "wide_teacher", "deep_teacher")
    }

    def terms(s: Tensor, z: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        consist = 0.0
        for teacher in ("wide_teacher", "deep_teacher"):
            consist = consist + ce_of(s, y[teacher]).mean() + ce_of(of[f"{teacher}_mix"], y["student"]).mean()
            consist = consist + ce_of(z, of[f"{teacher}_sup"].argmax(1)).mean()
            consist = consist + ce_of(of[f"{teacher}_sup"], z.argmax(1)).mean()
        semantic = lambda_1 * sum(
            (s[b, c].mean() - of["deep_teacher_mix"][b, c].mean()).abs() for b in range(batch) for c in range(classes)
        )
        content = 0.0
        for own, theirs in zip(f, of["wide_teacher_feat"]):
            a, b = regions(own, cells), regions(theirs, cells)
            for i in range(len(a)):
                for j in range(len(a)):
                    apart = torch.cosine_similarity(a[i], a[j], dim=0) - torch.cosine_similarity(b[i], b[j], dim=0)
                    content = content + lambda_2 * apart**2 / (batch * len(a) ** 2)
        return mean_ce(z, label, 255), consist, semantic, content

    teachers = sum(mean_ce(of[f"{teacher}_sup"], label, 255) for teacher in ("wide_teacher", "deep_teacher"))
    names = ("student_mix", "student_sup", "student_feat")
    leaves = [given[f"in_{name}"] for name in names]
    total, *grads = gradients(lambda s, z, f: sum(terms(s, z, f)) + teachers, *leaves)
    answers = dict(zip(("loss_sup_student", "consist", "semantic", "content"), terms(*exact(*leaves))))
    return {
        **given,
        **{f"out_{name}": value for name, value in answers.items()},
        "out_loss": total,
        **{f"out_grad_{name}": grad for name, grad in zip(names, grads)},
        "hyper": {"classes": classes, "lambda_1": lambda_1, "lambda_2": lambda_2, "pool": cells},
    }
