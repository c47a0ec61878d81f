"""Our own recordings of heads that attend to channels: NP-SemiSeg and AllSpark; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, exact, gradients, resized, variant
from torch import Tensor


def normed(x: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., H, W), each map with mean 0 and variance 1."""
    apart = x - x.mean((-2, -1), keepdim=True)
    return apart / (apart.square().mean((-2, -1), keepdim=True) + eps).sqrt()


@variant("np_semiseg_np_head")
def np_semiseg_np_head(d: Draw) -> dict[str, Any]:
    """Class 3 is in no labelled image; maps and images are not square. Rows as the release makes them: values of one
    channel after the other, cut into pieces."""
    k, dim, most = 4, 3, 30
    x = {"target": d.normal(3, 5, 4, 6), "context": d.normal(2, 5, 4, 6)}
    label = {"target": d.label(k, 3, 9, 11), "context": d.label(k - 1, 2, 9, 11)}
    memory, noise = {"target": d.normal(k, 2, dim), "context": d.normal(k, 5, dim)}, d.normal(2, 3, dim)
    w = {f"memory_dim_transform.Conv_1.{i}.weight": d.normal(dim, n, 1, 1) for i, n in ((0, 5), (3, dim), (6, dim))}
    w |= {f"memory_dim_transform.Conv_1.{i}.bias": d.normal(dim) for i in (0, 3, 6)}
    w |= {"mean_logvar_net.MLP.L0.weight": d.normal(dim, dim), "mean_logvar_net.MLP.L1.weight": d.normal(2 * dim, dim)}
    w |= {"mean_logvar_net.MLP.L0.bias": d.normal(dim), "mean_logvar_net.MLP.L1.bias": d.normal(2 * dim)}
    exactly = {name: exact(value)[0] for name, value in w.items()}

    def described(h: Tensor) -> Tensor:
        for i in (0, 3, 6):
            a, b = (exactly[f"memory_dim_transform.Conv_1.{i}.{part}"] for part in ("weight", "bias"))
            h = torch.einsum("dc,bcyx->bdyx", a[..., 0, 0], h) + b[:, None, None]
            h = h if i == 6 else normed(h).relu()
        return h

    answers: dict[str, Any] = {}
    mean, sigma, vector = {}, {}, {}
    for name, short in (("target", "lat"), ("context", "det")):
        u, centres = described(resized(exact(x[name])[0], (9, 11))), []
        for c in range(k):
            values = [float(v) for b in range(len(u)) for ch in range(dim) for v in u[b, ch][label[name][b] == c]]
            rows = np.concatenate([memory[name][c], np.reshape(values, (-1, dim))[-most:]])[-most:]
            answers[f"out_{short}_memory{c}"] = rows
            centres.append(rows.mean(0))
        near, m = described(exact(x["target"])[0]), exact(np.array(centres))[0]
        vector[name] = torch.zeros(3, dim).double()
        for b, ch, i, j in np.ndindex(3, dim, 4, 6):
            weight = (-((near[b, ch, i, j] - m[:, ch]) ** 2)).softmax(0)
            vector[name][b, ch] += (weight * m[:, ch]).sum() / 24
        both = vector[name]
        for i in (0, 1):
            both = both.relu() if i else both
            both = both @ exactly[f"mean_logvar_net.MLP.L{i}.weight"].T + exactly[f"mean_logvar_net.MLP.L{i}.bias"]
        mean[name], sigma[name] = both[:, :dim], 0.1 + 0.9 * (1 + both[:, dim:].exp()).log()
    z = mean["target"] + sigma["target"] * exact(noise)[0]
    out = torch.zeros(2, 3, 2 * dim + 5, 4, 6).double()
    out[:, :, :dim], out[:, :, dim:-dim] = z[..., None, None], exact(x["target"])[0]
    out[:, :, -dim:] = vector["context"][:, :, None, None]
    (mt, mc), (st, sc) = ([of["target"], of["context"]] for of in (mean, sigma))
    answers |= {f"out_mean_{name}": of for name, of in mean.items()}
    answers |= {f"out_sigma_{name}": of for name, of in sigma.items()}
    return answers | {
        "in_x_target": x["target"], "in_x_context": x["context"], "in_label_target": label["target"],
        "in_label_context": label["context"], "in_eps": noise, "in_lat_memory": memory["target"],
        "in_det_memory": memory["context"], **{f"in_w.{name}": value for name, value in w.items()},
        "out_decoder_input": out, "out_decoder_input_eval": out,
        "out_kl": 0.5 * ((sc / st).log() - 1 + st / sc + (mc - mt) ** 2 / sc).sum(1),
        "hyper": {"memory_max_length": most, "latent_dim": dim, "forward_times": 2, "num_classes": k},
    }  # fmt: skip


CHANNELS, HEADS, SIDE, CLASSES, HALF = 6, 3, 4, 5, 3


def layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    apart = x - x.mean(-1, keepdim=True)
    return apart / (apart.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w + b


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def written(tokens: Tensor, logits: Tensor, queue: np.ndarray, place: np.ndarray) -> None:
    """Every channel of every image in its turn, under the class whose map is most like it."""
    low = F.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=False).flatten(2)
    for t, maps in zip(tokens, low):
        for channel in t.T:
            k = int(torch.stack([F.cosine_similarity(channel, m, dim=0) for m in maps]).argmax())
            queue[k, place[k]] = channel.detach()
            place[k] = (place[k] + 1) % CHANNELS


@variant("allspark_channel_attention")
def allspark_channel_attention(d: Draw) -> dict[str, Any]:
    """Three heads, three images of either kind."""
    wide, inputs = CHANNELS * HEADS, 5
    shapes = {"map_in.0.weight": (CHANNELS, inputs, 1, 1), "map_in.0.bias": (CHANNELS,)}
    shapes |= {"map_out.0.weight": (inputs, CHANNELS, 1, 1), "map_out.0.bias": (inputs,)}
    shapes |= {f"attn.{a}_{flow}.weight": (wide, CHANNELS) for flow in ("u", "l2u") for a in "qkv"}
    shapes |= {f"attn.out_{flow}.weight": (CHANNELS, wide) for flow in ("u", "l2u")}
    shapes |= {f"{n}.{part}": (CHANNELS,) for n in ("attn_norm", "encoder_norm") for part in ("weight", "bias")}
    given = {name: d.normal(*shape, scale=0.6) for name, shape in shapes.items()}
    w = {name: exact(value)[0] for name, value in given.items()}
    feat, logits = d.normal(2 * HALF, inputs, SIDE, SIDE), d.logits(HALF, CLASSES, 11, 13)
    queue, place = d.normal(CLASSES, CHANNELS, SIDE**2), np.array([0, 5, 2, 3, 1])

    def tokens(x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.einsum("dc,bcyx->byxd", w["map_in.0.weight"][..., 0, 0], x) + w["map_in.0.bias"]
        plain = gelu(h).flatten(1, 2)
        return plain, layer_norm(plain, w["attn_norm.weight"], w["attn_norm.bias"])

    def restored(plain: Tensor, mixed: list[Tensor]) -> Tensor:
        h = layer_norm(plain + torch.stack(mixed), w["encoder_norm.weight"], w["encoder_norm.bias"])
        h = gelu(h @ w["map_out.0.weight"][..., 0, 0].T + w["map_out.0.bias"])
        return h.mT.unflatten(2, (SIDE, SIDE))

    def own(t: Tensor) -> Tensor:
        """Of one image; a channel's answers of all heads stand side by side behind the attention."""
        heads = []
        for h in range(HEADS):
            part = slice(h * CHANNELS, (h + 1) * CHANNELS)
            q, k, v = (t @ w[f"attn.{a}_u.weight"][part].T for a in "qkv")
            heads.append(v @ normed(q.T @ k).softmax(1).T)
        return torch.stack(heads, 2).flatten(1) @ w["attn.out_u.weight"].T

    def cross(t: Tensor, source: Tensor) -> Tensor:
        """Of one image, from the channels of all of `source`."""
        k, v = (torch.cat([s @ w[f"attn.{a}_l2u.weight"].T for s in source], 1) for a in "kv")
        weights = normed((t @ w["attn.q_l2u.weight"].T).T @ k).softmax(1)
        return v @ weights.T @ w["attn.out_l2u.weight"].T

    def train(x: Tensor, memory: np.ndarray | None = None) -> Tensor:
        plain, t = tokens(x)
        source = t[HALF:] if memory is None else exact(memory)[0].mT
        return restored(plain, [*(cross(i, source) for i in t[:HALF]), *(own(i) for i in t[HALF:])])

    _, grad = gradients(lambda x: train(x).sum(), feat)
    (x, z), held, at = exact(feat, logits), [queue.copy()], [place.copy()]
    for _ in range(2):
        held.append(held[-1].copy())
        at.append(at[-1].copy())
        written(tokens(x)[1][HALF:], z, held[-1], at[-1])
    plain, t = tokens(x[:HALF])
    return {
        **{f"in_w.{name}": value for name, value in given.items()}, "in_queue": queue, "in_ptr": place,
        "in_feat": feat, "in_prob_map": logits, "out_train_nomem": train(x), "out_grad_feat_nomem": grad,
        "out_queue": held[1], "out_ptr": at[1], "out_train_mem": train(x, held[2]), "out_queue2": held[2],
        "out_ptr2": at[2], "out_eval": restored(plain, [cross(i, t) for i in t]),
        "hyper": {"num_heads": HEADS, "channels": CHANNELS, "classes": CLASSES},
    }  # fmt: skip
