"""Modes at the call: what is restored, what is left alone."""

import pytest
import torch
from torch import nn

from s4kit import nets


@pytest.fixture
def net() -> nets.SegNet:
    torch.manual_seed(0)
    return nets.make("tiny", 3)


X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_evaluating_restores_every_module(net):
    net.train()
    net.decoder.eval()
    before = [m.training for m in net.modules()]
    with nets.evaluating(net):
        assert not any(m.training for m in net.modules())
        assert not net(X).requires_grad
    assert [m.training for m in net.modules()] == before


def test_evaluating_restores_after_an_error_and_nests(net):
    net.train()
    with pytest.raises(ZeroDivisionError), nets.evaluating(net):
        with nets.evaluating(net, net.decoder):
            pass
        assert not net.training
        raise ZeroDivisionError
    assert all(m.training for m in net.modules())


def test_frozen_lets_gradients_through(net):
    x = X.clone().requires_grad_()
    net.decoder.classifier.weight.requires_grad_(False)
    with nets.frozen(net):
        y = net(x)
    y.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())
    assert net.decoder.classifier.bias.requires_grad
    assert not net.decoder.classifier.weight.requires_grad, "what was frozen before stays so"


def test_bn_untouched_uses_batch_statistics(net):
    net.train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    with nets.bn_untouched(net):
        quiet = net(X)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(net(X), quiet)
    assert not torch.equal(net.state_dict()["decoder.reduce.1.running_mean"], state["decoder.reduce.1.running_mean"])


def test_bn_untouched_in_eval_mode_changes_nothing(net):
    net.eval()
    with nets.bn_untouched(net):
        quiet = net(X)
    assert torch.equal(net(X), quiet)


def test_a_copy_keeps_its_own_mode(net):
    class Method(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = net, nets.copy_of(net)

        def train(self, mode=True):
            return nets.set_training(self, mode)

    method = Method()
    method.train()
    assert method.student.decoder.training
    assert not any(m.training for m in method.teacher.modules())
    method.teacher.train()
    method.eval()
    assert all(m.training for m in method.teacher.modules())
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_frozen_batch_norms_stay_frozen():
    net = nets.make("tiny", 3, freeze_bn=True).train()
    norms = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training or m.weight.requires_grad for m in norms)
    assert net.decoder.reduce[1].training
    before = norms[0].running_mean.clone()
    net(X)
    assert torch.equal(norms[0].running_mean, before)
    clone = nets.copy_of(net).train()
    assert not any(m.training for m in clone.backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_sync_bn_keeps_activations_and_frozen_layers():
    net = nets.make("efficientnet_lite0", 3, weights="none").eval()
    before = net(X)
    nets.sync_bn(net)
    assert not any(type(m) is nn.BatchNorm2d for m in net.modules())
    assert torch.equal(net.eval()(X), before), "timm's layers hold an activation that must survive"
    frozen = nets.sync_bn(nets.make("tiny", 3, freeze_bn=True))
    assert all(
        type(m) is nn.BatchNorm2d for m in frozen.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    )
    assert isinstance(frozen.decoder.reduce[1], nn.SyncBatchNorm)
