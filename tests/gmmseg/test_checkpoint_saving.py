"""A checkpoint is written whole or not at all, and holds the memory once, if at all."""

import resource

import pytest
import torch
from mmengine.hooks import Hook

from anomaly.errors import InputError
from anomaly.models.checkpoints import load_weights
from tests.gmmseg.tiny_training import assert_same, saved, train, write_images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    return folder


class NoRoom(Hook):
    """From a step on, no file may grow beyond half a checkpoint: the system itself refuses the write."""

    def __init__(self, step, work_dir):
        self.step, self.work_dir = step, work_dir

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.step:
            size = next(self.work_dir.glob("*.pth")).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.parametrize("kept", [1, 2])
def test_no_room_leaves_the_checkpoint_before(root, tmp_path, kept):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = {"default_hooks.checkpoint.max_keep_ckpts": kept}
    try:
        with pytest.raises(InputError) as ended:
            train(root, tmp_path / "run", 6, NoRoom(3, tmp_path / "run"), **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    path = tmp_path / "run/iter_4.pth"
    assert str(ended.value).startswith(f"checkpoint {path} could not be written (File too large); the one before it is")
    assert [path.name for path in (tmp_path / "run").glob("*.pth*")] == ["iter_2.pth"]
    assert (tmp_path / "run/last_checkpoint").read_text().endswith("iter_2.pth")
    train(root, tmp_path / "run", 6, resume="newest", **options)
    train(root, tmp_path / "whole", 6)
    assert_same(saved(tmp_path / "whole", 6)["state_dict"], saved(tmp_path / "run", 6)["state_dict"])
    names = sorted(path.name for path in (tmp_path / "run").glob("*.pth*"))
    assert names == ["iter_4.pth", "iter_6.pth"][2 - kept :]


@pytest.mark.slow
def test_a_file_is_in_place_only_when_it_is_whole(root, tmp_path, monkeypatch):
    import gmmseg.training.runner as module

    whole = []

    def move(part, target):
        whole.append((target.exists(), torch.load(part, weights_only=True)["meta"]["iter"]))
        part.replace(target)

    monkeypatch.setattr(module, "move_into_place", move)
    tmp_path.joinpath("iter_9.pth.part").write_bytes(b"of a killed save")
    train(root, tmp_path, 4)
    assert whole == [(False, 2), (False, 4)]
    assert sorted(path.name for path in tmp_path.glob("*.pth*")) == ["iter_2.pth", "iter_4.pth"]


def memory_keys(state):
    return [key for key in state if ".em.memory." in key]


@pytest.mark.slow
@pytest.mark.parametrize("average", [False, True])
def test_the_memory_is_kept_once_and_only_with_the_optimizer(root, tmp_path, average):
    options = {"custom_hooks": [{"type": "EMAHook"}]} if average else {}
    runner = train(root, tmp_path / "all", 2, **options)
    checkpoint = saved(tmp_path / "all", 2)
    assert len(memory_keys(checkpoint["state_dict"])) == 4
    assert not memory_keys(checkpoint.get("ema_state_dict", {}))
    weights_only = {**options, "default_hooks.checkpoint.save_optimizer": False}
    train(root, tmp_path / "weights", 2, **weights_only)
    weights = saved(tmp_path / "weights", 2)
    assert not memory_keys(weights["state_dict"])
    assert not memory_keys(weights.get("ema_state_dict", {}))
    assert weights["state_dict"].keys() == checkpoint["state_dict"].keys() - memory_keys(checkpoint["state_dict"])
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    assert load_weights(runner.model, weights["state_dict"], "weights") == []
    assert_same(
        {k: before[k] for k in memory_keys(before)},
        {k: v for k, v in runner.model.state_dict().items() if k in memory_keys(before)},
    )
    part = dict(weights["state_dict"])
    part[memory_keys(before)[0]] = before[memory_keys(before)[0]]
    with pytest.raises(InputError, match=r"missing decode_head.classifier.em.memory"):
        load_weights(runner.model, part, "part of a memory")
