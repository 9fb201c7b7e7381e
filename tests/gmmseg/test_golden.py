"""Parity with figures of the published code; shapes are read from the files, so another set fits too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomaly.density.gaussian import diagonal_log_prob
from gmmseg.functional import sinkhorn_assign


@pytest.fixture(scope="module")
def arrays(golden):
    def load(name):
        with np.load(golden(name), allow_pickle=False) as file:
            return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}

    return load


def _state(arrays):
    return {key[3:]: value for key, value in arrays.items() if key.startswith("sd.")}


def _inputs(arrays, prefix=""):
    return [arrays[f"{prefix}in_{i}"] for i in range(4)]


def _head(state, **mixture):
    from gmmseg.models import SegformerGMMSegHead

    classes, components, dim = state["means"].shape
    head = SegformerGMMSegHead(
        in_channels=[state[f"convs.{i}.conv.weight"].shape[1] for i in range(4)],
        in_index=[0, 1, 2, 3],
        channels=state["convs.0.conv.weight"].shape[0],
        num_classes=classes,
        dropout_ratio=0,
        norm_cfg={"type": "BN"},
        mixture={
            "num_components": components,
            "embed_dim": dim,
            "memory_size": state["queue"].shape[2],
            "memory_start": "random",
            "contrast_ignore_index": 255,
            **mixture,
        },
    )
    head.load_state_dict(state)  # the published layout, by the plain call
    return head


def _samples(labels):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = [SegDataSample() for _ in labels]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label.long())
    return samples


def _difference(ours, published):
    return (ours - published).abs().max().item()


def test_golden_log_prob(arrays):
    figures = arrays("log_prob.npz")
    means, stds = figures["means"].flatten(0, 1), figures["stds"].flatten(0, 1)
    ours = diagonal_log_prob(figures["features"], means, stds)
    assert _difference(ours, figures["log_prob"].flatten(1)) <= 1e-4


def test_golden_sinkhorn(arrays):
    figures = arrays("sinkhorn.npz")
    names = [name for name in figures if name.startswith("scores_")]
    assert names
    for name in names:
        ours = sinkhorn_assign(figures[name], epsilon=0.05, iterations=3)
        assert torch.equal(ours, figures[name.replace("scores", "assignment")]), name


def test_golden_head_eval(arrays):
    figures = arrays("head_eval.npz")
    head = _head(_state(figures)).eval()
    with torch.no_grad():
        output = head.classify(_inputs(figures))
    assert _difference(output.logits, figures["seg_logits"]) <= 1e-4
    assert _difference(output.log_prob, figures["log_prob"]) <= 1e-4
    best = figures["log_prob"].amax(2).view(len(output.logits), *output.logits.shape[2:], -1).permute(0, 3, 1, 2)
    assert _difference(output.class_log_likelihood, best) <= 1e-4


def _passes(figures):
    count = len({key.split(".")[0] for key in figures if key.startswith("it")})
    assert count > 0
    return [f"it{k}." for k in range(count)]


def test_golden_train_em(arrays):
    figures = arrays("train_em.npz")
    head = _head(_state(figures), max_samples=5, em_interval=2).train()
    mixture, memory = head.classifier.mixture, head.classifier.em.memory
    for at in _passes(figures):
        losses = head.loss(_inputs(figures, at), _samples(figures[at + "gt"]), {})
        assert _difference(losses["loss_ce"], figures[at + "loss_ce"]) <= 1e-4
        assert _difference(losses["loss_contrast"], figures[at + "loss_contrast"]) <= 1e-4
        assert _difference(mixture.means, figures[at + "means"]) <= 1e-4
        assert _difference(mixture.stds, figures[at + "diagonal"]) <= 1e-4
        assert _difference(memory.blocks[:, :, 0].transpose(1, 2), figures[at + "queue"]) <= 1e-4
        assert torch.equal(memory.pointer, figures[at + "queue_ptr"])


def test_golden_train_sgd(arrays):
    figures = arrays("train_sgd.npz")
    head = _head(_state(figures), max_samples=5, em_interval=2).train()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
    for at in _passes(figures):
        losses = head.loss(_inputs(figures, at), _samples(figures[at + "gt"]), {})
        optimizer.zero_grad()
        (losses["loss_ce"] + losses["loss_contrast"]).backward()
        optimizer.step()
        for name in ("loss_ce", "loss_contrast"):
            assert losses[name].item() == pytest.approx(figures[at + name].item(), rel=1e-3)
        assert _difference(head.classifier.mixture.means, figures[at + "means"]) <= 1e-3
        assert _difference(head.classifier.mixture.stds, figures[at + "diagonal"]) <= 1e-3


def _segformer(state, test_cfg):
    """The network of the file, its backbone's sizes read from the weights."""
    from mmengine.registry import init_default_scope

    from gmmseg.models import GMMSegmentor

    init_default_scope("mmseg")
    dims = [state[f"backbone.layers.{i}.0.projection.weight"].shape[0] for i in range(4)]
    heads = [1, 2, 5, 8]
    reductions = [state.get(f"backbone.layers.{i}.1.0.attn.sr.weight") for i in range(4)]
    classes, components, dim = state["decode_head.means"].shape
    channels = state["decode_head.convs.0.conv.weight"].shape[0]
    return GMMSegmentor(
        backbone={
            "type": "MixVisionTransformer",
            "embed_dims": dims[0],
            "num_layers": [
                len({k.split(".")[4] for k in state if k.startswith(f"backbone.layers.{i}.1.")}) for i in range(4)
            ],
            "num_heads": heads,
            "sr_ratios": [1 if weight is None else weight.shape[2] for weight in reductions],
            "mlp_ratio": state["backbone.layers.0.1.0.ffn.layers.0.weight"].shape[0] // dims[0],
            "qkv_bias": True,
        },
        decode_head={
            "type": "gmmseg.SegformerGMMSegHead",
            "in_channels": dims,
            "in_index": [0, 1, 2, 3],
            "channels": channels,
            "num_classes": classes,
            "norm_cfg": {"type": "BN"},
            "mixture": {
                "num_components": components,
                "embed_dim": dim,
                "memory_size": state["decode_head.queue"].shape[2],
            },
        },
        test_cfg=test_cfg,
    ).eval()


def test_golden_end_to_end(arrays, tmp_path):
    from mmengine.config import ConfigDict

    from anomaly.models.checkpoints import load_checkpoint_file, load_weights

    figures = arrays("end_to_end.npz")
    path = tmp_path / "published.pth"
    torch.save({"meta": {"CLASSES": ("a",)}, "state_dict": _state(figures)}, path)
    network = _segformer(_state(figures), ConfigDict(mode="whole"))
    load_weights(network, load_checkpoint_file(path)["state_dict"], path)
    with torch.no_grad():
        samples = network.predict(figures["img"])
        features = network.decode_head.classify(network.extract_feat(figures["img"]))
    assert _difference(samples[0].seg_logits.data, figures["seg_logits"][0]) <= 1e-3
    assert _difference(features.class_log_likelihood, figures["class_log_likelihood"]) <= 1e-3
    assert samples[0].class_log_likelihood.data.shape == samples[0].seg_logits.data.shape
