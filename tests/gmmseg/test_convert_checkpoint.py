"""Checkpoints in the published layout: loaded as they are, and by ``gmmseg convert``."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from anomaly.errors import InputError
from anomaly.models.checkpoints import load_checkpoint_file, load_weights
from gmmseg.checkpoints.published import _memory_of_queue, convert_published
from gmmseg.memory import FeatureMemory
from tests.commands import status_of
from tests.gmmseg.networks import MIXTURE, segformer

ROOT = Path(__file__).resolve().parents[2]
CLASSES, COMPONENTS, DIM, SIZE = 5, 2, 16, MIXTURE["memory_size"]
HEAD = "decode_head."
CONFIG = """
default_scope = 'mmseg'
model = dict(
    type='gmmseg.GMMSegmentor',
    backbone=dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 5, 8],
                  qkv_bias=True),
    decode_head=dict(
        type='gmmseg.SegformerGMMSegHead', in_channels=[8, 16, 40, 64], in_index=[0, 1, 2, 3], channels=24,
        num_classes=5, norm_cfg=dict(type='BN'), mixture=dict(num_components=2, embed_dim=16, memory_size=8)),
    test_cfg=dict(mode='whole'))
"""


def published(queue=True, size=SIZE):
    """A state dict in the published layout, for the network of ``segformer()``; its tensors are random."""
    torch.manual_seed(0)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in segformer().state_dict().items()
        if ".classifier." not in key
    }
    groups = CLASSES * COMPONENTS
    state |= {
        HEAD + "means": F.normalize(torch.randn(CLASSES, COMPONENTS, DIM), dim=-1),
        HEAD + "diagonal": torch.rand(CLASSES, COMPONENTS, DIM) + 0.5,
        HEAD + "eye_matrix": torch.ones(DIM),
        HEAD + "iteration_counter": torch.tensor([7.0]),
        HEAD + "conv_seg.weight": torch.rand(CLASSES, 24, 1, 1),
        HEAD + "conv_seg.bias": torch.rand(CLASSES),
        HEAD + "feat_norm.weight": torch.rand(DIM),
        HEAD + "feat_norm.bias": torch.rand(DIM),
        HEAD + "mask_norm.weight": torch.rand(CLASSES),
        HEAD + "mask_norm.bias": torch.rand(CLASSES),
    }
    if queue:
        state[HEAD + "queue"] = F.normalize(torch.randn(groups, DIM, size), dim=1)
        state[HEAD + "queue_ptr"] = torch.arange(groups) % size
    return state


def assert_mixture_is_loaded(network, state):
    classifier = network.decode_head.classifier
    assert torch.equal(classifier.mixture.means, state[HEAD + "means"])
    assert torch.equal(classifier.mixture.stds, state[HEAD + "diagonal"])
    assert torch.equal(classifier.embed_norm.bias, state[HEAD + "feat_norm.bias"])
    assert torch.equal(classifier.class_norm.weight, state[HEAD + "mask_norm.weight"])
    assert classifier.em.step == 7
    assert torch.equal(network.backbone.layers[0][0].projection.weight, state["backbone.layers.0.0.projection.weight"])


@pytest.mark.parametrize("pointer", range(SIZE))
def test_queue_becomes_a_ring_of_blocks_that_goes_on_where_it_was(pointer):
    """The rest of a block that is being written again is forgotten, as a ring of blocks forgets it."""
    queue = F.normalize(torch.randn(1, DIM, SIZE), dim=1)
    memory = _memory_of_queue(queue, torch.tensor([pointer]), SIZE // 4)
    ring = FeatureMemory(1, SIZE, DIM, most_blocks=SIZE // 4)
    assert ring.block == 4
    for feature in [torch.zeros(DIM)] * pointer + list(queue.roll(-pointer, 2)[0].T):  # the oldest is at the pointer
        ring.push(feature[None], torch.zeros(1, dtype=torch.long))
    assert torch.equal(memory["pushed"], ring.pushed)
    for name in ("blocks", "sums", "square_sums"):
        torch.testing.assert_close(memory[name], getattr(ring, name))


def test_pointer_without_a_queue_is_accounted_for():
    state = published()
    del state[HEAD + "queue"]
    _, report = convert_published({"state_dict": state}, "published.pth", segformer())
    assert report.dropped[HEAD + "queue_ptr"] == "the file has no queue"


def test_queue_becomes_what_pushing_its_features_in_order_gives():
    state = published()
    network = segformer()
    load_weights(network, state, "published.pth")
    assert_mixture_is_loaded(network, state)
    memory = network.decode_head.classifier.em.memory
    assert torch.equal(memory.pointer, state[HEAD + "queue_ptr"])
    assert (memory.count == SIZE).all()
    pushed = FeatureMemory(CLASSES * COMPONENTS, SIZE, DIM)
    for slot in range(SIZE):
        pushed.push(state[HEAD + "queue"][:, :, slot], torch.arange(CLASSES * COMPONENTS))
    assert torch.equal(memory.blocks, pushed.blocks)
    torch.testing.assert_close(memory.sums, state[HEAD + "queue"].double().sum(2))
    torch.testing.assert_close(memory.square_sums, state[HEAD + "queue"].double().square().sum(2))


def test_long_queue_becomes_sums_of_blocks_in_order():
    state = published(size=12)
    state[HEAD + "queue_ptr"] -= state[HEAD + "queue_ptr"] % 3  # between blocks, where nothing is forgotten
    network = segformer(mixture={**MIXTURE, "memory_size": 12, "memory_blocks": 4})
    load_weights(network, state, "published.pth")
    memory, queue = network.decode_head.classifier.em.memory, state[HEAD + "queue"]
    assert memory.blocks.shape == (CLASSES * COMPONENTS, 4, 2, DIM)
    for block in range(4):
        features = queue[:, :, 3 * block : 3 * block + 3]
        torch.testing.assert_close(memory.blocks[:, block, 0], features.sum(2))
        torch.testing.assert_close(memory.blocks[:, block, 1], features.square().sum(2))
    torch.testing.assert_close(memory.sums, memory.blocks[:, :, 0].double().sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(memory.square_sums, memory.blocks[:, :, 1].double().sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("strict", [True, False])
def test_file_without_queue_loads_and_leaves_the_memory_empty(strict):
    state = published(queue=False)
    network = segformer()
    network.load_state_dict(state, strict=strict)
    assert_mixture_is_loaded(network, state)
    assert not network.decode_head.classifier.em.memory.count.any()


def test_queue_of_another_size_is_dropped_with_a_warning():
    state = published(size=20)
    network = segformer()
    with pytest.warns(UserWarning, match=r"queue holds 20 features per component, the memory of the config 8"):
        load_weights(network, state, "published.pth")
    assert_mixture_is_loaded(network, state)
    assert not network.decode_head.classifier.em.memory.count.any()


def test_mmengine_loads_it_as_initial_weights(tmp_path):
    from mmengine.runner import load_checkpoint

    state = published()
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "published.pth")
    network = segformer()
    load_checkpoint(network, str(tmp_path / "published.pth"), map_location="cpu", strict=True)
    assert_mixture_is_loaded(network, state)
    assert (network.decode_head.classifier.em.memory.count == SIZE).all()


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Run the tool on a state dict, in an empty folder; give exit status, stdout lines and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)

    def run(state, *arguments, meta=None):

        torch.save({"state_dict": state, "meta": meta or {}, "optimizer": {}}, "in.pth")
        status = status_of("gmmseg convert", "in.pth", "made/out.pth", *arguments)
        out, err = capsys.readouterr()
        return status, [line.split() for line in out.splitlines()], err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--config", "config.py")])
@pytest.mark.parametrize("queue", [True, False])
def test_tool_gives_what_loading_gives_and_reports_every_key(convert, arguments, queue):
    state = published(queue)
    meta = {"CLASSES": tuple("abcde"), "PALETTE": [[0, 0, 0]] * 5}
    status, lines, err = convert(state, *arguments, meta=meta)
    assert status == 0, err
    written = load_checkpoint_file("made/out.pth")
    assert list(Path("made").iterdir()) == [Path("made/out.pth")]
    assert written["meta"] == {"dataset_meta": {"classes": tuple("abcde"), "palette": [[0, 0, 0]] * 5}}
    assert "optimizer" not in written
    direct, converted = segformer(), segformer()
    direct.load_state_dict(state)
    load_weights(converted, written["state_dict"], "out.pth")
    for key, value in direct.state_dict().items():
        assert torch.equal(converted.state_dict()[key], value), key
    reported = {line[1] for line in lines if line[0] in {"mapped", "dropped"}}
    assert reported == {key for key in state if key not in segformer().state_dict()}
    unchanged = next(line for line in lines if line[0] == "unchanged")
    assert sum(int(word) for word in unchanged if word.isdigit()) == len(state) - len(reported)
    assert ([line[1] for line in lines if line[0] == "absent"] == [HEAD + "queue"]) is not queue


def test_tool_drops_a_queue_of_another_size_than_the_configs(convert):
    status, lines, _ = convert(published(size=20), "--config", "config.py")
    assert status == 0
    assert {line[1] for line in lines if line[0] == "dropped"} >= {HEAD + "queue", HEAD + "queue_ptr"}
    assert not any(".memory." in key for key in load_checkpoint_file("made/out.pth")["state_dict"])


def _with(state, **others):
    return {**state, **{key.replace("__", "."): value for key, value in others.items()}}


def _without(state, key):
    return {name: value for name, value in state.items() if name != key}


EXTRA = torch.zeros(1)
TOOL_FAULTS = {
    "unknown head tensor": (lambda s: _with(s, decode_head__prototypes=EXTRA), (), "left over decode_head.prototypes"),
    "unknown part": (lambda s: _with(s, teacher__weight=EXTRA), (), "left over teacher.weight"),
    "known name, unknown tensor": (
        lambda s: _with(s, decode_head__feat_norm__running_mean=EXTRA),
        (),
        "left over decode_head.feat_norm.running_mean",
    ),
    "lacks a tensor": (
        lambda s: _without(s, HEAD + "mask_norm.bias"),
        (),
        "missing decode_head.classifier.class_norm.bias",
    ),
    "unknown backbone tensor": (
        lambda s: _with(s, backbone__extra=EXTRA),
        ("--config", "config.py"),
        "left over backbone.extra",
    ),
    "backbone lacks a tensor": (
        lambda s: _without(s, "backbone.layers.0.0.projection.bias"),
        ("--config", "config.py"),
        "missing backbone.layers.0.0.projection.bias",
    ),
    "another width": (
        lambda s: s,
        ("--config", "config.py", "--cfg-options", "model.decode_head.channels=16"),
        "left over decode_head.convs.0.conv.weight (24, 8, 1, 1) for (16, 8, 1, 1)",
    ),
    "other classes": (
        lambda s: s,
        ("--config", "config.py", "--cfg-options", "model.decode_head.num_classes=7"),
        "in.pth has 5 classes, and the config has 7",
    ),
    "settings of no config": (
        lambda s: s,
        ("--cfg-options", "model.decode_head.channels=16"),
        "--cfg-options changes settings of --config, which is missing",
    ),
    "setting of a training": (
        lambda s: s,
        ("--config", "config.py", "--cfg-options", "train_cfg.max_iters=3"),
        "train_cfg",
    ),
    "softmax checkpoint": (
        lambda s: segformer(mixture=None).state_dict(),
        (),
        "in.pth is not in the published GMMSeg layout",
    ),
}


@pytest.mark.parametrize("name", TOOL_FAULTS)
def test_tool_writes_nothing_that_does_not_fit(convert, name):
    spoil, arguments, message = TOOL_FAULTS[name]
    status, _, err = convert(spoil(published()), *arguments)
    assert status == 2
    assert err.count("error: ") == 1
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert not Path("made").exists()


def test_tool_keeps_the_published_file(convert):
    Path("made").mkdir()
    Path("made/out.pth").symlink_to(Path("in.pth").absolute())
    status, _, err = convert(published())
    assert status == 2
    assert "OUT is the same file as IN, in.pth" in err
    assert "decode_head.means" in load_checkpoint_file("in.pth")["state_dict"]


def test_tool_says_so_when_it_cannot_write(convert):
    Path("made").write_text("a file")
    status, _, err = convert(published())
    assert status == 2
    assert "made/out.pth could not be written" in err


def test_other_classes_are_refused_by_loading_too():
    with pytest.raises(InputError, match="size mismatch"):
        load_weights(segformer(num_classes=7), published(), "published.pth")
