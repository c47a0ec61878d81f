"""The detector against torchvision's own Mask R-CNN with the same weights, and what it refuses."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN

from s4kit.data.embedded.scenes_paint import paint, paint_objects
from s4kit.errors import S4Error
from s4kit.nets.detector import SIZES, detector, targets_of
from s4kit.nets.mask_branches import PlainMasks
from s4kit.nets.objects import Objects
from s4kit.nets.objects import paint as as_maps

TINY = SIZES[16]


@pytest.fixture(scope="module")
def batch():
    images = torch.stack([torch.from_numpy(paint(0, k, 64)[0]).permute(2, 0, 1) / 255 for k in range(2)])
    return images, torch.stack([torch.from_numpy(paint_objects(0, k, 64)).long() for k in range(2)])


def built():
    torch.manual_seed(0)
    return detector("tiny", 7, PlainMasks)


def torchvisions(net):
    """torchvision's model of the same modules."""
    pyramid, heads, branch = net.pyramid, net.heads, net.heads.branch
    pyramid.out_channels = TINY.width
    return MaskRCNN(
        pyramid, None, min_size=64, max_size=64, image_mean=net.mean.flatten().tolist(),
        image_std=net.std.flatten().tolist(), _skip_resize=True,
        rpn_anchor_generator=net.rpn.anchor_generator, rpn_head=net.rpn.head, rpn_pre_nms_top_n_train=TINY.kept[0],
        rpn_pre_nms_top_n_test=TINY.kept[0], rpn_post_nms_top_n_train=TINY.kept[1],
        rpn_post_nms_top_n_test=TINY.kept[1], rpn_batch_size_per_image=TINY.learnt[0], box_roi_pool=heads.box_roi_pool,
        box_head=heads.box_head, box_predictor=heads.box_predictor, box_detections_per_img=TINY.most,
        box_batch_size_per_image=TINY.learnt[1], mask_roi_pool=heads.regions, mask_head=branch.layers,
        mask_predictor=nn.Sequential(branch.up, branch.classifier),
    )  # fmt: skip


def test_it_is_torchvisions_mask_rcnn(batch):
    images, ids = batch
    net = built().train()
    other, targets = torchvisions(net).train(), targets_of(ids, 9)
    net.train()  # torchvision's mode has reached the frozen batch norms
    torch.manual_seed(1)
    own = net(images, targets)
    torch.manual_seed(1)
    theirs = other(list(images), [dict(t) for t in targets])
    assert {f"loss_{name}" for name in own} == theirs.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, theirs[f"loss_{name}"])
    other.eval(), net.eval()
    with torch.no_grad():
        for one, two in zip(net(images), other(list(images))):
            assert len(one.scores) == TINY.most
            for mine, yours in ((one.boxes, "boxes"), (one.scores, "scores"), (one.masks[:, None], "masks")):
                torch.testing.assert_close(mine, two[yours])
            assert torch.equal(one.labels, two["labels"])


def test_on_a_resnet50_it_has_as_many_parameters_as_torchvisions():
    """44,401,393 with 91 classes (MaskRCNN_ResNet50_FPN_Weights), which counts no batch norm of the backbone."""
    with torch.device("meta"):
        net = detector("resnet50(weights='none')", 91, PlainMasks)
    norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert sum(p.numel() for p in net.parameters() if id(p) not in norms) == 44_401_393


def test_any_size_is_padded_for_itself(batch):
    net = built().eval()
    with torch.no_grad():
        (found,) = net(batch[0][:1, :, :50, :61])
    assert found.masks.shape[1:] == (50, 61)
    assert found.boxes.min() >= 0 and found.boxes[:, 2].max() <= 61 and found.boxes[:, 3].max() <= 50


def test_targets_are_the_objects(batch):
    ids = torch.zeros(1, 8, 9, dtype=torch.long)
    ids[0, 2:5, 3:9], ids[0, 0, 0], ids[0, 7] = 2001, 1002, 255
    (target,) = targets_of(ids, 2)
    assert target["boxes"].tolist() == [[3, 2, 9, 5]] and target["labels"].tolist() == [2]
    assert target["masks"].sum() == 18 and target["masks"].dtype == torch.uint8
    (none,) = targets_of(ids * 0, 1)
    assert none["boxes"].shape == (0, 4) and none["masks"].shape == (0, 8, 9)
    net = built().train()
    terms = net(batch[0], targets_of(batch[1] * 0, 1))
    assert all(value.isfinite() for value in terms.values()) and terms["mask"] == terms["box_reg"] == 0


def test_batch_norms_keep_their_statistics_and_groups_are_told():
    net = built().train()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms) and net.rpn.training
    groups, plain = net.param_groups(), detector("tiny(norm='none')", 3, PlainMasks)
    assert sum(isinstance(m, nn.GroupNorm) for m in net.modules()) == 6
    assert not any(isinstance(m, nn.GroupNorm) for m in plain.modules())
    assert sum(map(len, groups.values())) == len(list(net.parameters())) and groups["backbone"]


def test_what_it_refuses():
    for spec, words in (
        ("tiny(freeze_bn=False)", "'statistics' or True"),
        ("tiny(aux=True)", "no option 'aux'"),
        ("mit_tiny", "stages of a convolutional network"),
    ):
        with pytest.raises(S4Error, match=words):
            detector(spec, 3, PlainMasks)


def test_the_surest_object_lies_on_top():
    masks = torch.zeros(3, 4, 4)
    masks[0, :2], masks[1, :, :2], masks[2, 3, 3] = 0.9, 0.8, 0.2
    found = Objects(torch.zeros(3, 4), torch.tensor([2, 1, 1]), torch.tensor([0.9, 0.5, 0.4]), masks)
    maps = as_maps(found, 3)
    assert maps.ids.tolist()[0] == [2001] * 4 and maps.ids.tolist()[3] == [1002, 1002, 0, 0]
    torch.testing.assert_close(maps.probabilities[:, 3, 0], torch.tensor([0.6, 0.4, 0.0]))
    torch.testing.assert_close(maps.probabilities.sum(0), torch.ones(4, 4))
    assert maps.score[0, 0] == found.scores[0] and maps.score[3, 3] == 0
    empty = as_maps(found[torch.zeros(3, dtype=torch.bool)], 3)
    assert (empty.probabilities[0] == 1).all() and not empty.ids.any()
