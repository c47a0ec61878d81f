"""torch.compile of the networks, in place: one graph a part, the same numbers, the same names."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from toy import tiny_net, toy_for

from s4kit import methods, nets
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.nets import compiled
from s4kit.nets.compiled import compile_nets, parts_of
from s4kit.views import draw_step, render

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "efficientnet_lite0(weights='none')", "resnet50c(weights='none')"])
def test_no_graph_break_inside_the_networks_of_the_walk(name):
    torch.manual_seed(0)
    net = nets.make(name, classes=3, aux=True)
    names = list(net.state_dict())
    made = compile_nets(net, backend="eager", fullgraph=True)  # raises where a part is no single graph
    assert made == len(list(parts_of(net))) >= 6
    covered = {id(p) for part in parts_of(net) for p in part.parameters()}
    missing = [name for name, p in net.named_parameters() if id(p) not in covered]
    assert all("classifier" in name for name in missing)  # a single convolution gains nothing
    net.train()(IMAGE)
    assert list(net.state_dict()) == names


def test_a_compiled_network_can_be_copied_and_saved(tmp_path):
    net = nets.make("tiny", classes=3)
    compile_nets(net, backend="eager")
    twin = copy.deepcopy(net)
    twin.load_state_dict(net.state_dict())
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert "_orig_mod" not in " ".join(torch.load(tmp_path / "net.pt", weights_only=True))
    torch.testing.assert_close(twin.eval()(IMAGE), net.eval()(IMAGE))


LEFT_OUT = {  # what methods train beside their networks, as the table of the methods says
    "ads": ["critic1", "critic2"],
    "advcam": ["classifier"],
    "als4gan": ["critic"],
    "ddfp": ["flow"],
    "eln": ["held"],
    "gct": ["detector"],
    "label_noise": ["classifier", "graph"],
    "mllc": ["graphs"],
    "mask_rcnn": ["student"],  # a detector's shapes depend on what it finds
    "noisy_boundaries": ["teacher", "student"],
    "one_weird_trick": ["classifier"],
    "prcl": ["probability"],
    "prcl_global": ["probability"],
    "rrn": ["critic1", "critic2"],
    "self_correcting": ["module"],
    "shape3d": ["student"],  # no network of images
    "twist": ["student"],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::s4kit.errors.S4Warning")
def test_every_kind_of_part_that_a_method_calls_is_one_graph():
    """Each kind once, called as the method's own losses call it; what is not called would never be translated."""
    seen, beside = set(), {}
    for name in methods.names():
        torch.manual_seed(0)
        task = toy_for(methods.get(name))
        method = methods.create(name, task, net=tiny_net(task))
        if left := compiled.left_out(method):
            beside[name] = left
        parts = [part for net in method.modules() if isinstance(net, nets.SegNet) for part in parts_of(net)]
        new: dict[str, list] = {}  # students and teachers have the same kinds of parts
        for part in parts:
            if repr(part) not in seen:
                new.setdefault(repr(part), []).append(part)
        seen.update(new)
        for kind, calls in called(method, task, new).items():
            assert calls, f"{name}: nobody calls {kind}"
            for training, grad, given in calls.values():
                part = copy.deepcopy(new[kind][0]).train(training)
                torch._dynamo.reset()
                part.compile(backend="eager", fullgraph=True)  # raises where it is no single graph
                with torch.set_grad_enabled(grad):
                    part(*given)
    assert beside == LEFT_OUT


def called(method, task, parts):
    """How the losses of a step call each part: {kind: {mode: (training, with gradient, arguments)}}."""
    found, hooks = {kind: {} for kind in parts}, []
    for kind, part in [(kind, part) for kind, same in parts.items() for part in same]:

        def note(module, given, kind=kind):
            mode = module.training, torch.is_grad_enabled()
            found[kind][mode] = (*mode, [t.detach() if isinstance(t, torch.Tensor) else t for t in given])

        hooks.append(part.register_forward_pre_hook(note))
    if parts:
        method.train().losses(render(draw_step(task, method.views, 2, 0, 0, 0), method.views), Clock(50, 100))
    for hook in hooks:
        hook.remove()
    return found


OLD = tuple(int(n) for n in torch.__version__.split(".")[:2]) < compiled.CHECKED
recent = pytest.mark.skipif(OLD, reason="compile refuses this version of PyTorch")


@pytest.mark.slow
@recent
def test_translated_for_the_cpu_numbers_and_gradients_stay():
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler: what torch.compile translates for a CPU was not run")
    torch.manual_seed(0)
    net = nets.make("tiny(dropout=0.3)", classes=3)
    plain = copy.deepcopy(net)
    compile_nets(net)
    found = []
    for one in (net, plain):
        torch.manual_seed(1)  # the same channels are dropped
        logits = one.train()(IMAGE)
        logits.square().mean().backward()
        found.append([logits, *(p.grad for p in one.parameters()), *one.buffers()])
    for translated, usual in zip(*found):
        torch.testing.assert_close(translated, usual, rtol=1e-3, atol=1e-5)


def test_an_old_version_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    with pytest.raises(S4Error, match=r"This is 2\.6\.0"):
        compile_nets(nets.make("tiny", classes=3))


@recent
def test_without_a_compiler_the_mend_is_named(monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(S4Error, match="g\\+\\+"):
        compile_nets(nets.make("tiny", classes=3))
