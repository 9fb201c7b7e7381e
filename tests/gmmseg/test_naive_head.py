"""The published training step, written naively, is what was published; and ours is what it computes."""

import numpy as np
import torch

from tests.gmmseg.networks import samples
from tests.oracles import PublishedClassifier

SIZES = {"num_classes": 5, "components": 3, "dim": 16, "memory": 30}


def _head(classes, components, dim, memory, in_channels, channels, **mixture):
    from gmmseg.models import SegformerGMMSegHead

    return SegformerGMMSegHead(
        in_channels=in_channels,
        in_index=[0, 1, 2, 3],
        channels=channels,
        num_classes=classes,
        dropout_ratio=0,
        norm_cfg={"type": "BN"},
        mixture={
            "num_components": components,
            "embed_dim": dim,
            "memory_size": memory,
            "memory_start": "random",
            "contrast_ignore_index": 255,
            **mixture,
        },
    ).train()


def _pyramid(in_channels, batch=2, size=16):
    return [torch.randn(batch, c, size >> i, size >> i) for i, c in enumerate(in_channels)]


def test_naive_step_is_the_published_one(golden):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    with np.load(golden("train_em.npz"), allow_pickle=False) as file:
        figures = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    state = {key[3:]: value for key, value in figures.items() if key.startswith("sd.")}
    (classes, components, dim), memory = state["means"].shape, state["queue"].shape[2]
    in_channels = [state[f"convs.{i}.conv.weight"].shape[1] for i in range(4)]
    head = _head(classes, components, dim, memory, in_channels, len(state["convs.0.conv.weight"]))
    for name in ("convs", "fusion_conv", "projection"):
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        getattr(head, name).load_state_dict(part)
    head.classifier = naive = PublishedClassifier(classes, components, dim, memory, max_samples=5, em_interval=2)
    naive.load_state_dict({key: state[key] for key in naive.state_dict()})
    passes = len({key.split(".")[0] for key in figures if key.startswith("it")})
    assert passes > 0
    for at in (f"it{k}." for k in range(passes)):
        labelled = [SegDataSample(gt_sem_seg=PixelData(data=label.long())) for label in figures[at + "gt"]]
        losses = head.loss([figures[f"{at}in_{i}"] for i in range(4)], labelled, {})
        for name in ("loss_ce", "loss_contrast"):
            torch.testing.assert_close(losses[name], figures[at + name], rtol=0, atol=1e-5)
        for name in ("means", "diagonal", "queue"):
            torch.testing.assert_close(getattr(naive, name), figures[at + name], rtol=0, atol=1e-5)
        assert torch.equal(naive.queue_ptr, figures[at + "queue_ptr"])


def test_ours_computes_what_the_naive_step_computes():
    torch.manual_seed(0)
    naive = PublishedClassifier(**SIZES, max_samples=4, em_interval=2, mean_momentum=0.9)
    in_channels = [8, 12, 16, 24]
    sizes = *naive.shape, SIZES["memory"], in_channels, 24
    ours = _head(*sizes, max_samples=4, em_interval=2, mean_momentum=0.9)
    theirs = _head(*sizes)
    theirs.load_state_dict(ours.state_dict())
    theirs.classifier = naive
    fused = {key: value for key, value in ours.state_dict().items() if not key.startswith("classifier.")}
    ours.load_state_dict(fused | naive.state_dict())  # the published layout, by the plain call
    optimizers = [torch.optim.SGD(head.parameters(), lr=0.05) for head in (ours, theirs)]
    for _ in range(12):
        inputs, labelled = _pyramid(in_channels), samples(2, 64, 64)
        for head, optimizer in zip((ours, theirs), optimizers, strict=True):
            losses = head.loss(inputs, labelled, {})
            optimizer.zero_grad()
            (losses["loss_ce"] + losses["loss_contrast"]).backward()
            optimizer.step()
            head.last = torch.stack([losses["loss_ce"], losses["loss_contrast"]]).detach()
        torch.testing.assert_close(ours.last, theirs.last, rtol=1e-4, atol=1e-6)
        mixture = ours.classifier.mixture
        torch.testing.assert_close(mixture.means, naive.means, rtol=0, atol=1e-4)
        torch.testing.assert_close(mixture.stds, naive.diagonal, rtol=0, atol=1e-4)
        assert torch.equal(ours.classifier.em.memory.pointer, naive.queue_ptr)
    assert naive.queue_ptr.unique().numel() > 1
